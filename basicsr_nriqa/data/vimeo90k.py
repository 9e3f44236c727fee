"""From the Vimeo-90K septuplet set to what the options files read: LMDB of GT and LR frames, and clip lists."""
from pathlib import Path

import numpy as np

from basicsr_nriqa.data.clip_frames import Clip, ClipFrames
from basicsr_nriqa.data.clip_list import parse_clip_list
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.file_tree import open_tree
from basicsr_nriqa.data.packing import database_paths, pack_pairs, write_meta_info

NAMES = [f'im{number}.png' for number in range(1, 8)]
LISTS = {'train': 'sep_trainlist.txt', 'test': 'sep_testlist.txt'}


def prepare_vimeo90k(root, out, scale=4, test_clips=None, seed=0, degradation='BI', codec='png', splits=tuple(LISTS),
                     **packing):
    """Pack the septuplet set: all seven frames as GT, and their LR.

    Written to ``out``, for each split train and test: ``vimeo90k_SPLIT_GT.lmdb``, ``vimeo90k_SPLIT_LRxS.lmdb`` (BD:
    ``_LRxS_BD``) and ``meta_info_Vimeo90K_SPLIT_GT.txt`` (BasicSR's format), which also tells the test clips that were
    drawn. Databases that are complete are left alone, an interrupted one is continued.

    Args:
        root (Path): The archive ``vimeo_septuplet.zip``, or what it holds: ``sequences/``, ``sep_trainlist.txt`` and
            ``sep_testlist.txt``.
        out (Path): Where to write.
        scale (int): LR is ``1/scale`` of GT; both sides of GT must be divisible by it.
        test_clips (int | None): Draw this many test clips with ``seed`` instead of all (the paper uses 100).
        seed (int): For drawing the test clips.
        degradation (str): ``BI``, MATLAB's bicubic, or ``BD``, blur and downsampling.
        codec (str): Of both databases: ``png`` or ``raw``.
        splits (tuple): Which to make.
        packing: Further arguments of :func:`~basicsr_nriqa.data.packing.pack_pairs`.

    Raises:
        DataError: a list or a frame is missing or damaged, its size is not divisible by ``scale``, or as
            :func:`~basicsr_nriqa.data.packing.pack_pairs`.
    """
    out = Path(out)
    tree = open_tree(root, LISTS['train'])
    parts = []
    for split in splits:  # all that can be wrong with the lists and names is told before anything is packed
        clips = _listed(tree, LISTS[split])
        about = {'source': 'Vimeo-90K septuplets', 'split': split}
        if split == 'test' and test_clips is not None:
            if test_clips > len(clips):
                raise DataError(f'{tree.place(LISTS[split])} lists {len(clips)} clips, cannot draw {test_clips}. '
                                'Ask for fewer, or for all.')
            chosen = np.random.default_rng(seed).choice(len(clips), test_clips, replace=False)
            clips = [clips[index] for index in sorted(chosen)]
            about.update(drawn=test_clips, seed=seed)
        parts.append((split, about, ClipFrames([Clip(clip, tree, f'sequences/{clip}') for clip in clips], NAMES)))
    for split, about, frames in parts:
        gt_path, lr_path = database_paths(out, f'vimeo90k_{split}', scale, degradation)
        pack_pairs(frames, gt_path, lr_path, scale=scale, degradation=degradation, codec=codec,
                   description=f'packing {split}', about=about, **packing)
        write_meta_info(out / f'meta_info_Vimeo90K_{split}_GT.txt', gt_path)


def _listed(tree, name):
    try:
        return list(parse_clip_list(tree.read(name).decode('utf-8-sig'), tree.place(name)))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f'{tree.place(name)}: cannot be read ({error}). Expected the list of clips '
                        'that the archive has.') from error
