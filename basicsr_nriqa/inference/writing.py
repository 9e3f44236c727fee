"""Writing frames as PNG and as a video file."""
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from basicsr.utils import get_root_logger
from numpy.typing import NDArray

from basicsr_nriqa.data.video_colour import ACCURATE
from basicsr_nriqa.files import write_atomically
from basicsr_nriqa.inference.errors import InferenceError
from basicsr_nriqa.inference.reading import opened_video

VIDEO_FORMATS = {'.mp4': 'mp4', '.mkv': 'matroska', '.mov': 'mov'}
_LONGEST = 16384  # pixels of a side that x264 encodes
_SLOWEST, _FASTEST = Fraction(1, 100), 1000  # frames a second


def frame_rate(value: float | Fraction | str) -> Fraction:
    """A frame rate that a video file can hold: containers keep numerator and denominator in 32 bits.

    Args:
        value (float | Fraction | str): Frames a second, from 0.01 to 1000, such as ``29.97`` or ``'30000/1001'``.

    Returns:
        Fraction: The nearest with a denominator up to 100,000.

    Raises:
        InferenceError: it is no number, or out of this range.
    """
    try:
        rate = Fraction(value).limit_denominator(100_000)
    except (TypeError, ValueError, ArithmeticError):  # such as 1/0, and infinity
        rate = Fraction(0)
    if not _SLOWEST <= rate <= _FASTEST:
        raise InferenceError(f'--fps {value}: expected frames a second from {float(_SLOWEST)} to {_FASTEST}, such as '
                             '25, 29.97 or 30000/1001.')
    return rate


def check_encoding(output: Path, width: int, height: int, crf: float) -> None:
    """Refuse a video that cannot be encoded, before its frames are made.

    Args:
        output (Path): The video.
        width (int): Of its frames, in pixels.
        height (int): The same.
        crf (float): As for :func:`encode_video`.

    Raises:
        InferenceError: the frames are too large, or the quality is out of its range.
    """
    if max(width, height) > _LONGEST:
        raise InferenceError(f'{output}: H.264 has {_LONGEST} pixels a side at most, and these frames would have '
                             f'{width}x{height}. Give a folder as output, for frames as PNG.')
    if not 0 <= crf <= 51:
        raise InferenceError(f'--crf {crf}: expected a number from 0 (no loss) to 51.')


def write_frame(path: Path, frame: NDArray[np.uint8]) -> None:
    """Write one frame as PNG, whole or not at all.

    Args:
        path (Path): Where.
        frame (NDArray[np.uint8]): (h, w, 3), RGB.

    Raises:
        OSError: it cannot be written.
    """
    data = cv2.imencode('.png', cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1].tobytes()
    try:
        write_atomically(path, data)
    except OSError as error:  # a full disk names no file
        raise OSError(error.errno, error.strerror, str(path)) from error


def encode_video(path: Path, frames: Iterable[NDArray[np.uint8]], rate: Fraction, crf: float,
                 pixel_shape: Fraction | None = None, sound_of: Path | None = None) -> None:
    """Encode H.264, BT.709 in video range, and copy the sound of another video as it is.

    The picture is YUV 4:2:0, which all players know; where a side is odd, which 4:2:0 cannot have, it is 4:4:4.

    Args:
        path (Path): Where; the suffix is a key of :data:`VIDEO_FORMATS`.
        frames (Iterable[NDArray[np.uint8]]): At least one, each (h, w, 3), RGB, all of one size.
        rate (Fraction): Frames a second.
        crf (float): x264's constant rate factor, from 0 (no loss) to 51; 18 is hard to tell from no loss.
        pixel_shape (Fraction | None): Width of a pixel by its height, where they are not square.
        sound_of (Path | None): Video file whose sound is taken over, in step with its picture.

    Raises:
        OSError: it cannot be written.
        InferenceError: it cannot be encoded.
    """
    try:
        _encode(path, frames, rate, crf, pixel_shape, sound_of)
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise InferenceError(f'{path}: cannot be encoded ({error.strerror}). Give a folder as output, for frames as '
                             'PNG.') from error


def _encode(path: Path, frames: Iterable[NDArray[np.uint8]], rate: Fraction, crf: float, pixel_shape: Fraction | None,
            sound_of: Path | None) -> None:
    frames = iter(frames)
    first = next(frames)
    options = {} if path.suffix == '.mkv' else {'movflags': '+faststart'}
    with ExitStack() as stack:
        output = stack.enter_context(av.open(str(path), 'w', format=VIDEO_FORMATS[path.suffix], options=options))
        stream = _picture_stream(output, first.shape, rate, crf)
        if pixel_shape:
            stream.codec_context.sample_aspect_ratio = pixel_shape
        tracks = [_picture_packets(stream, chain([first], frames), rate)]
        if sound_of is not None:
            tracks.append(_sound_packets(*stack.enter_context(opened_video(sound_of)), output))
        for packet in heapq.merge(*tracks, key=_time):
            output.mux(packet)


def _time(packet: Packet) -> Fraction:
    return packet.dts * packet.time_base  # type: ignore[operator]  # what is written has a time


def _picture_stream(output: OutputContainer, shape: Sequence[int], rate: Fraction, crf: float) -> VideoStream:
    height, width, _ = shape
    stream = output.add_stream('libx264', rate=rate, options={'crf': str(crf)})
    stream.width, stream.height = width, height
    stream.pix_fmt = 'yuv444p' if height % 2 or width % 2 else 'yuv420p'
    if stream.pix_fmt == 'yuv444p':
        get_root_logger().info(f'{width}x{height} has an odd side: encoded as 4:4:4, which some players do not show.')
    context = stream.codec_context
    context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    return stream


def _picture_packets(stream: VideoStream, frames: Iterable[NDArray[np.uint8]], rate: Fraction) -> Iterator[Packet]:
    for number, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(frame, format='rgb24').reformat(
            format=stream.pix_fmt, src_color_range=ColorRange.JPEG, dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG, interpolation=ACCURATE)
        picture.pts, picture.time_base = number, 1 / rate
        yield from stream.encode(picture)
    yield from stream.encode()


def _sound_packets(source: InputContainer, picture: VideoStream, output: OutputContainer) -> Iterator[Packet]:
    """The packets of all sound tracks that the output can hold, for the output's own streams."""
    tracks = {}
    for track in source.streams.audio:
        name = track.codec_context.name if track.codec_context else 'unknown'
        if name in output.supported_codecs:
            tracks[track] = output.add_stream_from_template(track)
        else:
            get_root_logger().warning(f'{output.name}: sound of the kind {name} does not go into this kind of file and '
                                      'is left out. Try .mkv.')
    start = picture.start_time * picture.time_base if picture.start_time and picture.time_base else Fraction(0)
    return _moved(source.demux(*tracks), tracks, start) if tracks else iter(())


def _moved(packets: Iterable[Packet], tracks: Mapping[AudioStream, AudioStream], start: Fraction) -> Iterator[Packet]:
    for packet in packets:
        if packet.dts is None:  # the end
            continue
        shift = round(start / packet.time_base)
        shown = packet.dts if packet.pts is None else packet.pts  # sound is decoded in the order it is heard
        packet.pts, packet.dts, packet.stream = shown - shift, packet.dts - shift, tracks[packet.stream]
        yield packet
