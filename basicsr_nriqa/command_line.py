"""Types of command-line arguments that several scripts take."""
import argparse

import torch


def device(name):
    """The torch device of that name, if it can be used here.

    Raises:
        argparse.ArgumentTypeError: there is no such device, or this PyTorch cannot use it.
    """
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(str(error).splitlines()[0]) from None
