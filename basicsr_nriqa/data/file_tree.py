"""The files of a data set as it is downloaded: a folder, or a zip archive that need not be extracted."""
import lzma
import re
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

from basicsr_nriqa.data.errors import DataError


def open_tree(path, marker):
    """Find a data set at a path.

    Args:
        path (str | Path): The folder that holds ``marker``, one above it by up to two levels, a zip archive in which it
            is, or a folder with such an archive.
        marker (str): A file or folder by which the data set is known.

    Returns:
        FolderTree | ZipTree: Where ``marker`` is at the top.

    Raises:
        DataError: nothing is there, ``marker`` is not in it, or an archive is damaged.
    """
    path = Path(path).expanduser()
    if path.is_file():
        prefix = _prefix(_opened_zip(path), marker)
        if prefix is None:
            raise DataError(f"{path}: there is no '{marker}' in this archive. Is it the right one?")
        return ZipTree(path, prefix)
    if not path.is_dir():
        raise DataError(f'{path}: no such folder or archive. Correct the path.')
    folders = [path, *filter(Path.is_dir, sorted(path.glob('*'))), *filter(Path.is_dir, sorted(path.glob('*/*')))]
    for folder in folders:
        if (folder / marker).exists():
            return FolderTree(folder)
    damaged = []
    for archive in sorted(path.glob('*.[zZ][iI][pP]')):
        try:
            prefix = _prefix(_opened_zip(archive), marker)
        except DataError as error:  # it may be another data set's
            damaged.append(f'\n{error}')
            continue
        if prefix is not None:
            return ZipTree(archive, prefix)
    raise DataError(f"{path}: there is no '{marker}' in this folder, nor in a zip archive in it. Give the extracted "
                    f'folder or the archive itself.{"".join(damaged)}')


class FolderTree:
    """A folder.

    Args:
        root (Path): The names of files are relative to it.
    """

    def __init__(self, root):
        self.root = root

    def read(self, name):
        """A file's bytes; OSError where it cannot be read."""
        return (self.root / name).read_bytes()

    def names(self, folder):
        """Names of what is in a folder; empty where it is missing."""
        folder = self.root / folder
        return {child.name for child in folder.iterdir()} if folder.is_dir() else set()

    def place(self, name):
        """What messages call a file."""
        return str(self.root / name)


class ZipTree:
    """A zip archive, read in place, by any number of threads. Its directory is held in memory.

    Args:
        path (Path): The archive.
        prefix (str): The names of files are relative to it; empty or ending in ``/``.

    Raises:
        DataError: this is no whole zip archive.
    """

    def __init__(self, path, prefix=''):
        self.path, self.prefix = path, prefix
        self._archive = _opened_zip(path)
        self._folders = {}
        for name in self._archive.namelist():
            folder = name.rstrip('/')
            while folder:  # those above it need not have entries of their own
                folder, _, child = folder.rpartition('/')
                children = self._folders.setdefault(folder, set())
                if child in children:
                    break
                children.add(child)

    def read(self, name):
        """A file's bytes; OSError where it is missing or damaged."""
        try:
            return self._archive.read(self.prefix + name)
        except KeyError:
            raise FileNotFoundError('it is not in the archive') from None
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
            raise OSError(f'the archive is damaged there, or packed in a way that Python cannot read: {error}; '
                          'download it again or extract it first') from error

    def names(self, folder):
        """Names of what is in a folder; empty where it is missing."""
        return self._folders.get((self.prefix + folder).rstrip('/'), set())

    def place(self, name):
        """What messages call a file."""
        return f'{self.path}: {self.prefix}{name}'


@lru_cache(maxsize=4)
def _opened_zip(path):
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f'{path}: not a whole zip archive ({error}). Fetch it again or the rest of it, or give the '
                        'extracted folder.') from error


def _prefix(archive, marker):
    """What stands before ``marker`` in the names of an archive, or None where it is not in it."""
    for name in archive.namelist():
        found = marker in name and re.match(rf'((?:.*?/)?){re.escape(marker)}(?:/|$)', name)
        if found and not name.startswith('__MACOSX/'):
            return found[1]
    return None
