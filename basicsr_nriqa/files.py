"""Files that are whole or not there."""
import fcntl
import hashlib
import os
import re
import shutil
import time
from contextlib import contextmanager, suppress
from functools import cache
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

from tqdm import tqdm


@contextmanager
def written_beside(path, durable=False):
    """A place beside ``path`` to write to. It is renamed to ``path`` at the end, or removed after an error.

    Args:
        path (str | Path): Where the file shall be; missing folders are made, an existing file is replaced.
        durable (bool): Wait until the file is on the disk, so that it also outlives the machine's loss of power.

    Yields:
        Path: Where to write it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        yield beside
        if durable:
            flush(beside)
        beside.replace(path)
        if durable:
            flush(path.parent)  # the new name
    finally:
        beside.unlink(missing_ok=True)


def flush(path):
    """Wait until a file's content, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path, data):
    """Write a file beside its place and rename it, so that a partial file never looks like a whole one.

    Args:
        path (str | Path): Where; missing folders are made, an existing file is replaced.
        data (bytes | str): The whole content; text is stored as UTF-8.
    """
    with written_beside(path, durable=True) as beside:
        beside.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def exclusive(path):
    """Hold a lock file, which is removed at the end. The system gives the lock back however the process ends.

    Args:
        path (str | Path): The lock file; its folder exists.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it cannot be made.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                    break  # and not one that its holder has just removed
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(path)
        os.close(descriptor)


def archive_name(path):
    """Where to set a folder aside: ``PATH_archived_TIME``, as BasicSR has it, and a number if that is taken."""
    name = unused = f'{path}_archived_{time.strftime("%Y%m%d_%H%M%S")}'
    number = 1
    while os.path.lexists(unused):
        number += 1
        unused = f'{name}_{number}'
    return unused


def free_space(path):
    """Bytes that can still be written where a file or folder is, or is to be."""
    path = Path(path).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def gigabytes(count):
    """A number of bytes for people."""
    return f'{count / 1e9:.1f} GB' if count >= 1e9 else f'{count / 1e6:.1f} MB'


def download_file(url, path, name):
    """Fetch what is at a URL, with a progress bar.

    Args:
        url (str): http or https.
        path (Path): Where to write it; after an error part of it may be there (:func:`written_beside`).
        name (str): What the progress bar calls it.

    Raises:
        OSError: it could not be had whole.
    """
    request = Request(url, headers={'User-Agent': 'basicsr-nriqa'})
    try:
        with urlopen(request, timeout=60) as response, path.open('wb') as out, \
                tqdm.wrapattr(out, 'write', total=response.length, desc=name) as counted:
            shutil.copyfileobj(response, counted, 2**20)
            if response.length:  # a broken connection looks like the end of the file, also to torch.hub
                raise OSError(f'the connection ended {response.length} bytes too early')
    except HTTPException as error:
        raise OSError(f'the connection broke: {error!r}') from error


def published_digits(name):
    """The start of a sha256 that a published file name ends in (``NAME-0123abcd.pth``), or nothing."""
    found = re.search(r'-([0-9a-f]{8,})\.', name)
    return found[1] if found else ''


def sha256(path):
    """The digest of a file, in hexadecimal; computed once as long as the file does not change."""
    status = os.stat(path)
    return _sha256(path, status.st_size, status.st_mtime_ns)


@cache
def _sha256(path, size, changed):
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()
