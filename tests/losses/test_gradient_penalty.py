import pytest
import torch

from basicsr_nriqa.iqa import create_metric
from basicsr_nriqa.losses.gradient_penalty import STEP, scores_and_gradient
from basicsr_nriqa.losses.mean_score import mean_score


def _squares(images, target):
    """Gradient: (1, 2, ...) times the image."""
    factor = torch.arange(1, images[0].numel() + 1, dtype=images.dtype).view(images.shape[1:])
    return (images**2 * factor / 2).flatten(1).sum(1)


def _sines(images, target):
    return (images * 3).sin().flatten(1).mean(1)


def test_a_quadratic_score_is_exact_but_for_the_step():
    images = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    values, gradient = scores_and_gradient(_squares, images, weight=0.7)
    factor = torch.arange(1, 13, dtype=torch.float64).view(3, 2, 2)
    norm = (images * factor).abs().flatten(1).sum(1)
    torch.testing.assert_close(values, _squares(images, None) + 0.7 * (norm + STEP / 2 * factor.sum()))
    torch.testing.assert_close(gradient, factor * images + 0.7 * factor * images.sign())


def test_value_and_gradient_are_those_by_second_derivatives():
    images = torch.rand(2, 3, 6, 5, dtype=torch.float64).requires_grad_()
    first, = torch.autograd.grad(_sines(images, None).sum(), images, create_graph=True)
    expected = _sines(images, None) + 0.3 * first.abs().flatten(1).sum(1)
    expected_gradient, = torch.autograd.grad(expected.sum(), images)
    values, gradient = scores_and_gradient(_sines, images, weight=0.3)
    torch.testing.assert_close(values, expected.detach(), rtol=0.02, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=0.05 * expected_gradient.abs().max().item())


def test_weight_zero_is_the_plain_score():
    images = torch.rand(2, 3, 6, 5)
    values, gradient = scores_and_gradient(_squares, images)
    leaf = images.clone().requires_grad_()
    assert torch.equal(values, _squares(images, None))
    assert torch.equal(gradient, torch.autograd.grad(_squares(leaf, None).sum(), leaf)[0])


def test_what_is_drawn_is_the_same_in_both_evaluations():
    def random_part(images, target):
        return images[..., torch.randint(30, ()), :].flatten(1).sum(1)

    images = 100 * torch.rand(2, 3, 30, 5, dtype=torch.float64)
    for seed in range(5):
        torch.manual_seed(seed)
        values, gradient = scores_and_gradient(random_part, images, weight=1)
        after = torch.get_rng_state()
        torch.manual_seed(seed)
        torch.testing.assert_close(values - random_part(images, None), torch.full((2,), 15.0, dtype=torch.float64))
        assert torch.equal(torch.get_rng_state(), after) and gradient.sum() == 30


def test_a_gradient_that_is_not_finite_shows_in_the_result_and_not_in_an_image():
    """A training skips such a step, while an image with NaN in it would end the training."""
    def roots(images, target):
        assert images.isfinite().all()
        return (images - 0.5).abs().sqrt().flatten(1).sum(1)

    images = torch.tensor([[0.2, 0.7], [0.5, 0.9]], dtype=torch.float64)
    values, gradient = scores_and_gradient(roots, images, weight=0.3)
    assert values.isfinite().all() and gradient[0].isfinite().all()
    assert torch.equal(gradient[1].isfinite(), torch.tensor([False, True]))


def test_of_a_real_metric_it_is_near_the_norm_and_descending_lowers_it():
    metric = create_metric('tinyiqa')

    def norm(image):
        leaf = image.detach().requires_grad_()
        return torch.autograd.grad(metric(leaf).sum(), leaf)[0].abs().sum().item()
    image = 0.3 + 0.4 * torch.rand(1, 3, 48, 48)
    before = norm(image)
    values, _ = scores_and_gradient(lambda images, target: metric(images), image, weight=1)
    assert (values - metric(image)).item() == pytest.approx(before, rel=0.3)
    for _ in range(15):
        _, both = scores_and_gradient(lambda images, target: metric(images), image, weight=1)
        _, score = scores_and_gradient(lambda images, target: metric(images), image)
        image = image - 0.002 * (both - score).sign()
    assert norm(image) < 0.8 * before


@pytest.mark.parametrize('chunk', [None, 1, 2, 9])
@pytest.mark.parametrize('draws', [1, 3])
@pytest.mark.parametrize('penalty', [0, -0.4])
def test_mean_over_parts_and_draws(chunk, draws, penalty):
    images = torch.rand(5, 3, 4, 4, dtype=torch.float64).requires_grad_()
    target = torch.rand(5, 3, 4, 4, dtype=torch.float64)
    numbers = iter(range(1, 9))

    def draw():
        number = next(numbers)
        return lambda images, target: number * ((images - target)**2).flatten(1).sum(1)
    value = mean_score(draw, images, target, draws, chunk, penalty)
    gradient, = torch.autograd.grad(3 * value, images)
    mean, difference = sum(range(1, draws + 1)) / draws, images.detach() - target
    norms = 2 * difference.abs().flatten(1).sum(1) + STEP * 48
    expected = mean * ((difference**2).flatten(1).sum(1) + penalty * norms).mean()
    torch.testing.assert_close(value.detach(), expected)
    torch.testing.assert_close(gradient, 3 * mean * (2 * difference + penalty * 2 * difference.sign()) / 5)
    assert next(numbers) == draws + 1
