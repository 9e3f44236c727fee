import pytest
import torch
from basicsr.losses import build_loss

from basicsr_nriqa.iqa import MetricError


def _loss(**options):
    return build_loss({'type': 'TotalVariationLoss', **options})


def test_value_by_hand():
    image = torch.zeros(1, 3, 2, 3)
    image[0, 0, 0, 1] = 2.0  # one vertical and two horizontal differences of 2
    expected = 2 * (4 / (3 * 1 * 3) + 8 / (3 * 2 * 2))
    assert _loss(loss_weight=1)(image).item() == pytest.approx(expected)
    assert _loss()(image, None).item() == pytest.approx(2e-8 * expected)


def test_published_form():
    """Sums over the batch, divided by the differences of one image and by the images."""
    frames = torch.rand(2, 3, 3, 5, 4)
    images = frames.flatten(0, 1)
    vertical = (images[:, :, 1:] - images[:, :, :-1]).pow(2).sum() / (3 * 4 * 4)
    horizontal = (images[..., 1:] - images[..., :-1]).pow(2).sum() / (3 * 5 * 3)
    expected = 2 * (vertical + horizontal) / 6
    torch.testing.assert_close(_loss(loss_weight=1)(frames), expected)
    torch.testing.assert_close(_loss(loss_weight=1)(images), expected)


def test_flat_images_have_none_and_descending_smooths():
    assert _loss()(torch.full((1, 3, 8, 8), 0.7)).item() == 0
    image = torch.rand(1, 3, 8, 8, requires_grad=True)
    loss = _loss(loss_weight=1)
    before = loss(image)
    gradient, = torch.autograd.grad(before, image)
    assert gradient.any() and loss(image - gradient).item() < before.item()


@pytest.mark.parametrize('weight', [-1, float('nan'), 'x', True])
def test_bad_weights(weight):
    with pytest.raises(MetricError, match='loss_weight must be a number, 0 or more'):
        _loss(loss_weight=weight)


@pytest.mark.parametrize('shape', [(3, 8, 8), (1, 3, 1, 8)])
def test_bad_shapes(shape):
    with pytest.raises(MetricError, match=r'takes \(n,3,h,w\) or'):
        _loss()(torch.zeros(shape))
