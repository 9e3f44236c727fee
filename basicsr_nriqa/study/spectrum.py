"""The spectrum of what tuning changed: dots, grids and stripes are peaks, more detail is none."""
import numpy as np
import torch

BLOCK = 64  # pixels
LOWEST_FREQUENCY = 0.1  # cycles a pixel: below, differences of contrast and colour have humps of their own
_HOP = BLOCK // 2
_SIDE, _HOLE = 9, 5  # bins: the neighbourhood of a peak, and what its window's main lobe fills of it
_BACKGROUND_PERCENTILE = 75  # not 50: along the axes, where edges are, power is higher than at both sides
_ROUNDING = 1 / 6  # grey levels^2: the error of two roundings to 8 bits, below which there is nothing to see
_PEAKS = 10

_WINDOW = np.outer(*2 * [0.5 - 0.5 * np.cos(2 * np.pi * np.arange(BLOCK) / BLOCK)])  # Hann, periodic


class DifferenceSpectrum:
    """Power spectrum of the difference between two versions of the same clips, and its peaks.

    Welch's method (1967) in two dimensions: Hann-windowed blocks of 64 px, which overlap by half, each without its
    mean; the power is averaged over the blocks, the three channels and the frames of a clip. It is scaled so that white
    noise with a standard deviation of s grey levels has the power s^2 everywhere. R, G and B rather than luma, because
    the paper's dots are coloured (Fig. 1 and 3).

    At each frequency the power is divided by its background, the 75th percentile of the 9 x 9 bins around without the
    inner 5 x 5. The ratio of a frequency is the median over the clips: texture of one clip is no peak.
    """

    def __init__(self):
        self._powers = []
        self._blocks = 0
        self._identical = True

    def add(self, tuned, baseline):
        """Take one clip.

        Args:
            tuned, baseline (Tensor): (t,3,h,w) uint8, RGB, sides from 64 px; on one device.
        """
        self._identical = self._identical and torch.equal(tuned, baseline)
        window = torch.as_tensor(_WINDOW, dtype=torch.float32, device=tuned.device)
        power = 0
        for frame, reference in zip(tuned, baseline):
            blocks = (frame.float() - reference.float()).unfold(-2, BLOCK, _HOP).unfold(-2, BLOCK, _HOP).flatten(0, 2)
            blocks = (blocks - blocks.mean((-2, -1), keepdim=True)) * window
            power = power + torch.fft.rfft2(blocks).abs().square().mean(0).double()
        self._powers.append(power.cpu().numpy() / len(tuned) / (_WINDOW**2).sum())
        self._blocks += (tuned.shape[-2] // BLOCK) * (tuned.shape[-1] // BLOCK)

    @classmethod
    def merged(cls, parts):
        """One of all clips that several have taken, in their order.

        Args:
            parts (Iterable[DifferenceSpectrum]): Such as those of several processes.
        """
        whole = cls()
        for part in parts:
            whole._powers += part._powers
            whole._blocks += part._blocks
            whole._identical = whole._identical and part._identical
        return whole

    def result(self):
        """What was found, in plain numbers.

        Returns:
            dict: ``identical`` (bool): no pixel differs. ``rms``: of the difference above the block means, grey levels.
            ``blocks``: that do not overlap, in one frame of each clip. ``peaks``: the strongest first, at most ten,
            each with ``ratio`` to the background, ``frequency`` (vertical, horizontal; cycles a pixel), ``period``
            (px) and ``amplitude`` (grey levels, of a sine wave, from zero to its top); empty if identical.
            ``log_power``: (64, 33), decibels above one grey level squared, rows from the vertical frequency -0.5 to
            0.484, columns from the horizontal frequency 0 to 0.5; the mean over the clips.
        """
        powers = np.array(self._powers)
        mean = powers.mean(0)
        both_halves = np.ones(BLOCK // 2 + 1)
        both_halves[1:-1] = 2
        return {'identical': self._identical, 'rms': float(np.sqrt((mean * both_halves).sum()) / BLOCK),
                'blocks': self._blocks, 'peaks': [] if self._identical else _peaks(powers),
                'log_power': np.fft.fftshift(10 * np.log10(mean + _ROUNDING), 0).round(1).tolist()}


def _peaks(powers):
    backgrounds = np.array([_background(power + _ROUNDING) for power in powers])
    ratios = np.median((powers + _ROUNDING) / backgrounds, 0)
    frequencies = np.stack(np.meshgrid(np.fft.fftfreq(BLOCK), np.fft.rfftfreq(BLOCK), indexing='ij'), -1)
    radius = np.hypot(*np.moveaxis(frequencies, -1, 0))
    summits = (ratios == _neighbourhoods(ratios, _HOLE).max((-2, -1))) & (radius >= LOWEST_FREQUENCY)
    # in the first and last column both halves of the spectrum are there
    summits[BLOCK // 2 + 1:, [0, -1]] = False
    places = sorted(zip(*np.nonzero(summits)), key=lambda place: -ratios[place])[:_PEAKS]
    excess = np.sqrt(np.clip(np.median(powers + _ROUNDING - backgrounds, 0), 0, None))
    found = []
    for place in places:
        # of a wave and of its mirror image, which are one at the corners of the spectrum
        waves = 1 if all(index in (0, BLOCK // 2) for index in place) else 2
        amplitude = waves * excess[place] * np.sqrt((_WINDOW**2).sum()) / _WINDOW.sum()
        frequency = np.where(frequencies[place] == -0.5, 0.5, frequencies[place])
        found.append({'ratio': float(ratios[place]), 'frequency': frequency.tolist(),
                      'period': float(1 / radius[place]), 'amplitude': float(amplitude)})
    return found


def _background(power):
    hole = slice((_SIDE - _HOLE) // 2, (_SIDE + _HOLE) // 2)
    around = np.ones((_SIDE, _SIDE), dtype=bool)
    around[hole, hole] = False
    return np.percentile(_neighbourhoods(power, _SIDE)[..., around], _BACKGROUND_PERCENTILE, axis=-1)


def _neighbourhoods(half, side):
    """Around each bin of half a spectrum (64,33), those of the whole one, which is periodic: (64,33,side,side)."""
    whole = np.concatenate([half, half[-np.arange(BLOCK)][:, BLOCK // 2 - 1:0:-1]], 1)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(whole, side // 2, mode='wrap'), (side, side))
    return windows[:, :half.shape[1]]
