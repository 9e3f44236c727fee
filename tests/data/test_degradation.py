import math

import numpy as np
import pytest
import torch
from basicsr.data.data_util import duf_downsample
from hypothesis import given, settings
from hypothesis import strategies as st

from basicsr_nriqa.data.bicubic import imresize
from basicsr_nriqa.data.degradation import DEGRADATIONS, degrade
from basicsr_nriqa.data.errors import DataError


def image(seed, height, width):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize('scale', [1, 2, 3, 4, 5, 8])
def test_bi_is_matlab_bicubic(scale):
    gt = image(0, 3 * scale, 5 * scale)
    lr = degrade(gt, scale)
    assert lr.shape == (3, 5, 3)
    np.testing.assert_array_equal(lr, imresize(gt, 1 / scale))


@settings(max_examples=25, deadline=None)
@given(height=st.integers(8, 20), width=st.integers(8, 20), scale=st.sampled_from([2, 3, 4]), seed=st.integers(0, 99))
def test_bd_equals_basicsr(height, width, scale, seed):
    gt = image(seed, height * scale, width * scale)
    frames = torch.from_numpy(gt / 255).permute(2, 0, 1)[None]
    expected = duf_downsample(frames, scale=scale)[0].permute(1, 2, 0).numpy()
    for precise in (np.float32, np.float64):
        lr = degrade((gt / 255).astype(precise), scale, 'BD')
        assert lr.dtype == precise
        np.testing.assert_allclose(lr, expected, rtol=0, atol=1e-5)
    assert np.abs(degrade(gt, scale, 'BD') - 255 * expected).max() < 0.501


@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 12), width=st.integers(1, 40), scale=st.sampled_from([2, 3, 4]), seed=st.integers(0, 99),
       highest=st.sampled_from([1, 255]))
def test_bd_of_uint8_is_exact(height, width, scale, seed, highest):
    """Whole numbers: the weights are multiples of 2**-22, and images of any size are mirrored as often as it takes."""
    gt = np.random.default_rng(seed).integers(0, highest, (height * scale, width * scale, 3), np.uint8, endpoint=True)
    radius = {2: 3, 3: 5, 4: 6}[scale]
    kernel = [math.exp(-offset**2 / 2 / (0.4 * scale)**2) for offset in range(-radius, radius + 1)]
    kernel = [round(weight / sum(kernel) * 2**22) for weight in kernel]
    kernel[radius] += 2**22 - sum(kernel)
    padded = np.pad(gt.astype(np.int64), ((radius, radius), (radius, radius), (0, 0)), 'reflect')
    rows = sum(weight * padded[offset:offset + gt.shape[0]:scale] for offset, weight in enumerate(kernel))
    total = sum(weight * rows[:, offset:offset + gt.shape[1]:scale] for offset, weight in enumerate(kernel))
    np.testing.assert_array_equal(degrade(gt, scale, 'BD'), (total + 2**43) >> 44)
    np.testing.assert_allclose(degrade(gt.astype(float), scale, 'BD'), total / 2**44, rtol=0, atol=1e-11)


def test_bd_starts_at_the_first_pixel():
    """A point is brightest in the LR pixel that stands on it, and BD, unlike BI, is not symmetric."""
    gt = np.zeros((32, 32, 3))
    gt[12, 20] = 1
    lr = degrade(gt, 4, 'BD')[..., 0]
    assert np.unravel_index(lr.argmax(), lr.shape) == (3, 5)
    np.testing.assert_allclose(lr[3, 4], lr[3, 6])


def test_both_keep_a_flat_image():
    for kind in DEGRADATIONS:
        assert (degrade(np.full((16, 24, 3), 77, np.uint8), 4, kind) == 77).all()


@pytest.mark.parametrize('gt, scale, kind, message', [
    (image(0, 8, 8), 4, 'bicubic', "degradation: expected one of BI, BD, got 'bicubic'"),
    (image(0, 9, 8), 4, 'BI', '8x9 is not divisible by the scale 4. Crop it to 8x8'),
    (image(0, 8, 10), 4, 'BD', '10x8 is not divisible'),
    (image(0, 8, 8), 0, 'BI', 'scale: expected a whole number above 0 .*got 0'),
    (image(0, 8, 8), 0.5, 'BI', 'scale: .*got 0.5'),
    (image(0, 8, 8), 8, 'BD', 'scale: expected one of 2, 3, 4 for degradation BD, got 8'),
    (np.zeros((8, 8)), 4, 'BI', r'got float64 of shape \(8, 8\)'), (np.zeros((8, 8, 3), int), 4, 'BD', 'got int64'),
    (np.zeros((0, 8, 3)), 4, 'BI', 'expected an image'), (torch.zeros(8, 8, 3), 4, 'BI', 'got Tensor')])
def test_bad_input(gt, scale, kind, message):
    with pytest.raises(DataError, match=message):
        degrade(gt, scale, kind)
