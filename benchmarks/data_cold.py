"""Side by side: random frames of a database that is not in memory yet, with the system's read-ahead and without it.

Ours reads with it, BasicSR's LMDB backend without. Raw frames of 448 x 256; the file is dropped from the system's cache
before each turn, which Linux does for files that nobody uses. Example:

    python benchmarks/data_cold.py --frames 2000
"""
import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import lmdb
import numpy as np

from basicsr_nriqa.data.image_codec import encode_image
from basicsr_nriqa.data.lmdb_writer import LmdbWriter

SHAPE = (256, 448, 3)
READ = 300  # frames a turn


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=5, help='turns of each')
    parser.add_argument('--frames', type=int, default=2000, help='of the database, 344 kB each')
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    milliseconds = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'x.lmdb')
        with LmdbWriter(path) as writer:
            for number in range(args.frames):
                writer.put(f'{number:06d}', encode_image(rng.integers(0, 256, SHAPE, dtype=np.uint8), 'raw'), SHAPE)
        for _ in range(args.runs):
            for ahead, values in milliseconds.items():
                values.append(_read(path, rng.permutation(args.frames)[:READ], ahead))
    with_it, without = (statistics.median(values) for values in milliseconds.values())
    print(f'{with_it:.2f} ms a frame with read-ahead, {without:.2f} without: {without / with_it:.1f} times faster')


def _read(path, numbers, ahead):
    _drop(path / 'data.mdb')
    with lmdb.open(str(path), readonly=True, lock=False, readahead=ahead, max_dbs=1) as environment:
        start = time.perf_counter()
        for number in numbers:
            with environment.begin() as transaction:
                transaction.get(f'{number:06d}'.encode())
        return 1000 * (time.perf_counter() - start) / len(numbers)


def _drop(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


if __name__ == '__main__':
    main()
