"""From the Vimeo-90K septuplet set to what the options files read: LMDB of GT and LR frames, and clip lists."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from basicsr_nriqa.data.clip_frames import Clip, ClipFrames
from basicsr_nriqa.data.clip_list import parse_clip_list
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.file_tree import FolderTree, ZipTree, open_tree
from basicsr_nriqa.data.packing import check_splits, database_paths, pack_pairs, write_meta_info

NAMES = [f'im{number}.png' for number in range(1, 8)]
LISTS = {'train': 'sep_trainlist.txt', 'test': 'sep_testlist.txt'}


def prepare_vimeo90k(root: str | Path, out: str | Path, scale: int = 4, test_clips: int | None = None, seed: int = 0,
                     degradation: Literal['BI', 'BD'] = 'BI', codec: Literal['png', 'raw'] = 'png',
                     splits: Sequence[str] = tuple(LISTS), **packing: Any) -> None:
    """Pack the septuplet set: all seven frames as GT, and their LR.

    Written to ``out``, for each split train and test: ``vimeo90k_SPLIT_GT.lmdb``, ``vimeo90k_SPLIT_LRxS.lmdb`` (BD:
    ``_LRxS_BD``) and ``meta_info_Vimeo90K_SPLIT_GT.txt`` (BasicSR's format), which also tells the test clips that were
    drawn. Databases that are complete are left alone, an interrupted one is continued.

    Args:
        root (str | Path): The archive ``vimeo_septuplet.zip``, or the folder of what it holds: ``sequences/``,
            ``sep_trainlist.txt`` and ``sep_testlist.txt``.
        out (str | Path): The folder to write to.
        scale (int): LR is ``1/scale`` of GT; both sides of GT must be divisible by it. Default 4.
        test_clips (int | None): Draw this many test clips with ``seed`` (the paper uses 100); None, the default, takes
            all.
        seed (int): For drawing the test clips, 0 or more; default 0.
        degradation (str): ``BI``, MATLAB's bicubic, the default, or ``BD``, blur and downsampling.
        codec (str): ``png``, the default, or ``raw``: of the databases.
        splits (Sequence[str]): Which of ``train`` and ``test`` to make; default both.
        **packing: ``workers``, ``progress`` and ``check_space``, as in
            :func:`~basicsr_nriqa.data.videos.prepare_videos`.

    Raises:
        DataError: a list or a frame is missing or damaged, its size is not divisible by ``scale``; or the databases
            were begun with other settings, are being packed by another process, or cannot be written.
    """
    out = Path(out)
    check_splits(splits, LISTS)
    tree = open_tree(root, LISTS['train'])
    parts = []
    for split in splits:  # all that can be wrong with the lists and names is told before anything is packed
        clips = _listed(tree, LISTS[split])
        about: dict[str, Any] = {'source': 'Vimeo-90K septuplets', 'split': split}
        if split == 'test' and test_clips is not None:
            if not 1 <= test_clips <= len(clips):
                raise DataError(f'test_clips: cannot draw {test_clips} of the {len(clips)} clips that '
                                f'{tree.place(LISTS[split])} lists. Ask for fewer, or for all.')
            chosen = np.random.default_rng(seed).choice(len(clips), test_clips, replace=False)
            clips = [clips[index] for index in sorted(chosen)]
            about.update(drawn=test_clips, seed=seed)
        parts.append((split, about, ClipFrames([Clip(clip, tree, f'sequences/{clip}') for clip in clips], NAMES)))
    for split, about, frames in parts:
        gt_path, lr_path = database_paths(out, f'vimeo90k_{split}', scale, degradation)
        pack_pairs(frames, gt_path, lr_path, scale=scale, degradation=degradation, codec=codec,
                   description=f'packing {split}', about=about, **packing)
        write_meta_info(out / f'meta_info_Vimeo90K_{split}_GT.txt', gt_path)


def _listed(tree: FolderTree | ZipTree, name: str) -> list[str]:
    try:
        return list(parse_clip_list(tree.read(name).decode('utf-8-sig'), tree.place(name)))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f'{tree.place(name)}: cannot be read ({getattr(error, "strerror", None) or error}). '
                        'Expected the list of clips that the archive has: extract or download it again.') from error
