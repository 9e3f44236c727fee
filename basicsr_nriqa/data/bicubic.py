"""MATLAB's ``imresize`` with its default method, the antialiased bicubic of every published VSR benchmark.

Source: R. G. Keys, "Cubic convolution interpolation for digital image processing", 1981 (a = -0.5); the stretching of
the kernel when shrinking, the placement of pixel centres and the mirrored borders are MATLAB's.
"""
import math
from functools import lru_cache

import numpy as np
import torch


def _cubic(x):
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


@lru_cache(maxsize=64)
def _weights(in_length, scale):
    """The (out, in) matrix that resizes one axis; float64."""
    out_length = math.ceil(in_length * scale)
    stretch = max(1.0, 1.0 / scale)  # antialiasing: shrinking widens the kernel
    taps = math.ceil(4 * stretch) + 2
    centre = (np.arange(out_length) + 0.5) / scale - 0.5
    index = np.floor(centre - 2 * stretch).astype(int)[:, None] + np.arange(taps)
    weight = _cubic((centre[:, None] - index) / stretch)
    weight /= weight.sum(axis=1, keepdims=True)
    index %= 2 * in_length
    index = np.where(index < in_length, index, 2 * in_length - 1 - index)  # mirror, the border pixel repeated
    matrix = np.zeros((out_length, in_length))
    np.add.at(matrix, (np.arange(out_length)[:, None], index), weight)
    matrix.setflags(write=False)  # shared by every caller through the cache
    return matrix


def imresize(img, scale):
    """Resize like MATLAB's ``imresize(img, scale)``: bicubic, antialiased when shrinking.

    Args:
        img (ndarray | Tensor): numpy (h,w) or (h,w,c), or torch (n,c,h,w) on any device (differentiable). Any range;
            uint8 comes back as rounded and clipped uint8, floating point keeps its type and may overshoot.
        scale (float): Output size over input size, > 0; the output is ``ceil(size * scale)``.

    Returns:
        ndarray | Tensor: The same kind and layout as ``img``.

    Raises:
        ValueError: wrong number of dimensions, or ``scale`` not positive.
        TypeError: neither numpy nor torch.
    """
    if not scale > 0:
        raise ValueError(f'imresize: scale must be positive, got {scale}.')
    if torch.is_tensor(img):
        return _imresize_torch(img, float(scale))
    if not isinstance(img, np.ndarray):
        raise TypeError(f'imresize takes a numpy array or a torch tensor, got {type(img).__name__}.')
    if img.ndim not in (2, 3):
        raise ValueError(f'imresize: a numpy image is (h,w) or (h,w,c), got shape {img.shape}.')
    precise = img.astype(np.float64)
    resized = np.tensordot(_weights(img.shape[0], float(scale)), precise, axes=(1, 0))
    resized = np.tensordot(_weights(img.shape[1], float(scale)), resized, axes=(1, 1)).swapaxes(0, 1)
    if img.dtype == np.uint8:
        # half away from zero, as MATLAB rounds; numpy's own rounds half to even
        return np.floor(np.clip(resized, 0, 255) + 0.5).astype(np.uint8)
    return np.ascontiguousarray(resized, dtype=img.dtype)


def _imresize_torch(img, scale):
    if img.ndim != 4:
        raise ValueError(f'imresize: a torch image is (n,c,h,w), got shape {tuple(img.shape)}.')
    precise = img if img.is_floating_point() else img.float()
    if precise.dtype in (torch.float16, torch.bfloat16):
        precise = precise.float()
    rows, columns = (torch.tensor(_weights(size, scale), dtype=precise.dtype, device=img.device)
                     for size in img.shape[-2:])
    with torch.autocast(img.device.type, enabled=False):  # the result must not depend on mixed precision
        resized = rows @ precise @ columns.T
    if img.dtype == torch.uint8:
        return (resized.clamp(0, 255) + 0.5).floor().to(torch.uint8)
    return resized.to(img.dtype)
