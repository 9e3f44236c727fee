"""MATLAB's ``imresize`` with its default method, the antialiased bicubic of every published VSR benchmark.

Source: R. G. Keys, "Cubic convolution interpolation for digital image processing", 1981 (a = -0.5); the stretching of
the kernel when shrinking, the placement of pixel centres and the mirrored borders are MATLAB's.
"""
import math
from fractions import Fraction
from functools import lru_cache
from typing import overload

import numpy as np
import torch
from torch import Tensor

from basicsr_nriqa.data.resampling import Axis, make_axis, resample, resample_torch


@overload
def imresize(img: np.ndarray, scale: float) -> np.ndarray: ...


@overload
def imresize(img: Tensor, scale: float) -> Tensor: ...


def imresize(img: np.ndarray | Tensor, scale: float) -> np.ndarray | Tensor:
    """Resize like MATLAB's ``imresize(img, scale)``: bicubic, antialiased when shrinking.

    With scales such as 1/4, 1/3 or 2, whose weights are small fractions, uint8 images are exact: the true value,
    rounded half up, to the bit on every machine.

    Args:
        img (ndarray | Tensor): numpy (h,w) or (h,w,c), or torch (n,c,h,w) on any device (differentiable). Any range;
            uint8 comes back as rounded and clipped uint8, floating point keeps its type and may overshoot.
        scale (float): Output size over input size, > 0; the output is ``ceil(size * scale)``. A float such as
            ``1 / 3`` means the fraction.

    Returns:
        ndarray | Tensor: The same kind and layout as ``img``.

    Raises:
        ValueError: wrong number of dimensions, an empty image, or ``scale`` not positive and finite.
        TypeError: neither numpy nor torch, or neither uint8 nor floating point.
    """
    if not 0 < scale < math.inf:
        raise ValueError(f'imresize: scale must be positive and finite, got {scale}.')
    size: tuple[int, ...]
    if isinstance(img, Tensor):
        if img.ndim != 4:
            raise ValueError(f'imresize: a torch image is (n,c,h,w), got shape {tuple(img.shape)}.')
        known, size = img.dtype == torch.uint8 or img.is_floating_point(), img.shape[2:]
    elif isinstance(img, np.ndarray):
        if img.ndim not in (2, 3):
            raise ValueError(f'imresize: a numpy image is (h,w) or (h,w,c), got shape {img.shape}.')
        known, size = img.dtype in (np.uint8, np.float16, np.float32, np.float64), img.shape[:2]
    else:
        raise TypeError(f'imresize takes a numpy array or a torch tensor, got {type(img).__name__}.')
    if not known:
        raise TypeError(f'imresize takes uint8 or floating point, got {img.dtype}: convert the image first.')
    if 0 in img.shape:
        raise ValueError(f'imresize: the image is empty, its shape is {tuple(img.shape)}.')
    rows, columns = (_axis(length, float(scale)) for length in size)
    return (resample_torch if isinstance(img, Tensor) else resample)(img, rows, columns)


@lru_cache(maxsize=64)
def _axis(length: int, scale: float) -> Axis:
    # The scale is p / q. With whole numbers all that follows is exact; scale / 1 is as exact as floats are.
    whole = Fraction(scale).limit_denominator(1000)
    exact = float(whole) == scale and whole.numerator <= 1000
    p, q = whole.as_integer_ratio() if exact else (scale, 1.0)
    # in units of 1 / 2p input pixels: where the outputs are, and a quarter of the kernel, which shrinking widens
    centre = (2 * np.arange(math.ceil(length * scale)) + 1) * q - p
    one = 2 * max(p, q)
    first = -((2 * one - centre) // (2 * p))
    taps = np.arange(math.ceil(2 * one / p) + 1)
    distance = np.abs(centre[:, None] - 2 * p * (first[:, None] + taps))
    return make_axis(first.astype(int), _cubic(distance, one), lambda position: _mirrored(position, length))


def _cubic(x: np.ndarray, one: float) -> np.ndarray:
    """Keys's kernel at ``x / one``, times ``2 * one**3``."""
    near = 3 * x**3 - 5 * x**2 * one + 2 * one**3
    far = -x**3 + 5 * x**2 * one - 8 * x * one**2 + 4 * one**3
    return np.where(x <= one, near, np.where(x <= 2 * one, far, 0))


def _mirrored(position: np.ndarray, length: int) -> np.ndarray:
    """The border pixel is repeated: ... 1 0 | 0 1 2 ..."""
    position = position % (2 * length)
    return np.where(position < length, position, 2 * length - 1 - position)
