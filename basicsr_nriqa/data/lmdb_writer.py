"""Writing LMDB databases of images so that a partial one never looks whole and an interrupted one goes on."""
import json
import struct
import time
import zlib
from contextlib import ExitStack, contextmanager
from pathlib import Path

import lmdb

from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.image_codec import is_raw
from basicsr_nriqa.data.lmdb_store import ABOUT, RECORDS, Record, check_length, close_databases
from basicsr_nriqa.files import exclusive, flush, free_space, gigabytes

_INITIAL_MAP = 64 * 2**20
_COMMIT_BYTES = 32 * 2**20  # held in memory until they are written
_COMMIT_SECONDS = 10
_LONGEST_KEY = 511  # bytes, LMDB's limit
_DIGESTS = {'keys': 'other frames', 'chosen': 'other choice of clips'}  # no values that people can read


class LmdbWriter:
    """Packs images into ``path``; as a context manager.

    Everything goes to ``path`` + ``.partial``, which is renamed when the block ends without an error. After an
    interruption, also by kill -9 or a full disk, the partial folder holds what was committed, and the next writer
    continues in it (:meth:`stored`). The map grows as needed. One writer at a time: a second one is refused.

    Args:
        path (str | Path): Ends in ``.lmdb``; must not exist yet.
        about (dict): A note about the making, kept in the database; what can be stored as JSON. A partial database
            with another note is not continued.
        commit_every (int): Images per transaction, fewer if they are large or come slowly: what an interruption can
            lose.

    Raises:
        DataError: ``path`` exists already or does not end in ``.lmdb``; inside the block: it cannot be written, another
            process packs it, or the disk is full.
    """

    def __init__(self, path, about=None, commit_every=512):
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + '.partial')
        self.about = about or {}
        self.commit_every = commit_every
        if self.path.suffix != '.lmdb':
            raise DataError(f'{self.path}: the name of a database must end in .lmdb (BasicSR checks it).')

    def __enter__(self):
        self._failed = False
        with ExitStack() as stack:
            with self._told():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(self._locked())
            if self.path.exists():
                raise DataError(f'{self.path} exists already. Remove it to pack it again.')
            self._open()
            self._held = stack.pop_all()
        return self

    def _locked(self):
        return exclusive(self.path.with_name(f'.{self.path.name}.lock'))

    def _open(self):
        self._pending, self._pending_bytes, self._committed = {}, 0, time.monotonic()
        close_databases()  # this process may have read what is here
        with self._told():
            self.partial.mkdir(exist_ok=True)
            self.environment = lmdb.open(str(self.partial), map_size=_INITIAL_MAP, max_dbs=1, meminit=False)
            try:
                check_length(self.environment, self.partial)
                self._records = self.environment.open_db(RECORDS)
                with self.environment.begin(write=True) as transaction:
                    begun = transaction.get(ABOUT, db=self._records)
                    if begun is None:
                        transaction.put(ABOUT, json.dumps(self.about).encode(), db=self._records)
                if begun is not None and json.loads(begun) != json.loads(json.dumps(self.about)):
                    raise DataError(f'{self.partial} was begun with other settings: '
                                    f'{differences(json.loads(begun), self.about)}. Go on with those, or remove it.')
            except BaseException:
                self.environment.close()
                raise

    def stored(self, key):
        """The :class:`~basicsr_nriqa.data.lmdb_store.Record` of an image, if it is there and as it was put.

        Returns:
            Record | None: None also where what is stored does not match its checksum: put it again.
        """
        if key in self._pending:
            return self._pending[key][1]
        name = self._encoded(key)
        with self._told(), self.environment.begin(buffers=True) as transaction:
            record, data = transaction.get(name, db=self._records), transaction.get(name)
            record = record and Record.unpack(record)
            return record if record and data is not None and zlib.crc32(data) == record.crc32 else None

    def put(self, key, data, shape, compress_level=1):
        """Store an image, also in the place of one that is there.

        Args:
            key (str): At most 511 bytes in UTF-8, one line.
            data (bytes): Of an encoded or raw image.
            shape (tuple): Its (h,w,c).
            compress_level (int): What meta_info.txt shall say; 0 for raw images.

        Raises:
            DataError: ``key`` is not possible, or it cannot be written.
        """
        self._encoded(key)
        raw = is_raw(data)
        self._pending[key] = data, Record(zlib.crc32(data), tuple(shape), raw, 0 if raw else compress_level)
        self._pending_bytes += len(data)
        if (len(self._pending) >= self.commit_every or self._pending_bytes >= _COMMIT_BYTES
                or time.monotonic() - self._committed >= _COMMIT_SECONDS):
            self._commit()

    def _encoded(self, key):
        name = key.encode()
        if not 0 < len(name) <= _LONGEST_KEY or key.splitlines() != [key] or key.startswith('\0') or name == RECORDS:
            raise DataError(f'{self.path}: {key[:80]!r} cannot be a key. Expected 1 to {_LONGEST_KEY} bytes on one '
                            'line.')
        return name

    def _commit(self):
        with self._told():
            while self._pending:
                try:
                    with self.environment.begin(write=True) as transaction:
                        for key, (data, record) in self._pending.items():
                            transaction.put(key.encode(), data)
                            transaction.put(key.encode(), record.pack(), db=self._records)
                    self._pending, self._pending_bytes, self._committed = {}, 0, time.monotonic()
                except lmdb.MapFullError:  # the transaction is undone as a whole; write it again in a larger map
                    self.environment.set_mapsize(2 * self.environment.info()['map_size'])

    @contextmanager
    def _told(self):
        """Errors of the system and of LMDB as ours."""
        try:
            yield
        except BlockingIOError:
            raise DataError(f'{self.path}: another process is packing this database. Wait for it, or write to another '
                            'folder.') from None
        except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError, struct.error) as error:
            self._failed = True
            raise DataError(f'{self.partial}: damaged ({error}). Remove it and start again.') from error
        except (lmdb.Error, OSError) as error:
            self._failed = True
            # LMDB calls a write that a full disk cut short an input/output error
            raise DataError(f'{self.partial}: cannot be written ({getattr(error, "strerror", None) or error}; '
                            f'{gigabytes(free_space(self.partial))} are free there). Make room, or allow writing, and '
                            'start again to go on: what was packed so far is kept.') from error

    def __exit__(self, exception_type, exception, traceback):
        try:
            if not self._failed:
                self._commit()
                if exception_type is None:
                    self._finish()
        finally:
            self.environment.close()
            self._held.close()

    def _finish(self):
        with self._told():
            meta = self.partial / 'meta_info.txt'
            with meta.open('w', encoding='utf-8') as lines, self.environment.begin() as transaction:
                for key, record in transaction.cursor(db=self._records):
                    if key != ABOUT:
                        lines.write(Record.unpack(record).meta_line(key.decode()))
            flush(meta)
            flush(self.partial)
            self.partial.rename(self.path)
            flush(self.path.parent)


def differences(begun, wanted):
    """The settings that differ, in words."""
    return ', '.join(_DIGESTS[name] if name in _DIGESTS else f'{name} {begun.get(name)!r}, now {wanted.get(name)!r}'
                     for name in dict.fromkeys((*begun, *wanted)) if begun.get(name) != wanted.get(name))
