"""Separable linear resampling of images, such as a resize or a blur: each axis by a banded matrix, in blocks.

An output pixel needs a few input pixels, so a block of neighbouring outputs needs a short run of them: the work is a
small matrix product per block instead of one with the whole, mostly empty matrix.

Images of 8 bits come out exact where the weights of an output are fractions with a small common denominator: the
products are then of whole numbers that the floating point holds without rounding, so that neither the order of the sums
nor the number of threads nor the machine matters, and the final rounding sees the true value.
"""
import math
from typing import NamedTuple

import cv2
import numpy as np
import torch

_BLOCK = 16  # outputs in a block: fewer mean more overhead, more mean more of the matrix that is zero
_STRIP = 2**18  # numbers of the image in work at once: what a processor's cache holds, and little memory for any frame


class Axis(NamedTuple):
    """How the pixels of one axis are made.

    Attributes:
        length (int): Output pixels.
        inputs (ndarray): (blocks, taps), the input pixels that a block needs.
        weights (ndarray): (blocks, outputs in a block, taps) float64; an output's sum to 1.
        numerators (ndarray): The same as whole numbers for exact sums, where the weights are fractions.
        denominators (ndarray | None): (length,) what sums of ``numerators`` are to be divided by; None: nothing.
        peak (float): The largest factor by which whole numbers grow; infinite where the weights are no fractions.
    """
    length: int
    inputs: np.ndarray
    weights: np.ndarray
    numerators: np.ndarray
    denominators: np.ndarray | None
    peak: float


def make_axis(first, weights, mirrored):
    """Arrange the weights of an axis in blocks.

    Args:
        first (ndarray): (outputs,) the first input position that an output needs, rising; may lie outside the image.
        weights (ndarray): (outputs, taps) of the positions from there on, of any positive sum. Integers: see above.
        mirrored (callable): Maps any integer positions to those of the image; the handling of borders.

    Returns:
        Axis: With arrays that cannot be written to.
    """
    length, taps = weights.shape
    blocks = -(-length // _BLOCK)
    start = first[::_BLOCK]
    offset = first - start.repeat(_BLOCK)[:length]
    band = np.zeros((blocks * _BLOCK, offset.max() + taps), weights.dtype)
    np.put_along_axis(band[:length], offset[:, None] + np.arange(taps), weights, axis=1)
    inputs = mirrored(start[:, None] + np.arange(band.shape[1]))

    sums = band.sum(1)
    sums[length:] = 1  # outputs that only fill the last block
    denominators, peak = None, math.inf
    normalised = numerators = band / sums[:, None]
    if np.issubdtype(band.dtype, np.integer):
        common = np.gcd.reduce(band, axis=None)
        band, sums = band // common, sums // common
        peak = float(np.abs(band).sum(1).max())
        if not _powers_of_two(sums[:length]):  # those divide without rounding, so that it is done already
            numerators, denominators = band.astype(float), sums[:length].astype(float)
    shape = (blocks, _BLOCK, -1)
    axis = Axis(length, inputs, normalised.reshape(shape), numerators.reshape(shape), denominators, peak)
    for array in axis:
        if isinstance(array, np.ndarray):
            array.setflags(write=False)  # it may be shared through a cache
    return axis


def _powers_of_two(numbers):
    return not np.any(numbers & (numbers - 1))


def resample(img, rows, columns):
    """Resample a numpy image.

    Args:
        img (ndarray): (h,w) or (h,w,c), uint8 or floating point, any range.
        rows (Axis): From h to the height of the output.
        columns (Axis): From w to its width.

    Returns:
        ndarray: The same layout and type; uint8 is rounded half up and clipped to 0..255.
    """
    height, width = img.shape[:2]
    lines = img.reshape(height, -1)
    channels = lines.shape[1] // width
    row_weights, column_weights = (
        (axis.numerators if img.dtype == np.uint8 else axis.weights).astype(precise)
        for axis, precise in zip((rows, columns), _precision(img.dtype, rows, columns)))
    out = np.empty((rows.length, columns.length, channels), img.dtype)
    in_work = max(rows.inputs.shape[1] * lines.shape[1], _BLOCK * columns.length * channels)
    step = max(1, _STRIP // in_work)
    for block in range(0, len(rows.inputs), step):
        strip = slice(block, block + step)
        top, end = block * _BLOCK, min((block + step) * _BLOCK, rows.length)
        done = _transposed_product(row_weights[strip], lines, rows.inputs[strip], end - top)  # (w c, rows)
        done = _transposed_product(column_weights, done.reshape(width, -1), columns.inputs, columns.length)
        done = done.reshape(channels, end - top, columns.length)
        if img.dtype == np.uint8:
            denominators = _denominators(rows, columns, slice(top, end))
            if denominators is not None:
                done /= denominators
            done += 0.5  # the conversion then cuts off
            np.clip(done, 0, 255, out=done)
        _interleave(done.astype(img.dtype, copy=False), out[top:end])
    return out.reshape(out.shape[:2] + img.shape[2:])


def _transposed_product(weights, lines, index, length):
    """Resample the first axis of (lines, n), to (n, length): done twice, both axes are, and stand as they stood."""
    needed = lines[index].astype(weights.dtype, copy=False)
    out = np.empty((lines.shape[1], len(index) * _BLOCK), weights.dtype)
    np.matmul(needed.transpose(0, 2, 1), weights.transpose(0, 2, 1),
              out=out.reshape(-1, len(index), _BLOCK).transpose(1, 0, 2))
    return out[:, :length]


def _interleave(planes, out):
    if 1 < len(planes) <= 4 and planes.dtype != np.float16:
        cv2.merge(list(planes), dst=out)  # several times as fast
    else:
        out[...] = planes.transpose(1, 2, 0)


def resample_torch(img, rows, columns):
    """Resample torch images.

    Args:
        img (Tensor): (n,c,h,w) on any device, uint8 or floating point, any range.
        rows (Axis): From h to the height of the output.
        columns (Axis): From w to its width.

    Returns:
        Tensor: The same layout, type and device, differentiable; uint8 is rounded half up and clipped to 0..255. In
        float32, float16 and bfloat16 it is computed with float32 or better, whatever autocast or TF32 would allow.
    """
    whole = img.dtype == torch.uint8
    precise = torch.float32 if img.dtype != torch.float64 and _float32_is_exact() and not whole else torch.float64
    row_weights, column_weights = (
        torch.tensor(axis.numerators if whole else axis.weights, dtype=precise, device=img.device)
        for axis in (rows, columns))
    with torch.autocast(img.device.type, enabled=False):
        if rows.length < img.shape[2]:  # what shrinks comes first, so that there is less to do for the other
            done = _columns_product(_rows_product(img, row_weights, rows), column_weights, columns)
        else:
            done = _rows_product(_columns_product(img, column_weights, columns), row_weights, rows)
    if whole:
        denominators = _denominators(rows, columns, slice(None))
        if denominators is not None:
            done = done / torch.tensor(denominators, device=img.device)
        done = (done + 0.5).clamp(0, 255)  # the conversion then cuts off
    return done.to(img.dtype).contiguous()


def _rows_product(img, weights, axis):
    index = torch.tensor(axis.inputs, device=img.device)
    needed = img.index_select(2, index.flatten()).unflatten(2, index.shape).to(weights.dtype)
    return (weights @ needed).flatten(2, 3)[:, :, :axis.length]


def _columns_product(img, weights, axis):
    index = torch.tensor(axis.inputs, device=img.device)
    needed = img.index_select(3, index.flatten()).unflatten(3, index.shape).to(weights.dtype).transpose(2, 3)
    return (needed @ weights.mT).transpose(2, 3).flatten(3)[..., :axis.length]


def _float32_is_exact():
    """Whether products in float32 are made in float32, not in TF32 or bfloat16."""
    try:
        return torch.get_float32_matmul_precision() == 'highest'
    except RuntimeError:  # the newer switches are in use (torch.backends.fp32_precision), which it does not read
        return False


def _precision(dtype, rows, columns):
    """The types to compute the two axes of a numpy image in, one after the other."""
    if dtype == np.uint8:
        # whole numbers below 2**24 are exact in the shorter type; 256 is for a pixel, and the half added to round it
        return [np.float32 if bound < 2**24 else np.float64
                for bound in (256 * rows.peak, 256 * rows.peak * columns.peak)]
    return [np.float64 if dtype == np.float64 else np.float32] * 2


def _denominators(rows, columns, part):
    """What sums of products of numerators are to be divided by, as (h,w), or None."""
    if rows.denominators is None and columns.denominators is None:
        return None
    down, across = (np.ones(axis.length) if axis.denominators is None else axis.denominators
                    for axis in (rows, columns))
    return np.outer(down[part], across)
