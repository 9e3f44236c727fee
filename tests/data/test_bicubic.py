import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import torch
from basicsr.utils.matlab_functions import calculate_weights_indices
from basicsr.utils.matlab_functions import imresize as basicsr_imresize
from hypothesis import example, given, settings
from hypothesis import strategies as st

from basicsr_nriqa.data import resampling
from basicsr_nriqa.data.bicubic import imresize

COMMON_SCALES = [1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 2, 2, 3, 4]
SEEDS = st.integers(0, 999)


@settings(max_examples=50, deadline=None)
@given(height=st.integers(24, 48), width=st.integers(24, 48), seed=SEEDS,
       scale=st.floats(0.15, 4) | st.sampled_from(COMMON_SCALES))
@example(height=24, width=25, scale=2.7182, seed=0)  # 4 * 2.7182 // 2.7182 is 3
def test_equals_the_independent_implementation_in_basicsr(height, width, scale, seed):
    """BasicSR's coordinates are float32, whose step grows with the position: from about 64 px on, its error is 1e-5."""
    image = np.random.default_rng(seed).random((height, width, 3))
    assert np.abs(imresize(image, scale) - basicsr_imresize(image, scale)).max() < 1e-5


@settings(max_examples=6, deadline=None)
@given(height=st.integers(24, 270), width=st.integers(24, 480), scale=st.sampled_from([1 / 4, 1 / 2, 2]), seed=SEEDS)
def test_equals_basicsr_at_any_size_where_its_coordinates_are_exact(height, width, scale, seed):
    image = np.random.default_rng(seed).random((height, width))
    assert np.abs(imresize(image, scale) - basicsr_imresize(image, scale)).max() < 1e-6


def basicsr_matrix(length, scale):
    """(out,in): BasicSR's weights in double precision, its mirrored borders folded in."""
    torch.set_default_dtype(torch.float64)
    try:
        outputs = math.ceil(length * scale)
        weights, index, before, _ = calculate_weights_indices(length, outputs, scale, 'cubic', 4, True)
    finally:
        torch.set_default_dtype(torch.float32)
    index = index.long() - before
    index = torch.where(index < 0, -1 - index, index)
    index = torch.where(index >= length, 2 * length - 1 - index, index)
    return torch.zeros(len(weights), length, dtype=torch.float64).scatter_add_(1, index, weights).numpy()


@settings(max_examples=50, deadline=None)
@given(height=st.integers(24, 500), width=st.integers(24, 500), seed=SEEDS,
       scale=st.floats(0.15, 6) | st.sampled_from(COMMON_SCALES))
def test_equals_basicsr_in_double_precision_at_any_size(height, width, scale, seed):
    image = np.random.default_rng(seed).random((height, width))
    expected = basicsr_matrix(height, scale) @ image @ basicsr_matrix(width, scale).T
    assert np.abs(imresize(image, scale) - expected).max() < 1e-10
    assert np.abs(imresize(image.astype(np.float32), scale) - expected).max() < 1e-5


def exact_matrix(length, scale):
    """(out,in) of fractions: MATLAB's definition, word for word."""
    def cubic(x):
        x = abs(x)
        if x <= 1:
            return Fraction(3, 2) * x**3 - Fraction(5, 2) * x**2 + 1
        return -Fraction(1, 2) * x**3 + Fraction(5, 2) * x**2 - 4 * x + 2 if x <= 2 else Fraction(0)

    shrink = min(scale, Fraction(1))
    mirror = [*range(length), *reversed(range(length))]
    matrix = np.full((math.ceil(length * scale), length), Fraction(0))
    for row in range(len(matrix)):
        centre = (row + Fraction(1, 2)) / scale - Fraction(1, 2)
        for position in range(math.floor(centre - 2 / shrink), math.ceil(centre + 2 / shrink) + 1):
            matrix[row, mirror[position % (2 * length)]] += cubic((centre - position) * shrink)
        matrix[row] /= matrix[row].sum()
    return matrix


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 18), width=st.integers(1, 18), seed=SEEDS, highest=st.sampled_from([1, 2, 255]),
       scale=st.sampled_from([Fraction(scale).limit_denominator(4) for scale in COMMON_SCALES]))
def test_uint8_is_the_exact_value_rounded_half_up(height, width, highest, scale, seed):
    """Dark images have many values that end in exactly a half."""
    image = np.random.default_rng(seed).integers(0, highest, (height, width), np.uint8, endpoint=True)
    exact = exact_matrix(height, scale) @ image.astype(object) @ exact_matrix(width, scale).T
    expected = [[min(max(math.floor(value + Fraction(1, 2)), 0), 255) for value in row] for row in exact]
    np.testing.assert_array_equal(imresize(image, float(scale)), expected)
    np.testing.assert_array_equal(imresize(torch.from_numpy(image)[None, None], float(scale))[0, 0], expected)
    np.testing.assert_allclose(imresize(image.astype(float), float(scale)), exact.astype(float), rtol=0, atol=1e-11)


@pytest.mark.parametrize('scale', COMMON_SCALES)
def test_uint8_does_not_depend_on_the_order_of_the_sums(monkeypatch, scale):
    """Which is what threads and processors change: here all sums run backwards, and in other strips."""
    image = np.random.default_rng(0).integers(0, 256, (132, 156, 3), np.uint8)
    resized = imresize(image, scale)
    np.testing.assert_array_equal(imresize(image[::-1, ::-1], scale)[::-1, ::-1], resized)
    np.testing.assert_array_equal(imresize(image.transpose(1, 0, 2), scale).transpose(1, 0, 2), resized)
    monkeypatch.setattr(resampling, '_STRIP', 1)
    np.testing.assert_array_equal(imresize(image, scale), resized)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None]
    for threads in (2, 1):
        torch.set_num_threads(threads)
        np.testing.assert_array_equal(imresize(tensor, scale)[0].permute(1, 2, 0), resized)


def test_matlab_values():
    """A ramp: the inside nearly keeps its line, the mirrored borders pull the ends inwards, symmetrically."""
    ramp = np.arange(16, dtype=float)[None].repeat(8, 0)
    np.testing.assert_allclose(imresize(ramp, 0.25)[0], [1.3598633, 5.4838867, 9.5161133, 13.6401367], atol=1e-6)
    assert np.allclose(imresize(np.full((9, 9), 7.0), 0.25), 7)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, scale=st.floats(0.05, 4))
def test_commutes_with_mirroring(seed, scale):
    """Where the output covers the input exactly, as with whole sizes; else MATLAB's grid starts at the first pixel."""
    length = 40
    scale = round(scale * length) / length
    image = np.random.default_rng(seed).random((length, length, 2))
    np.testing.assert_allclose(imresize(image[:, ::-1], scale), imresize(image, scale)[:, ::-1], atol=1e-10)


@pytest.mark.parametrize('scale', [1 / 4, 1 / 3, 0.37, 1, 1.3, 4])
def test_torch_gives_the_same_as_numpy(scale):
    image = torch.rand(2, 3, 21, 34, dtype=torch.float64)
    resized = imresize(image, scale)
    assert resized.is_contiguous()
    for one, expected in zip(image, resized):
        np.testing.assert_allclose(imresize(one.permute(1, 2, 0).numpy(), scale), expected.permute(1, 2, 0), atol=1e-12)


@pytest.mark.parametrize('scale', [1 / 4, 0.37, 1.5])
def test_torch_is_differentiable(scale):
    image = torch.rand(1, 2, 5, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda img: imresize(img, scale), image)
    assert torch.autograd.gradgradcheck(lambda img: imresize(img, scale), image)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_torch_computes_in_float32_or_better(dtype):
    """Whatever mixed precision and the switches for TF32 would allow."""
    image = torch.rand(1, 3, 64, 64).to(dtype)
    expected = imresize(image.double(), 0.25)
    with torch.autocast('cpu', torch.bfloat16):
        resized = imresize(image, 0.25)
    assert resized.dtype == dtype
    torch.testing.assert_close(resized.double(), expected, rtol=torch.finfo(dtype).eps, atol=5e-7)
    try:
        torch.set_float32_matmul_precision('medium')
        torch.testing.assert_close(imresize(image, 0.25), expected.to(dtype), rtol=0, atol=0)
    finally:
        torch.set_float32_matmul_precision('highest')


def test_what_inference_mode_made_serves_training():
    with torch.inference_mode():
        imresize(torch.rand(1, 1, 13, 13), 0.5)
    image = torch.rand(1, 1, 13, 13, requires_grad=True)
    imresize(image, 0.5).sum().backward()
    assert image.grad.sum().item() == pytest.approx(49, abs=1e-4)  # every output's weights sum to 1


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64, np.uint8])
@pytest.mark.parametrize('shape', [(9, 14), (9, 14, 1), (9, 14, 3), (9, 14, 6), (1, 1, 3)])
def test_numpy_keeps_type_and_layout(dtype, shape):
    image = (np.random.default_rng(0).random(shape) * 200).astype(dtype)
    image.setflags(write=False)
    padded = np.zeros((2 * shape[0], *shape[1:]), dtype)
    padded[::2] = image
    for scale in (0.5, 4):
        resized = imresize(image, scale)
        assert resized.dtype == dtype and resized.flags.c_contiguous
        assert resized.shape == (*(math.ceil(side * scale) for side in shape[:2]), *shape[2:])
        expected = np.clip(imresize(image.astype(float), scale), 0, 255)
        assert np.abs(np.clip(resized, 0, 255) - expected).max() <= {np.uint8: 0.5, np.float16: 0.07}.get(dtype, 1e-4)
        np.testing.assert_array_equal(imresize(padded[::2], scale), resized)


def test_uint8_is_rounded_and_clipped():
    step = np.zeros((16, 16, 3), np.uint8)
    step[:, 8:] = 255
    large = imresize(step, 2)
    assert large.dtype == np.uint8 and large.min() == 0 and large.max() == 255
    exact = imresize(step.astype(float), 2)
    assert exact.min() < 0 and exact.max() > 255  # it overshoots; a wrap-around would show
    np.testing.assert_array_equal(large, np.floor(np.clip(exact, 0, 255) + 0.5))


def test_a_huge_scale_is_computed_in_floats():
    """As a fraction, its weights would not fit into 64 bits."""
    image = np.array([[0.0, 1.0]])
    np.testing.assert_allclose(imresize(image, 1000.001), imresize(image, 1000.00101), atol=1e-6)


def test_a_large_frame_needs_little_memory_beside_itself():
    frame = np.zeros((2160, 3840, 3), np.uint8)
    tracemalloc.start()
    try:
        imresize(frame, 0.25)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < frame.nbytes / 2


@pytest.mark.parametrize('image, scale, error', [
    (np.zeros((2, 2, 3)), 0, ValueError), (np.zeros((2, 2)), math.inf, ValueError),
    (np.zeros((2, 2)), math.nan, ValueError), (np.zeros(4), 0.5, ValueError), (torch.zeros(3, 4, 4), 0.5, ValueError),
    (np.zeros((0, 4, 3)), 0.5, ValueError), (torch.zeros(1, 3, 4, 0), 0.5, ValueError), ([[1, 2]], 0.5, TypeError),
    (np.zeros((4, 4), np.int64), 0.5, TypeError), (np.zeros((4, 4), bool), 2, TypeError),
    (torch.zeros(1, 1, 4, 4, dtype=torch.int32), 0.5, TypeError)])
def test_bad_input(image, scale, error):
    with pytest.raises(error, match='imresize'):
        imresize(image, scale)
