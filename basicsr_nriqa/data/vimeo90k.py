"""From the Vimeo-90K septuplet tree to what the options files read: LMDB of GT and LR frames, and clip lists."""
from multiprocessing.pool import ThreadPool
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from basicsr_nriqa.data.bicubic import imresize
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.lmdb_store import LmdbReader, LmdbWriter, decode_image

FRAMES = 7
LISTS = {'train': 'sep_trainlist.txt', 'test': 'sep_testlist.txt'}


def prepare_vimeo90k(root, out, scale=4, test_clips=None, seed=0, workers=0, progress=True):
    """Pack the septuplet set: all seven frames as GT, and their LR by MATLAB's bicubic.

    Written to ``out``, for each split train and test: ``vimeo90k_SPLIT_GT.lmdb``, ``vimeo90k_SPLIT_LRxS.lmdb`` and
    ``meta_info_Vimeo90K_SPLIT_GT.txt`` (BasicSR's format). Databases that are complete are left alone, an
    interrupted one is continued.

    Args:
        root (Path): The extracted archive, with ``sequences/``, ``sep_trainlist.txt`` and ``sep_testlist.txt``.
        out (Path): Where to write.
        scale (int): LR is ``1/scale`` of GT; both sides of GT must be divisible by it.
        test_clips (int | None): Draw this many test clips with ``seed`` instead of all (the paper uses 100).
        seed (int): For drawing the test clips.
        workers (int): Threads that read and shrink; 0 works in this one.
        progress (bool): Show a progress bar.

    Raises:
        DataError: a list or a frame is missing or damaged, or its size is not divisible by ``scale``.
    """
    root, out = Path(root), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for split, list_name in LISTS.items():
        clips = read_clip_list(root / list_name)
        if split == 'test' and test_clips is not None:
            if test_clips > len(clips):
                raise DataError(f'{root / list_name} lists {len(clips)} clips, cannot draw {test_clips}.')
            chosen = np.random.default_rng(seed).choice(len(clips), test_clips, replace=False)
            clips = [clips[index] for index in sorted(chosen)]
        _pack(root / 'sequences', clips, out, split, scale, workers, progress)


def read_clip_list(path):
    """The clips that a list names, one ``00001/0001`` a line; further columns are ignored.

    Raises:
        DataError: no such file, or no clip in it.
    """
    if not Path(path).is_file():
        raise DataError(f'{path}: no such file. Expected a list of clips, one such as 00001/0001 a line.')
    clips = [line.split()[0] for line in Path(path).read_text().splitlines() if line.strip()]
    if not clips:
        raise DataError(f'{path}: the list names no clip.')
    return clips


def _pack(sequences, clips, out, split, scale, workers, progress):
    gt_path, lr_path = out / f'vimeo90k_{split}_GT.lmdb', out / f'vimeo90k_{split}_LRx{scale}.lmdb'
    meta_path = out / f'meta_info_Vimeo90K_{split}_GT.txt'
    if gt_path.exists() and lr_path.exists():
        packed = {key.rsplit('/', 1)[0] for key in LmdbReader(gt_path).listed_keys()}
        if packed != set(clips):
            raise DataError(f'{gt_path} holds other clips than asked for now. Remove {gt_path.name} and '
                            f'{lr_path.name} to pack them again.')
        _write_meta(meta_path, gt_path)
        return
    for stale in (gt_path, lr_path):  # complete but without its partner: the pair is made in one pass
        if stale.exists():
            stale.rename(stale.with_name(stale.name + '.partial'))
    with LmdbWriter(gt_path) as gt, LmdbWriter(lr_path) as lr:
        keys = [f'{clip}/im{number}' for clip in clips for number in range(1, FRAMES + 1)]
        bar = tqdm(total=len(keys), desc=f'packing {split}', unit='frame', disable=not progress)
        todo = []
        for key in keys:
            if key in gt and key in lr:  # both are asked: a stop can fall between the two commits
                gt.adopt(key)
                lr.adopt(key)
                bar.update()
            else:
                todo.append((sequences / f'{key}.png', key, scale))
        for key, gt_data, gt_shape, lr_data, lr_shape in _map(_shrink, todo, workers):
            gt.put(key, gt_data, gt_shape)
            lr.put(key, lr_data, lr_shape)
            bar.update()
        bar.close()
    _write_meta(meta_path, gt_path)


def _write_meta(path, database):
    """BasicSR's list: ``00001/0001 7 (256,448,3)``, written last."""
    shapes = {}
    for line in (database / 'meta_info.txt').read_text().splitlines():
        name, shape, _ = line.split(' ')
        shapes[name.rsplit('/', 1)[0]] = shape
    partial = path.with_name(path.name + '.partial')
    partial.write_text(''.join(f'{clip} {FRAMES} {shape}\n' for clip, shape in shapes.items()))
    partial.rename(path)


def _map(function, items, workers):
    if workers:
        with ThreadPool(workers) as pool:  # decoding, resizing and encoding all run outside Python's lock
            yield from pool.imap(function, items)
    else:
        yield from map(function, items)


def _shrink(item):
    path, key, scale = item
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f'{path}: cannot read this frame ({error.strerror}). Is the archive extracted whole?') from None
    gt = decode_image(data, str(path))
    if gt.shape[0] % scale or gt.shape[1] % scale:
        raise DataError(f'{path}: {gt.shape[1]}x{gt.shape[0]} is not divisible by the scale {scale}.')
    lr = imresize(gt, 1 / scale)
    encoded = cv2.imencode('.png', lr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    return key, data, gt.shape, encoded, lr.shape
