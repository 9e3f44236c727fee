"""The frames of a data set that has one folder a clip and the same file names in each."""
from collections.abc import Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import NamedTuple

from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.packing import Frame


class Clip(NamedTuple):
    """Where a clip is.

    Attributes:
        name (str): What it is called in the database.
        tree (FolderTree | ZipTree): The files.
        folder (str): Its folder there.
    """
    name: str
    tree: object
    folder: str


class ClipFrames(Sequence):
    """The frames of clips, for :func:`~basicsr_nriqa.data.packing.pack_pairs`, made when they are asked for.

    Args:
        clips (list[Clip]): Which, in order.
        names (list[str]): The files of each, in order; keys are ``CLIP/NAME`` without the suffix.

    Raises:
        DataError: a frame is missing.
    """

    def __init__(self, clips, names):
        self.clips, self.names = clips, names
        missing = [clip.tree.place(f'{clip.folder}/{name}') for clip in clips
                   for name in sorted(set(names) - clip.tree.names(clip.folder))]
        if missing:
            raise DataError(f'{missing[0]}: this frame is missing, {len(missing)} in all. Extract the archive whole, '
                            'or download it again.')

    def __len__(self):
        return len(self.clips) * len(self.names)

    def __getitem__(self, index):
        place, number = divmod(range(len(self))[index], len(self.names))
        clip, name = self.clips[place], self.names[number]
        path = f'{clip.folder}/{name}'
        return Frame(f'{clip.name}/{PurePosixPath(name).stem}', partial(clip.tree.read, path), clip.tree.place(path))
