"""Pack the Vimeo-90K septuplet set for training and testing: GT and bicubic LR as LMDB, and the clip lists."""
import argparse
import sys
from pathlib import Path

from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.vimeo90k import prepare_vimeo90k


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='example:\n  python scripts/prepare_vimeo90k.py vimeo_septuplet -o datasets/vimeo90k '
               '--test-clips 100 --workers 8\n\n'
               'ROOT is the extracted archive (sequences/, sep_trainlist.txt, sep_testlist.txt). An interrupted run\n'
               'goes on where it was when started again.')
    parser.add_argument('root', type=Path, help='the extracted septuplet archive')
    parser.add_argument('-o', '--out', type=Path, required=True, help='folder to write, e.g. datasets/vimeo90k')
    parser.add_argument('--scale', type=int, default=4)
    parser.add_argument('--test-clips', type=int, help='draw this many test clips; default: all')
    parser.add_argument('--seed', type=int, default=0, help='for drawing the test clips')
    parser.add_argument('--workers', type=int, default=0, help='threads; default: work in one')
    args = parser.parse_args()
    try:
        prepare_vimeo90k(args.root, args.out, args.scale, args.test_clips, args.seed, args.workers)
    except DataError as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
