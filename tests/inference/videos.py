"""Tiny videos, folders of frames and networks for the tests of inference."""
from fractions import Fraction

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from basicsr_nriqa.data.video_colour import ACCURATE

NTSC = Fraction(30000, 1001)
# two colours that another matrix or range would change by 5 grey levels or more
COLOURS = np.uint8([[20, 120, 220], [200, 60, 30]])


def moving_frames(count=7, height=20, width=24, seed=0):
    """(count, height, width, 3) uint8 of smooth texture that moves."""
    texture = np.random.default_rng(seed).uniform(0, 255, (height // 4 + 4, (width + count) // 4 + 4, 3))
    large = cv2.resize(texture, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    return np.stack([large[:height, number:number + width] for number in range(count)])


def halves(height=48, width=64, count=3):
    """Frames whose left and right halves have the two colours."""
    frames = np.empty((count, height, width, 3), np.uint8)
    frames[:, :, :width // 2], frames[:, :, width // 2:] = COLOURS
    return frames


def write_folder(folder, frames, name='im{}.png'):
    folder.mkdir()
    for number, frame in enumerate(frames, 1):
        cv2.imwrite(str(folder / name.format(number)), frame[..., ::-1])
    return folder


def read_folder(folder):
    """Frames by file name, RGB."""
    return {file.name: cv2.imread(str(file))[..., ::-1] for file in sorted(folder.iterdir())}


def write_video(path, frames, rate=NTSC, codec='libx264', pix_fmt='yuv420p', matrix=Colorspace.ITU709,
                colour_range=ColorRange.MPEG, tagged=True, rotation=0, times=None, sound=None, options=None):
    """A video; ``sound`` is (codec, seconds, start in seconds)."""
    # an MP4 with its index at the start can be read where it was cut off
    with av.open(str(path), 'w', options={'movflags': '+faststart'} if path.suffix == '.mp4' else {}) as output:
        stream = output.add_stream(codec, rate=rate, options=options or {'crf': '1'})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        if tagged:
            stream.codec_context.colorspace, stream.codec_context.color_range = matrix, colour_range
        if rotation:
            stream.set_display_rotation(rotation)
        track = None
        if sound:
            track = output.add_stream(sound[0], rate=44100, layout='mono')
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format='rgb24').reformat(
                format=pix_fmt, dst_colorspace=matrix, dst_color_range=colour_range, interpolation=ACCURATE)
            picture.pts, picture.time_base = (times[number] if times else number), 1 / Fraction(rate)
            output.mux(stream.encode(picture))
        output.mux(stream.encode())
        if track is not None:
            write_sound(output, track, *sound[1:])
    return path


def write_sound(output, track, seconds, start):
    """A tone, from a time on."""
    size = track.codec_context.frame_size or 1024
    wave = (8000 * np.sin(np.arange(size) / 7)).astype(np.float32)[None] / 32768
    for number in range(int(seconds * 44100) // size):
        part = av.AudioFrame.from_ndarray(wave, format='fltp', layout='mono')
        part.sample_rate, part.pts = 44100, number * size + int(start * 44100)
        part.time_base = Fraction(1, 44100)
        output.mux(track.encode(part))
    output.mux(track.encode())
