"""Video files, decoded frame by frame; what is damaged or cannot be decoded is an error that names it."""
import shlex
import struct
from contextlib import contextmanager

import av

from basicsr_nriqa.data.errors import DataError

_INTERLACED = (2, 3, 4, 5)  # FFmpeg's AVFieldOrder: top or bottom field first, coded and shown


@contextmanager
def opened_video(path):
    """A video file for reading.

    Args:
        path (str | Path): Of the file.

    Yields:
        tuple[InputContainer, VideoStream]: PyAV's container, and the stream that a player would show.

    Raises:
        DataError: this is no video file, or there is no video in it that can be decoded.
    """
    try:
        # a playlist must not make this machine fetch anything, and the colon in 12:30.mp4 is no end of a protocol
        container = av.open(f'file:{path}', options={'protocol_whitelist': 'file'})
    except (av.FFmpegError, OSError) as error:
        raise DataError(f'{path}: not a readable video file ({error.strerror}). Give a video file, whole.') from error
    with container:
        stream = container.streams.best('video')
        if stream is None:
            raise DataError(f'{path}: there is no video in this file. Give a video file.')
        if stream.codec_context is None:
            raise DataError(f'{path}: its video is coded in a way that FFmpeg cannot decode here. Convert it with the '
                            'program that made it, for example to H.264.')
        yield container, stream


def decoded_frames(path, threads=0):
    """All frames of a video in the order they are shown, from the first one, which is exact.

    Args:
        path (str | Path): Of the file.
        threads (int): Of the decoder; 0 is its own choice, about one a core.

    Yields:
        VideoFrame: PyAV's, as decoded: not turned upright, in the stream's own colours.

    Raises:
        DataError: this is no video file, or a frame is damaged.
    """
    with opened_video(path) as (container, stream):
        stream.thread_type = 'AUTO'
        stream.codec_context.thread_count = threads
        number = 0
        try:
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise DataError(f'{path}: frame {number} is damaged. Fetch or make the file again.')
                yield frame
                number += 1
        except av.FFmpegError as error:
            raise DataError(f'{path}: cannot be decoded from frame {number} on ({error.strerror}). '
                            'Fetch or make the file again.') from error


def progressive_frames(path, threads=0):
    """:func:`decoded_frames` of a video that is not interlaced: its frames are one moment each.

    Raises:
        DataError: it is interlaced, or see :func:`decoded_frames`.
    """
    with opened_video(path) as (_, stream):
        # PyAV 17.1, the last for Python 3.10, does not tell it; then, and of some videos, only the frames do
        interlaced = getattr(stream.codec_context, 'field_order', 0) in _INTERLACED
    for frame in decoded_frames(path, threads):
        if interlaced or frame.interlaced_frame:
            raise DataError(f'{path}: this video is interlaced: a frame holds two moments, which shrinking would '
                            f'mix. Deinterlace it first: ffmpeg -i {shlex.quote(str(path))} -vf bwdif -crf 12 '
                            'progressive.mp4')
        yield frame


def declared_frames(container, stream):
    """The number of frames that the header of a file tells: often missing (then 0), sometimes wrong.

    A phone that trims a video keeps frames that are not shown any more: its duration does not count them.
    """
    rate = stream.average_rate or stream.guessed_rate or 0
    if stream.duration and rate:
        shown = round(stream.duration * stream.time_base * rate)
        return min(stream.frames or shown, shown)
    return stream.frames or int((container.duration or 0) / av.time_base * rate)


class Orientation:
    """How the frames of a video are shown: turned and mirrored as its display matrix says.

    The matrix takes column x and row y to a x + c y and b x + d y (ISO/IEC 14496-12, 6.2.2). PyAV's ``frame.rotation``
    does not tell that it mirrors.

    Args:
        first (VideoFrame): The first frame. Only one is asked: a frame that has been asked for its side data refers to
            itself, and with its pixels waits for the garbage collector.

    Attributes:
        turned (bool): Whether rows are shown as columns.
    """

    def __init__(self, first):
        matrix = bytes(first.side_data.get('DISPLAYMATRIX', b''))
        a, b, _, c, d, *_ = struct.unpack('9i', matrix) if len(matrix) == 36 else (1, 0, 0, 0, 1)
        self.turned = abs(b) > abs(a)
        x, y = (c, b) if self.turned else (a, d)
        self._steps = -1 if y < 0 else 1, -1 if x < 0 else 1

    def upright(self, pixels):
        """(h, w, c) pixels as decoded, as they are shown: (h, w, c) or (w, h, c), a view."""
        pixels = pixels.transpose(1, 0, 2) if self.turned else pixels
        return pixels[::self._steps[0], ::self._steps[1]]

    def shape(self, frame):
        """(height, width) in pixels of a frame as it is shown."""
        return (frame.width, frame.height) if self.turned else (frame.height, frame.width)
