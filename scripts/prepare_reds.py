"""Pack REDS for training and testing: GT and LR frames as LMDB, and the clip lists of both partitions."""
import argparse
from pathlib import Path

from basicsr_nriqa.command_line import add_packing_arguments, number_or_all, packing_arguments, packing_command
from basicsr_nriqa.data.reds import SPLITS, prepare_reds


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='example:\n  python scripts/prepare_reds.py downloads/REDS -o datasets/reds\n\n'
               'ROOT holds train_sharp.zip and val_sharp.zip, or the folders train_sharp and val_sharp. For the\n'
               "paper's 30 test videos val_sharp suffices: add --only test. An interrupted run goes on where it was\n"
               'when started again. About 40 GB are written, with --codec raw 80 GB. See docs/data.md.')
    parser.add_argument('root', type=Path, help='folder with the archives, or with what they hold')
    parser.add_argument('-o', '--out', type=Path, required=True, help='folder to write, e.g. datasets/reds')
    parser.add_argument('--only', choices=SPLITS, help='make this split alone')
    parser.add_argument('--test-frames', default=7, type=number_or_all,
                        help="first frames of each validation video, or 'all'; default: %(default)s, as in the paper")
    add_packing_arguments(parser)
    args = parser.parse_args()
    with packing_command():
        prepare_reds(args.root, args.out, test_frames=args.test_frames,
                     splits=(args.only,) if args.only else SPLITS, **packing_arguments(args))


if __name__ == '__main__':
    main()
