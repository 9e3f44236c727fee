"""Checks of the values of a loss's options."""
import math

from basicsr_nriqa.iqa import MetricError


def check_number(option, value, lowest=0, highest=math.inf, unit=''):
    """Refuse what is not a finite number in a range.

    Args:
        option (str): How the message calls it.
        value: What was given.
        lowest (float): The least that is allowed.
        highest (float): The most that is allowed.
        unit (str): Said after the range, such as `` px``.

    Raises:
        MetricError: no number, not finite, or out of the range.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not (number and lowest <= value <= highest):
        wanted = f'of {lowest:g}{unit} or more' if highest == math.inf else f'from {lowest:g} to {highest:g}{unit}'
        raise MetricError(f'IQALoss: {option} must be a number {wanted}, got {value!r}.')


def is_positive(value):
    """Whether a value is a whole number above zero."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
