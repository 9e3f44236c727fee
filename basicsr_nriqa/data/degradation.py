"""From GT to LR: the two degradations that VSR papers name, BI and BD.

BI is MATLAB's bicubic (:func:`basicsr_nriqa.data.bicubic.imresize`). BD is a Gaussian blur and then every ``scale``-th
pixel from the first one on, as in Y. Jo et al., "Deep video super-resolution network using dynamic upsampling filters
without explicit motion compensation" (DUF), 2018, with the border of BasicSR's ``duf_downsample``.
"""
from functools import lru_cache
from typing import Literal

import numpy as np

from basicsr_nriqa.data.bicubic import imresize
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.resampling import Axis, make_axis, resample

DEGRADATIONS = ('BI', 'BD')
_BLUR_SCALES = (2, 3, 4)  # what DUF's kernel of 13 x 13 pixels is for
_UNIT = 2**22  # the blur's weights are whole multiples of 1 / _UNIT: sums of 8-bit pixels are exact in float64


def degrade(gt: np.ndarray, scale: int, kind: Literal['BI', 'BD'] = 'BI') -> np.ndarray:
    """Make the LR image of a GT image.

    Args:
        gt (ndarray): (h,w,3) uint8, or floating point of any range; colours in any order.
        scale (int): GT size over LR size; both sides must be divisible by it. BD knows 2, 3 and 4.
        kind (str): 'BI', or 'BD': a Gaussian blur with a standard deviation of ``0.4 * scale`` pixels (1.6 for 4), cut
            off after 4 of them (13 x 13 pixels for 4), the image mirrored without repeating its border pixel.

    Returns:
        ndarray: (h/scale, w/scale, 3) of the same type. uint8 is the true value rounded half up, to the bit on every
        machine; BD's weights are rounded to 22 binary digits, which moves the value by less than 0.001 grey levels.

    Raises:
        DataError: no such kind, not its scale, a side that is not divisible by ``scale``, or not an image.
    """
    check_degradation(scale, kind)
    if not isinstance(gt, np.ndarray) or gt.ndim != 3 or 0 in gt.shape \
            or gt.dtype not in (np.uint8, np.float16, np.float32, np.float64):
        given = f'{gt.dtype} of shape {gt.shape}' if isinstance(gt, np.ndarray) else type(gt).__name__
        raise DataError(f'degradation {kind}: expected an image (h,w,3) as uint8 or floating point, got {given}.')
    height, width = gt.shape[:2]
    if height % scale or width % scale:
        raise DataError(f'the size {width}x{height} is not divisible by the scale {scale}. Crop it to '
                        f'{width - width % scale}x{height - height % scale} first, or take another scale.')
    if kind == 'BI':
        return imresize(gt, 1 / scale)
    return resample(gt, _blurred_axis(height, scale), _blurred_axis(width, scale))


def check_degradation(scale: int, kind: str) -> None:
    """Raise a DataError where :func:`degrade` could not do this with any image."""
    if kind not in DEGRADATIONS:
        raise DataError(f'degradation: expected one of {", ".join(DEGRADATIONS)}, got {kind!r}.')
    if not (isinstance(scale, int) and scale > 0) or (kind == 'BD' and scale not in _BLUR_SCALES):
        known = 'one of ' + ', '.join(map(str, _BLUR_SCALES)) if kind == 'BD' else 'a whole number above 0'
        raise DataError(f'scale: expected {known} for degradation {kind}, got {scale!r}.')


@lru_cache(maxsize=64)
def _blurred_axis(length: int, scale: int) -> Axis:
    deviation = 0.4 * scale
    radius = int(4 * deviation + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation)**2)
    kernel = np.rint(kernel / kernel.sum() * _UNIT).astype(np.int64)
    kernel[radius] += _UNIT - kernel.sum()  # rounding has moved their sum a little from 1
    first = np.arange(0, length, scale) - radius
    return make_axis(first, np.tile(kernel, (len(first), 1)), lambda position: _reflected(position, length))


def _reflected(position: np.ndarray, length: int) -> np.ndarray:
    """The border pixel is not repeated: ... 2 1 | 0 1 2 ..."""
    position = np.abs(position) % max(1, 2 * (length - 1))
    return np.minimum(position, 2 * (length - 1) - position) if length > 1 else position
