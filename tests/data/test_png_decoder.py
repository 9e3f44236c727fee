import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basicsr_nriqa.data.png_decoder import decode_png


def _photo(height, width, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def _png(image, level=1):
    return cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, level])[1].tobytes()


def _with_chunk(data, name, content):
    """Insert a chunk behind the header."""
    chunk = struct.pack('>I', len(content)) + name + content + struct.pack('>I', zlib.crc32(name + content))
    return data[:33] + chunk + data[33:]


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), level=st.integers(0, 9), seed=st.integers(0, 99))
def test_the_pixels_of_opencv(height, width, level, seed):
    data = _png(_photo(height, width, seed), level)
    np.testing.assert_array_equal(decode_png(data), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


@pytest.mark.parametrize('filter_type', range(5))
def test_every_filter(filter_type):
    """Rows as PNG filters them, each type for itself (W3C, Portable Network Graphics, section 9)."""
    raw = np.random.default_rng(0).integers(0, 256, (6, 3 * 5), dtype=np.uint8)
    rows = b''.join(bytes((filter_type,)) + row.tobytes() for row in raw)
    body = zlib.compress(rows)
    data = _with_chunk(_png(np.zeros((6, 5, 3), np.uint8))[:33], b'IDAT', body) + struct.pack('>I', 0) + b'IEND' \
        + struct.pack('>I', zlib.crc32(b'IEND'))
    np.testing.assert_array_equal(decode_png(data), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_change_or_cut_is_noticed(place, bit):
    data = bytearray(_png(_photo(24, 32)))
    place = int(place * len(data))
    assert decode_png(bytes(data[:place])) is None
    data[place] ^= 1 << bit
    assert decode_png(bytes(data)) is None


def test_other_kinds_are_left_to_others():
    photo = _photo(12, 16)
    grey, deep, alpha = photo[..., 0], photo.astype(np.uint16) * 257, np.dstack([photo, photo[..., :1]])
    for image in (grey, deep, alpha):
        assert decode_png(_png(image)) is None
    assert decode_png(cv2.imencode('.jpg', photo)[1].tobytes()) is None
    for name, content in ((b'eXIf', b'II*\0' + bytes(8)), (b'tRNS', bytes(6)), (b'acTL', bytes(8))):
        assert decode_png(_with_chunk(_png(photo), name, content)) is None
    assert decode_png(b'') is None
    for name in (b'CgBI', b'ABCD'):  # of a kind that a decoder must know
        assert decode_png(_with_chunk(_png(photo), name, bytes(4))) is None
    # what does not touch the pixels is no reason
    assert decode_png(_with_chunk(_png(photo), b'tEXt', b'Title\0x')) is not None
    assert decode_png(_with_chunk(_png(photo), b'gAMA', struct.pack('>I', 45455))) is not None
