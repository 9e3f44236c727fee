"""Command-line arguments that several scripts take."""
import argparse
import sys
from contextlib import contextmanager

import torch
from basicsr.utils import get_root_logger

from basicsr_nriqa.data.degradation import DEGRADATIONS
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.image_codec import CODECS


def device(name):
    """The torch device of that name, if it can be used here.

    Raises:
        argparse.ArgumentTypeError: there is no such device, or this PyTorch cannot use it.
    """
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        if reason.startswith('Expected one of'):  # followed by all that PyTorch could be built for
            reason = 'no such device'
        raise argparse.ArgumentTypeError(f"'{name}' cannot be used: {reason}. Give cpu, or cuda or cuda:N where "
                                         'there is a GPU.') from None


@contextmanager
def packing_command():
    """The frame of all scripts that pack: what they do is logged, and errors of the data are one line."""
    get_root_logger().setLevel('INFO')
    try:
        yield
    except DataError as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('Interrupted. Start it again to go on from here.')


def number_or_all(text):
    """A positive whole number, or None for ``all``.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    return None if text == 'all' else positive(text)


def positive(text):
    """A positive whole number.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a positive whole number, got '{text}'")
    return int(text)


def seed(text):
    """A whole number from 0 on.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, 0 or more, got '{text}'")
    return int(text)


def add_packing_arguments(parser):
    """The options of all scripts that pack GT and LR frames."""
    parser.add_argument('--scale', type=positive, default=4, help='LR is 1/SCALE of GT; default: %(default)s')
    parser.add_argument('--degradation', choices=DEGRADATIONS, default='BI',
                        help="how LR is made: MATLAB's bicubic, or Gaussian blur and downsampling (default: BI)")
    parser.add_argument('--codec', choices=CODECS, default='png',
                        help="png is BasicSR's format; raw pixels load many times faster and take more space")
    parser.add_argument('--workers', type=positive, help='threads; default: one a core')
    parser.add_argument('--no-space-check', dest='check_space', action='store_false',
                        help='start even if the disk seems too small, e.g. because it compresses')


def packing_arguments(args):
    """What :func:`add_packing_arguments` has read, as arguments of functions that pack."""
    return {name: getattr(args, name) for name in ('scale', 'degradation', 'codec', 'workers', 'check_space')}
