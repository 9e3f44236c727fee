"""Differentiable operations on images (..., 3, h, w), nominally in [0,1]; values beyond that keep their gradient.

Moving, resizing and blurring are linear and separable: a matrix for the rows times the image times one for the columns.
For crops as trainings have them, two products with such matrices are several times as fast on a CPU as convolutions;
matrices of steps that follow each other can be multiplied first; and the gradient, the same with the matrices
transposed, repeats to the bit, which that of PyTorch's own resizing on CUDA does not.
"""
import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

_LUMA = (0.299, 0.587, 0.114)  # BT.601


def resample(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Apply a matrix to each axis.

    Args:
        images (Tensor): (..., h, w).
        rows (Tensor): (new h, h).
        columns (Tensor): (new w, w).

    Returns:
        Tensor: (..., new h, new w).
    """
    return rows.to(images) @ images @ columns.to(images).mT


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, standard deviation ``sigma`` px, see :func:`blur_matrix`."""
    if not sigma:
        return images
    return resample(images, *(_kept(blur_matrix, length, sigma, images.dtype, images.device)
                              for length in images.shape[-2:]))


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Bicubic, antialiased when shrinking, to ``height`` x ``width`` px."""
    if images.shape[-2:] == (height, width):
        return images
    return resample(images, *(_kept(_resize_matrix, old, new, images.dtype, images.device)
                              for old, new in zip(images.shape[-2:], (height, width))))


def _resize_matrix(length: int, size: int) -> Tensor:
    return window_matrix(length, 0, size, size / length)


@lru_cache(maxsize=64)
def _kept(build: Callable[..., Tensor], length: int, argument: float, dtype: torch.dtype,
          device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # or autograd would refuse the matrix ever after
        return build(length, argument).to(device, dtype)


def blur_matrix(length: int, sigma: float) -> Tensor:
    """A Gaussian blur of one axis whose borders are mirrored (... 1 0 | 0 1 2 ...).

    Then the matrix is symmetric, its rows and columns sum to 1, and its eigenvalues are those of the filter: the cosine
    transform diagonalises it (Strang, "The discrete cosine transform", SIAM Review 1999). The filter is a cut-off
    Gaussian of ``sigma / sqrt(2)`` convolved with itself, so that they are squares and none is negative.

    Args:
        length (int): Pixels.
        sigma (float): Standard deviation in pixels, above 0.

    Returns:
        Tensor: (length, length), float64, on the CPU.
    """
    radius = math.ceil(3 * sigma / math.sqrt(2))
    half = torch.exp(-(torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma)**2)
    half = half / half.sum()
    kernel = F.conv1d(half.view(1, 1, -1), half.view(1, 1, -1), padding=2 * radius).flatten()
    taps = torch.arange(-2 * radius, 2 * radius + 1)
    return _band(length, torch.arange(length)[:, None] + taps, kernel.expand(length, -1))


def window_matrix(length: int, start: float, size: int, factor: float = 1) -> Tensor:
    """A window of one axis, resized: bicubic (Keys 1981), antialiased when shrinking, borders mirrored.

    Args:
        length (int): Pixels of the axis.
        start (float): Where the window begins; 0 is the edge before the first pixel.
        size (int): Pixels of the result.
        factor (float): Of these, so many for each pixel of the axis.

    Returns:
        Tensor: (size, length), float64, on the CPU; with 0, ``length`` and 1 exactly the identity.
    """
    centre = (start - 0.5 + (torch.arange(size, dtype=torch.float64) + 0.5) / factor)[:, None]
    stretch = max(1, 1 / factor)
    first = (centre - 2 * stretch).ceil()
    index = first + torch.arange(math.floor(4 * stretch) + 1)
    weights = _cubic((index - centre).abs() / stretch)
    return _band(length, index.long(), weights / weights.sum(1, keepdim=True))


def _cubic(distance: Tensor) -> Tensor:
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance <= 1, near, torch.where(distance <= 2, far, 0))


def _band(length: int, index: Tensor, weights: Tensor) -> Tensor:
    """The matrix that has these weights at these positions of an axis, those outside mirrored."""
    index = index % (2 * length)
    return weights.new_zeros(len(index), length).scatter_add_(1, torch.minimum(index, 2 * length - 1 - index), weights)


def colour_matrix(gain: Tensor, saturation: float, contrast: float) -> Tensor:
    """The matrix of :func:`recolour` for a gain of each channel, then saturation, then contrast; 1: as it is.

    Args:
        gain (Tensor): (3,).
        saturation (float): 0: grey.
        contrast (float): 0: flat.

    Returns:
        Tensor: (3, 3).
    """
    grey = gain.new_tensor(_LUMA).expand(3, 3)
    return contrast * (saturation * torch.eye(3).to(gain) + (1 - saturation) * grey) * gain


def recolour(images: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """Colours times a matrix, plus an offset.

    Args:
        images (Tensor): (..., 3, h, w).
        matrix (Tensor): (3, 3).
        offset (Tensor): (3,).

    Returns:
        Tensor: The same shape.
    """
    colours = matrix.to(images) @ images.flatten(-2) + offset.to(images)[:, None]
    return colours.unflatten(-1, images.shape[-2:])


def jpeg(images: Tensor, quality: float) -> Tensor:
    """Differentiable JPEG compression (Reich et al., "Differentiable JPEG: the devil is in the details", WACV 2024).

    Args:
        images (Tensor): (..., 3, h, w).
        quality (float): 1 to 100.

    Returns:
        Tensor: The same shape. What lies outside [0,1], which no file can hold, is set aside and added again.
    """
    from kornia.enhance import jpeg_codec_differentiable
    inside = images.clamp(0, 1)
    return jpeg_codec_differentiable(inside, images.new_tensor([quality])) + (images - inside)
