import numpy as np
import pytest
import torch
from basicsr.utils.matlab_functions import imresize as basicsr_imresize
from hypothesis import given, settings
from hypothesis import strategies as st

from basicsr_nriqa.data.bicubic import imresize


@settings(max_examples=30, deadline=None)
@given(height=st.integers(16, 40), width=st.integers(16, 40), scale=st.sampled_from([0.25, 0.5, 1 / 3, 1.5, 2, 4]),
       seed=st.integers(0, 99))
def test_equals_the_independent_implementation_in_basicsr(height, width, scale, seed):
    image = np.random.default_rng(seed).random((height, width, 3))
    assert np.abs(imresize(image, scale) - basicsr_imresize(image, scale)).max() < 1e-4


def test_matlab_values():
    """A ramp: the inside nearly keeps its line, the mirrored borders pull the ends inwards, symmetrically."""
    ramp = np.arange(16, dtype=float)[None].repeat(8, 0)
    np.testing.assert_allclose(imresize(ramp, 0.25)[0], [1.3598633, 5.4838867, 9.5161133, 13.6401367], atol=1e-6)
    assert np.allclose(imresize(np.full((9, 9), 7.0), 0.25), 7)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), scale=st.sampled_from([0.25, 2]))
def test_commutes_with_mirroring(seed, scale):
    image = np.random.default_rng(seed).random((16, 20, 3))
    np.testing.assert_allclose(imresize(image[:, ::-1], scale), imresize(image, scale)[:, ::-1], atol=1e-12)


def test_torch_gives_the_same_as_numpy_and_is_differentiable():
    image = torch.rand(2, 3, 16, 24, dtype=torch.float64, requires_grad=True)
    small = imresize(image, 0.25)
    expected = imresize(image[1].detach().permute(1, 2, 0).numpy(), 0.25)
    np.testing.assert_allclose(small[1].detach().permute(1, 2, 0).numpy(), expected, atol=1e-12)
    small.sum().backward()
    assert (image.grad > 0).all()


def test_uint8_is_rounded_and_clipped():
    step = np.zeros((16, 16, 3), np.uint8)
    step[:, 8:] = 255
    large = imresize(step, 2)
    assert large.dtype == np.uint8 and large.min() == 0 and large.max() == 255
    exact = imresize(step.astype(float), 2)
    assert exact.min() < 0 and exact.max() > 255  # it overshoots; a wrap-around would show
    np.testing.assert_array_equal(large, np.floor(np.clip(exact, 0, 255) + 0.5))


@pytest.mark.parametrize('image, scale, error', [
    (np.zeros((2, 2, 3)), 0, ValueError), (np.zeros(4), 0.5, ValueError), (torch.zeros(3, 4, 4), 0.5, ValueError),
    ([[1, 2]], 0.5, TypeError)])
def test_bad_input(image, scale, error):
    with pytest.raises(error, match='imresize'):
        imresize(image, scale)
