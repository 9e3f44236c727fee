"""Checks of the values of a loss's options."""
import math

from basicsr_nriqa.iqa import MetricError
from basicsr_nriqa.option_values import is_number


def check_number(option: str, value: object, lowest: float = 0, highest: float = math.inf, unit: str = '') -> None:
    """Refuse what is not a finite number in a range.

    Args:
        option (str): How the message calls it.
        value (object): What was given.
        lowest (float): The least that is allowed.
        highest (float): The most that is allowed.
        unit (str): Said after the range, such as `` px``.

    Raises:
        MetricError: no number, not finite, or out of the range.
    """
    if not is_number(value, lowest, highest):
        wanted = f'of {lowest:g}{unit} or more' if highest == math.inf else f'from {lowest:g} to {highest:g}{unit}'
        raise MetricError(f'IQALoss: {option} must be a number {wanted}, got {value!r}.')
