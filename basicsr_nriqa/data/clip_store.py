"""Where the frames of clips come from: an LMDB database or a folder tree, with the same keys."""
from pathlib import Path

from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.lmdb_store import LmdbReader, decode_image

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp')


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
            self._reader = LmdbReader(self.root)
        elif backend == 'disk':
            if not self.root.is_dir():
                raise DataError(f'{self.root}: no such folder (io_backend is disk).')
        else:
            raise DataError(f"io_backend: type '{backend}' is not known; expected lmdb or disk.")

    def image(self, key):
        """Frame ``key`` as (h,w,3) uint8 BGR; DataError if missing or damaged."""
        if self.backend == 'lmdb':
            return self._reader.image(key)
        for suffix in (self._suffix, *IMAGE_SUFFIXES):
            if suffix is None:
                continue
            path = self.root / f'{key}{suffix}'
            if path.is_file():
                self._suffix = suffix  # the others will have the same: one look-up a frame from now on
                return decode_image(path.read_bytes(), str(path))
        raise DataError(f'{self.root / key}: no such frame (tried {", ".join(IMAGE_SUFFIXES)}).')

    def clips(self):
        """All clips with the keys of their frames in order: {clip: [key, ...]}, sorted by name.

        Raises:
            DataError: there is no image at all.
        """
        if self.backend == 'lmdb':
            keys = self._reader.listed_keys()
        else:
            keys = [str(path.relative_to(self.root).with_suffix('')) for path in self.root.rglob('*')
                    if path.suffix.lower() in IMAGE_SUFFIXES]
        clips = {}
        for key in sorted(keys):
            clip, _, _ = key.rpartition('/')
            clips.setdefault(clip or self.root.name, []).append(key)
        if not clips:
            raise DataError(f'{self.root}: no frame is in there.')
        return clips
