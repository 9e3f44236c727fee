"""Datasets of clips: LR and GT frames of the same moments, from LMDB or from disk."""
import torch
from basicsr.utils.img_util import img2tensor
from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils.data import Dataset

from basicsr_nriqa.data.clip_store import ClipStore
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.vimeo90k import read_clip_list


def _tensor(frames):
    """List of (h,w,3) uint8 BGR -> (t,3,h,w) float32 RGB in [0,1]."""
    return torch.stack([img2tensor(frame) for frame in frames]) / 255


class _ClipDataset(Dataset):

    def __init__(self, opt):
        self.opt = opt
        self.scale = opt.get('scale', 4)
        backend = opt['io_backend']['type']
        self.lq = ClipStore(opt['dataroot_lq'], backend)
        self.gt = ClipStore(opt['dataroot_gt'], backend) if opt.get('dataroot_gt') else None

    def _frames(self, keys):
        lq = [self.lq.image(key) for key in keys]
        gt = [self.gt.image(key) for key in keys] if self.gt else None
        for key, small, large in zip(keys, lq, gt or ()):
            wanted = small.shape[0] * self.scale, small.shape[1] * self.scale
            if large.shape[:2] != wanted:
                raise DataError(
                    f"frame '{key}': GT is {large.shape[1]}x{large.shape[0]} and LR {small.shape[1]}x{small.shape[0]}, "
                    f'which is not the scale {self.scale} of the options. GT from {self.gt.root}, LR from '
                    f'{self.lq.root}: set `scale` to what they are, or make the LR frames again.')
        return lq, gt


@DATASET_REGISTRY.register()
class ClipTrainDataset(_ClipDataset):
    """Random crops of clips for training.

    An item is ``{'lq': (t,3,h,w), 'gt': (t,3,s*h,s*w), 'key': str}``, float32 RGB in [0,1]. All randomness comes from
    torch's generator: set by ``manual_seed``, and different in every worker and epoch.

    Options (besides BasicSR's of every dataset):
        dataroot_gt, dataroot_lq (str): Databases or folders, keys ``CLIP/im1`` ... as in Vimeo-90K.
        meta_info_file (str): The clips to use, one a line (further columns are ignored).
        io_backend: {type: lmdb | disk}
        gt_size (int): Side of the GT crop in pixels, divisible by ``scale``.
        num_frame (int): Consecutive frames of an item, at a random place of the clip; default 7.
        clip_length (int): Frames a clip has; default 7.
        filename_tmpl (str): Name of frame i, counted from 1; default ``im{}``.
        random_reverse, use_hflip, use_rot (bool): Augmentations, each with probability 1/2; default on.
        flip_sequence (bool): Append the mirrored clip (t becomes 2t); default off.

    Raises:
        DataError: a database, list, key or frame is missing, damaged or of the wrong size; the message names it.
    """

    OPTIONS = frozenset({'dataroot_gt', 'dataroot_lq', 'meta_info_file', 'io_backend', 'gt_size', 'num_frame',
                         'clip_length', 'filename_tmpl', 'random_reverse', 'use_hflip', 'use_rot', 'flip_sequence'})
    REQUIRED = ('dataroot_gt', 'dataroot_lq', 'meta_info_file', 'io_backend', 'gt_size')

    def __init__(self, opt):
        super().__init__(opt)
        self.clips = read_clip_list(opt['meta_info_file'])
        self.gt_size = opt['gt_size']
        self.num_frame = opt.get('num_frame', 7)
        self.clip_length = opt.get('clip_length', 7)
        self.template = opt.get('filename_tmpl', 'im{}')
        if self.gt_size % self.scale:
            raise DataError(f'gt_size: {self.gt_size} is not divisible by the scale {self.scale}.')
        if not 1 <= self.num_frame <= self.clip_length:
            raise DataError(f'num_frame: {self.num_frame} frames do not fit into clips of {self.clip_length}.')

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, index):
        clip = self.clips[index]
        start = _draw(self.clip_length - self.num_frame + 1)
        numbers = range(start + 1, start + 1 + self.num_frame)
        if self.opt.get('random_reverse', True) and _draw(2):
            numbers = numbers[::-1]
        lq, gt = self._frames([f'{clip}/{self.template.format(number)}' for number in numbers])
        side = self.gt_size // self.scale
        height, width = lq[0].shape[:2]
        if height < side or width < side:
            raise DataError(f"clip '{clip}': LR frames are {width}x{height}, too small for gt_size {self.gt_size} "
                            f'at scale {self.scale}.')
        top, left = _draw(height - side + 1), _draw(width - side + 1)
        lq = _tensor([frame[top:top + side, left:left + side] for frame in lq])
        top, left, side = top * self.scale, left * self.scale, self.gt_size
        gt = _tensor([frame[top:top + side, left:left + side] for frame in gt])
        rotate = self.opt.get('use_rot', True)
        if self.opt.get('use_hflip', True) and _draw(2):
            lq, gt = lq.flip(-1), gt.flip(-1)
        if rotate and _draw(2):
            lq, gt = lq.flip(-2), gt.flip(-2)
        if rotate and _draw(2):
            lq, gt = lq.transpose(-1, -2), gt.transpose(-1, -2)
        if self.opt.get('flip_sequence', False):
            lq, gt = (torch.cat([clip_, clip_.flip(0)]) for clip_ in (lq, gt))
        return {'lq': lq.contiguous(), 'gt': gt.contiguous(), 'key': clip}


def _draw(bound):
    return int(torch.randint(bound, ()))


@DATASET_REGISTRY.register()
class ClipTestDataset(_ClipDataset):
    """Whole clips for validation and testing, read one at a time.

    An item is ``{'lq': (t,3,h,w), 'gt': (t,3,s*h,s*w) if there is GT, 'folder': clip name, 'frames': frame names}``.

    Options (besides BasicSR's of every dataset):
        dataroot_lq (str): Database or folder tree of the clips.
        dataroot_gt (str): The same for GT; without it only no-reference metrics can be computed.
        io_backend: {type: lmdb | disk}
        meta_info_file (str): The clips to use, one a line; default: all that are there.
        num_frame (int): Use the first so many frames of each clip; default: all.

    Raises:
        DataError: a database, clip or frame is missing, damaged or of the wrong size; the message names it.
    """

    OPTIONS = frozenset({'dataroot_gt', 'dataroot_lq', 'meta_info_file', 'io_backend', 'num_frame'})
    REQUIRED = ('dataroot_lq', 'io_backend')

    def __init__(self, opt):
        super().__init__(opt)
        clips = self.lq.clips()
        if opt.get('meta_info_file'):
            wanted = read_clip_list(opt['meta_info_file'])
            missing = [clip for clip in wanted if clip not in clips]
            if missing:
                raise DataError(f"{opt['meta_info_file']} names {len(missing)} clips that {self.lq.root} does not "
                                f"have; the first is '{missing[0]}'.")
            clips = {clip: clips[clip] for clip in wanted}
        self.clips = {clip: keys[:opt.get('num_frame')] for clip, keys in clips.items()}
        self.names = list(self.clips)
        # BasicSR's video models count frames by this
        self.data_info = {'folder': [clip for clip, keys in self.clips.items() for _ in keys]}

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        clip = self.names[index]
        lq, gt = self._frames(self.clips[clip])
        item = {'lq': _tensor(lq), 'folder': clip, 'frames': [key.rsplit('/', 1)[-1] for key in self.clips[clip]]}
        if gt:
            item['gt'] = _tensor(gt)
        return item
