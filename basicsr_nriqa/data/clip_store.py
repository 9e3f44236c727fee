"""Where the frames of clips come from: an LMDB database or a folder tree, with the same keys."""
import os
import re
from itertools import pairwise
from pathlib import Path

from basicsr_nriqa.data.clip_list import check_clip_name
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.image_codec import decode_image, image_size
from basicsr_nriqa.data.lmdb_store import LmdbReader

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp')
_SPELLINGS = (*IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES))


def natural(name):
    """Sort key by which ``im2`` comes before ``im10``."""
    parts = re.split(r'(\d+)', name)
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def frame_key(folder, frame):
    """The key of a frame, ``FOLDER/FRAME``, or ``FRAME`` at the top, where the folder is empty."""
    return f'{folder}/{frame}' if folder else frame


class ClipStore:
    """Frames by key ``CLIP/FRAME`` (no extension), e.g. ``00001/0266/im4``.

    Args:
        root (str | Path): ``NAME.lmdb``, or a folder tree whose innermost folders are clips.
        backend (str): ``lmdb`` or ``disk``.

    Raises:
        DataError: nothing is there, or ``backend`` is neither of the two.
    """

    def __init__(self, root, backend):
        self.root = Path(root).expanduser()
        self.backend = backend
        self._suffix = None
        if backend == 'lmdb':
            if self.root.is_dir() and self.root.suffix != '.lmdb' and not (self.root / 'data.mdb').exists():
                raise DataError(f'{self.root}: a folder, but no LMDB database. If it holds images, set io_backend to '
                                '{type: disk}.')
            self._reader = LmdbReader(self.root)
        elif backend == 'disk':
            if not self.root.is_dir():
                raise DataError(f'{self.root}: no such folder. Expected a folder of images, as io_backend is disk.')
            if (self.root / 'data.mdb').exists():
                raise DataError(f'{self.root}: an LMDB database. Set io_backend to {{type: lmdb}}.')
        else:
            raise DataError(f"io_backend: type '{backend}' is not known; expected lmdb or disk.")

    def image(self, key):
        """Frame ``key`` as (h,w,3) uint8 BGR; DataError if missing or damaged."""
        if self.backend == 'lmdb':
            return self._reader.image(key)
        return decode_image(*self._file(key))

    def size(self, key):
        """Height and width of a frame in pixels, of PNG and raw ones without decoding; DataError as :meth:`image`."""
        if self.backend == 'lmdb':
            return self._reader.size(key)
        return image_size(*self._file(key))

    def window(self, key, top, left, height, width):
        """Part of a frame, which of a raw one is read alone.

        Args:
            key (str): The frame's.
            top, left, height, width (int): In pixels.

        Returns:
            tuple[ndarray, tuple]: (height,width,3) uint8, BGR, less where the window leaves the frame; height and width
            of the whole frame.

        Raises:
            DataError: the frame is missing or damaged.
        """
        if self.backend == 'lmdb':
            return self._reader.crop(key, top, left, height, width), self._reader.size(key)
        image = self.image(key)
        return image[top:top + height, left:left + width], image.shape[:2]

    def _file(self, key):
        """A frame's bytes and the file's name."""
        for suffix in (self._suffix, *_SPELLINGS):
            if suffix is None:
                continue
            path = self.root / f'{key}{suffix}'
            try:
                data = path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise DataError(f'{path}: cannot read this frame ({error.strerror}).') from error
            self._suffix = suffix  # the others will have the same: one look-up a frame from now on
            return data, str(path)
        raise DataError(f'{self.root / key}: no such frame (tried {", ".join(IMAGE_SUFFIXES)}). meta_info_file or '
                        'filename_tmpl does not fit these data, or the folder is not complete.')

    def clips(self):
        """All clips with the keys of their frames, both in natural order.

        Returns:
            dict: folder: [key, ...]; the folder is '' for frames at the top.

        Raises:
            DataError: there is no image at all, or two in a folder have one name.
        """
        clips = {}
        for key in self._listed():
            clips.setdefault(key.rpartition('/')[0], []).append(key)
        if not clips:
            raise DataError(f'{self.root}: no image is in there. Expected frames as CLIP/im1.png, ... in it.')
        for folder in clips:
            check_clip_name(folder, self.root)
        clips = {folder: sorted(clips[folder], key=natural) for folder in sorted(clips, key=natural)}
        for keys in clips.values():
            for key, following in pairwise(keys):
                if key == following:
                    raise DataError(f'{self.root / key}: two images have this name. Remove one of them.')
        return clips

    def _listed(self):
        if self.backend == 'lmdb':
            yield from self._reader.listed_keys()
            return
        for place, folders, files in os.walk(self.root, followlinks=True):  # a subset is often a folder of links
            folders[:] = [name for name in folders if name[0] != '.' and not _leads_back(place, name)]
            folder = os.path.relpath(place, self.root)
            for name in files:
                frame, suffix = os.path.splitext(name)
                if suffix in _SPELLINGS and name[0] != '.':
                    yield frame_key('' if folder == '.' else folder, frame)


def _leads_back(place, name):
    """Whether a folder is a link to one that it is in."""
    path = os.path.join(place, name)
    return os.path.islink(path) and f'{os.path.realpath(place)}/'.startswith(f'{os.path.realpath(path)}/')
