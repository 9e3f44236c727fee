"""Make a small Vimeo-90K from scikit-image's photographs and pack it, for trying things without any download."""
import argparse
from pathlib import Path

from basicsr_nriqa.data.sample_clips import make_sample_vimeo90k
from basicsr_nriqa.data.vimeo90k import prepare_vimeo90k


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='example:\n  python scripts/make_sample_data.py -o datasets/sample\n\n'
               'OUT/vimeo_septuplet has the layout of the real archive; beside it lie the packed databases\n'
               'and clip lists, named as scripts/prepare_vimeo90k.py names those of the real one.')
    parser.add_argument('-o', '--out', type=Path, required=True, help='folder to write')
    parser.add_argument('--train-clips', type=int, default=32)
    parser.add_argument('--test-clips', type=int, default=8)
    parser.add_argument('--size', type=int, nargs=2, default=(256, 448), metavar=('H', 'W'), help='of a GT frame')
    parser.add_argument('--seed', type=int, default=0, help='the same seed gives the same bytes')
    args = parser.parse_args()
    root = args.out / 'vimeo_septuplet'
    make_sample_vimeo90k(root, args.train_clips, args.test_clips, tuple(args.size), args.seed)
    prepare_vimeo90k(root, args.out)


if __name__ == '__main__':
    main()
