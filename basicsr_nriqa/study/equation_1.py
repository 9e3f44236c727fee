"""The relative gain itself: Kashkarov et al., Section III.C, equation 1."""
from typing import overload

import numpy as np
from numpy.typing import ArrayLike


@overload
def relative_gain(baseline: float, tuned: float, lower_better: bool) -> float: ...


@overload
def relative_gain(baseline: ArrayLike, tuned: ArrayLike, lower_better: ArrayLike) -> np.ndarray: ...


def relative_gain(baseline: ArrayLike, tuned: ArrayLike, lower_better: ArrayLike) -> float | np.ndarray:
    """Relative gain in percent, positive where the tuned model is better.

    Equation 1, ``100 s (M_T - M_B) / M_B`` with ``s = -1`` if lower is better and ``+1`` otherwise. The printed
    equation supposes a positive `M_B`; for a negative one it would call an improvement a loss, so it is divided by
    ``|M_B|``, which is the same for positive scores.

    Args:
        baseline (float | array_like): Scores `M_B` of the baseline model, already averaged over the dataset.
        tuned (float | array_like): Scores `M_T` of the tuned model; broadcasts with `baseline`.
        lower_better (bool | array_like): Whether lower scores are better; broadcasts with both.

    Returns:
        float | ndarray: Percent; a float if all arguments are scalars. NaN where a score is NaN.

    Raises:
        ValueError: A baseline score is zero: nothing is relative to it.
    """
    baseline, tuned = np.asarray(baseline, dtype=np.float64), np.asarray(tuned, dtype=np.float64)
    if (baseline == 0).any():
        raise ValueError('the relative gain over a baseline score of 0 is undefined')
    sign = np.where(np.asarray(lower_better, dtype=bool), -1.0, 1.0)
    gain = 100 * sign * (tuned - baseline) / np.abs(baseline)
    return float(gain) if gain.ndim == 0 else gain
