"""From GT frames to the two databases: ours against BasicSR's imresize and make_lmdb_from_imgs, frames a second.

Both read PNG frames of 448 x 256, make LR by bicubic x4 and write GT and LR as LMDB: decode, resize, encode, write.
BasicSR's way writes LR frames to a folder first, which its function packs then. Examples:

    OMP_NUM_THREADS=1 python benchmarks/data_packing.py
    OMP_NUM_THREADS=1 python benchmarks/data_packing.py --all-cores
"""
import argparse
import multiprocessing
import shutil
import statistics
import tempfile
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import torch
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from basicsr.utils.matlab_functions import imresize as basicsr_imresize

from basicsr_nriqa.data.lmdb_store import LmdbReader, close_databases
from basicsr_nriqa.data.packing import Frame, pack_pairs
from basicsr_nriqa.data.photographs import TRAIN_PHOTOGRAPHS, load_photograph
from basicsr_nriqa.data.sample_clips import render_clip


def write_frames(folder, clips):
    """Clips of seven frames as PNG; returns the keys."""
    photographs = [load_photograph(name) for name in TRAIN_PHOTOGRAPHS]
    keys = []
    for clip in range(clips):
        frames = render_clip(photographs[clip % 8], photographs[(clip + 1) % 8], np.random.default_rng(clip))
        for number, frame in enumerate(frames, 1):
            keys.append(f'{clip:05d}/im{number}')
            path = folder / f'{keys[-1]}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), frame[..., ::-1])
    return keys


def ours(folder, keys, out, workers=1):
    frames = [Frame(key, partial(Path.read_bytes, folder / f'{key}.png')) for key in keys]
    pack_pairs(frames, out / 'GT.lmdb', out / 'LR.lmdb', scale=4, workers=workers, progress=False)


def basicsrs(folder, keys, out):
    for key in keys:
        gt = cv2.imread(str(folder / f'{key}.png')).astype(np.float32) / 255
        lr = basicsr_imresize(gt, 1 / 4)
        path = out / 'LR' / f'{key}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), (lr * 255).round().clip(0, 255).astype(np.uint8))
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        for kind, place in (('GT', folder), ('LR', out / 'LR')):
            make_lmdb_from_imgs(str(place), str(out / f'{kind}.lmdb'), [f'{key}.png' for key in keys], keys)


def packing_rows(runs, clips=20, all_cores=False):
    """Lines of a table, after a check that both databases hold the same frames."""
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place, 'frames'), Path(place, 'out')
        keys = write_frames(folder, clips)
        peers = {'BasicSR': basicsrs, 'ours': ours}
        if all_cores:
            peers['ours, all cores'] = partial(ours, workers=None)
        times = {name: [] for name in peers}
        for run in range(runs + 1):  # the first is not counted
            for name, pack in peers.items():
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir()
                start = time.perf_counter()
                pack(folder, keys, out)
                if run:
                    times[name].append(time.perf_counter() - start)
                if not run:
                    _check(folder, keys, out)
        rates = {name: len(keys) / statistics.median(values) for name, values in times.items()}
        yield '| packing, 448x256 frames | frames a second | ratio |\n|---|---|---|'
        for name, rate in rates.items():
            yield f'| {name} | {rate:.0f} | **{rate / rates["BasicSR"]:.1f}** |'
        few, many = (_memory(folder, keys * times_, Path(place, f'memory{times_}')) for times_ in (8, 24))
        yield (f'\nMemory of ours, rise of the peak: {few / 2**20:.0f} MB for {8 * len(keys)} frames, '
               f'{many / 2**20:.0f} MB for {24 * len(keys)}.')


def _check(folder, keys, out):
    gt, lr = LmdbReader(out / 'GT.lmdb'), LmdbReader(out / 'LR.lmdb')
    for key in keys[:7]:
        frame = cv2.imread(str(folder / f'{key}.png'))
        assert (gt.image(key) == frame).all()
        wanted = (basicsr_imresize(frame / 255, 1 / 4) * 255).round().clip(0, 255)
        assert np.abs(lr.image(key) - wanted).max() <= 1
    close_databases()


def _memory(folder, keys, out):
    """Of a process of its own."""
    with multiprocessing.get_context('fork').Pool(1) as pool:
        return pool.apply(_packed_memory, (folder, keys, out))


def _packed_memory(folder, keys, out):
    frames = [Frame(f'{number:06d}/im1', partial(Path.read_bytes, folder / f'{key}.png'))
              for number, key in enumerate(keys)]
    before = peak = _own_memory()
    done = threading.Event()

    def watch():
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, _own_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    pack_pairs(frames, out / 'GT.lmdb', out / 'LR.lmdb', scale=4, workers=1, progress=False, check_space=False)
    done.set()
    watcher.join()
    return peak - before


def _own_memory():
    """Bytes of this process, without the pages of mapped files, which the system takes back when it needs them."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith('RssAnon:'))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=5, help='turns of each, after one to warm up')
    parser.add_argument('--clips', type=int, default=20, help='of seven frames')
    parser.add_argument('--all-cores', action='store_true', help='ours on all cores, too')
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print('\n'.join(packing_rows(args.runs, args.clips, args.all_cores)))


if __name__ == '__main__':
    main()
