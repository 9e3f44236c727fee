"""The rules of the direct check for artifacts: when a gain counts as gamed, and when a peak as a pattern."""
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from basicsr_nriqa.study.flags import Flag
from basicsr_nriqa.study.metric_names import shown_name

_WORDS = {'jpeg': 'JPEG of quality {jpeg_quality}', 'blur': 'a blur of {blur_sigma} px',
          'shift': 'a shift by {shift} px'}


@dataclass(frozen=True)
class ArtifactRule:
    """Thresholds; docs/artifacts.md has the measurements that they lie between.

    Attributes:
        least_kept (float): Gaming: a gain of which less than this share survives any of the perturbations is no real
            one.
        least_ratio (float): Spectrum: a peak so many times above its surroundings is a regular pattern ...
        least_amplitude (float): ... if its amplitude is at least this, in grey levels. Two honest models of one kind
            differ by patterns, too, but by much weaker ones.
        least_blocks (int): Spectrum: blocks of 64 px that do not overlap, over all clips. In fewer, chance makes peaks.

    Raises:
        ValueError: A threshold is no number, or negative.
    """

    least_kept: float = 0.55
    least_ratio: float = 6.0
    least_amplitude: float = 0.15
    least_blocks: int = 8

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f'artifact rule: {name} should be a number from 0, got {value!r}')


def artifact_flags(contents: Iterable[dict[str, Any]], rule: ArtifactRule = ArtifactRule()) -> list[Flag]:
    """Judge artifact files.

    Args:
        contents (Iterable[dict]): Of :func:`basicsr_nriqa.study.artifacts.read_artifacts`.
        rule (ArtifactRule): The thresholds.

    Returns:
        list[Flag]: In the order of the files; for each at most one ``'gaming'`` a metric and one ``'spectrum'``.
    """
    return [Flag(kind, content['loss'], reason, content['model'], content['dataset'])
            for content in contents for kind, reason in _reasons(content, rule)]


def _reasons(content: dict[str, Any], rule: ArtifactRule) -> Iterator[tuple[str, str]]:
    for metric, entry in content['gaming'].items():
        kept = {name: perturbed['kept'] for name, perturbed in entry['perturbations'].items()
                if perturbed['kept'] is not None}
        if kept and min(kept.values()) < rule.least_kept:
            left = [f'{100 * share:.0f} % after {describe_perturbation(name, content["settings"])}'
                    for name, share in sorted(kept.items(), key=lambda item: item[1])]
            others = f' ({", ".join(left[1:])})' if left[1:] else ''
            yield 'gaming', (f'Of its gain in {shown_name(metric)}, from {entry["baseline"]:.4g} to '
                             f'{entry["tuned"]:.4g}, there are left only {left[0]}, which hardly alters the '
                             f'picture{others}; flagged below {100 * rule.least_kept:g} %.')
    peaks = [peak for peak in content['spectrum']['peaks']
             if peak['ratio'] >= rule.least_ratio and peak['amplitude'] >= rule.least_amplitude]
    if peaks and content['spectrum']['blocks'] >= rule.least_blocks:
        peak = peaks[0]
        vertical, horizontal = peak['frequency']
        yield 'spectrum', (f'The difference to the baseline holds a regular pattern: in its spectrum there is a peak '
                           f'{peak["ratio"]:.1f} times above its surroundings (flagged from {rule.least_ratio:g} on) '
                           f'with an amplitude of {peak["amplitude"]:.2f} grey levels (flagged from '
                           f'{rule.least_amplitude:g} on), at {vertical:.3g} (vertical) and '
                           f'{horizontal:.3g} (horizontal) cycles a pixel, which is a '
                           f'period of {peak["period"]:.1f} px.')


def strongest_peak(spectrum: dict[str, Any], rule: ArtifactRule = ArtifactRule()) -> dict[str, Any] | None:
    """The strongest peak of those whose amplitude suffices for a flag, else of all.

    Args:
        spectrum (dict): The entry ``spectrum`` of an artifact file.
        rule (ArtifactRule): The thresholds.

    Returns:
        dict | None: The peak; None where there is none.
    """
    strong = [peak for peak in spectrum['peaks'] if peak['amplitude'] >= rule.least_amplitude]
    return next(iter(strong or spectrum['peaks']), None)


def describe_perturbation(name: str, settings: dict[str, Any]) -> str:
    """What a perturbation did, in words with its strength.

    Args:
        name (str): One of ``basicsr_nriqa.study.gaming.PERTURBATIONS``.
        settings (dict): Of the artifact file.
    """
    return _WORDS[name].format(**settings) if name in _WORDS else name
