"""GT frames in, two databases out: GT and the LR frames made of them, on all cores, in constant memory, resumable."""
import hashlib
import math
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from basicsr.utils import get_root_logger
from tqdm import tqdm

from basicsr_nriqa.data.degradation import check_degradation, degrade
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.image_codec import CODECS, decode_image, encode_image, is_raw
from basicsr_nriqa.data.lmdb_store import LmdbReader, close_databases
from basicsr_nriqa.data.lmdb_writer import LmdbWriter, differences
from basicsr_nriqa.files import free_space, gigabytes, write_atomically

_PROBES = 16  # frames that tell how much space all will take


class Frame(NamedTuple):
    """A GT frame to pack.

    Attributes:
        key (str): Its key in the databases, ``CLIP/FRAME``.
        load (Callable): Gives the bytes of an encoded image, which are stored as they are, or (h,w,3) uint8 BGR. It is
            called in any thread, perhaps twice.
        place (str): Where it comes from, for messages; default: the key.
    """
    key: str
    load: Callable
    place: str = ''


def pack_pairs(frames, gt_path, lr_path, *, scale, degradation='BI', codec='png', workers=None, progress=True,
               description='packing', about=None, check_space=True):
    """Pack GT frames and their LR frames.

    Both databases appear under their names when all is packed. An interrupted run is continued: what is packed already
    is verified by its checksum and left out. Databases that are complete, with the same settings, are left alone.

    Args:
        frames (Sequence[Frame]): All frames, those of a clip one after the other. Each is asked for when it is needed.
        gt_path, lr_path (str | Path): The databases, ``NAME.lmdb``.
        scale (int): LR is ``1/scale`` of GT.
        degradation (str): How LR is made: see :func:`~basicsr_nriqa.data.degradation.degrade`.
        codec (str): ``png``, BasicSR's format, or ``raw``: read many times faster, 1.7 times the space or more.
        workers (int | None): Threads; default: as many as there are cores.
        progress (bool): Show a progress bar.
        description (str): What the bar says.
        about (dict): Kept in the databases, besides the settings; e.g. the source.
        check_space (bool): Refuse to start where the disk has too little room.

    Raises:
        DataError: a frame is missing or damaged, the frames of a clip differ in size, a size is not divisible by
            ``scale``; the databases were begun with other settings, are being packed by another process, or cannot be
            written. What was packed is kept.
    """
    gt_path, lr_path = Path(gt_path), Path(lr_path)
    if codec not in CODECS:
        raise DataError(f"codec: '{codec}' is not known; expected one of {', '.join(CODECS)}.")
    check_degradation(scale, degradation)
    about = {**(about or {}), 'scale': scale, 'degradation': degradation, 'codec': codec, 'frames': len(frames),
             'keys': _digest(frames)}
    if _complete(gt_path, lr_path, about):
        return
    with LmdbWriter(gt_path, about) as gt, LmdbWriter(lr_path, about) as lr:
        def convert(frame):
            return frame.key, *_convert(frame, scale, degradation, codec)

        if check_space:
            _check_space(gt_path.parent, frames, gt, lr, convert)
        with tqdm(total=len(frames), desc=description, unit='frame', disable=not progress) as bar:
            shapes = _Shapes()
            todo = _todo(frames, gt, lr, shapes, bar)
            for key, gt_data, gt_shape, lr_data, lr_shape in bounded_map(convert, todo, workers):
                shapes.check(key, gt_shape)
                gt.put(key, gt_data, gt_shape)
                lr.put(key, lr_data, lr_shape)
                bar.update()


def write_meta_info(path, database, wanted=None):
    """BasicSR's list of the clips of a database: a line ``00001/0001 7 (256,448,3)`` a clip.

    Args:
        path (str | Path): Where to write; replaced as a whole.
        database (str | Path): A complete one.
        wanted (Callable | None): Tells of a clip's name whether to list it; default: all.
    """
    clips = {}
    for key, shape in LmdbReader(database).listed().items():
        clip = clips.setdefault(key.rpartition('/')[0], [0, shape])
        clip[0] += 1
    write_atomically(path, ''.join(f'{clip} {count} ({height},{width},{channels})\n'
                                   for clip, (count, (height, width, channels)) in clips.items()
                                   if wanted is None or wanted(clip)))


def _digest(frames):
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(frame.key.encode() + b'\n')
    return digest.hexdigest()[:16]


def _complete(gt_path, lr_path, about):
    """Whether both are there and as wanted. One without the other, whose naming was interrupted, becomes partial."""
    for path in (gt_path, lr_path):
        if path.exists():
            made = LmdbReader(path).about() or {}
            if made != about:
                raise DataError(f'{path} is there and was made with other settings: {differences(made, about)}. '
                                'Remove it, or write to another folder.')
    close_databases()
    if gt_path.exists() and lr_path.exists():
        return True
    for path in (gt_path, lr_path):
        if path.exists():
            path.rename(path.with_name(path.name + '.partial'))
    return False


def _convert(frame, scale, degradation, codec):
    place = frame.place or frame.key
    try:
        loaded = frame.load()
    except OSError as error:
        raise DataError(f'{place}: cannot read this frame ({error.strerror or error}). Is the source whole?') from error
    if isinstance(loaded, np.ndarray):
        gt, encoded = loaded, None
    else:
        gt, encoded = decode_image(loaded, place), loaded
    try:
        lr = degrade(gt, scale, degradation)
    except DataError as error:
        raise DataError(f'{place}: {error}') from None
    if encoded is None or is_raw(encoded) != (codec == 'raw'):
        encoded = encode_image(gt, codec)
    return encoded, gt.shape, encode_image(lr, codec), lr.shape


def _todo(frames, gt, lr, shapes, bar):
    """The frames that are not packed yet; both databases are asked, as a stop can fall between the two commits."""
    for frame in frames:
        record = gt.stored(frame.key)
        if record and lr.stored(frame.key):
            shapes.check(frame.key, record.shape)
            bar.update()
        else:
            yield frame


class _Shapes:
    """Sees to it that the frames of a clip have one size."""

    def __init__(self):
        self.clip, self.key, self.shape = None, None, None

    def check(self, key, shape):
        clip = key.rpartition('/')[0]
        if clip != self.clip:
            self.clip, self.key, self.shape = clip, key, shape
        elif shape != self.shape:
            raise DataError(f"frame '{key}' has {shape[1]}x{shape[0]} pixels, but '{self.key}' of the same clip "
                            f'{self.shape[1]}x{self.shape[0]}. All frames of a clip must have one size.')


def bounded_map(function, items, workers):
    """``map`` in threads, in order, with a bounded number of results waiting.

    Threads suffice: reading, decoding, resizing and encoding all run outside Python's lock.

    Args:
        function (Callable): Of one argument.
        items (Iterable): Drawn from this thread.
        workers (int | None): Threads; default: one a core.

    Yields:
        What ``function`` returns; what it raises is raised.
    """
    workers = workers or usable_cores()
    waiting = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 3 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def usable_cores():
    """Cores that this process may use, fewer than the machine has under Slurm."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def _check_space(folder, frames, gt, lr, convert):
    """Extrapolates from frames spread over all, as the first ones may be black."""
    probes = [frames[index] for index in range(0, len(frames), math.ceil(len(frames) / _PROBES))]
    missing = [frame for frame in probes if not gt.stored(frame.key)]
    if not missing:
        return
    sizes = [len(gt_data) + len(lr_data) for _, gt_data, _, lr_data, _ in map(convert, missing)]
    wanted = 1.05 * sum(sizes) / len(probes) * len(frames)
    free = free_space(folder)
    if wanted > free:
        raise DataError(f'{folder}: about {gigabytes(wanted)} are still to be written and {gigabytes(free)} are '
                        'free. Make room or write to another disk.')
    get_root_logger().info(f'{folder}: about {gigabytes(wanted)} to write, {gigabytes(free)} free.')
