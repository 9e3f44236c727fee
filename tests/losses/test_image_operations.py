"""Operations on images against other implementations, and their gradients."""
import cv2
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch.autograd import gradcheck
from torch.nn import functional as F

from basicsr_nriqa.data.bicubic import imresize
from basicsr_nriqa.losses import image_operations
from basicsr_nriqa.losses.image_operations import (
    blur,
    blur_matrix,
    colour_matrix,
    jpeg,
    recolour,
    resample,
    resize,
    window_matrix,
)


def _images(*shape):
    return 1.4 * torch.rand(*shape, dtype=torch.float64) - 0.2  # networks overshoot


def _photograph(size=96):
    rows, columns = torch.meshgrid(*2 * [torch.arange(size) / size], indexing='ij')
    return torch.stack([(0.5 + 0.4 * torch.sin(9 * (a * rows + b * columns * rows)))
                        for a, b in ((1, 2), (2, 1), (3, -2))])[None]


@pytest.mark.parametrize('operation', [
    lambda images: blur(images, 0.7), lambda images: resize(images, 5, 9),
    lambda images: resample(images, window_matrix(7, 0.3, 5, 0.9), window_matrix(6, 1.8, 4, 1.1)),
    lambda images: recolour(images, colour_matrix(torch.tensor([0.9, 1, 1.2]), 0.8, 1.1), torch.tensor([0.1, 0, 0.2]))])
def test_gradients_are_right(operation):
    assert gradcheck(operation, _images(2, 2, 3, 7, 6).requires_grad_())


@given(sigma=st.floats(0.05, 6), height=st.integers(1, 40), width=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_blur_is_scipys_with_mirrored_borders(sigma, height, width):
    image = _images(1, 3, height, width)
    half = sigma / 2**0.5  # twice a Gaussian of half the variance, each cut off at three deviations
    radius = -int(-3 * half // 1)
    expected = image.numpy()
    for _ in range(2):
        expected = ndimage.gaussian_filter(expected, (0, 0, half, half), radius=radius, mode='reflect')
    torch.testing.assert_close(blur(image, sigma), torch.from_numpy(expected))


@given(sigma=st.floats(0.05, 20), length=st.integers(1, 50))
@settings(max_examples=40, deadline=None)
def test_blur_is_symmetric_without_negative_eigenvalues_and_keeps_sums(sigma, length):
    matrix = blur_matrix(length, sigma)
    torch.testing.assert_close(matrix, matrix.mT)
    torch.testing.assert_close(matrix.sum(0), torch.ones(length, dtype=torch.float64))
    assert torch.linalg.eigvalsh(matrix).min() > -1e-12


@pytest.mark.parametrize('factor', [0.5, 0.25, 0.75, 2])
def test_resizing_is_the_datas_bicubic(factor):
    images = _images(2, 3, 24, 32)
    expected = imresize(images, factor)
    torch.testing.assert_close(resize(images, *expected.shape[-2:]), expected)


def test_resizing_to_odd_sizes_is_torchs_away_from_the_borders():
    images = _images(1, 3, 61, 47)
    expected = F.interpolate(images, (44, 51), mode='bicubic', antialias=True)
    torch.testing.assert_close(resize(images, 44, 51)[..., 4:-4, 4:-4], expected[..., 4:-4, 4:-4])


def test_a_window_shows_what_is_there():
    ramp = 3 + 2 * torch.arange(30, dtype=torch.float64)
    whole = window_matrix(30, 4, 10) @ ramp
    assert torch.equal(whole, ramp[4:14])
    between = window_matrix(30, 6.3, 10, 1.25) @ ramp  # cubic interpolation is exact on a straight line
    torch.testing.assert_close(between, 3 + 2 * (6.3 - 0.5 + (torch.arange(10, dtype=torch.float64) + 0.5) / 1.25))
    smaller = window_matrix(30, 6.3, 10, 0.7) @ ramp
    torch.testing.assert_close(smaller[1:-1].diff(), torch.full((7,), 2 / 0.7, dtype=torch.float64), rtol=0, atol=0.2)


@pytest.mark.parametrize('operation', [
    lambda images: blur(images, 0), lambda images: resize(images, 7, 6),
    lambda images: resample(images, window_matrix(7, 0, 7), window_matrix(6, 0, 6, 1)),
    lambda images: recolour(images, colour_matrix(torch.ones(3), 1, 1), torch.zeros(3))])
def test_what_does_nothing_is_the_identity(operation):
    images = _images(2, 3, 7, 6).float()
    assert torch.equal(operation(images), images)


def test_colours_by_their_definition():
    image = _images(1, 3, 4, 5)
    gain, offset = torch.tensor([0.9, 1.1, 1.05], dtype=torch.float64), torch.tensor([0.1, -0.1, 0.2])
    gained = image * gain[:, None, None]
    luma = 0.299 * gained[:, :1] + 0.587 * gained[:, 1:2] + 0.114 * gained[:, 2:]
    expected = 1.2 * (luma + 0.7 * (gained - luma)) + offset[:, None, None].double()
    torch.testing.assert_close(recolour(image, colour_matrix(gain, 0.7, 1.2), offset.double()), expected)


@pytest.mark.parametrize('quality', [20, 50, 90])
def test_jpeg_is_near_that_of_a_file(quality):
    image = _photograph()
    pixels = image[0].mul(255).round().byte().permute(1, 2, 0).numpy()[..., ::-1]
    _, stream = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = torch.from_numpy(cv2.imdecode(stream, cv2.IMREAD_COLOR)[..., ::-1].copy()).permute(2, 0, 1) / 255
    error = (jpeg(image, quality)[0] - decoded).abs().mean()
    assert error < 0.35 * (image[0] - decoded).abs().mean() + 0.5 / 255
    assert (jpeg(image, quality) - image).abs().mean() > 0


def test_jpeg_passes_on_what_lies_outside_of_the_range():
    image = _photograph(40) + torch.tensor([-1.5, 0, 1.5])[:, None, None]  # red below 0, green inside, blue above 1
    image.requires_grad_()
    found = jpeg(image, 30)
    gradient, = torch.autograd.grad(found.sum(), image)
    for channel, nearest in ((0, 0), (2, 1)):
        kept = image[:, channel] - nearest
        assert (found[:, channel] - nearest - kept).abs().mean() < 0.1
        assert torch.equal(gradient[:, channel], torch.ones_like(kept))
    assert 0 < gradient[:, 1].abs().mean() < 10 and found[:, 1].detach().std() > 0.1


def test_no_matrix_made_in_inference_mode_stops_a_training():
    image_operations._kept.cache_clear()
    images = torch.rand(1, 3, 9, 11)
    with torch.inference_mode():
        blur(images, 0.4)
    blur(images.requires_grad_(), 0.4).sum().backward()
    torch.testing.assert_close(images.grad, torch.ones_like(images))
