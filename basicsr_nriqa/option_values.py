"""What numbers in options may be; ``true`` and ``false``, integers to Python, are none."""
import math


def is_number(value: object, low: float = -math.inf, high: float = math.inf) -> bool:
    """Whether a value is a finite number from ``low`` to ``high``."""
    return (isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            and low <= value <= high)


def is_count(value: object, low: int = 1) -> bool:
    """Whether a value is a whole number of at least ``low``."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= low
