"""LMDB databases of images in BasicSR's format, written so that a partial one never looks whole.

A database is a folder ``NAME.lmdb`` of ``data.mdb``, ``lock.mdb`` and ``meta_info.txt`` (a line an image:
``KEY.png (h,w,c) compression``); the values are encoded images, the keys carry no extension.
"""
import os
import threading
from pathlib import Path

import cv2
import lmdb
import numpy as np

from basicsr_nriqa.data.errors import DataError

_INITIAL_MAP = 64 * 2**20
_environments = {}  # real path -> environment: lmdb 3 refuses to open one path twice in a process
_lock = threading.Lock()


def _before_fork():
    """An environment must not live on in a forked worker, which could neither use nor open it again."""
    _lock.acquire()
    while _environments:
        _environments.popitem()[1].close()


os.register_at_fork(before=_before_fork, after_in_parent=_lock.release, after_in_child=_lock.release)


def decode_image(data, name):
    """Decode an encoded image to (h,w,3) uint8 BGR.

    Raises:
        DataError: the bytes are no image; the message starts with ``name``.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if len(data) else None
    if image is None:
        raise DataError(f'{name}: not a readable image ({len(data)} bytes). '
                        'The file is damaged: make this dataset again, or restore the frame from its source.')
    return image


class LmdbReader:
    """Reads one database; safe to pickle and to use in forked or spawned workers.

    Args:
        path (str | Path): A folder in BasicSR's LMDB format.

    Raises:
        DataError: the folder is missing or is no database.
    """

    def __init__(self, path):
        self.path = Path(path)
        if not (self.path / 'data.mdb').is_file():
            raise DataError(f'{self.path}: no LMDB database is there (expected a folder with data.mdb).')

    def get(self, key):
        """The bytes stored under ``key`` (str); DataError if there are none."""
        place = os.path.realpath(self.path)
        with _lock:
            if place not in _environments:
                _environments[place] = lmdb.open(place, readonly=True, lock=False, readahead=False, meminit=False)
            with _environments[place].begin() as transaction:
                value = transaction.get(key.encode())
        if value is None:
            raise DataError(f"{self.path}: the database has no key '{key}'. "
                            'The meta_info file and the database do not belong together, or packing was incomplete.')
        return value

    def image(self, key):
        """The image under ``key``, (h,w,3) uint8 BGR; DataError if missing or damaged."""
        return decode_image(self.get(key), f"{self.path}, key '{key}'")

    def listed_keys(self):
        """All keys, from meta_info.txt, in its order."""
        meta = self.path / 'meta_info.txt'
        if not meta.is_file():
            raise DataError(f'{meta}: missing. A database in BasicSR\'s format has this list of its keys.')
        return [line.split(' ')[0].rsplit('.', 1)[0] for line in meta.read_text().splitlines() if line.strip()]


class LmdbWriter:
    """Packs encoded images into ``path``; as a context manager.

    Everything goes to ``path`` + ``.partial``, which is renamed when the block ends without an error. An interrupted
    run leaves the partial folder; the next one continues in it (:meth:`__contains__` tells what is there already).
    The map grows as needed.

    Args:
        path (str | Path): Ends in ``.lmdb``; must not exist yet.
        commit_every (int): Images per transaction: what an interruption can lose.

    Raises:
        DataError: ``path`` exists already or does not end in ``.lmdb``.
    """

    def __init__(self, path, commit_every=512):
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + '.partial')
        self.commit_every = commit_every
        if self.path.suffix != '.lmdb':
            raise DataError(f'{self.path}: the name of a database must end in .lmdb (BasicSR checks it).')
        if self.path.exists():
            raise DataError(f'{self.path} exists already. Remove it to pack it again.')

    def __enter__(self):
        self.partial.mkdir(parents=True, exist_ok=True)
        self.environment = lmdb.open(str(self.partial), map_size=_INITIAL_MAP)
        self._pending, self._meta = {}, {}
        return self

    def __contains__(self, key):
        if key in self._pending:
            return True
        with self.environment.begin() as transaction:
            return transaction.get(key.encode()) is not None

    def put(self, key, data, shape, compress_level=1):
        """Store ``data`` (bytes of an encoded image of ``shape`` (h,w,c)) under ``key``."""
        self._pending[key] = data
        self._describe(key, shape, compress_level)
        if len(self._pending) >= self.commit_every:
            self._commit()

    def adopt(self, key):
        """Keep what an interrupted run has stored under ``key``; DataError if it is damaged."""
        with self.environment.begin() as transaction:
            data = transaction.get(key.encode())
        self._describe(key, decode_image(data, f"{self.partial}, key '{key}'").shape)

    def _describe(self, key, shape, compress_level=1):
        self._meta[key] = f'{key}.png ({shape[0]},{shape[1]},{shape[2]}) {compress_level}\n'

    def _commit(self):
        while True:
            try:
                with self.environment.begin(write=True) as transaction:
                    for key, data in self._pending.items():
                        transaction.put(key.encode(), data)
                break
            except lmdb.MapFullError:  # the transaction is undone as a whole; write it again in a larger map
                self.environment.set_mapsize(2 * self.environment.info()['map_size'])
        self._pending = {}

    def __exit__(self, exception_type, exception, traceback):
        try:
            self._commit()
        finally:
            self.environment.close()
        if exception_type is None:
            (self.partial / 'meta_info.txt').write_text(''.join(self._meta.values()))
            self.partial.rename(self.path)
