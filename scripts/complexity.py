"""Say what the network of an option file costs for one clip: parameters, FLOPs, activations, peak memory and time."""
import argparse
import json

import torch

from basicsr_nriqa.command_line import device
from basicsr_nriqa.complexity import complexity, default_size
from basicsr_nriqa.options import OptionsError, read_options


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='examples:\n  python scripts/complexity.py -opt options/baseline_basicvsrpp.yml\n  '
               'python scripts/complexity.py -opt options/baseline_basicvsrpp.yml --input 7 64 112 --backward\n\n'
               'A FLOP is a multiplication with its addition. No weights are loaded and no data are read.')
    parser.add_argument('-opt', metavar='FILE', required=True, help='option file with a network_g')
    parser.add_argument('--input', metavar=('T', 'H', 'W'), nargs=3, type=int,
                        help='frames, height and width of the LR clip; default: num_frame and gt_size / scale')
    parser.add_argument('--device', type=device, default='cuda' if torch.cuda.is_available() else 'cpu',
                        help='default: %(default)s')
    parser.add_argument('--backward', action='store_true', help='time and memory of a forward and backward pass')
    parser.add_argument('--runs', type=int, default=3, help='passes to take the median time of; default: %(default)s')
    parser.add_argument('--json', action='store_true', help='for programs')
    args = parser.parse_args()
    if args.runs < 1 or (args.input and min(args.input) < 1):
        parser.error('--runs and --input take numbers from 1 up')
    try:
        options = read_options(args.opt)
    except OptionsError as error:  # names the file
        parser.exit(2, f'error: {" ".join(str(error).split())}\n')
    try:
        if not isinstance(options.get('network_g'), dict):
            raise OptionsError('network_g: is missing.')
        found = complexity(options['network_g'], args.input or default_size(options), args.device, args.backward,
                           args.runs)
    except (ValueError, RuntimeError) as error:
        parser.exit(2, f'error: {args.opt}: {" ".join(str(error).split())}\n')
    print(json.dumps(found, indent=2) if args.json else summary(found))


def summary(found):
    """Readable lines.

    Args:
        found (dict): From :func:`basicsr_nriqa.complexity.complexity`.

    Returns:
        str: The table of the network's parts, and below it what the whole network costs.
    """
    measured = 'forward and backward' if found['backward'] else 'forward'
    memory = 'not measured' if found['memory'] is None else f"{found['memory'] / 1e6:,.0f} MB"
    rows = [('input', ' x '.join(map(str, found['input'])) + ' (clips, frames, channels, height, width)'),
            ('parameters', f"{found['parameters']:,}"),
            ('FLOPs', f"{found['flops'] / 1e9:,.2f} G, forward; a multiplication with its addition is one"),
            ('activations', f"{found['activations'] / 1e6:,.2f} M"),
            ('peak memory', f"{memory} beyond the network and its input, {measured}, on {found['device']}"),
            ('time', f"{found['seconds']:.3f} s, {measured}, on {found['device']}"),
            ('not counted', ', '.join(f'{name} {times}x' for name, times in found['not_counted'].items()) or 'nothing')]
    return '\n'.join([found['table'], *(f'{name + ":":<13}{value}' for name, value in rows)])


if __name__ == '__main__':
    main()
