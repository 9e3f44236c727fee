"""Side by side with BasicSR, on one core: bicubic, packing databases from frames, loading training samples.

The parts can be run alone, with more options: data_bicubic.py, data_packing.py, data_loading.py. Examples:

    OMP_NUM_THREADS=1 python benchmarks/data.py
    OMP_NUM_THREADS=1 python benchmarks/data.py --parts packing --runs 9
"""
import argparse

import cv2
import torch
from data_bicubic import COLUMNS, bicubic_rows
from data_loading import HEADER, loading_rows
from data_packing import packing_rows

PARTS = ('bicubic', 'packing', 'loading')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=PARTS)
    parser.add_argument('--runs', type=int, default=5, help='turns of each, after one to warm up')
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if 'bicubic' in args.parts:
        print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
        for what, size, name, difference, before, now, ratio in bicubic_rows(args.runs):
            print(f'| {what} | {size} | {name} | {difference:.0e} | {before:.1f} | {now:.2f} | **{ratio:.1f}** |')
    for part, rows in (('packing', packing_rows), ('loading', loading_rows)):
        if part in args.parts:
            print('', *(HEADER if part == 'loading' else ()), *rows(args.runs), sep='\n')


if __name__ == '__main__':
    main()
