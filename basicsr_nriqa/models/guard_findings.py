"""What a validation looks like beside that of the start network: sentences, and numbers for TensorBoard."""
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from basicsr_nriqa.study.artifact_flags import ArtifactRule, artifact_flags, strongest_peak
from basicsr_nriqa.study.artifacts import SETTINGS, perturbed_gains
from basicsr_nriqa.study.equation_1 import relative_gain
from basicsr_nriqa.study.metric_names import shown_name
from basicsr_nriqa.study.spectrum import DifferenceSpectrum


class Look(NamedTuple):
    """What one clip showed.

    Attributes:
        scores (dict): Of each optimised metric, ``{metric: {perturbation: score}}``, see
            :func:`basicsr_nriqa.study.gaming.score_perturbed`.
        spectrum (DifferenceSpectrum | None): Of the difference to the output at the start.
        digest (str | None): At the start: of the frames that were kept.
    """

    scores: dict[str, dict[str, float]]
    spectrum: DifferenceSpectrum | None = None
    digest: str | None = None


@dataclass
class Findings:
    """Of one validation set.

    Attributes:
        failed (list[str]): A sentence for each check that failed, with numbers and limits.
        passed (list[str]): One for each other, as far as there is something to say.
        scalars (dict[str, float]): Name -> number, of all of them.
    """

    failed: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    scalars: dict[str, float] = field(default_factory=dict)


def worsening(start: float, now: float, lower_better: bool) -> float:
    """By how many percent of its value at the start a score is worse; negative: better (equation 1, turned round).

    Of a start of 0 or infinity nothing is a part: infinite, unless nothing changed. NaN where a score is NaN.
    """
    if now == start:
        return 0.0
    if math.isnan(now) or math.isnan(start):
        return math.nan
    if start == 0 or math.isinf(start):
        return math.inf if (now > start) == lower_better else -math.inf
    return -relative_gain(start, now, lower_better)


def compare_means(anchors: dict[str, float], lower_better: dict[str, bool], start: dict[str, float],
                  now: dict[str, float]) -> Findings:
    """Hold the means of a set to the anchors.

    Args:
        anchors (dict[str, float]): Metric -> percent that it may be worse.
        lower_better (dict[str, bool]): Of each metric.
        start, now (dict[str, float]): Means by metric; where one is missing (a set without GT), nothing is found.

    Returns:
        Findings
    """
    findings = Findings()
    for name in (name for name in anchors if name in start and name in now):
        worse = worsening(start[name], now[name], lower_better[name])
        text = (f'{name} is {abs(worse):.2f} % {"better" if worse < 0 else "worse"} than at the start, {now[name]:.4g} '
                f'after {start[name]:.4g} (may be {anchors[name]:g} % worse).')
        (findings.passed if worse <= anchors[name] else findings.failed).append(text)  # NaN fails
        findings.scalars[f'{name}_worse'] = worse
    return findings


def compare_clips(rule: ArtifactRule, lower_better: dict[str, bool], start: dict[str, dict[str, Any]],
                  now: dict[str, Look]) -> Findings:
    """Judge what the watched clips of a set showed.

    Args:
        rule (ArtifactRule): The thresholds.
        lower_better (dict[str, bool]): Of each optimised metric.
        start (dict[str, dict]): Clip -> ``scores`` at the start, as in :class:`Look`.
        now (dict[str, Look]): Clip -> what it shows now.

    Returns:
        Findings
    """
    findings, gaming = Findings(), {}
    for metric, lower in lower_better.items():
        entry = gaming[metric] = perturbed_gains(
            {clip: {'tuned': look.scores[metric], 'baseline': start[clip]['scores'][metric]}
             for clip, look in now.items()}, lower)
        if math.isnan(entry['gain']):
            findings.failed.append(f'The score in {shown_name(metric)}, {entry["tuned"]:.4g}, cannot be compared with '
                                   f'that of the start, {entry["baseline"]:.4g}.')
        kept = [perturbed['kept'] for perturbed in entry['perturbations'].values() if perturbed['kept'] is not None]
        if kept:
            findings.scalars[f'{metric}_kept'] = min(kept)
            if min(kept) >= rule.least_kept:
                findings.passed.append(f'{100 * min(kept):.0f} % of the gain in {shown_name(metric)} are kept (at '
                                       f'least {100 * rule.least_kept:g} %).')
    spectra = [look.spectrum for look in now.values() if look.spectrum is not None]
    spectrum: dict[str, Any]
    spectrum = DifferenceSpectrum.merged(spectra).result() if spectra else {'peaks': [], 'blocks': 0}
    flags = artifact_flags([{'model': '', 'loss': '', 'dataset': '', 'gaming': gaming, 'spectrum': spectrum,
                             'settings': SETTINGS}], rule)
    findings.failed += [flag.reason for flag in flags]
    peak = strongest_peak(spectrum, rule)
    if peak and spectrum['blocks'] >= rule.least_blocks:
        findings.scalars.update(peak_ratio=peak['ratio'], peak_amplitude=peak['amplitude'])
        if not any(flag.rule == 'spectrum' for flag in flags):
            findings.passed.append(f'The strongest peak in the spectrum is {peak["ratio"]:.1f} times above its '
                                   f'surroundings, with an amplitude of {peak["amplitude"]:.2f} grey levels.')
    return findings
