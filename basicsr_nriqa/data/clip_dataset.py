"""Datasets of clips: LR and GT frames of the same moments, from LMDB or from disk."""
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.utils.registry import DATASET_REGISTRY
from torch import Tensor
from torch.utils.data import Dataset

from basicsr_nriqa.data.clip_index import Clip, find_clips
from basicsr_nriqa.data.clip_list import read_clip_list
from basicsr_nriqa.data.clip_store import ClipStore
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.frame_sequence import FrameSequence
from basicsr_nriqa.data.frame_tensors import frames_to_tensor, turned
from basicsr_nriqa.option_values import is_count

WINDOWS = 'windows'


class _ClipDataset(Dataset):

    REQUIRED: tuple[str, ...]
    gt: ClipStore | None

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        self._check_options()
        self.scale: int = opt.get('scale') or 4
        backend = opt['io_backend']['type']
        self.lq = ClipStore(opt['dataroot_lq'], backend)
        self.gt = ClipStore(opt['dataroot_gt'], backend) if opt.get('dataroot_gt') else None

    def _check_options(self) -> None:
        """Stock models of BasicSR build datasets without the check of options."""
        for name in self.REQUIRED:
            if self.opt.get(name) in (None, ''):
                raise DataError(f'{name}: is missing. {type(self).__name__} needs {", ".join(self.REQUIRED)}.')
        for name in ('scale', 'gt_size', 'num_frame', 'clip_length'):
            value = self.opt.get(name)
            if value is not None and not is_count(value):
                raise DataError(f'{name}: expected a whole number above 0, got {value!r}.')
        for name in ('dataroot_gt', 'dataroot_lq', 'meta_info_file'):
            value = self.opt.get(name)
            if value is not None and not isinstance(value, (str, Path)):
                raise DataError(f'{name}: expected one path, got {value!r}. ClipMixtureDataset trains on several sets.')
        backend = self.opt['io_backend']
        if not isinstance(backend, dict) or 'type' not in backend:
            raise DataError(f'io_backend: expected {{type: lmdb}} or {{type: disk}}, got {backend!r}.')

    def _check_pair(self, key: str, gt_size: tuple[int, int], lq_size: tuple[int, int]) -> None:
        if gt_size != (lq_size[0] * self.scale, lq_size[1] * self.scale):
            raise DataError(
                f"frame '{key}': GT is {gt_size[1]}x{gt_size[0]} and LR {lq_size[1]}x{lq_size[0]}, "
                f"which is not the scale {self.scale} of the options. GT from {self.opt['dataroot_gt']}, LR from "
                f"{self.opt['dataroot_lq']}: "
                + ('exchange dataroot_gt and dataroot_lq.' if gt_size < lq_size else
                   'set scale to what they are, or make the LR frames again.'))

    def _check_like_first(self, key: str, size: tuple[int, int], first: tuple[int, int]) -> None:
        if size != first:
            raise DataError(f"{self.lq.root}: frame '{key}' has {size[1]}x{size[0]} pixels, the first of its clip "
                            f'{first[1]}x{first[0]}. All frames of a clip must have one size: make the clip again, or '
                            'leave it out of meta_info_file.')


@DATASET_REGISTRY.register()
class ClipTrainDataset(_ClipDataset):
    """Random crops of clips for training: Vimeo-90K, REDS, or any clips of any lengths.

    An item is ``{'lq': (t,3,h,w), 'gt': (t,3,s*h,s*w), 'key': str}``, float32 RGB in [0,1], to the bit what BasicSR
    makes of the same frames, crop and augmentation. All randomness comes from torch's generator, and nothing is kept
    between items: the state of the generator and the index decide everything.

    Args:
        opt (dict): The options: BasicSR's of every dataset, and these.

            - ``dataroot_gt``, ``dataroot_lq`` (str): Databases or folders, keys ``CLIP/im1`` ... as in Vimeo-90K.
            - ``meta_info_file`` (str): The clips to use, one a line, with or without BasicSR's further columns;
              default: all that are there.
            - ``io_backend`` (dict): ``{type: lmdb}`` or ``{type: disk}``.
            - ``scale`` (int): GT size over LR size; default 4.
            - ``gt_size`` (int): Side of the GT crop in pixels, divisible by ``scale``.
            - ``num_frame`` (int): Frames of an item, at a random place of the clip; default 7.
            - ``interval_list`` (list of int): Steps from one frame to the next, of which each item draws one; default
              ``[1]``.
            - ``clip_length`` (int): Frames that clips have of which ``meta_info_file`` does not say it; default: all
              that are there.
            - ``filename_tmpl`` (str): Format of a frame's name; default ``im{}``, or without numbers of frames in
              ``meta_info_file`` what is found. REDS: ``'{:08d}'``.
            - ``first_frame`` (int): Number of a clip's first frame; default 1, or what is found. REDS: 0.
            - ``samples_per_clip`` (int or ``windows``): Items of an epoch for each clip; default 1. ``windows``: one
              for every place where ``num_frame`` consecutive frames fit, which an epoch then passes each once (those
              that do not fit with a larger interval are drawn anew), so that long clips are seen more often.
            - ``random_reverse``, ``use_hflip``, ``use_rot`` (bool): Augmentations, each with probability 1/2; default
              on.
            - ``flip_sequence`` (bool): Append the mirrored clip (t becomes 2t); default off.

    Raises:
        DataError: a database, list, key or frame is missing, damaged or of the wrong size, or an option makes no sense;
            the message names it.
    """

    OPTIONS = frozenset({'dataroot_gt', 'dataroot_lq', 'meta_info_file', 'io_backend', 'gt_size', 'num_frame',
                         'interval_list', 'clip_length', 'filename_tmpl', 'first_frame', 'samples_per_clip',
                         'random_reverse', 'use_hflip', 'use_rot', 'flip_sequence'})
    REQUIRED = ('dataroot_gt', 'dataroot_lq', 'io_backend', 'gt_size')
    gt: ClipStore

    def __init__(self, opt: dict[str, Any]) -> None:
        super().__init__(opt)
        self.gt_size = opt['gt_size']
        self.num_frame: int = opt.get('num_frame') or 7
        self.intervals = opt.get('interval_list') or [1]
        self.samples = 1 if opt.get('samples_per_clip') is None else opt['samples_per_clip']
        if self.gt_size % self.scale:
            raise DataError(f'gt_size: {self.gt_size} is not divisible by the scale {self.scale}; '
                            f'{self.gt_size + -self.gt_size % self.scale} is.')
        if not isinstance(self.intervals, Sequence) or not all(map(is_count, self.intervals)):
            raise DataError('interval_list: expected a list of whole numbers above 0, such as [1, 2], got '
                            f'{self.intervals!r}.')
        if self.samples != WINDOWS and not is_count(self.samples):
            raise DataError(f'samples_per_clip: expected a whole number above 0 or {WINDOWS}, got {self.samples!r}.')
        self.clips = find_clips(self.gt, *(opt.get(name) for name in (
            'meta_info_file', 'clip_length', 'filename_tmpl', 'first_frame')))
        self._check_lengths()
        self._ends: np.ndarray | None = None  # of each clip, the number of windows in it and all before it
        if self.samples == WINDOWS:
            self._ends = np.cumsum([clip.frames - self.num_frame + 1 for clip in self.clips])

    def _check_lengths(self) -> None:
        short = [clip for clip in self.clips if clip.frames < self._span(max(self.intervals))]
        if short:
            steps = f' in steps of {max(self.intervals)}' if max(self.intervals) > 1 else ''
            others = f', nor into {len(short) - 1} others' if len(short) > 1 else ''
            raise DataError(f"num_frame: {self.num_frame} frames{steps} do not fit into clip '{short[0].folder}' of "
                            f'{short[0].frames}{others}. Lower it, or leave such clips out of meta_info_file.')

    def _span(self, interval: int) -> int:
        return (self.num_frame - 1) * interval + 1

    def __len__(self) -> int:
        return len(self.clips) * self.samples if self._ends is None else int(self._ends[-1])

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        clip, start = self._place(index)
        interval = self.intervals[draw(len(self.intervals)) if len(self.intervals) > 1 else 0]
        places = clip.frames - self._span(interval) + 1
        if start is None or start >= places:
            start = draw(places)
        numbers = range(start, start + self._span(interval), interval)
        if self.opt.get('random_reverse', True) and draw(2):
            numbers = numbers[::-1]
        lq, gt = self._cropped([clip.key(number) for number in numbers], clip.folder)
        rotate = self.opt.get('use_rot', True)
        hflip = bool(self.opt.get('use_hflip', True) and draw(2))
        vflip, transpose = (bool(rotate and draw(2)) for _ in range(2))
        lq, gt = (frames_to_tensor([turned(frame, hflip, vflip, transpose) for frame in frames],
                                   self.opt.get('flip_sequence', False)) for frames in (lq, gt))
        return {'lq': lq, 'gt': gt, 'key': clip.folder}

    def _place(self, index: int) -> tuple[Clip, int | None]:
        """The clip, and the first frame of the window if the index says which."""
        if not 0 <= index < len(self):
            raise IndexError(index)  # this ends iteration
        if self._ends is None:
            return self.clips[index % len(self.clips)], None
        number = int(np.searchsorted(self._ends, index, 'right'))
        return self.clips[number], index - (int(self._ends[number - 1]) if number else 0)

    def _cropped(self, keys: list[str], name: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """LR and GT frames (h,w,3) uint8 BGR of the same random window."""
        height, width = self.lq.size(keys[0])
        self._check_pair(keys[0], self.gt.size(keys[0]), (height, width))
        side = self.gt_size // self.scale
        if height < side or width < side:
            raise DataError(
                f"{self.lq.root}: LR frames of clip '{name}' are {width}x{height}, too small for gt_size "
                f'{self.gt_size}. Set it to {min(height, width) * self.scale} or less, or leave such clips out of '
                'meta_info_file.')
        top, left = draw(height - side + 1), draw(width - side + 1)
        lq, gt = [], []
        for key in keys:
            small, lq_size = self.lq.window(key, top, left, side, side)
            large, gt_size = self.gt.window(key, top * self.scale, left * self.scale, self.gt_size, self.gt_size)
            self._check_pair(key, gt_size, lq_size)
            self._check_like_first(key, lq_size, (height, width))
            lq.append(small)
            gt.append(large)
        return lq, gt


def draw(bound: int) -> int:
    """A whole number from 0 to below ``bound``, from torch's generator."""
    return int(torch.randint(bound, ()))


@DATASET_REGISTRY.register()
class ClipTestDataset(_ClipDataset):
    """Whole clips for validation and testing: seven frames or long videos, read one at a time.

    An item is ``{'lq': (t,3,h,w), 'gt': (t,3,s*h,s*w), 'folder': clip name, 'frames': frame names}``, float32 RGB in
    [0,1]; ``gt`` only if there is GT.

    Args:
        opt (dict): The options: BasicSR's of every dataset, and these.

            - ``dataroot_lq`` (str): Database or folder tree of the clips, or a folder with the frames of one.
            - ``dataroot_gt`` (str): The same for GT; without it only no-reference metrics can be computed.
            - ``io_backend`` (dict): ``{type: lmdb}`` or ``{type: disk}``.
            - ``scale`` (int): GT size over LR size; default 4.
            - ``meta_info_file`` (str): The clips to use, one a line; default: all that are there.
            - ``num_frame`` (int): Use the first so many frames of each clip, in natural order (im2 before im10);
              default: all.

    Raises:
        DataError: a database, clip or frame is missing, damaged or of the wrong size, or LR and GT of a clip have other
            frames; the message names it.
    """

    OPTIONS = frozenset({'dataroot_gt', 'dataroot_lq', 'meta_info_file', 'io_backend', 'num_frame'})
    REQUIRED = ('dataroot_lq', 'io_backend')

    def __init__(self, opt: dict[str, Any]) -> None:
        super().__init__(opt)
        self.clips = self._chosen(self.lq.clips())
        if self.gt:
            self._check_frames(self.gt)
        self._folders = list(self.clips)
        self.names = [folder or self.lq.root.resolve().name for folder in self._folders]
        # BasicSR's video models count frames by this
        self.data_info = {'folder': [name for name, keys in zip(self.names, self.clips.values()) for _ in keys]}

    def _chosen(self, stored: dict[str, list[str]]) -> dict[str, list[str]]:
        if self.opt.get('meta_info_file'):
            wanted = read_clip_list(Path(self.opt['meta_info_file']).expanduser())
            missing = [clip for clip in wanted if clip not in stored]
            if missing:
                others = f', nor {len(missing) - 1} others of the list' if len(missing) > 1 else ''
                raise DataError(f"{self.opt['meta_info_file']}: clip '{missing[0]}' is not in {self.lq.root}{others}. "
                                'Take the list that belongs to these data, or leave meta_info_file out to use all.')
            stored = {clip: stored[clip] for clip in wanted}
        return {clip: keys[:self.opt.get('num_frame')] for clip, keys in stored.items()}

    def _check_frames(self, gt: ClipStore) -> None:
        stored = gt.clips()
        for folder, keys in self.clips.items():
            others = stored.get(folder, [])[:self.opt.get('num_frame')]
            if keys != others:
                differing = [f", and '{two}' where LR has '{one}'" for one, two in zip(keys, others) if one != two]
                raise DataError(
                    f"clip '{folder or self.lq.root.name}': LR has {len(keys)} frames, GT {len(others)}"
                    f"{differing[0] if differing else ''}. Each LR frame needs a GT frame of the same name. GT from "
                    f'{gt.root}, LR from {self.lq.root}.')

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.lazily(index)
        return {**item, 'gt': item['gt'][:]} if 'gt' in item else item

    def lazily(self, index: int) -> dict[str, Any]:
        """An item whose GT is a ``FrameSequence`` (``data/frame_sequence.py``): read when it is used."""
        keys = self.clips[self._folders[index]]
        size = self.lq.size(keys[0])
        lq = FrameSequence(self.lq, keys, partial(self._check_like_first, first=size))
        item = {'lq': lq[:], 'folder': self.names[index], 'frames': [key.rpartition('/')[2] for key in keys]}
        if self.gt:
            item['gt'] = FrameSequence(self.gt, keys, partial(self._check_pair, lq_size=size))
        return item
