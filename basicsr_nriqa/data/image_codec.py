"""Images as bytes: what any decoder reads (PNG, JPEG, ...), and raw pixels that need no decoding.

A raw image is :data:`RAW_MAGIC`, then height and width as little-endian 32-bit numbers, then (h,w,3) uint8 in BGR, rows
one after the other: a crop of it in a memory-mapped file touches its own rows only.
"""
import struct
from contextlib import suppress

import cv2
import numpy as np

from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.png_decoder import decode_png, png_size

CODECS = ('png', 'raw')
RAW_MAGIC = b'\x93IQARAW\n'
_RAW_HEADER = struct.Struct('<8sII')


def encode_image(image, codec='png', compress_level=1):
    """Encode an image.

    Args:
        image (ndarray): (h,w,3) uint8, BGR.
        codec (str): One of :data:`CODECS`.
        compress_level (int): Of PNG, 0 to 9.

    Returns:
        bytes: From which :func:`decode_image` gives the same pixels.
    """
    if codec == 'raw':
        return _RAW_HEADER.pack(RAW_MAGIC, *image.shape[:2]) + image.tobytes()
    return cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, compress_level])[1].tobytes()


def decode_image(data, name):
    """Decode an image.

    Args:
        data (bytes-like): An encoded or raw image.
        name (str): What messages call it.

    Returns:
        ndarray: (h,w,3) uint8, BGR; of a raw image a read-only view on ``data``.

    Raises:
        DataError: the bytes are no image; the message starts with ``name``.
    """
    if is_raw(data):
        return _raw_pixels(data, name)
    image = decode_png(data)
    if image is None and len(data):
        with suppress(cv2.error):  # such as of too many pixels
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f'{name}: not a readable image ({len(data)} bytes). '
                        'Make this dataset again, or restore the frame from its source.')
    return image


def is_raw(data):
    """Whether an image is stored as pixels."""
    return data[:8] == RAW_MAGIC


def image_size(data, name):
    """Height and width in pixels; of raw images and PNG without decoding them.

    Raises:
        DataError: the bytes are no image; the message starts with ``name``.
    """
    if is_raw(data):
        return _raw_pixels(data, name).shape[:2]
    return png_size(data) or decode_image(data, name).shape[:2]


def _raw_pixels(data, name):
    height, width = _RAW_HEADER.unpack(data[:_RAW_HEADER.size])[1:] if len(data) >= _RAW_HEADER.size else (0, 0)
    if not height * width or len(data) != _RAW_HEADER.size + 3 * height * width:
        raise DataError(f'{name}: not a whole raw image ({len(data)} bytes for {width}x{height} pixels). Make this '
                        'dataset again.')
    return np.frombuffer(data, np.uint8, offset=_RAW_HEADER.size).reshape(height, width, 3)
