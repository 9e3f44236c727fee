import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from basicsr_nriqa.iqa import MetricError
from basicsr_nriqa.losses.random_transforms import DEFAULT, RandomTransforms, Transform

STRONG = {'flip': True, 'rotate': True, 'shift': 3.5, 'scale': 0.3, 'blur': 2, 'colour': 0.2, 'noise': 0.1, 'jpeg': 30}


def _off(names):
    return {name: False if name in ('flip', 'rotate') else 0 for name in names}


@given(names=st.lists(st.sampled_from(sorted(STRONG)), unique=True))
@settings(max_examples=20, deadline=None)
def test_strength_zero_is_the_identity_and_draws_nothing(names):
    transforms = RandomTransforms(_off(names))
    images = torch.rand(1, 3, 40, 32)
    state = torch.get_rng_state()
    assert not transforms and transforms.draw(40, 32) == Transform()
    assert transforms.draw(40, 32)(images) is images
    assert torch.equal(torch.get_rng_state(), state)


@given(seed=st.integers(0, 10**6), height=st.integers(32, 80), width=st.integers(32, 80), smallest=st.integers(1, 32),
       strengths=st.fixed_dictionaries({
           name: st.booleans() if value is True else st.sampled_from([0, value / 3, value])
           for name, value in STRONG.items() if name != 'jpeg'}))
@settings(max_examples=60, deadline=None)
def test_what_is_seen_is_finite_large_enough_and_follows_the_seed(seed, height, width, smallest, strengths):
    transforms = RandomTransforms(strengths)
    images = torch.rand(2, 2, 3, height, width)
    torch.manual_seed(seed)
    seen = transforms.draw(height, width, smallest)(images)
    assert seen.isfinite().all() and seen.shape[:3] == images.shape[:3]
    assert min(seen.shape[-2:]) >= smallest and max(seen.shape[-2:]) <= max(height, width)
    torch.manual_seed(seed)
    assert torch.equal(transforms.draw(height, width, smallest)(images), seen)


@given(seed=st.integers(0, 10**6), strengths=st.fixed_dictionaries(
    {name: st.sampled_from([0, STRONG[name]]) for name in ('shift', 'scale', 'blur', 'rotate', 'flip')}))
@settings(max_examples=40, deadline=None)
def test_no_borders_are_invented(seed, strengths):
    torch.manual_seed(seed)
    flat = torch.full((1, 3, 40, 50), 0.7)
    ramp = torch.linspace(0, 1, 50).expand(1, 3, 40, 50)
    transform = RandomTransforms(strengths).draw(40, 50)
    torch.testing.assert_close(transform(flat), flat[..., :1, :1].expand_as(transform(flat)))
    seen = transform(ramp).rot90(-transform.quarter_turns, (-2, -1))
    rising = seen.diff().mul(-1 if transform.flip else 1)
    assert rising.min() > -1e-6 and rising[..., 8:-8].min() > 0.01  # a blur sees the mirrored border


def test_all_images_share_a_draw_and_a_target_has_no_noise():
    transform = RandomTransforms({**STRONG, 'jpeg': 0}).draw(48, 40)
    image = torch.rand(3, 48, 40)
    seen = transform(image.expand(2, 4, 3, 48, 40))
    assert torch.equal(seen, seen[:1, :1].expand_as(seen))
    torch.testing.assert_close(transform(image[None]), seen[0, :1])
    torch.testing.assert_close(seen[0, 0] - transform(image, noisy=False), transform.noise)


def test_shift_is_uniform_and_sub_pixel():
    ramp = torch.arange(64.0).expand(3, 64, 64)
    starts = torch.tensor([RandomTransforms({'shift': 2}).draw(64, 64)(ramp)[0, 30, 10].item() - 10
                           for _ in range(400)])
    assert 0 < starts.min() < 0.1 and 3.9 < starts.max() < 4
    assert starts.mean() == pytest.approx(2, abs=0.2) and starts.std() == pytest.approx(4 / 12**0.5, abs=0.15)
    assert RandomTransforms({'shift': 2}).draw(64, 64)(ramp).shape == (3, 60, 60)
    small = torch.tensor([RandomTransforms({'shift': 0.3}).draw(64, 64)(ramp)[0, 30, 10].item() - 10
                          for _ in range(100)])
    assert 0.2 <= small.min() < 0.25 and 0.75 < small.max() <= 0.8001, 'about 0.5, the middle of 64 - 63 px'
    assert RandomTransforms({'shift': 2}).draw(64, 64, smallest=61)(ramp).shape == (3, 64, 64)


def test_scale_enlarges_as_often_as_it_shrinks_and_every_pixel_is_seen():
    ramp = torch.arange(64.0).expand(3, 64, 64)
    steps, reached = [], torch.zeros(64)
    for _ in range(300):
        image = ramp.clone().requires_grad_()
        seen = RandomTransforms({'scale': 0.25}).draw(64, 64)(image)
        assert seen.shape == (3, 51, 51)
        steps.append((seen[0, 25, 35] - seen[0, 25, 15]).item() / 20)
        reached += torch.autograd.grad(seen.sum(), image)[0][0].sum(0).gt(0.1)
    factors = 1 / torch.tensor(steps)
    assert 1 / 1.26 < factors.min() < 0.82 and 1.23 < factors.max() < 1.26
    assert factors.log().mean().abs() < 0.03 and reached.min() > 0
    larger = RandomTransforms({'scale': 0.25}).draw(64, 64, smallest=60)(ramp)
    assert larger.shape == (3, 60, 60)


def test_flips_and_turns():
    image = torch.arange(3 * 4 * 6.0).view(3, 4, 6)
    transforms = RandomTransforms({'flip': True, 'rotate': True})
    seen = {tuple(transforms.draw(4, 6)(image).flatten().tolist()) for _ in range(100)}
    expected = {tuple(flipped.rot90(turns, (-2, -1)).flatten().tolist())
                for flipped in (image, image.flip(-1)) for turns in range(4)}
    assert seen == expected


def test_colour_noise_and_blur_stay_within_their_strengths():
    grey, deviations, widths = torch.full((3, 40, 40), 0.5), [], []
    for _ in range(100):
        shift = RandomTransforms({'colour': 0.1}).draw(40, 40)(grey) - 0.5
        assert shift.abs().max() <= 0.05 + 0.5 * (1.1 * 1.1 - 1) + 1e-3 and shift.flatten(1).std(1).max() < 1e-6
        deviations.append(RandomTransforms({'noise': 0.1}).draw(40, 40)(grey).std().item())
        point = torch.zeros(3, 41, 41)
        point[:, 20, 20] = 1
        across = RandomTransforms({'blur': 2}).draw(41, 41)(point)[0].sum(0)
        widths.append((across * (torch.arange(41) - 20.0)**2).sum().sqrt().item())
    assert min(deviations) < 0.01 and 0.09 < max(deviations) < 0.105
    assert min(widths) < 0.3 and 1.8 < max(widths) <= 2.001


def test_jpeg_quality_is_drawn_above_the_lowest():
    qualities = [RandomTransforms({'jpeg': 60}).draw(40, 40).quality for _ in range(100)]
    assert 60 <= min(qualities) < 65 and 95 < max(qualities) <= 100
    image = torch.rand(2, 3, 40, 40)
    seen = RandomTransforms({'jpeg': 60}).draw(40, 40)(image)
    assert seen.shape == image.shape and 0.001 < (seen - image).abs().mean() < 0.3


def test_true_is_the_default_set():
    assert RandomTransforms(True).strengths == dict(DEFAULT)
    assert not RandomTransforms(None) and not RandomTransforms(False) and not RandomTransforms({})


@pytest.mark.parametrize('strengths, words', [
    ({'shfit': 2}, r"transforms has no option 'shfit' \(did you mean 'shift'\?\)"),
    ({'shift': -1}, "transforms' shift must be a number from 0 to 64, got -1"),
    ({'shift': True}, "transforms' shift must be a number"), ({'flip': 'yes'}, "transforms' flip must be true or"),
    ({'rotate': 90}, "transforms' rotate must be true or false"), ({'noise': 10}, 'from 0 to 1, got 10'),
    ({'jpeg': 0.5}, "transforms' jpeg must be a number from 1 to 100"), ({'blur': float('nan')}, 'got nan'),
    ({'colour': '0.1'}, "got '0.1'"), ('shift', "transforms must be true or strengths by name .* got 'shift'"),
    (['flip'], 'transforms must be true or strengths by name')])
def test_bad_strengths(strengths, words):
    with pytest.raises(MetricError, match=words):
        RandomTransforms(strengths)
