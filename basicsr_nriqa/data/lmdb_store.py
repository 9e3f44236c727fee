"""LMDB databases of images in BasicSR's format, with checksums, for reading.

A database is a folder ``NAME.lmdb`` of ``data.mdb``, ``lock.mdb`` and ``meta_info.txt`` (a line an image:
``KEY.png (h,w,c) compression``); the values are encoded images, the keys carry no extension. What
:class:`~basicsr_nriqa.data.lmdb_writer.LmdbWriter` writes has besides, in an inner database that BasicSR does not see,
a :class:`Record` of each image and a note about its making. Images may be raw (``KEY.raw (h,w,c) 0``).
"""
import json
import os
import re
import struct
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import lmdb

from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.image_codec import decode_image, image_size, is_raw

RECORDS = b'basicsr_nriqa'  # name of the inner database
ABOUT = b'\0about'  # no key of an image starts with a zero byte
_META_LINE = re.compile(r'(?P<key>.+)\.\w+ \((?P<shape>\d+,\d+,\d+)\) (?P<level>\d+)$')
# real path -> environment and inner database: lmdb 3 refuses to open one path twice in a process
_environments: dict[str, tuple] = {}
_lock = threading.Lock()


class Record(NamedTuple):
    """What is known of a stored image.

    Attributes:
        crc32 (int): Checksum of the stored bytes.
        shape (tuple): (h,w,c).
        raw (bool): Pixels, not an encoded image.
        compress_level (int): Of PNG.
    """
    crc32: int
    shape: tuple
    raw: bool
    compress_level: int

    def pack(self):
        return _RECORD.pack(self.crc32, *self.shape, self.raw, self.compress_level)

    @classmethod
    def unpack(cls, data):
        crc32, height, width, channels, raw, compress_level = _RECORD.unpack(data)
        return cls(crc32, (height, width, channels), bool(raw), compress_level)

    def meta_line(self, key):
        """The line of meta_info.txt."""
        height, width, channels = self.shape
        return f'{key}.{"raw" if self.raw else "png"} ({height},{width},{channels}) {self.compress_level}\n'


_RECORD = struct.Struct('<IIIBBB')


def _before_fork():
    """An environment must not live on in a forked worker, which could neither use nor open it again."""
    _lock.acquire()
    _close_all()


def _close_all():
    while _environments:
        _environments.popitem()[1][0].close()


def close_databases():
    """Close what the readers of this process hold open; they open it again when they need it.

    To write, move or read with other code what was read here: LMDB opens a database once in a process.
    """
    with _lock:
        _close_all()


os.register_at_fork(before=_before_fork, after_in_parent=_lock.release, after_in_child=_lock.release)


class LmdbReader:
    """Reads one database; safe to pickle, and to use in threads and in forked or spawned workers.

    Args:
        path (str | Path): A folder in BasicSR's LMDB format.

    Raises:
        DataError: the folder is missing or is no database.
    """

    def __init__(self, path):
        self.path = Path(path)
        self._place = os.path.realpath(path)
        if not (self.path / 'data.mdb').is_file():
            partial = self.path.with_name(self.path.name + '.partial')
            raise DataError(f'{self.path}: no LMDB database is there (expected a folder with data.mdb). '
                            + (f'{partial.name} is one that is not finished: run its script again.'
                               if partial.exists() else 'Correct the path, or pack the data: see docs/data.md.'))
        if not (self.path / 'data.mdb').stat().st_size:
            raise _damaged(self.path, 'data.mdb is empty')

    def get(self, key):
        """The bytes stored under ``key`` (str); DataError if there are none."""
        with self._value(key) as data:
            return bytes(data)

    def image(self, key):
        """The image under ``key``, (h,w,3) uint8 BGR; DataError if missing or damaged."""
        return decode_image(self.get(key), self.name(key))

    def size(self, key):
        """Height and width of the image under ``key``; DataError if missing or damaged."""
        with self._value(key) as data:
            return image_size(data, self.name(key))

    def crop(self, key, top, left, height, width):
        """Part of the image under ``key``; of a raw one nothing else is read.

        Args:
            key (str): The image's.
            top, left, height, width (int): In pixels, inside the image.

        Returns:
            ndarray: (height,width,3) uint8, BGR.

        Raises:
            DataError: the image is missing or damaged.
        """
        window = slice(top, top + height), slice(left, left + width)
        with self._value(key) as data:
            if is_raw(data):
                return decode_image(data, self.name(key))[window].copy()
            data = bytes(data)
        return decode_image(data, self.name(key))[window]

    def name(self, key):
        """What messages call an image."""
        return f"{self.path}, key '{key}'"

    def record(self, key):
        """The :class:`Record` of an image, or None where the database has none of it."""
        return self._inner(key.encode(), Record.unpack)

    def about(self):
        """The note (dict) about the making of this database, or None where it has none."""
        return self._inner(ABOUT, json.loads)

    def stored_keys(self):
        """All keys of images that are stored, sorted, whatever meta_info.txt says."""
        with self._transaction() as (transaction, _):
            return [bytes(key).decode() for key in transaction.cursor().iternext(values=False) if key != RECORDS]

    def listed(self):
        """What meta_info.txt lists.

        Returns:
            dict: key: (h,w,c), in the order of the list.

        Raises:
            DataError: the list is missing, or a line is not as BasicSR writes it.
        """
        meta = self.path / 'meta_info.txt'
        if not meta.is_file():
            raise DataError(f"{meta}: missing. A database in BasicSR's format has this list of its keys. Copy or make "
                            'the database again.')
        listed = {}
        with meta.open(encoding='utf-8', errors='surrogateescape') as lines:
            for number, line in enumerate(lines, 1):
                found = _META_LINE.match(line)
                if found:
                    listed[found['key']] = tuple(map(int, found['shape'].split(',')))
                elif line.strip():
                    raise DataError(f"{meta}, line {number}: expected 'KEY.png (h,w,c) LEVEL', found "
                                    f'{line.rstrip()[:80]!r}. Copy or make the database again.')
        return listed

    def listed_keys(self):
        """The keys that meta_info.txt lists, in its order; DataError as :meth:`listed`."""
        return list(self.listed())

    @contextmanager
    def _transaction(self):
        """A transaction and the inner database (None without one); what it gives is valid inside the block only."""
        with _lock:
            if self._place not in _environments:
                _environments[self._place] = _opened(self._place)
            environment, inner = _environments[self._place]
            try:
                with environment.begin(buffers=True) as transaction:
                    yield transaction, inner
            except (lmdb.Error, struct.error, json.JSONDecodeError, UnicodeDecodeError) as error:
                raise _damaged(self.path, error) from error

    @contextmanager
    def _value(self, key):
        with self._transaction() as (transaction, _):
            data = transaction.get(key.encode())
            if data is None:
                raise DataError(f"{self.path}: the database has no key '{key}'. meta_info_file, filename_tmpl or "
                                'first_frame does not fit it, or GT and LR do not belong together.')
            yield data

    def _inner(self, key, parse):
        with self._transaction() as (transaction, inner):
            data = inner and transaction.get(key, db=inner)
            return None if data is None else parse(bytes(data))


def check_length(environment, path):
    """Raise a DataError where a database's file is shorter than it says: reading behind its end kills the process."""
    whole = (environment.info()['last_pgno'] + 1) * environment.stat()['psize']
    size = (Path(path) / 'data.mdb').stat().st_size
    if size < whole:
        raise DataError(f'{path}: data.mdb is cut off ({size} of {whole} bytes). Copy or make it again.')


def _opened(place):
    environment = None
    try:
        # the system's read-ahead, as an image is read as a whole or in long pieces
        environment = lmdb.open(place, readonly=True, lock=False, max_dbs=1, meminit=False)
        check_length(environment, place)
        try:
            return environment, environment.open_db(RECORDS, create=False)
        except lmdb.NotFoundError:  # made by BasicSR
            return environment, None
    except BaseException as error:
        if environment:
            environment.close()
        if isinstance(error, (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.VersionMismatchError,
                              lmdb.PanicError)):
            raise _damaged(place, error) from error
        if isinstance(error, lmdb.Error):
            raise DataError(f'{place}: cannot be opened ({error}). If this process reads it in another way, too, close '
                            'that: LMDB opens a database once in a process.') from error
        raise


def _damaged(path, error):
    return DataError(f'{path}: no whole LMDB database ({error}). Copy or make it again.')
