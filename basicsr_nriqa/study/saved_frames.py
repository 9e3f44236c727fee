"""Frames that the test loop saved, clip by clip, and which of several models belong together."""
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch

from basicsr_nriqa.data.clip_store import ClipStore
from basicsr_nriqa.study.scores import join_names


class SavedFrames:
    """The frames of one run on one dataset, found by clip and frame.

    They are called ``CLIP/FRAME_SUFFIX.png``, where the suffix is that of the model. What all names of a folder end in,
    from its first ``_`` on, is left out; so folders without suffixes, such as those of GT, will do, too.

    Args:
        folder (str | Path): Such as ``results/NAME/visualization/DATASET``.

    Attributes:
        store (ClipStore): Where they are.
        clips (dict[str, dict[str, str]]): ``{clip: {frame: key in the store}}``, in natural order.

    Raises:
        ValueError: The folder is missing or has no frames; names it.
    """

    def __init__(self, folder):
        if not Path(folder).is_dir():
            raise ValueError(f'{folder}: no such folder; expected saved frames, CLIP/FRAME.png (val: save_img)')
        self.store = ClipStore(folder, 'disk')
        clips = self.store.clips()
        names = {key: key.rpartition('/')[2] for keys in clips.values() for key in keys}
        ends = zip(*(name.split('_')[:0:-1] for name in names.values()))
        suffix = ''.join([f'_{parts[0]}' for parts in takewhile(lambda parts: len(set(parts)) == 1, ends)][::-1])
        self.clips = {clip: {names[key].removesuffix(suffix): key for key in keys} for clip, keys in clips.items()}

    def check_same(self, other):
        """Check that another run has the same clips and frames.

        Args:
            other (SavedFrames): The other run.

        Raises:
            ValueError: It has not; names both folders and what only one of them has.
        """
        self._check('clips', self.clips, other, other.clips)
        for name, frames in self.clips.items():
            self._check(f'frames of the clip {name!r}', frames, other, other.clips[name])

    def _check(self, what, mine, other, others):
        if set(mine) != set(others):
            raise ValueError(f'{self.store.root} and {other.store.root} do not have the same {what}: only the first '
                             f'has {join_names(sorted(set(mine) - set(others))) or "none"}; only the second has '
                             f'{join_names(sorted(set(others) - set(mine))) or "none"}. Save the frames of both models '
                             'for the same data (val: save_img).')


@dataclass(frozen=True)
class ClipPair:
    """One clip of two models.

    Attributes:
        name (str): Its folder below both roots.
        tuned, baseline (SavedClip): The same frames in the same order.
    """

    name: str
    tuned: 'SavedClip'
    baseline: 'SavedClip'

    def load(self):
        """Read both.

        Returns:
            tuple[Tensor, Tensor]: Tuned and baseline, (t,3,h,w) uint8, RGB.

        Raises:
            ValueError: a frame is damaged or of another size than the first of the baseline; names the file.
        """
        baseline = self.baseline.load()
        return self.tuned.load(tuple(baseline.shape[-2:])), baseline


@dataclass(frozen=True)
class SavedClip:
    """The frames of one clip.

    Attributes:
        store (ClipStore): Where they are.
        keys (tuple[str]): Their keys, in order.
    """

    store: ClipStore
    keys: tuple

    def load(self, size=None):
        """Read the frames.

        Args:
            size (tuple[int, int] | None): Height and width that they should have; None: those of the first.

        Returns:
            Tensor: (t,3,h,w) uint8, RGB.
        """
        frames = []
        for key in self.keys:
            image = self.store.image(key)
            size = size or image.shape[:2]
            if image.shape[:2] != size:
                raise ValueError(f'{self.store.root / key}: {image.shape[1]}x{image.shape[0]} px, expected '
                                 f'{size[1]}x{size[0]} as other frames of this clip have it. Compare outputs for the '
                                 'same input.')
            frames.append(image)
        return torch.from_numpy(np.stack(frames)).flip(-1).permute(0, 3, 1, 2).contiguous()


def pair_clips(tuned_folder, baseline_folder, limit=None):
    """Find the clips of two runs, and check that all frames are in both.

    Args:
        tuned_folder, baseline_folder (str | Path): See :class:`SavedFrames`.
        limit (int | None): At most so many clips, spread evenly.

    Returns:
        list[ClipPair]: In natural order.

    Raises:
        ValueError: a folder is missing or has no frames, or the two do not have the same clips and frames; names them.
    """
    tuned, baseline = SavedFrames(tuned_folder), SavedFrames(baseline_folder)
    tuned.check_same(baseline)
    names = list(tuned.clips)
    if limit is not None and limit < len(names):
        names = [names[index * len(names) // limit] for index in range(limit)]
    return [ClipPair(name, *(SavedClip(run.store, tuple(run.clips[name][frame] for frame in tuned.clips[name]))
                             for run in (tuned, baseline))) for name in names]
