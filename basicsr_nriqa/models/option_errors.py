"""Errors of what options name and make, told as errors of these options."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from basicsr.utils import get_root_logger

from basicsr_nriqa import out_of_memory
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.iqa import MetricError
from basicsr_nriqa.options import OptionsError

_TOLD = (OptionsError, DataError, MetricError, torch.OutOfMemoryError)  # they need no other words


@contextmanager
def made_from(where: str, what: str) -> Iterator[None]:
    """What a constructor says of its arguments is an error of the options that they come from.

    What it does not say in words of its own may be a defect of its code, and has its traceback in the log.

    Args:
        where (str): The option, such as ``train:optim_g``.
        what (str): What is made of it, such as ``Adam``.

    Raises:
        OptionsError: it cannot be made.
    """
    try:
        yield
    except _TOLD:
        raise
    except (AssertionError, OSError, RuntimeError, TypeError, ValueError) as error:
        if out_of_memory.of_machine(error):
            raise
        if not (isinstance(error, (AssertionError, OSError, ValueError)) and str(error)):
            get_root_logger().error(f'{what} cannot be made.', exc_info=True)
        raise OptionsError(f'{where}: {what} cannot be made with these options: '
                           f'{_text(error).removeprefix(f"{what}: ")}') from error


@contextmanager
def used_on(where: str, what: str, given: str, expected: str) -> Iterator[None]:
    """What was made of options fails on data: an error of these options, too, with its traceback in the log.

    Args:
        where (str): The option.
        what (str): What was made of it.
        given (str): The data, in words.
        expected (str): A sentence on what can be used here.

    Raises:
        OptionsError: it fails.
    """
    try:
        yield
    except _TOLD:
        raise
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        if out_of_memory.of_machine(error):
            raise
        get_root_logger().error(f'{what} fails.', exc_info=True)
        raise OptionsError(f'{where}: {what} fails on {given}: '
                           f'{_text(error).removeprefix(f"{what}: ")} {expected}') from error


def _text(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text if text[-1] in '.!?' else f'{text}.'
