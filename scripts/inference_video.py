"""Restore a video, or a folder of frames, with trained weights; a stopped run goes on when started again."""
import argparse
import signal
import sys
from pathlib import Path

import torch
from basicsr.utils import get_root_logger

from basicsr_nriqa.command_line import device
from basicsr_nriqa.inference import restore_video
from basicsr_nriqa.inference.network import PRECISIONS

EXAMPLE = """examples:
  python scripts/inference_video.py old.mp4 -o new.mp4 --weights basicvsrpp.pth
  python scripts/inference_video.py frames/ -o restored/ --model VRT --weights vrt.pth --precision bf16
  python scripts/inference_video.py noisy.mkv -o clean.mkv --weights denoise.pth --noise-level 10

The work is done in OUTPUT.partial. Ctrl-C stops it, and the same command goes on from there. Clips and tiles
overlap and are cross-faded; where a GPU's memory does not suffice, tiles are halved."""


def whole(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, 0 or more, got '{text}'")
    return int(text)


def number(low, high):
    def parse(text):
        try:
            value = float(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected a number from {low} to {high}, got '{text}'")
        return value
    return parse


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', metavar='INPUT', help='a folder of frames of one size, or a video file')
    parser.add_argument('-o', '--output', type=Path, required=True,
                        help='a video (.mp4, .mkv, .mov), else a folder for frames as PNG')
    parser.add_argument('--overwrite', action='store_true',
                        help='replace OUTPUT, and drop what was begun with other settings')

    network = parser.add_argument_group('network')
    network.add_argument('--weights', required=True, metavar='FILE', help='checkpoint: a file or a URL')
    network.add_argument('--model', metavar='NAME', help='BasicVSRPP, ISeeBetter or VRT; default: what the weights are')
    network.add_argument('--options', metavar='YML', help='build network_g of this file; default: read off the weights')
    network.add_argument('--network', dest='overrides', nargs='+', default=[], metavar='KEY=VALUE',
                         help='options of the network that win over those')
    network.add_argument('--noise-level', type=number(0, 255), metavar='SIGMA',
                         help='for denoising networks: standard deviation, in grey levels of 255')
    network.add_argument('--device', type=device, default='cuda' if torch.cuda.is_available() else 'cpu',
                         help='default: %(default)s')
    network.add_argument('--precision', choices=PRECISIONS, default='fp32',
                         help='fp16 and bf16 need less memory and time; default: %(default)s')

    cut = parser.add_argument_group('clips and tiles',
                                    'defaults by network, for a GPU of 24 GB; 0 is everything at once')
    cut.add_argument('--clip-length', type=whole, metavar='FRAMES')
    cut.add_argument('--clip-overlap', type=whole, metavar='FRAMES')
    cut.add_argument('--tile', type=whole, metavar='PX', help='side in pixels of the input')
    cut.add_argument('--tile-overlap', type=whole, metavar='PX')

    video = parser.add_argument_group('writing a video')
    video.add_argument('--fps', help="such as 29.97 or 30000/1001; default: the input's, 25 for a folder; another "
                                      'than the input\'s leaves its sound out')
    video.add_argument('--crf', type=number(0, 51), default=18, metavar='0..51',
                       help='lower is better and larger; default: %(default)s')
    return parser.parse_args()


def stop(number, _):
    raise SystemExit(128 + number)


def kept(partial):
    return f' What is done is in {partial}; the same command goes on from there.' if partial.is_dir() else ''


def main():
    args = parse_arguments()
    get_root_logger().setLevel('INFO')
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    partial = Path(f'{args.output.expanduser()}.partial')
    try:
        restore_video(**vars(args))
    except (ValueError, FileNotFoundError) as error:  # the same command would say the same
        sys.exit(f'error: {error}')
    except OSError as error:  # such as a full disk
        sys.exit(f'error: {error}{kept(partial)}')
    except SystemExit:
        print(f'\nStopped.{kept(partial)}', file=sys.stderr)
        raise


if __name__ == '__main__':
    main()
