"""Which frames of a video make the best clips: measured in one pass, then chosen."""
from collections import deque
from typing import NamedTuple

import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.frame_times import in_display_order, shown_at, uneven_steps
from basicsr_nriqa.data.scene_cuts import change, cuts, sliding_median, small_luma, unlikeness
from basicsr_nriqa.data.video_colour import ToRgb
from basicsr_nriqa.data.video_file import opened_video, progressive_frames

LEAST_MOTION = 0.5  # grey levels: change of a small frame from the first to the last of a clip
_REPEATED = 0.1  # a frame that changes less than this part of what is usual around it shows the one before again
_SAME = 0.02  # grey levels: less change is none
_AROUND = 12  # steps that tell what is usual
# the second difference in both directions: nearly blind to edges, so what is left is mostly noise (Immerkaer, "Fast
# noise variance estimation", 1996); white noise of variance 1 gives 36
_NOISE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_GRID = 3  # noise is looked at on every third pixel and row


class Measures(NamedTuple):
    """What one pass over a video tells of its n frames.

    Attributes:
        colour (str): What is done to the colours.
        height, width (int): Of the frames, upright, in pixels.
        times (list): (n,) seconds, None where the file does not tell; by the rate where it tells none.
        sharpness (list): (n,), of :func:`sharpness`.
        change (list): (n,) mean absolute difference of luma from the frame before.
        moved (list): (n,) :func:`~basicsr_nriqa.data.scene_cuts.change` of small luma since the frame that is first if
            this one is the last of a clip.
        cut (list): (n,) whether a scene begins.
    """
    colour: str
    height: int
    width: int
    times: list
    sharpness: list
    change: list
    moved: list
    cut: list


class Clip(NamedTuple):
    """Some frames one after the other.

    Attributes:
        first (int): Number of the first frame, from 0.
        time (float): When it is shown, in seconds.
        sharpness (float): Of the least sharp frame.
    """
    first: int
    time: float
    sharpness: float


def sharpness(luma):
    """How sharp an image is: the root of the mean squared gradient, without what noise adds to it.

    The gradient is Sobel's (Tenengrad). The variance of noise is estimated by the median absolute value of a second
    difference that hardly sees edges, and its share, 24 times the variance, is taken off. So noise alone has no
    sharpness.

    Args:
        luma (ndarray): (h, w) uint8.

    Returns:
        float: Grey levels per pixel, 0 or more.
    """
    energy = sum(cv2.norm(cv2.Sobel(luma, cv2.CV_16S, dx, 1 - dx), cv2.NORM_L2SQR) for dx in (0, 1)) / luma.size
    difference = np.abs(cv2.filter2D(luma, cv2.CV_16S, _NOISE)[::_GRID, ::_GRID])
    variance = (np.median(difference) / 0.6745)**2 / 36  # 0.6745: the median of a normal variable's absolute value
    return float(np.sqrt(max(energy - 24 * variance, 0)) / 8)  # 8: what Sobel makes of a ramp of 1


def measure_video(path, frames, resize_height=None, threads=0, seen=lambda: None):
    """Decode a video once and measure its frames.

    Args:
        path (Path): The file.
        frames (int): Of a clip.
        resize_height (int | None): Sharpness is measured at this height, as the clips will have it.
        threads (int): Of the decoder.
        seen (Callable): Called after each frame.

    Returns:
        Measures: Of all frames.

    Raises:
        DataError: the file is no video, is damaged, interlaced, changes its size, or its colours are not known.
    """
    times, sharp, changes, moved, small_changes, unlike = [], [], [], [], [], []
    recent = deque(maxlen=frames)
    before = to_rgb = shape = None
    reformatter = VideoReformatter()
    for number, frame in enumerate(progressive_frames(path, threads)):
        luma = reformatter.reformat(frame, format='gray').to_ndarray()
        if to_rgb is None:
            to_rgb = ToRgb(frame, path)
            shape = to_rgb.orientation.shape(frame)
        elif to_rgb.orientation.shape(frame) != shape:
            raise DataError(f'{path}: frame {number} has {frame.width}x{frame.height} pixels, but the frames before it '
                            f'have {shape[1]}x{shape[0]}. All must have one size: cut it there with FFmpeg and give '
                            'the parts.')
        if resize_height and resize_height < shape[0]:
            factor = resize_height / shape[0]
            size = [max(1, round(factor * side)) for side in luma.shape[::-1]]
            luma = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
        recent.append(small_luma(luma))
        times.append(frame.time)
        sharp.append(sharpness(luma))
        moved.append(change(recent[0], recent[-1]))
        changes.append(0.0 if before is None else cv2.norm(before, luma, cv2.NORM_L1) / luma.size)
        small_changes.append(0.0 if before is None else change(recent[-2], recent[-1]))
        unlike.append(0.0 if before is None else unlikeness(recent[-2], recent[-1]))
        before = luma
        seen()
    if before is None:
        raise DataError(f'{path}: there is no frame in this video. Fetch it again, or leave it out.')
    if all(time is None for time in times):  # a stream without a container
        with opened_video(path) as (_, stream):
            rate = float(stream.average_rate or stream.guessed_rate or 25)
        times = [number / rate for number in range(len(times))]
    times = in_display_order(times)
    return Measures(to_rgb.description, *shape, times, sharp, changes, moved, cuts(small_changes, unlike).tolist())


def choose_clips(measures, frames, count, start=0.0):
    """The sharpest clips that do not overlap, in which all is one even motion.

    No frame of a clip but the first may begin a scene, follow after a step in time that differs from the median by more
    than a quarter (of videos with a variable rate), or show the frame before again; and from first to last frame
    something must move. A clip is as sharp as the least sharp of its frames; of equal ones the earlier is taken.

    Args:
        measures (Measures): Of a video, for clips of ``frames``.
        frames (int): Of a clip.
        count (int): At most so many clips.
        start (float): Seconds from the first frame on; earlier ones are not taken.

    Returns:
        list[Clip]: In the order of the video; empty where there is none.
    """
    broken = np.array(measures.cut) | uneven_steps(measures.times) | repeated_frames(measures.change)
    times = shown_at(measures.times)
    least = np.array(measures.sharpness)
    candidates = []
    for first in range(len(broken) - frames + 1):
        last = first + frames - 1
        if times[first] < start or broken[first + 1:last + 1].any() or measures.moved[last] < LEAST_MOTION:
            continue
        candidates.append(Clip(first, round(float(times[first]), 6), float(least[first:last + 1].min())))
    chosen = []
    for clip in sorted(candidates, key=lambda clip: (-clip.sharpness, clip.first)):
        if len(chosen) < count and all(abs(clip.first - other.first) >= frames for other in chosen):
            chosen.append(clip)
    return sorted(chosen)


def repeated_frames(changes):
    """(n,) bool: frames that show the one before again, as recorders do that have missed one."""
    steps = np.array(changes, float)
    steps[:1] = np.nan  # the first frame has none before it
    return steps <= np.maximum(_SAME, _REPEATED * sliding_median(steps, -_AROUND // 2, _AROUND // 2))
