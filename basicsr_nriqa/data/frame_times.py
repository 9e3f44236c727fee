"""When the frames of a video are shown, and whether that is even."""
from itertools import pairwise

import numpy as np

UNEVEN = 0.25  # how far a step in time may differ from the video's median step


def in_display_order(times):
    """The times of frames that come in the order they are shown.

    AVI does not store them: with B-frames those of decoding are told, all of them, but not in order. So times that do
    not rise are sorted where they are evenly spaced then. Others are left as they are.

    Args:
        times (list): (n,) seconds, None where the file does not tell.

    Returns:
        list: (n,).
    """
    if None in times or all(before < after for before, after in pairwise(times)):
        return times
    rising = sorted(times)
    return times if uneven_steps(rising).any() else rising


def shown_at(times):
    """(n,) seconds since the first frame; NaN where the file does not tell."""
    times = np.array(times, float)
    return times - times[np.isfinite(times)][0]


def uneven_steps(times):
    """(n,) bool: frames whose step in time from the one before is unlike the median, backward or not known."""
    steps = np.diff(shown_at(times))
    uneven = np.zeros(len(times), bool)
    if len(steps) and np.isfinite(steps).any():
        median = np.nanmedian(steps)
        uneven[1:] = ~(np.abs(steps - median) <= UNEVEN * median)
    return uneven
