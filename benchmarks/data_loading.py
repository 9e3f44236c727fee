"""Side by side: a training sample from BasicSR's ``Vimeo90KRecurrentDataset`` and from ``ClipTrainDataset``.

Seven GT frames of 448 x 256 and their LR, a GT crop of 256 px, all augmentations. BasicSR's reads a PNG database; ours
a copy of it, and one with the same frames as raw pixels. They take turns on one thread with the same random draws, by
which they must give the same bits; medians are compared. The files are in the system's cache. Examples:

    python benchmarks/data_loading.py
    python benchmarks/data_loading.py --runs 21 --gt-size 128
"""
import argparse
import logging
import shutil
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import torch
from basicsr.data import transforms, vimeo90k_dataset
from basicsr.data.vimeo90k_dataset import Vimeo90KRecurrentDataset

from basicsr_nriqa.data import ClipTrainDataset
from basicsr_nriqa.data.bicubic import imresize
from basicsr_nriqa.data.clip_dataset import draw
from basicsr_nriqa.data.image_codec import encode_image
from basicsr_nriqa.data.lmdb_writer import LmdbWriter
from basicsr_nriqa.data.photographs import TRAIN_PHOTOGRAPHS, load_photograph
from basicsr_nriqa.data.sample_clips import render_clip

HEADER = ('| database | BasicSR ms | ours ms | times faster |', '|---|---|---|---|')
CLIPS, SIZE, SCALE = 8, (256, 448), 4


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=11, help='turns of each, after one to warm up')
    parser.add_argument('--gt-size', type=int, default=256)
    return parser.parse_args()


class OurDraws:
    """Stands in for the module ``random`` in BasicSR's files: what ours draws from torch's generator."""

    @staticmethod
    def random():
        return 0.0 if draw(2) else 1.0

    @staticmethod
    def randint(low, high):
        return low + draw(high - low + 1)


def theirs(dataset, index):
    """An item of BasicSR's dataset by our draws."""
    draw(1)  # ours draws the first frame of seven from seven
    dataset.neighbor_list = [*range(1, 8)]  # which else stays reversed
    return dataset[index]


def write_databases(folder):
    """``png_GT.lmdb``, ``png_LR.lmdb``, ``raw_GT.lmdb`` and ``raw_LR.lmdb`` with the same frames, and the list."""
    rng = np.random.default_rng(0)
    photographs = [load_photograph(name) for name in TRAIN_PHOTOGRAPHS[:CLIPS + 1]]
    with ExitStack() as stack:
        writers = {(codec, kind): stack.enter_context(LmdbWriter(folder / f'{codec}_{kind}.lmdb'))
                   for codec in ('png', 'raw') for kind in ('GT', 'LR')}
        for clip in range(CLIPS):
            pair = photographs[clip % len(photographs)], photographs[(clip + 1) % len(photographs)]
            for number, frame in enumerate(render_clip(*pair, rng, SIZE), 1):
                gt = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
                images = {'GT': gt, 'LR': imresize(gt, 1 / SCALE)}
                for (codec, kind), writer in writers.items():
                    image = images[kind]
                    writer.put(f'00001/{clip + 1:04d}/im{number}', encode_image(image, codec), image.shape)
    (folder / 'list.txt').write_text(''.join(f'00001/{clip + 1:04d} 7 ({SIZE[0]},{SIZE[1]},3)\n'
                                             for clip in range(CLIPS)))


def datasets(folder, gt_size):
    def options(codec, place):
        return {'dataroot_gt': str(place / f'{codec}_GT.lmdb'), 'dataroot_lq': str(place / f'{codec}_LR.lmdb'),
                'meta_info_file': str(folder / 'list.txt'), 'io_backend': {'type': 'lmdb'}, 'scale': SCALE,
                'gt_size': gt_size, 'num_frame': 7, 'random_reverse': True, 'use_hflip': True, 'use_rot': True,
                'flip_sequence': False}
    for kind in ('GT', 'LR'):  # LMDB opens a database once in a process
        shutil.copytree(folder / f'png_{kind}.lmdb', folder / 'copy' / f'png_{kind}.lmdb')
    stock = Vimeo90KRecurrentDataset(options('png', folder / 'copy'))
    ours = {codec: ClipTrainDataset(options(codec, folder)) for codec in ('png', 'raw')}
    return {'BasicSR': lambda index: theirs(stock, index), **{codec: dataset.__getitem__
                                                              for codec, dataset in ours.items()}}


def taking_turns(readers, runs):
    """Median milliseconds of an item of each reader, by name."""
    seconds = {name: [] for name in readers}
    for run in range(runs + 1):
        for index in range(CLIPS):
            items = {}
            for name, read in readers.items():
                torch.manual_seed(run * CLIPS + index)
                start = time.perf_counter()
                items[name] = read(index)
                seconds[name].append(time.perf_counter() - start)
            for name, item in items.items():
                for kind in ('lq', 'gt'):
                    assert torch.equal(item[kind], items['BasicSR'][kind]), f'{name}: other {kind}'
    return {name: 1000 * statistics.median(values[CLIPS:]) for name, values in seconds.items()}


def loading_rows(runs, gt_size=256):
    """Rows of a Markdown table, see ``HEADER``."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    logging.getLogger('basicsr').setLevel(logging.ERROR)
    with (tempfile.TemporaryDirectory() as folder, patch.object(transforms, 'random', OurDraws),
          patch.object(vimeo90k_dataset, 'random', OurDraws)):
        write_databases(Path(folder))
        taken = taking_turns(datasets(Path(folder), gt_size), runs)
    for codec in ('png', 'raw'):
        yield f"| {codec} | {taken['BasicSR']:.2f} | {taken[codec]:.2f} | **{taken['BasicSR'] / taken[codec]:.2f}** |"


def main():
    args = parse_args()
    print(f'one thread, torch {torch.__version__}, OpenCV {cv2.__version__}; 7 frames of {SIZE[1]} x {SIZE[0]}, scale '
          f'{SCALE}, gt_size {args.gt_size}; {args.runs} x {CLIPS} samples\n')
    print('\n'.join((*HEADER, *loading_rows(args.runs, args.gt_size))))


if __name__ == '__main__':
    main()
