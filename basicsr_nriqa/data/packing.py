"""GT frames in, two databases out: GT and the LR frames made of them, on all cores, in constant memory, resumable."""
import hashlib
import math
import os
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
from basicsr.utils import get_root_logger
from tqdm import tqdm

from basicsr_nriqa.data.degradation import check_degradation, degrade
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.image_codec import CODECS, decode_image, encode_image, is_raw
from basicsr_nriqa.data.lmdb_store import LmdbReader
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

    Each database appears under its name when all is in it. An interrupted run is continued: what is packed already is
    verified by its checksum and left out. A database that is complete, with the same settings, is left alone; so GT is
    packed once for LR of several kinds.

    Args:
        frames (Sequence[Frame]): All frames, those of a clip one after the other. Each is asked for when it is needed.
        gt_path, lr_path (str | Path): The databases, ``NAME.lmdb``.
        scale (int): LR is ``1/scale`` of GT.
        degradation (str): How LR is made: see :func:`~basicsr_nriqa.data.degradation.degrade`.
        codec (str): ``png``, BasicSR's format, or ``raw``: read many times faster, about 2.5 times the space.
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
    if not len(frames):
        raise DataError(f'{gt_path}: there is no frame to pack. Give one or more.')
    about = {**(about or {}), 'codec': codec, 'frames': len(frames), 'keys': _digest(frames)}
    with ExitStack() as stack:
        gt = _writer(gt_path, about, stack)
        lr = _writer(lr_path, {**about, 'scale': scale, 'degradation': degradation}, stack)
        if not (gt or lr):
            return
        if check_space:
            _check_space(gt_path.parent, frames, lambda frame: _convert(frame, scale, degradation, codec), gt, lr)
        with tqdm(total=len(frames), desc=description, unit='frame', disable=not progress) as bar:
            shapes = _Shapes()

            def convert(frame):
                return frame.key, *_convert(frame, scale, degradation, codec)

            for key, gt_data, gt_shape, lr_data, lr_shape in bounded_map(
                    convert, _todo(frames, gt, lr, shapes, bar), workers):
                shapes.done(key, gt_shape if gt else lr_shape)
                if gt:
                    gt.put(key, gt_data, gt_shape)
                if lr:
                    lr.put(key, lr_data, lr_shape)
                bar.update()


def check_splits(splits, known):
    """Raise a DataError where what is to be made is not some of what there is."""
    if isinstance(splits, str) or not splits or not set(splits) <= set(known):
        raise DataError(f'splits: expected some of {", ".join(known)}, got {splits!r}.')


def database_paths(out, name, scale, degradation):
    """Where GT and LR of a data set are packed: ``NAME_GT.lmdb``, and ``NAME_LRxS.lmdb`` or ``NAME_LRxS_BD.lmdb``.

    Returns:
        tuple[Path, Path]: In the folder ``out``.
    """
    kind = '' if degradation == 'BI' else f'_{degradation}'
    return Path(out, f'{name}_GT.lmdb'), Path(out, f'{name}_LRx{scale}{kind}.lmdb')


def write_meta_info(path, database, wanted=None):
    """BasicSR's list of the clips of a database: a line ``00001/0001 7 (256,448,3)`` a clip.

    Args:
        path (str | Path): Where to write; replaced as a whole.
        database (str | Path): A complete one.
        wanted (Callable | None): Tells of a clip's name whether to list it; default: all.

    Raises:
        DataError: the list cannot be written.
    """
    clips = {}
    for key, shape in LmdbReader(database).listed().items():
        clip = clips.setdefault(key.rpartition('/')[0], [0, shape])
        clip[0] += 1
    text = ''.join(f'{clip} {count} ({height},{width},{channels})\n'
                   for clip, (count, (height, width, channels)) in clips.items() if wanted is None or wanted(clip))
    try:
        write_atomically(path, text)
    except OSError as error:
        raise DataError(f'{path}: cannot be written ({error.strerror}). The databases are complete: start again when '
                        'this is mended.') from error


def _digest(frames):
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(frame.key.encode() + b'\n')
    return digest.hexdigest()[:16]


def _writer(path, about, stack):
    """What writes to a database, or None where it is complete, as wanted."""
    if not path.exists():
        return stack.enter_context(LmdbWriter(path, about))
    made = LmdbReader(path).about() or {}
    if made != about:
        raise DataError(f'{path} is there and was made with other settings: {differences(made, about)}. Remove it, or '
                        'write to another folder.')
    return None


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
        records = [writer.stored(frame.key) for writer in (gt, lr) if writer]
        if all(records):
            shapes.seen(frame.key, records[0].shape)
            bar.update()
        else:
            shapes.begun(frame.key)
            yield frame


class _Shapes:
    """Sees to it that the frames of a clip have one size; knows the clips in work only."""

    def __init__(self):
        self.clip, self.first, self.in_work = None, {}, Counter()

    def begun(self, key):
        self._enter(_clip(key))
        self.in_work[_clip(key)] += 1

    def seen(self, key, shape):
        self._enter(_clip(key))
        self._check(key, shape)

    def done(self, key, shape):
        self._check(key, shape)
        self.in_work[_clip(key)] -= 1
        self._forget(_clip(key))

    def _enter(self, clip):
        if clip != self.clip:
            left, self.clip = self.clip, clip
            self._forget(left)

    def _forget(self, clip):
        if clip != self.clip and not self.in_work[clip]:
            del self.in_work[clip]
            self.first.pop(clip, None)

    def _check(self, key, shape):
        first_key, first = self.first.setdefault(_clip(key), (key, shape))
        if shape != first:
            raise DataError(f"frame '{key}' has {shape[1]}x{shape[0]} pixels, but '{first_key}' of the same clip "
                            f'{first[1]}x{first[0]}. All frames of a clip must have one size: is the source whole?')


def _clip(key):
    return key.rpartition('/')[0]


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


def _check_space(folder, frames, convert, gt, lr):
    """Extrapolates from frames spread over all, as the first ones may be black."""
    probes = [frames[index] for index in range(0, len(frames), math.ceil(len(frames) / _PROBES))]
    missing = [frame for frame in probes if not all(writer.stored(frame.key) for writer in (gt, lr) if writer)]
    wanted = 0
    for gt_data, _, lr_data, _ in map(convert, missing):
        wanted += len(gt_data) * bool(gt) + len(lr_data) * bool(lr)
    wanted *= 1.05 * len(frames) / len(probes)
    free = free_space(folder)
    if wanted > free:
        raise DataError(f'{folder}: about {gigabytes(wanted)} are still to be written and {gigabytes(free)} are '
                        'free. Make room or write to another disk.')
    get_root_logger().info(f'{folder}: about {gigabytes(wanted)} to write, {gigabytes(free)} free.')
