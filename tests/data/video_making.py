"""Tiny video files for the tests of data: any codec and pixel format, tags of colour, times, display matrices."""
import os
import signal
import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Interpolation
from filesystems import in_child

from basicsr_nriqa.data.photographs import load_photograph
from basicsr_nriqa.data.videos import prepare_videos

UNSPECIFIED, BT709, BT2020 = 2, 1, 9
PQ, HLG = 16, 18
MPEG, JPEG = ColorRange.MPEG, ColorRange.JPEG
# a, b, c, d of display matrices, which take column x and row y to a x + c y and b x + d y
UPRIGHT, TURNED_LEFT, TURNED_RIGHT, UPSIDE_DOWN = (1, 0, 0, 1), (0, -1, 1, 0), (0, 1, -1, 0), (-1, 0, 0, -1)
MATRICES = {'upright': UPRIGHT, 'turned left': TURNED_LEFT, 'turned right': TURNED_RIGHT, 'upside down': UPSIDE_DOWN,
            'mirrored': (-1, 0, 0, 1), 'flipped': (1, 0, 0, -1), 'transposed': (0, 1, 1, 0),
            'transposed the other way': (0, -1, -1, 0)}


def panned(photograph, count, speed=2, size=(64, 96), shrink=3, start=0):
    """(count, h, w, 3) uint8: a camera that pans over a photograph, ``speed`` pixels a frame, to and fro."""
    image = cv2.resize(load_photograph(photograph), None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
    height, width = size
    slack = image.shape[1] - width
    steps = (start + speed * np.arange(count)) % (2 * slack)
    lefts = np.minimum(steps, 2 * slack - steps)
    return np.stack([image[8:8 + height, left:left + width] for left in lefts])


def filled(planes, pix_fmt, size):
    """A frame whose planes have these values, each a number or an array of the plane's size."""
    frame = av.VideoFrame(size[1], size[0], pix_fmt)
    kind = np.uint16 if pix_fmt.endswith('le') else np.uint8
    for plane, values in zip(frame.planes, planes):
        rows = np.zeros((plane.height, plane.line_size // np.dtype(kind).itemsize), kind)
        rows[:, :plane.width] = values
        plane.update(rows)
    return frame


X265 = 'log-level=error:bframes=0'  # with B-frames, MP4 files of one or two frames fail now and then


def write_video(path, frames, codec='libx264', pix_fmt='yuv420p', rate=25, times=None, options=None, matrix=None,
                primaries=None, transfer=None, colour_range=None, pixel_shape=None):
    """A video of (n, h, w, 3) uint8 RGB, or of frames of PyAV.

    ``times`` are in units of 1/rate; what is None is not told in the file.
    """
    default = {'libx264': {'crf': '4'}, 'libx265': {'x265-params': X265}}.get(codec, {})
    with av.open(str(path), 'w', options={'movflags': '+faststart'} if path.suffix == '.mp4' else {}) as output:
        stream = output.add_stream(codec, rate=rate, options={**default, **(options or {})})
        first = frames[0]
        height, width = first.shape[:2] if isinstance(first, np.ndarray) else (first.height, first.width)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        context = stream.codec_context
        for name, value in (('colorspace', matrix), ('color_primaries', primaries), ('color_trc', transfer),
                            ('color_range', colour_range), ('sample_aspect_ratio', pixel_shape)):
            if value is not None:
                setattr(context, name, value)
        for number, frame in enumerate(frames):
            if isinstance(frame, np.ndarray):
                frame = av.VideoFrame.from_ndarray(frame, format='rgb24').reformat(
                    format=pix_fmt, dst_colorspace=matrix, dst_color_range=colour_range,
                    interpolation=Interpolation.BICUBIC)
            frame.pts, frame.time_base = times[number] if times else number, 1 / Fraction(rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def set_display_matrix(path, matrix):
    """Write (a, b, c, d) into the only video track of an MP4 file; returns the path."""
    a, b, c, d = (value * 2**16 for value in matrix)  # 16.16, and 2.30 in the last column
    data = bytearray(path.read_bytes())
    struct.pack_into('>9i', data, data.index(b'tkhd') + 44, a, b, 0, c, d, 0, 0, 0, 2**30)
    path.write_bytes(data)
    return path


def shown(pixels, matrix):
    """(h, w, c) pixels as a display matrix says, each put where it is said to be."""
    a, b, c, d = matrix
    rows, columns = np.mgrid[:pixels.shape[0], :pixels.shape[1]]
    x, y = a * columns + c * rows, b * columns + d * rows
    upright = np.empty((np.ptp(y) + 1, np.ptp(x) + 1, pixels.shape[2]), pixels.dtype)
    upright[y - y.min(), x - x.min()] = pixels
    return upright


def write_two_videos(folder):
    """Two of 16 frames: one of odd size with a cut at 9, one in HLG with a space and a dot in its name."""
    cut = np.concatenate([panned('chelsea.png', 9, size=(71, 97)), panned('coffee.png', 7, size=(71, 97))])
    return [write_video(folder / 'cut.mkv', cut, 'ffv1'),
            write_video(folder / 'my phone.v2.mp4', panned('astronaut.png', 16), 'libx265', 'yuv420p10le', matrix=9,
                        primaries=9, transfer=HLG)]


def prepare(videos, out, **options):
    prepare_videos(videos, out, progress=False, **{'workers': 2, **options})
    return out


def killed(function, module, name, call=1):
    """Run ``function`` in a process that is killed at the ``call``-th call of ``module.name``."""
    def run():
        original, calls = getattr(module, name), []

        def dying(*args, **options):
            calls.append(1)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **options)
        setattr(module, name, dying)
        function()

    with pytest.raises(EOFError):  # the child said nothing
        in_child(run)
