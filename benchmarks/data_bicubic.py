"""Side by side: MATLAB's bicubic and the blur of BD here and in BasicSR, on a CPU.

The two take turns in one process, and medians are compared. BasicSR's functions are given what they are fastest with,
float32 in [0, 1], and are not charged for the conversion from and to 8 bits that is part of our times on uint8.
The difference is the largest one on float32. Examples:

    OMP_NUM_THREADS=1 python benchmarks/data_bicubic.py          # one core; some seconds
    OMP_NUM_THREADS=1 python benchmarks/data_bicubic.py --runs 25
"""
import argparse
import os
import statistics
import time

import numpy as np
import torch
from basicsr.data.data_util import duf_downsample
from basicsr.utils.matlab_functions import imresize as basicsr_imresize

import basicsr_nriqa  # noqa: F401
from basicsr_nriqa.data.bicubic import imresize
from basicsr_nriqa.data.degradation import degrade

COLUMNS = ('what', 'image', 'type', 'difference', 'BasicSR ms', 'ours ms', 'BasicSR / ours')
RESIZES = ((448, 256, 1 / 4), (448, 256, 1 / 3), (448, 256, 1 / 2), (448, 256, 4), (448, 256, 0.3), (1280, 720, 1 / 4),
           (1280, 720, 4))


def bicubic_rows(runs=5):
    """Measure; the number of threads is what the process was started with.

    Args:
        runs (int): Turns of each, after one to warm up.

    Yields:
        tuple: A value for each of ``COLUMNS``; times are medians in milliseconds.
    """
    for width, height, scale in RESIZES:
        yield from _compare(f'bicubic x {scale:.3g}', _image(width, height), runs,
                            lambda image, scale=scale: basicsr_imresize(image, scale),
                            lambda image, scale=scale: imresize(image, scale))
    yield from _compare('BD x 0.25', _image(448, 256), runs, _basicsr_bd, lambda image: degrade(image, 4, 'BD'))


def _image(width, height):
    """Noise: the time does not depend on what is to be seen."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def _basicsr_bd(image):
    frames = torch.from_numpy(image).permute(2, 0, 1)[None]
    return duf_downsample(frames)[0].permute(1, 2, 0).numpy()


def _compare(what, image, runs, theirs, ours):
    precise = image.astype(np.float32) / 255
    frames = torch.from_numpy(precise).permute(2, 0, 1)[None].contiguous()
    turns = {'theirs': lambda: theirs(precise), 'uint8': lambda: ours(image), 'float32': lambda: ours(precise)}
    if what.startswith('bicubic'):
        turns['float32, torch (n,c,h,w)'] = lambda: imresize(frames, float(what.split()[-1]))
    seconds = {name: [] for name in turns}
    for _ in range(runs + 1):
        for name, function in turns.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    difference = float(np.abs(ours(precise) - theirs(precise)).max())
    before, *after = (1000 * statistics.median(turn[1:]) for turn in seconds.values())
    for name, now in zip(list(turns)[1:], after):
        yield what, f'{image.shape[1]}x{image.shape[0]}', name, difference, before, now, before / now


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=9, help='turns of each, after one to warm up')
    args = parser.parse_args()
    print(f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}, numpy {np.__version__}, "
          f"torch {torch.__version__} with {torch.get_num_threads()} threads\n")
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    for what, size, name, difference, before, now, ratio in bicubic_rows(args.runs):
        print(f'| {what} | {size} | {name} | {difference:.0e} | {before:.1f} | {now:.2f} | **{ratio:.1f}** |',
              flush=True)


if __name__ == '__main__':
    main()
