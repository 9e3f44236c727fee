"""From the REDS archives to what the options files read: LMDB of GT and LR frames, and lists for both partitions.

Clips are numbered as in BasicSR: 000 to 239 are those of ``train_sharp``, 240 to 269 the 30 of ``val_sharp``. The
official partition trains on the former and validates on the latter; REDS4 takes four of the former for validation and
trains on all others (X. Wang et al., "EDVR", 2019).
"""
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from basicsr.utils import get_root_logger

from basicsr_nriqa.data.clip_frames import Clip, ClipFrames
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.file_tree import open_tree
from basicsr_nriqa.data.packing import check_splits, database_paths, pack_pairs, write_meta_info

TRAIN_CLIPS, VAL_CLIPS, FRAMES = 240, 30, 100
REDS4 = ('000', '011', '015', '020')
SPLITS = ('train', 'test')


def prepare_reds(root: str | Path, out: str | Path, scale: int = 4, test_frames: int | None = 7,
                 degradation: Literal['BI', 'BD'] = 'BI', codec: Literal['png', 'raw'] = 'png',
                 splits: Sequence[str] = SPLITS, **packing: Any) -> None:
    """Pack REDS for training and for testing.

    Written to ``out``, each as ``NAME_GT.lmdb`` and ``NAME_LRxS.lmdb`` (BD: ``_LRxS_BD``):

    - ``reds_train``: all frames of the 270 clips. Lists choose the clips to train on: ``meta_info_REDS_train_GT.txt``
      (official, 240 clips) or ``meta_info_REDS4_train_GT.txt`` (266 clips); ``meta_info_REDS_GT.txt`` has all, as
      BasicSR's REDS datasets want it.
    - ``reds_test``: the official validation clips, the first ``test_frames`` frames of each, as in the paper.
    - ``reds4_test``: the four clips of REDS4, all frames.

    Databases that are complete are left alone, an interrupted one is continued.

    Args:
        root (str | Path): The folder with the archives ``train_sharp.zip`` and ``val_sharp.zip``, or with the folders
            ``train_sharp`` and ``val_sharp``.
        out (str | Path): The folder to write to.
        scale (int): LR is ``1/scale`` of GT; default 4.
        test_frames (int | None): Frames of each validation clip, 1 to 100; default 7. None takes all 100.
        degradation (str): ``BI``, MATLAB's bicubic, the default, or ``BD``, blur and downsampling.
        codec (str): ``png``, the default, or ``raw``: of the databases.
        splits (Sequence[str]): Which of ``train`` and ``test`` to make; default both. ``test`` alone needs
            ``val_sharp`` alone; without ``train_sharp`` there is no ``reds4_test``.
        **packing: ``workers``, ``progress`` and ``check_space``, as in
            :func:`~basicsr_nriqa.data.videos.prepare_videos`.

    Raises:
        DataError: a folder or frame is missing or damaged; or the databases were begun with other settings, are being
            packed by another process, or cannot be written.
    """
    out = Path(out)
    check_splits(splits, SPLITS)
    if test_frames is not None and not 1 <= test_frames <= FRAMES:
        raise DataError(f'test_frames: expected 1 to {FRAMES}, which the clips have, got {test_frames}.')
    val = _clips(root, 'val_sharp', VAL_CLIPS, TRAIN_CLIPS)
    try:
        train = _clips(root, 'train_sharp', TRAIN_CLIPS, 0)
    except DataError as error:
        if 'train' in splits:
            raise
        get_root_logger().info(f'No reds4_test: {error}')
        train = []

    def pack(name: str, clips: list[Clip], frames: int) -> Path:
        gt_path, lr_path = database_paths(out, name, scale, degradation)
        names = [f'{number:08d}.png' for number in range(frames)]
        pack_pairs(ClipFrames(clips, names), gt_path, lr_path, scale=scale, degradation=degradation, codec=codec,
                   description=f'packing {name}', about={'source': 'REDS'}, **packing)
        return gt_path

    if 'train' in splits:
        database = pack('reds_train', train + val, FRAMES)
        write_meta_info(out / 'meta_info_REDS_GT.txt', database)
        write_meta_info(out / 'meta_info_REDS_train_GT.txt', database, lambda clip: int(clip) < TRAIN_CLIPS)
        write_meta_info(out / 'meta_info_REDS4_train_GT.txt', database, lambda clip: clip not in REDS4)
    if 'test' in splits:
        write_meta_info(out / 'meta_info_REDS_test_GT.txt', pack('reds_test', val, test_frames or FRAMES))
        if train:
            four = [clip for clip in train if clip.name in REDS4]
            write_meta_info(out / 'meta_info_REDS4_test_GT.txt', pack('reds4_test', four, FRAMES))


def _clips(root: str | Path, folder: str, count: int, first: int) -> list[Clip]:
    tree = open_tree(root, folder)
    missing = [name for name in (f'{number:03d}' for number in range(count)) if name not in tree.names(folder)]
    if missing:
        raise DataError(f'{tree.place(f"{folder}/{missing[0]}")}: this clip is missing, {len(missing)} of {count} in '
                        'all. Extract the archive whole, or download it again.')
    return [Clip(f'{first + number:03d}', tree, f'{folder}/{number:03d}') for number in range(count)]
