"""Hard cuts in a video, from small luma frames, while it is decoded."""
import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

SMALL = (64, 48)  # width, height: every frame is shrunk to this, whatever its shape
# absolute thresholds, and how many times the usual of the steps around a step must have
LEAST_CHANGE = 3.0  # grey levels: mean change of a small frame, brightness apart; less is no cut, whatever the rest
UNLIKE, UNLIKE_JUMP = 0.2, 3.0
CHANGE_JUMP = 4.0
NOTHING_ALIKE = 0.6  # a cut whatever is around it: photographs' cuts reach 0.35 to 0.75, pans 0.07, passing cars 0.5
_AROUND = 5  # steps on each side
_SEARCH = 0.25  # of the frame's sides: how far the middle is looked for


def small_luma(luma):
    """What cuts and motion are seen on: (48, 64) float32 of (h, w) uint8 luma."""
    while luma.shape[0] > 8 * SMALL[1] and luma.shape[1] > 8 * SMALL[0]:  # halving is many times faster
        height, width = luma.shape[0] // 2, luma.shape[1] // 2
        luma = cv2.resize(luma[:2 * height, :2 * width], (width, height), interpolation=cv2.INTER_AREA)
    return cv2.resize(luma, SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)


def change(before, after):
    """Mean absolute difference of two small frames in grey levels; brightness of the whole, as in a fade, apart."""
    difference = after - before
    return float(np.abs(difference - difference.mean()).mean())


def unlikeness(before, after):
    """How badly the middle half of one small frame is found in the next: 1 - the best normalised correlation.

    Pans up to a quarter of the frame, fades and weak flashes leave it near 0. A frame without texture is like another
    without, and unlike all others.

    Returns:
        float: In [0,2].
    """
    width, height = SMALL
    top, left = int(height * _SEARCH), int(width * _SEARCH)
    middle = before[top:height - top, left:width - left]
    textured = middle.std() >= 1, after[top:height - top, left:width - left].std() >= 1
    if not all(textured):
        return float(any(textured))
    return 1 - float(cv2.matchTemplate(after, middle, cv2.TM_CCOEFF_NORMED).max())


def cuts(changes, unlikenesses):
    """Where scenes begin.

    A frame begins one if it has changed by :data:`LEAST_CHANGE`, and the frame before is not found in it at all
    (:data:`NOTHING_ALIKE`), or much worse than is usual around it (:data:`UNLIKE`, :data:`UNLIKE_JUMP`), or the change
    is much above the usual (:data:`CHANGE_JUMP`). The usual is the median of the five steps before or of the five
    after, whichever is larger, so that neither a fast pan nor the begin of one counts. A flash may count, a dissolve
    does not.

    Args:
        changes (ndarray): (n,), the :func:`change` of each frame from the one before; of the first it is not used.
        unlikenesses (ndarray): (n,), the :func:`unlikeness` of the same.

    Returns:
        ndarray: (n,) bool; the first is False.
    """
    changes, unlikenesses = np.asarray(changes, float), np.asarray(unlikenesses, float)
    found = (changes >= LEAST_CHANGE) & (
        (unlikenesses >= NOTHING_ALIKE)
        | ((unlikenesses >= UNLIKE) & (unlikenesses >= UNLIKE_JUMP * _usual(unlikenesses)))
        | (changes >= CHANGE_JUMP * _usual(changes)))
    found[:1] = False
    return found


def _usual(steps):
    steps = steps.copy()
    steps[:1] = np.nan
    usual = np.fmax(sliding_median(steps, -_AROUND, -1), sliding_median(steps, 1, _AROUND))
    return np.where(np.isnan(usual), np.inf, usual)  # with nothing around there is nothing to jump from


def sliding_median(values, first, last):
    """The median of what is around each value, of as much of it as there is.

    Args:
        values (ndarray): (n,) float; NaN is left out.
        first, last (int): The window, counted from the value.

    Returns:
        ndarray: (n,); NaN where the window is empty.
    """
    before, after = max(-first, 0), max(last, 0)
    padded = np.concatenate([np.full(before, np.nan), values, np.full(after, np.nan)])
    windows = np.sort(sliding_window_view(padded, last - first + 1)[before + first:][:len(values)])  # NaN comes last
    count = (~np.isnan(windows)).sum(axis=1)
    middle = np.stack([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, last - first)], axis=1)
    return np.take_along_axis(windows, middle, axis=1).mean(axis=1)
