import zlib
from contextlib import suppress

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basicsr_nriqa.data import DataError
from basicsr_nriqa.data.image_codec import CODECS, decode_image, encode_image, image_size, is_raw


@settings(deadline=None, max_examples=40)
@given(height=st.integers(1, 40), width=st.integers(1, 40), codec=st.sampled_from(CODECS), seed=st.integers(0, 99))
def test_round_trip(height, width, codec, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    data = encode_image(image, codec)
    assert is_raw(data) == (codec == 'raw')
    assert image_size(data, 'x') == (height, width)
    decoded = decode_image(data, 'x')
    assert decoded.shape == image.shape and (decoded == image).all()
    assert (decode_image(memoryview(data), 'x') == image).all() and image_size(memoryview(data), 'x') == (height, width)


def test_crops_and_fortran_order_are_encoded_as_they_look():
    image = np.arange(8 * 9 * 3, dtype=np.uint8).reshape(8, 9, 3)
    for view in (image[2:5, 1:7], image[::-1], image.transpose(1, 0, 2)):
        for codec in CODECS:
            assert (decode_image(encode_image(view, codec), 'x') == view).all()


def test_a_png_that_is_turned_has_the_size_of_its_pixels():
    data = encode_image(np.zeros((6, 10, 3), np.uint8))
    exif = b'MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0'  # orientation 6
    chunk = b'eXIf' + exif
    data = data[:33] + len(exif).to_bytes(4, 'big') + chunk + zlib.crc32(chunk).to_bytes(4, 'big') + data[33:]
    assert image_size(data, 'x') == decode_image(data, 'x').shape[:2]


def test_other_formats_have_a_size_too():
    data = cv2.imencode('.jpg', np.zeros((6, 10, 3), np.uint8))[1].tobytes()
    assert image_size(data, 'x') == (6, 10)


@pytest.mark.parametrize('codec', CODECS)
def test_any_cut_is_noticed_and_named(codec):
    data = encode_image(np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8), codec)
    for length in range(len(data)):
        with pytest.raises(DataError, match=r'^frame 7: not a'):
            decode_image(data[:length], 'frame 7')
    with pytest.raises(DataError, match=r'^frame 7: not a'):
        image_size(data[:12], 'frame 7')


def test_any_flipped_bit_of_a_png_is_noticed():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    data = encode_image(image)
    for place in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        with suppress(DataError):
            assert (decode_image(bytes(damaged), 'x') == image).all()  # in what does not matter
