"""Pack the Vimeo-90K septuplet set for training and testing: GT and LR frames as LMDB, and the clip lists."""
import argparse
from pathlib import Path

from basicsr_nriqa.command_line import add_packing_arguments, number_or_all, packing_arguments, packing_command, seed
from basicsr_nriqa.data.vimeo90k import prepare_vimeo90k


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='example:\n  python scripts/prepare_vimeo90k.py vimeo_septuplet.zip -o datasets/vimeo90k\n\n'
               'ROOT is the septuplet archive, or the folder to which it was extracted, with sequences/,\n'
               'sep_trainlist.txt and sep_testlist.txt. An interrupted run goes on where it was when started\n'
               'again. About 65 GB are written, with --codec raw 165 GB. See docs/data.md.')
    parser.add_argument('root', type=Path, help='the septuplet archive, or its folder')
    parser.add_argument('-o', '--out', type=Path, required=True, help='folder to write, e.g. datasets/vimeo90k')
    parser.add_argument('--only', choices=('train', 'test'), help='make this split alone')
    parser.add_argument('--test-clips', default=100, type=number_or_all,
                        help="draw this many test clips, or 'all'; default: %(default)s, as in the paper")
    parser.add_argument('--seed', type=seed, default=0, help='for drawing the test clips; default: %(default)s')
    add_packing_arguments(parser)
    args = parser.parse_args()
    with packing_command():
        prepare_vimeo90k(args.root, args.out, test_clips=args.test_clips, seed=args.seed,
                         splits=(args.only,) if args.only else ('train', 'test'), **packing_arguments(args))


if __name__ == '__main__':
    main()
