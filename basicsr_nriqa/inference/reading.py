"""The frames of a video, from a folder of images or a video file, one after the other."""
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
from av import VideoFrame
from av.container import InputContainer
from av.video.stream import VideoStream
from basicsr.utils import get_root_logger
from numpy.typing import NDArray
from tqdm import tqdm

from basicsr_nriqa.data.clip_store import IMAGE_SUFFIXES, natural
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.frame_times import in_display_order
from basicsr_nriqa.data.image_codec import decode_image
from basicsr_nriqa.data.video_colour import ToRgb
from basicsr_nriqa.data.video_file import declared_frames, decoded_frames
from basicsr_nriqa.data.video_file import opened_video as _opened_video
from basicsr_nriqa.inference.errors import InferenceError

_SUFFIXES = (*IMAGE_SUFFIXES, '.tif', '.tiff')


def open_source(path: str | Path) -> 'FolderSource | VideoSource':
    """The frames at a path.

    Args:
        path (str | Path): A folder of images, or a video file.

    Returns:
        FolderSource | VideoSource: Its kind.

    Raises:
        InferenceError: nothing is there, or it has no frames.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return FolderSource(path)
    if path.is_file():
        return VideoSource(path)
    raise InferenceError(f'{path}: no such file or folder. Give a video file, or a folder of frames.')


class FolderSource:
    """Images in one folder, in natural order: ``im2.png`` before ``im10.png``. Other files are left out.

    Args:
        path (Path): Of the folder.

    Attributes:
        names (list[str]): Of the frames, without suffix.
        rate, pixel_shape (None): Known of videos only.
        has_sound (bool): False.

    Raises:
        InferenceError: there are no images, or two with one name.
    """
    rate: Fraction | None = None
    pixel_shape: Fraction | None = None
    has_sound = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = sorted((file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES and file.is_file()
                              and not file.name.startswith('.')), key=lambda file: (natural(file.stem), file.name))
        if not self._files:
            raise InferenceError(f'{path}: there are no frames in this folder. Expected images '
                                 f'({", ".join(_SUFFIXES)}), not folders of them.')
        self.names = [file.stem for file in self._files]
        for file, following in zip(self._files, self._files[1:]):
            if file.stem == following.stem:
                raise InferenceError(f'{following}: {file.name} has this name too. Remove one of the two.')

    def identity(self) -> str:
        """What tells whether the frames have changed: a digest of names, sizes and times of change."""
        return _identity(self._files)

    def survey(self, progress: bool = True) -> tuple[int, int, int]:
        """Decode everything once.

        Args:
            progress (bool): Show a progress bar.

        Returns:
            tuple[int, int, int]: Frames, height and width.

        Raises:
            InferenceError: a frame cannot be read, or has another size than the first.
        """
        with ThreadPool() as pool:  # decoding runs outside Python's lock
            shapes = tqdm(pool.imap(lambda file: read_frame(file).shape, self._files), 'checking', len(self._files),
                          unit='frame', disable=not progress)
            for file, shape in zip(self._files, shapes):
                if file is self._files[0]:
                    height, width = shape[:2]
                _same_size(file, shape, height, width)
        return len(self._files), height, width

    def frames(self, start: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Frames from number ``start`` on, each (h, w, 3) uint8, RGB."""
        return map(read_frame, self._files[start:])


class VideoSource:
    """The video stream of a file, upright, in 8-bit sRGB: see :class:`~basicsr_nriqa.data.video_colour.ToRgb`.

    More than 8 bits are rounded, high dynamic range and wide primaries are mapped; the log says so.

    Args:
        path (Path): Of the file.

    Attributes:
        names (None): Frames have numbers only.
        rate (Fraction | None): Frames a second on average.
        pixel_shape (Fraction | None): Width of a pixel by its height.
        has_sound (bool): Whether there is a sound track.

    Raises:
        InferenceError: this is no video file, or there is no frame in it.
    """
    names: list[str] | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        with opened_video(path) as (container, stream):
            self.rate = stream.average_rate or stream.guessed_rate
            self._declared = declared_frames(container, stream)
            self.pixel_shape = stream.sample_aspect_ratio
            self.has_sound = bool(container.streams.audio)
        first = next(self._decode(), None)
        if first is None:
            raise InferenceError(f'{path}: there is no frame in this video. Fetch or make it again.')
        with _told():
            self._to_rgb = ToRgb(first, path)
        if not self._to_rgb.plain:
            get_root_logger().info(f'{path}: {self._to_rgb.description}.')
        if self._to_rgb.orientation.turned and self.pixel_shape:
            self.pixel_shape = 1 / self.pixel_shape

    def identity(self) -> str:
        """What tells whether the file has changed: a digest of name, size and time of change."""
        return _identity([self.path])

    def survey(self, progress: bool = True) -> tuple[int, int, int]:
        """Decode everything once.

        The number of frames that a header tells is often missing or wrong, and what is damaged decodes to grey.

        Args:
            progress (bool): Show a progress bar.

        Returns:
            tuple[int, int, int]: Frames, height and width.

        Raises:
            InferenceError: the file is damaged, or its frames have several sizes.
        """
        times = []
        for number, frame in enumerate(tqdm(self._decode(), 'checking', self._declared or None, unit='frame',
                                            disable=not progress)):
            shape = self._to_rgb.orientation.shape(frame)
            if not number:
                height, width = shape
            _same_size(f'{self.path}: frame {number}', shape, height, width)
            times.append(frame.time)
        if len(times) + (self.rate or 0) < self._declared:  # what a header says is right to a second
            get_root_logger().warning(f'{self.path}: {len(times)} frames, where the file says {self._declared}. It may '
                                      'be cut off.')
        if None not in times and self.rate:
            steps = np.diff(in_display_order(times)) * float(self.rate)
            if len(steps) and np.abs(steps - 1).max() > 0.5:
                get_root_logger().warning(f'{self.path}: the frame rate varies. A video made of it has the average, '
                                          f'{float(self.rate):.3f} frames/s, throughout.')
        return len(times), height, width

    def frames(self, start: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Frames from number ``start`` on, each (h, w, 3) uint8, RGB. Decodes from the beginning, which is exact.

        Raises:
            InferenceError: the file is damaged.
        """
        for number, frame in enumerate(self._decode()):
            if number >= start:
                with _told():
                    rgb = self._to_rgb(frame)
                yield rgb

    def _decode(self) -> Iterator[VideoFrame]:
        with _told():
            yield from decoded_frames(self.path)


@contextmanager
def _told() -> Iterator[None]:
    """What is wrong with a video as an error of inference."""
    try:
        yield
    except DataError as error:
        raise InferenceError(str(error)) from error


@contextmanager
def opened_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A video file for reading.

    Args:
        path (Path): Of the file.

    Yields:
        tuple[InputContainer, VideoStream]: PyAV's container, and the stream that a player would show.

    Raises:
        InferenceError: this is no video file.
    """
    with _told(), _opened_video(path) as opened:
        yield opened


def _identity(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        status = file.stat()
        digest.update(f'{file.name}\0{status.st_size}\0{status.st_mtime_ns}\0'.encode())
    return digest.hexdigest()


def _same_size(what: object, shape: Sequence[int], height: int, width: int) -> None:
    if shape[:2] != (height, width):
        raise InferenceError(f'{what} has {shape[1]}x{shape[0]} pixels, but the frames before it have '
                             f'{width}x{height}. All must have one size: scale the others, or move them elsewhere.')


def read_frame(file: Path, remedy: str = 'Fetch or make it again.') -> NDArray[np.uint8]:
    """Read one image.

    Args:
        file (Path): Of the image.
        remedy (str): What the error says to do.

    Returns:
        NDArray[np.uint8]: (h, w, 3), RGB.

    Raises:
        InferenceError: it cannot be read.
    """
    try:
        return np.ascontiguousarray(decode_image(file.read_bytes(), str(file))[..., ::-1])
    except (DataError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else 'no readable image'
        raise InferenceError(f'{file}: this frame cannot be read ({reason}). {remedy}') from error
