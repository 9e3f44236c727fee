"""Train the small metric that ships with the plugin, or judge it on photographs it never saw."""
import argparse
import hashlib
import sys
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from basicsr_nriqa.files import write_atomically
from basicsr_nriqa.iqa.distortions import DISTORTIONS, UNGRADED
from basicsr_nriqa.iqa.tinyiqa import load_tinyiqa
from basicsr_nriqa.iqa.tinyiqa_training import held_out_correlations, train, weights_file


def at_least(lowest):
    def parse(text):
        value = int(text)
        if value < lowest:
            raise argparse.ArgumentTypeError(f'expected {lowest} or more, got {text}')
        return value
    parse.__name__ = 'whole number'  # what argparse calls it where int() fails
    return parse


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='examples:\n  python scripts/train_tinyiqa.py --evaluate\n  '
               'python scripts/train_tinyiqa.py -o tinyiqa.pth\n\n'
               'To ship new weights: -o basicsr_nriqa/iqa/weights/tinyiqa.pth, then put the printed sha256 into\n'
               'basicsr_nriqa/iqa/tinyiqa.py. The evaluation prints the table that docs/losses.md shows.')
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('-o', '--out', type=Path, help='train, and write the weights here')
    what.add_argument('--evaluate', action='store_true', help='judge the shipped weights')
    parser.add_argument('--series', type=at_least(len(DISTORTIONS | UNGRADED)), default=6600,
                        help='graded series to learn from, one or more of each distortion (default: %(default)s)')
    parser.add_argument('--adversaries', type=at_least(1), default=150,
                        help='images that climb the score, in each round (default: %(default)s)')
    parser.add_argument('--seed', type=at_least(0), default=0, help='of all that is drawn (default: %(default)s)')
    args = parser.parse_args()
    # said before the training, which takes minutes
    if args.out and not args.out.parent.is_dir():
        parser.error(f'argument -o/--out: {args.out.parent}: no such folder; make it first')
    if args.out and args.out.is_dir():
        parser.error(f'argument -o/--out: {args.out} is a folder, expected a file such as {args.out}/tinyiqa.pth')
    torch.set_num_threads(1)  # the images are small, and the result shall not depend on the machine's cores
    if args.evaluate:
        try:
            network = load_tinyiqa()
        except (OSError, ValueError) as error:
            sys.exit(f'error: {error}')
    else:
        network = train(args.series, args.adversaries, args.seed, progress=partial(tqdm, desc='images'))
        content = weights_file(network)
        write_atomically(args.out, content)
        print(f'{args.out}: sha256 {hashlib.sha256(content).hexdigest()}')
    print('| distortion | Spearman correlation |\n|---|---|')
    for name, value in held_out_correlations(network, distortions=DISTORTIONS | UNGRADED).items():
        print(f'| {name}{" (not graded: a little improves a soft photograph)" * (name in UNGRADED)} | {value:.3f} |')


if __name__ == '__main__':
    main()
