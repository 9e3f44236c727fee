"""Datasets of clips: LR and GT frames of the same moments, from LMDB or from disk."""
from functools import partial
from pathlib import Path

import numpy as np
import torch
from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils.data import Dataset

from basicsr_nriqa.data.clip_index import find_clips
from basicsr_nriqa.data.clip_list import read_clip_list
from basicsr_nriqa.data.clip_store import ClipStore
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.frame_sequence import FrameSequence
from basicsr_nriqa.data.frame_tensors import frames_to_tensor, turned

WINDOWS = 'windows'


class _ClipDataset(Dataset):

    def __init__(self, opt):
        self.opt = opt
        self.scale = opt.get('scale', 4)
        for name in ('scale', 'gt_size', 'num_frame'):
            value = opt.get(name)
            if value is not None and not (isinstance(value, int) and value > 0):
                raise DataError(f'{name}: expected a whole number above 0, got {value!r}.')
        if not isinstance(opt['io_backend'], dict) or 'type' not in opt['io_backend']:
            raise DataError(f"io_backend: expected {{type: lmdb}} or {{type: disk}}, got {opt['io_backend']!r}.")
        backend = opt['io_backend']['type']
        self.lq = ClipStore(opt['dataroot_lq'], backend)
        self.gt = ClipStore(opt['dataroot_gt'], backend) if opt.get('dataroot_gt') else None

    def _check_pair(self, key, gt_size, lq_size):
        if gt_size != (lq_size[0] * self.scale, lq_size[1] * self.scale):
            raise DataError(
                f"frame '{key}': GT is {gt_size[1]}x{gt_size[0]} and LR {lq_size[1]}x{lq_size[0]}, "
                f'which is not the scale {self.scale} of the options. GT from {self.gt.root}, LR from '
                f'{self.lq.root}: set `scale` to what they are, or make the LR frames again.')

    def _check_like_first(self, key, size, first):
        if size != first:
            raise DataError(f"{self.lq.root}: frame '{key}' has {size[1]}x{size[0]} pixels, the first of its clip "
                            f'{first[1]}x{first[0]}. All frames of a clip must have one size.')


@DATASET_REGISTRY.register()
class ClipTrainDataset(_ClipDataset):
    """Random crops of clips for training: Vimeo-90K, REDS, or any clips of any lengths.

    An item is ``{'lq': (t,3,h,w), 'gt': (t,3,s*h,s*w), 'key': str}``, float32 RGB in [0,1], to the bit what BasicSR
    makes of the same frames, crop and augmentation. All randomness comes from torch's generator, and nothing is kept
    between items: the state of the generator and the index decide everything.

    Options (besides BasicSR's of every dataset):
        dataroot_gt, dataroot_lq (str): Databases or folders, keys ``CLIP/im1`` ... as in Vimeo-90K.
        meta_info_file (str): The clips to use, one a line, with or without BasicSR's further columns; default: all that
            are there.
        io_backend: {type: lmdb | disk}
        gt_size (int): Side of the GT crop in pixels, divisible by ``scale``.
        num_frame (int): Frames of an item, at a random place of the clip; default 7.
        interval_list (list[int]): Steps from one frame to the next, of which each item draws one; default [1].
        clip_length (int): Frames that clips have of which ``meta_info_file`` does not say it; default: all that are
            there.
        filename_tmpl (str): Format of a frame's name; default ``im{}``, or without numbers of frames in
            ``meta_info_file`` what is found. REDS: ``'{:08d}'``.
        first_frame (int): Number of a clip's first frame; default 1, or what is found. REDS: 0.
        samples_per_clip (int | str): Items of an epoch for each clip; default 1. ``windows``: one for every place where
            ``num_frame`` consecutive frames fit, which an epoch then passes each once (those that do not fit with a
            larger interval are drawn anew), so that long clips are seen more often.
        random_reverse, use_hflip, use_rot (bool): Augmentations, each with probability 1/2; default on.
        flip_sequence (bool): Append the mirrored clip (t becomes 2t); default off.

    Raises:
        DataError: a database, list, key or frame is missing, damaged or of the wrong size, or an option makes no sense;
            the message names it.
    """

    OPTIONS = frozenset({'dataroot_gt', 'dataroot_lq', 'meta_info_file', 'io_backend', 'gt_size', 'num_frame',
                         'interval_list', 'clip_length', 'filename_tmpl', 'first_frame', 'samples_per_clip',
                         'random_reverse', 'use_hflip', 'use_rot', 'flip_sequence'})
    REQUIRED = ('dataroot_gt', 'dataroot_lq', 'io_backend', 'gt_size')

    def __init__(self, opt):
        super().__init__(opt)
        self.gt_size = opt['gt_size']
        self.num_frame = opt.get('num_frame', 7)
        self.intervals = opt.get('interval_list') or [1]
        self.samples = opt.get('samples_per_clip', 1)
        if self.gt_size % self.scale:
            raise DataError(f'gt_size: {self.gt_size} is not divisible by the scale {self.scale}.')
        if not all(isinstance(interval, int) and interval > 0 for interval in self.intervals):
            raise DataError(f'interval_list: expected whole numbers above 0, got {self.intervals}.')
        if self.samples != WINDOWS and not (isinstance(self.samples, int) and self.samples > 0):
            raise DataError(f"samples_per_clip: expected a number above 0 or '{WINDOWS}', got {self.samples!r}.")
        self.clips = find_clips(self.gt, *(opt.get(name) for name in (
            'meta_info_file', 'clip_length', 'filename_tmpl', 'first_frame')))
        self._check_lengths()
        self._ends = None  # of each clip, the number of windows in it and all before it
        if self.samples == WINDOWS:
            self._ends = np.cumsum([clip.frames - self.num_frame + 1 for clip in self.clips])

    def _check_lengths(self):
        short = [clip for clip in self.clips if clip.frames < self._span(max(self.intervals))]
        if short:
            steps = f' in steps of {max(self.intervals)}' if max(self.intervals) > 1 else ''
            others = f', nor into {len(short) - 1} others' if len(short) > 1 else ''
            raise DataError(f"num_frame: {self.num_frame} frames{steps} do not fit into clip '{short[0].folder}' of "
                            f'{short[0].frames}{others}. Lower it, or leave such clips out of meta_info_file.')

    def _span(self, interval):
        return (self.num_frame - 1) * interval + 1

    def __len__(self):
        return len(self.clips) * self.samples if self._ends is None else int(self._ends[-1])

    def __getitem__(self, index):
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

    def _place(self, index):
        """The clip, and the first frame of the window if the index says which."""
        if not 0 <= index < len(self):
            raise IndexError(index)  # this ends iteration
        if self._ends is None:
            return self.clips[index % len(self.clips)], None
        number = int(np.searchsorted(self._ends, index, 'right'))
        return self.clips[number], index - (int(self._ends[number - 1]) if number else 0)

    def _cropped(self, keys, name):
        """LR and GT frames (h,w,3) uint8 BGR of the same random window."""
        height, width = self.lq.size(keys[0])
        self._check_pair(keys[0], self.gt.size(keys[0]), (height, width))
        side = self.gt_size // self.scale
        if height < side or width < side:
            raise DataError(f"clip '{name}': LR frames are {width}x{height}, too small for gt_size {self.gt_size} "
                            f'at scale {self.scale}.')
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


def draw(bound):
    """A whole number from 0 to below ``bound``, from torch's generator."""
    return int(torch.randint(bound, ()))


@DATASET_REGISTRY.register()
class ClipTestDataset(_ClipDataset):
    """Whole clips for validation and testing: seven frames or long videos, read one at a time.

    An item is ``{'lq': (t,3,h,w), 'gt': (t,3,s*h,s*w) if there is GT, 'folder': clip name, 'frames': frame names}``,
    float32 RGB in [0,1].

    Options (besides BasicSR's of every dataset):
        dataroot_lq (str): Database or folder tree of the clips, or a folder with the frames of one.
        dataroot_gt (str): The same for GT; without it only no-reference metrics can be computed.
        io_backend: {type: lmdb | disk}
        meta_info_file (str): The clips to use, one a line; default: all that are there.
        num_frame (int): Use the first so many frames of each clip, in natural order (im2 before im10); default: all.

    Raises:
        DataError: a database, clip or frame is missing, damaged or of the wrong size, or LR and GT of a clip have other
            frames; the message names it.
    """

    OPTIONS = frozenset({'dataroot_gt', 'dataroot_lq', 'meta_info_file', 'io_backend', 'num_frame'})
    REQUIRED = ('dataroot_lq', 'io_backend')

    def __init__(self, opt):
        super().__init__(opt)
        self.clips = self._chosen(self.lq.clips())
        if self.gt:
            self._check_frames(self.gt.clips())
        self._folders = list(self.clips)
        self.names = [folder or self.lq.root.resolve().name for folder in self._folders]
        # BasicSR's video models count frames by this
        self.data_info = {'folder': [name for name, keys in zip(self.names, self.clips.values()) for _ in keys]}

    def _chosen(self, stored):
        if self.opt.get('meta_info_file'):
            wanted = read_clip_list(Path(self.opt['meta_info_file']).expanduser())
            missing = [clip for clip in wanted if clip not in stored]
            if missing:
                raise DataError(f"{self.opt['meta_info_file']} names {len(missing)} clips that {self.lq.root} does not "
                                f"have; the first is '{missing[0]}'.")
            stored = {clip: stored[clip] for clip in wanted}
        return {clip: keys[:self.opt.get('num_frame')] for clip, keys in stored.items()}

    def _check_frames(self, stored):
        for folder, keys in self.clips.items():
            others = stored.get(folder, [])[:self.opt.get('num_frame')]
            if keys != others:
                differing = [f", and '{two}' where LR has '{one}'" for one, two in zip(keys, others) if one != two]
                raise DataError(
                    f"clip '{folder or self.lq.root.name}': LR has {len(keys)} frames, GT {len(others)}"
                    f"{differing[0] if differing else ''}. Each LR frame needs a GT frame of the same name. GT from "
                    f'{self.gt.root}, LR from {self.lq.root}.')

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        item = self.lazily(index)
        return {**item, 'gt': item['gt'][:]} if 'gt' in item else item

    def lazily(self, index):
        """An item whose GT is a :class:`~basicsr_nriqa.data.frame_sequence.FrameSequence`: read when it is used."""
        keys = self.clips[self._folders[index]]
        size = self.lq.size(keys[0])
        lq = FrameSequence(self.lq, keys, partial(self._check_like_first, first=size))
        item = {'lq': lq[:], 'folder': self.names[index], 'frames': [key.rpartition('/')[2] for key in keys]}
        if self.gt:
            item['gt'] = FrameSequence(self.gt, keys, partial(self._check_pair, lq_size=size))
        return item
