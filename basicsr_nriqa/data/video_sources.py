"""The videos that clips are cut from: their names in keys, and which are for training and which for testing."""
import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from basicsr_nriqa.data.errors import DataError

SPLITS = ('train', 'test')
_PART = 2**20  # bytes at both ends by which a file is known


class Source(NamedTuple):
    """A video file.

    Attributes:
        name (str): Its place in keys: letters, digits, ``_`` and ``-``; unique among the sources.
        path (Path): Of the file.
        size (int): Bytes.
        digest (str): Of its size, begin and end: a whole digest of hours of video takes too long.
        changed (int): When it was last changed, in nanoseconds.
    """
    name: str
    path: Path
    size: int
    digest: str
    changed: int


def list_sources(videos):
    """The videos with names for keys, in the order of their names.

    Args:
        videos (Sequence[str | Path]): Files.

    Returns:
        list[Source]: One for each.

    Raises:
        DataError: there is none, one is no file or cannot be read, or two are the same video.
    """
    if isinstance(videos, (str, Path)):
        raise DataError(f"videos: expected a list of files, got the one path '{videos}'. Put it into a list.")
    found, names = {}, set()
    for path in sorted(map(Path, videos), key=lambda path: (path.stem, str(path))):
        if not path.is_file():
            raise DataError(f'{path}: no such file. Give video files; of a folder, FOLDER/*.')
        try:
            status, digest = path.stat(), _ends(path)
        except OSError as error:
            raise DataError(f'{path}: cannot be read ({error.strerror or error}). Allow reading it, or leave it '
                            'out.') from error
        if digest in found:
            raise DataError(f'{path}: the same video as {found[digest].path}. Give each once, or training and test '
                            'clips could show the same.')
        # BasicSR splits its lists at spaces, and keys at dots
        safe = name = re.sub(r'[^\w-]+', '_', path.stem)[:100] or 'video'
        number = 1
        while name.casefold() in names:
            number += 1
            name = f'{safe}_{number}'
        names.add(name.casefold())
        found[digest] = Source(name, path, status.st_size, digest, status.st_mtime_ns)
    if not found:
        raise DataError('no video was given. Give one file or more.')
    return list(found.values())


def split_sources(sources, split='test', test_share=None, seed=0):
    """Which videos are for training and which for testing.

    Args:
        sources (list[Source]): All.
        split (str): What they are for, if there is no ``test_share``.
        test_share (float | None): Above 0 and below 1; at least one video is on each side.
        seed (int): The same seed draws the same of the same videos.

    Returns:
        dict: split: list[Source].

    Raises:
        DataError: there is no such split, or the share cannot be.
    """
    if split not in SPLITS:
        raise DataError(f"split: '{split}' is not known; expected one of {', '.join(SPLITS)}.")
    if test_share is None:
        return {split: sources}
    if not 0 < test_share < 1 or len(sources) < 2:
        raise DataError(f'test_share: expected a share above 0 and below 1 of two videos or more, got {test_share} of '
                        f'{len(sources)}.')
    count = min(max(round(test_share * len(sources)), 1), len(sources) - 1)
    drawn = set(np.random.default_rng(seed).permutation(len(sources))[:count].tolist())
    return {'train': [source for index, source in enumerate(sources) if index not in drawn],
            'test': [source for index, source in enumerate(sources) if index in drawn]}


def _ends(path):
    with path.open('rb') as file:
        begin = file.read(_PART)
        size = path.stat().st_size
        file.seek(max(size - _PART, 0))
        return hashlib.sha256(str(size).encode() + begin + file.read()).hexdigest()[:16]
