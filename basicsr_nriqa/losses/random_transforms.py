"""The expectation over random transformations: an image must be good for a metric however it is looked at.

A pattern that raises the score of a metric without raising quality usually depends on every pixel being where and what
it is; seen a little moved, turned or recoloured, it raises nothing. So the loss is the mean over random transformations
of what the metric sees: Athalye et al., "Synthesizing robust adversarial examples", ICML 2018; Kettunen et al.,
"E-LPIPS: robust perceptual image similarity via random transformation ensembles", arXiv 1906.03973.
"""
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from basicsr_nriqa.iqa import MetricError, refuse_unknown
from basicsr_nriqa.losses.image_operations import (
    blur_matrix,
    colour_matrix,
    jpeg,
    recolour,
    resample,
    window_matrix,
)
from basicsr_nriqa.losses.option_values import check_number

# those that change quality hardly, and cost little
DEFAULT: Mapping[str, float | bool] = MappingProxyType(
    {'shift': 2, 'flip': True, 'scale': 0.1, 'colour': 0.05, 'noise': 0.01})
_SWITCHES = ('flip', 'rotate')
_HIGHEST = MappingProxyType({'shift': 64, 'scale': 1, 'colour': 1, 'noise': 1, 'blur': 16, 'jpeg': 100})


@dataclass(frozen=True)
class Transform:
    """One draw: the same for all images that it is called with.

    Attributes:
        flip (bool): Left becomes right.
        quarter_turns (int): Then so many rotations by 90 degrees.
        matrices (tuple[Tensor, Tensor] | None): Then the rows' and the columns' matrix of shift, scale and blur.
        colour (tuple[Tensor, Tensor] | None): Then a matrix and an offset.
        noise (Tensor | None): (3,h,w), then added.
        quality (float | None): Of a JPEG compression after all that.
    """

    flip: bool = False
    quarter_turns: int = 0
    matrices: tuple[Tensor, Tensor] | None = None
    colour: tuple[Tensor, Tensor] | None = None
    noise: Tensor | None = None
    quality: float | None = None

    def __call__(self, images: Tensor, noisy: bool = True) -> Tensor:
        """Transform images.

        Args:
            images (Tensor): (..., 3, h, w).
            noisy (bool): Also add the noise. A target is compared without: the loss is that of an output near ours and
                the same target, while the same noise in both would hide differences.

        Returns:
            Tensor: (..., 3, new h, new w); the images themselves if there is nothing to do.
        """
        if self.flip:
            images = images.flip(-1)
        if self.quarter_turns:
            images = images.rot90(self.quarter_turns, (-2, -1))
        if self.matrices is not None:
            images = resample(images, *self.matrices)
        if self.colour is not None:  # after the blur, with which it commutes
            images = recolour(images, *self.colour)
        if self.noise is not None and noisy:
            images = images + self.noise.to(images)
        return images if self.quality is None else jpeg(images, self.quality)


class RandomTransforms:
    """Transformations drawn with torch's generator.

    Frames of a clip must share a draw, the noise too, or what changes from frame to frame would disturb a metric of
    motion.

    Args:
        strengths (bool | Mapping | None): True: ``DEFAULT``; or the strength of each operation, 0 or false for none.
            They are applied in this order:

            * ``flip``: true: left and right change places in half of the draws.
            * ``rotate``: true: by a multiple of 90 degrees.
            * ``shift``: by up to so many px in each direction, also by fractions. The metric sees a window of
              ``2 * shift`` px less a side, so that no border is invented; an axis that has not so many to spare stays.
            * ``scale``: by a factor between ``1 / (1 + scale)`` and ``1 + scale``, enlarging and shrinking equally
              often. The window, anywhere in the image, has ``1 / (1 + scale)`` of its side, so that it is full at any
              factor; if that is too small for the metric, it is larger and shrinking less.
            * ``blur``: Gaussian, of a standard deviation of up to so many px.
            * ``colour``: gain of each channel, saturation and contrast between ``1 - colour`` and ``1 + colour``, and
              an offset of each channel of up to half of it, in units of [0,1].
            * ``noise``: white, of a standard deviation of up to so much, in units of [0,1].
            * ``jpeg``: a quality between this and 100.

    Raises:
        MetricError: unknown operation, or a strength that cannot be used.
    """

    def __init__(self, strengths: bool | Mapping[str, float | bool] | None = None) -> None:
        if strengths is None or strengths is False:
            strengths = {}
        given = DEFAULT if strengths is True else strengths
        if not isinstance(given, Mapping):
            raise MetricError('IQALoss: transforms must be true or strengths by name such as {shift: 2, flip: true}, '
                              f'got {strengths!r}.')
        refuse_unknown('IQALoss: transforms', given, sorted((*_SWITCHES, *_HIGHEST)))
        for name, strength in given.items():
            _check_strength(name, strength)
        self.strengths = {name: strength for name, strength in given.items() if strength}

    def __bool__(self) -> bool:
        return bool(self.strengths)

    def draw(self, height: int, width: int, smallest: int = 1) -> Transform:
        """Draw a transformation.

        Args:
            height (int): Of the images, in px.
            width (int): Of the images.
            smallest (int): Shortest side in px that a transformed image may have, if the image itself has it.

        Returns:
            Transform: The same torch seed gives the same.
        """
        strength = self.strengths
        flip = 'flip' in strength and torch.rand(()).item() < 0.5
        turns = int(torch.randint(4, ())) if 'rotate' in strength else 0
        size = (width, height) if turns % 2 else (height, width)
        matrices = None
        if strength.keys() & {'shift', 'scale', 'blur'}:
            matrices = self._draw_matrices(size, smallest)
            size = (len(matrices[0]), len(matrices[1]))
        colour = _draw_colour(strength['colour']) if 'colour' in strength else None
        noise = _uniform(0, strength['noise']) * torch.randn(3, *size) if 'noise' in strength else None
        quality = _uniform(strength['jpeg'], 100) if 'jpeg' in strength else None
        return Transform(flip, turns, matrices, colour, noise, quality)

    def _draw_matrices(self, size: tuple[int, int], smallest: int) -> tuple[Tensor, Tensor]:
        shift, scale, blur = (self.strengths.get(name, 0) for name in ('shift', 'scale', 'blur'))
        windows = [_window(length, shift, scale, smallest) for length in size]
        least = max(1 / (1 + scale), *(window / length for window, length in zip(windows, size)))
        factor = math.exp(_uniform(math.log(least), math.log1p(scale))) if scale else 1
        spare = [length - window / factor for window, length in zip(windows, size)]
        moved = spare if scale else [min(2 * shift, room) for room in spare]  # less than the whole px left out
        starts = [(room - most) / 2 + _uniform(0, most) for room, most in zip(spare, moved)]
        # float32: half the time of float64, and precise enough
        rows, columns = (window_matrix(length, start, window, factor).float()
                         for length, start, window in zip(size, starts, windows))
        sigma = _uniform(0, blur) if blur else 0
        if sigma:
            rows, columns = (blur_matrix(len(matrix), sigma).float() @ matrix for matrix in (rows, columns))
        return rows, columns


def _window(length: int, shift: float, scale: float, smallest: int) -> int:
    """What is seen of an axis: always so many pixels, because backends prepare anew for each new size."""
    moved = length - math.ceil(2 * shift)
    moved = length if moved < smallest else moved
    return max(math.floor(moved / (1 + scale)), min(smallest, moved))


def _draw_colour(strength: float) -> tuple[Tensor, Tensor]:
    jitter = strength * (2 * torch.rand(8) - 1)
    saturation, contrast = (1 + jitter[3:5]).tolist()
    matrix = colour_matrix(1 + jitter[:3], saturation, contrast)
    return matrix, jitter[5:] / 2 + (1 - contrast) / 2  # contrast turns about the middle of [0,1]


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


def _check_strength(name: str, strength: object) -> None:
    if strength is False:
        return
    if name in _SWITCHES:
        if strength is not True and strength != 0:
            raise MetricError(f"IQALoss: transforms' {name} must be true or false, got {strength!r}.")
    elif name == 'jpeg' and strength != 0:
        check_number("transforms' jpeg", strength, 1, _HIGHEST[name])
    else:
        check_number(f"transforms' {name}", strength, 0, _HIGHEST[name])
