"""Propose loss weights of quality metrics from their scores and gradients on a data set."""
import argparse
import math
import shlex
import sys
from pathlib import Path

import torch

from basicsr_nriqa.command_line import device
from basicsr_nriqa.files import write_atomically
from basicsr_nriqa.models.calibration import (
    RULES,
    Crops,
    bicubic,
    console_table,
    measure,
    options_block,
    trained_network,
    unit_losses,
)

EXAMPLE = """example:
  python scripts/calibrate_weights.py maniqa lpips --gt datasets/vimeo90k/vimeo90k_test_GT.lmdb \\
      --lq datasets/vimeo90k/vimeo90k_test_LRx4.lmdb --opt options/finetune_maniqa.yml -o weights.yml

The typical score is that of GT for no-reference metrics, and that of the output for full-reference ones and for the
Charbonnier loss. Gradients are those at the output. Rules, with P the Charbonnier loss:
  value     |weight| * typical score = share * P                 (how the paper made Table I)
  gradient  |weight| * norm of the gradient = share * norm of the gradient of P     (its future work)
Give --crop the gt_size of the training. The first 7 frames of a clip are used."""


def positive(kind):
    def parse(text):
        value = kind(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f'expected a positive number, got {text}')
        return value
    parse.__name__ = 'number'  # what argparse calls it where it is none
    return parse


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('metrics', nargs='+', metavar='METRIC', help='names as of IQALoss')
    parser.add_argument('--gt', required=True, metavar='DATA', help='NAME.lmdb, or a folder of clips')
    parser.add_argument('--lq', required=True, metavar='DATA', help='the same for LR')
    parser.add_argument('--opt', type=Path, metavar='YML',
                        help='options whose network_g with path:pretrain_network_g makes the output; default: bicubic')
    parser.add_argument('--rule', choices=RULES, default='value', help='default: %(default)s')
    parser.add_argument('--share', type=positive(float), default=0.1, help='of the pixel loss (default: %(default)s)')
    parser.add_argument('--clips', type=positive(int), default=20, help='drawn at random (default: %(default)s)')
    parser.add_argument('--crop', type=positive(int), default=256, help='side in GT pixels (default: %(default)s)')
    parser.add_argument('--scale', type=positive(int), default=4, help='default: %(default)s')
    parser.add_argument('--seed', type=int, default=0, help='for clips and crops (default: %(default)s)')
    parser.add_argument('--device', type=device, default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('-o', '--out', type=Path, metavar='YML', help='write the options here too')
    args = parser.parse_args()
    try:
        crops = Crops(args.gt, args.lq, args.scale, args.clips, args.crop, args.seed)
        restore = trained_network(args.opt).to(args.device) if args.opt else bicubic(args.scale)
        losses = {name: loss.to(args.device) for name, loss in unit_losses(args.metrics).items()}
        measurements = measure(losses, crops, restore, args.seed, args.device)
        options = options_block(measurements, args.share, args.rule,
                                f'python scripts/calibrate_weights.py {shlex.join(sys.argv[1:])}')
        if args.out:
            write_atomically(args.out, options)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    print(f'{console_table(measurements, args.share)}\n\n{options}', end='')


if __name__ == '__main__':
    main()
