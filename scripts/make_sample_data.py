"""Make a small Vimeo-90K from scikit-image's photographs and pack it, for trying things without any download."""
import argparse
import sys
from pathlib import Path

from basicsr_nriqa.command_line import packing_command, positive, seed
from basicsr_nriqa.data.sample_clips import make_sample_vimeo90k
from basicsr_nriqa.data.vimeo90k import prepare_vimeo90k


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='example:\n  python scripts/make_sample_data.py -o datasets/sample\n\n'
               'OUT/vimeo_septuplet has the layout of the real archive; beside it lie the packed databases\n'
               'and clip lists, named as scripts/prepare_vimeo90k.py names those of the real one.')
    parser.add_argument('-o', '--out', type=Path, required=True, help='folder to write')
    parser.add_argument('--train-clips', type=positive, default=32, help='default: %(default)s')
    parser.add_argument('--test-clips', type=positive, default=4, help='default: %(default)s')
    parser.add_argument('--size', type=positive, nargs=2, default=(256, 448), metavar=('H', 'W'),
                        help='of a GT frame in pixels, divisible by 4; default: 256 448')
    parser.add_argument('--seed', type=seed, default=0, help='the same seed gives the same frames')
    args = parser.parse_args()
    if any(side % 4 for side in args.size):
        sys.exit(f'error: --size {args.size[0]} {args.size[1]}: expected two numbers divisible by 4, since LR is a '
                 'quarter of it.')
    root = args.out / 'vimeo_septuplet'
    with packing_command():
        try:
            make_sample_vimeo90k(root, args.train_clips, args.test_clips, tuple(args.size), args.seed)
        except OSError as error:
            sys.exit(f'error: {error.filename or root}: cannot be written ({error.strerror}). Make room, allow writing '
                     'there, or choose another folder.' if error.strerror else f'error: {error}')
        prepare_vimeo90k(root, args.out)


if __name__ == '__main__':
    main()
