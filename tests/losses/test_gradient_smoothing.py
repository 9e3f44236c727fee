import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from basicsr_nriqa.losses.gradient_smoothing import smooth_gradient
from basicsr_nriqa.losses.image_operations import blur


def _smoothed(gradient, sigma):
    images = torch.zeros_like(gradient, requires_grad=True)
    return torch.autograd.grad(smooth_gradient(images, sigma), images, gradient)[0]


def test_images_are_the_same_and_zero_does_nothing():
    images = torch.rand(1, 2, 3, 8, 9, requires_grad=True)
    assert torch.equal(smooth_gradient(images, 2), images) and smooth_gradient(images, 0) is images


@given(seed=st.integers(0, 10**6), sigma=st.floats(0.1, 8), height=st.integers(1, 30), width=st.integers(1, 30),
       finest=st.booleans())
@settings(max_examples=60, deadline=None)
def test_is_still_a_direction_of_ascent_and_keeps_the_sum(seed, sigma, height, width, finest):
    torch.manual_seed(seed)
    gradient = torch.randn(2, 3, height, width, dtype=torch.float64)
    if finest:  # a checkerboard, of which a blur leaves least
        gradient = gradient.abs() * (torch.arange(height)[:, None] + torch.arange(width)).fmod(2).mul(2).sub(1)
    smooth = _smoothed(gradient, sigma)
    assert (smooth * gradient).sum() > -1e-10 * gradient.square().sum()
    assert smooth.norm() <= gradient.norm() * (1 + 1e-10)
    torch.testing.assert_close(smooth.sum((-2, -1)), gradient.sum((-2, -1)))


def test_is_a_blur_of_each_frame_by_itself():
    gradient = torch.randn(2, 3, 3, 12, 10)
    assert torch.equal(_smoothed(gradient, 1.3), blur(gradient, 1.3))
    alone = torch.zeros_like(gradient)
    alone[0, 1] = gradient[0, 1]
    found = _smoothed(alone, 1.3)
    assert found[0, 1].any() and not found[0, ::2].any() and not found[1].any()


def test_of_a_fine_pattern_nothing_is_left():
    checkers = ((torch.arange(32)[:, None] + torch.arange(32)) % 2 * 2.0 - 1).expand(1, 3, 32, 32)
    assert _smoothed(checkers, 1.5)[..., 7:-7, 7:-7].abs().max() < 1e-4  # at the border the mirror breaks the pattern
    torch.testing.assert_close(_smoothed(torch.ones(1, 3, 9, 9), 1.5), torch.ones(1, 3, 9, 9))
