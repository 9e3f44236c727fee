"""Relative gain: by how many percent fine-tuning improved each metric over the baseline model.

Kashkarov et al., Can No-Reference Quality-Assessment Methods Serve as Perceptual Losses for Super-Resolution?,
Section III.C, equation 1 and Fig. 2.
"""
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from basicsr_nriqa.study.bootstrap import draw_weights, interval, resampled_gains
from basicsr_nriqa.study.comparable import (
    baseline_paths,
    check_baseline_scores,
    check_checkpoints,
    check_same_test,
    direction,
    group_scores,
    mixed_versions_notes,
    optimised_metrics,
)
from basicsr_nriqa.study.equation_1 import relative_gain
from basicsr_nriqa.study.metric_names import plain_name, shown_name
from basicsr_nriqa.study.scores import join_names, read_scores

__all__ = ['GainTable', 'View', 'gain_table', 'relative_gain']

Group = tuple[str, str]  # model, dataset


@dataclass(frozen=True, eq=False)
class View:
    """The table for one model or the average over all, on one dataset or the average over all.

    Low and high are the ends of a 95 % interval: percentile bootstrap over the videos of each dataset
    (``basicsr_nriqa/study/bootstrap.py``). They are NaN where there is none, as with a single video.

    Attributes:
        losses (list[str]): Rows, in the order of the table: those that have scores here.
        gains, low, high (ndarray): (losses, metrics), percent.
        average, average_low, average_high (ndarray): (losses,), percent, of the mean over all metrics.
        judges_average, judges_low, judges_high (ndarray | None): (losses,), percent, of the mean over the table's
            judges; None where it has none.
    """

    losses: list[str]
    gains: np.ndarray
    low: np.ndarray
    high: np.ndarray
    average: np.ndarray
    average_low: np.ndarray
    average_high: np.ndarray
    judges_average: np.ndarray | None = None
    judges_low: np.ndarray | None = None
    judges_high: np.ndarray | None = None

    def with_means(self) -> list[np.ndarray]:
        """The numbers of all columns that :attr:`GainTable.columns` names.

        Returns:
            list[ndarray]: Gains and the low and high ends of their intervals, each (losses, columns), percent.
        """
        parts = ((self.gains, self.average, self.judges_average),
                 (self.low, self.average_low, self.judges_low),
                 (self.high, self.average_high, self.judges_high))
        return [np.column_stack([columns for columns in part if columns is not None]) for part in parts]


@dataclass(frozen=True, eq=False)
class GainTable:
    """The numbers of Fig. 2: rows are losses, best first, columns are metrics.

    Attributes:
        losses (list[str]): Row labels.
        metrics (list[str]): Column labels, first those of the judges.
        gains (ndarray): (losses, metrics), percent, averaged over models and datasets; NaN where scores are missing.
        optimised (ndarray): (losses, metrics), bool: the loss of this row contained the metric of this column, so its
            gain is no evidence for better quality.
        judges (list[str]): Metrics that no loss optimised. Empty where there is nothing to separate, because all or
            none are such, and where it is not known, because a loss does not say what it optimised.
        lower_better (dict[str, bool]): Direction of each metric.
        baselines (dict[tuple[str, str], dict[str, float]]): ``{(model, dataset): {metric: mean score}}``.
        group_gains (dict[tuple[str, str], dict[str, ndarray]]): ``{(model, dataset): {loss: (metrics,) percent}}``.
        sources (dict[Path, dict]): The score files that were read and their content.
        notes (list[str]): What a reader of the table has to know about its sources.
        views (dict[tuple[str | None, str | None], View]): ``{(model, dataset): view}``; None averages over all, so
            that ``(None, None)`` is Fig. 2. Without those for which no loss has scores.
    """

    losses: list[str]
    metrics: list[str]
    gains: np.ndarray
    optimised: np.ndarray
    judges: list[str] = field(default_factory=list)
    lower_better: dict[str, bool] = field(default_factory=dict)
    baselines: dict[Group, dict[str, float]] = field(default_factory=dict)
    group_gains: dict[Group, dict[str, np.ndarray]] = field(default_factory=dict)
    sources: dict[Path, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    views: dict[tuple[str | None, str | None], View] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """list[str]: Headings: the metrics, ``Average`` and, if there are judges, ``Judges`` for their mean."""
        return [*map(shown_name, self.metrics), 'Average', *['Judges'] * bool(self.judges)]

    @property
    def average(self) -> np.ndarray:
        """ndarray: (losses,), percent, mean over all metrics: the last column of Fig. 2."""
        return self.gains.mean(axis=1)

    @property
    def models(self) -> list[str]:
        """list[str]: Names of the models, sorted."""
        return sorted({model for model, _ in self.group_gains})

    @property
    def datasets(self) -> list[str]:
        """list[str]: Names of the datasets, sorted."""
        return sorted({dataset for _, dataset in self.group_gains})


def gain_table(score_files: Iterable[str | Path], baseline: str = 'baseline', mixed_versions: bool = False,
               resamples: int = 2000, seed: int = 0) -> GainTable:
    """Compare every tuned model with its baseline, as in Fig. 2.

    For each model and dataset: every metric is averaged over the videos first, then the gain is taken (Section III.C).
    The gains are averaged over models and datasets. Rows are ordered by their mean over metrics, best first. Metrics
    that no loss optimised, nor a baseline as far as its files say it, are judges and come first; otherwise columns have
    the order of the first file.

    Args:
        score_files (Iterable[str | Path]): Score files, see :mod:`basicsr_nriqa.study.scores`. Their `lower_better`
            says the direction of a metric; for files without it a small table of well-known metrics is used.
        baseline (str): The `loss` of the models that were not fine-tuned.
        mixed_versions (bool): Compare files of different versions all the same, with a note.
        resamples (int): Draws of the bootstrap.
        seed (int): Of the draws.

    Returns:
        GainTable: Rows are all losses but the baseline. A score of a tuned model that is missing, as after a training
        that diverged, leaves NaN.

    Raises:
        ValueError: A model and dataset without exactly one baseline or with the same loss twice; files to compare that
            differ in videos, metrics or versions; one checkpoint under two losses; a metric of unknown direction; a
            baseline score that is missing or zero. Names the files.
        FileNotFoundError: No such score file.
    """
    sources = {path: read_scores(path) for path in map(Path, score_files)}
    groups = group_scores(sources)
    base_paths = baseline_paths(groups, baseline)
    losses = sorted({scores['loss'] for scores in sources.values()} - {baseline})
    if not losses:
        raise ValueError(f'nothing to compare: no score file has a loss other than {baseline!r}; give those of '
                         'fine-tuned models, too')
    check_same_test(sources, groups, base_paths)
    check_baseline_scores(sources, base_paths)
    check_checkpoints(sources)
    notes = mixed_versions_notes(sources, mixed_versions)
    optimised = optimised_metrics(sources, losses)
    metrics = list(next(iter(sources[next(iter(base_paths.values()))]['videos'].values())))
    judges = _judges(metrics, sources, losses, optimised)
    metrics.sort(key=lambda metric: metric not in judges)
    lower_better = {metric: direction(metric, sources) for metric in metrics}

    baselines, weights = {}, {}
    group_gains: dict[Group, dict[str, np.ndarray]] = {}
    group_samples: dict[Group, dict[str, np.ndarray]] = {}
    for group, paths in groups.items():
        base_scores = _matrix(sources[base_paths[group]], metrics)
        baselines[group] = dict(zip(metrics, base_scores.mean(axis=0).tolist()))
        if group[1] not in weights:
            weights[group[1]] = draw_weights(group[1], len(base_scores), resamples, seed)
        group_gains[group], group_samples[group] = {}, {}
        for loss in losses:
            if loss in paths:
                tuned_scores, directions = _matrix(sources[paths[loss]], metrics), [*lower_better.values()]
                group_gains[group][loss] = relative_gain(base_scores.mean(axis=0), tuned_scores.mean(axis=0),
                                                         directions)
                group_samples[group][loss] = resampled_gains(weights[group[1]], base_scores, tuned_scores, directions)

    averages = {loss: gains.mean() for loss, gains in _means(group_gains, losses).items()}
    # NaN compares false with everything, so that it needs a place of its own: last
    losses.sort(key=lambda loss: (np.isnan(averages[loss]), -np.nan_to_num(averages[loss]), loss))
    views = _views(losses, group_gains, group_samples, len(judges))
    return GainTable(
        losses=losses, metrics=metrics, gains=views[None, None].gains,
        optimised=np.array([[plain_name(metric) in optimised.get(loss, ()) for metric in metrics] for loss in losses]),
        judges=judges, lower_better=lower_better, baselines=baselines, group_gains=group_gains, sources=sources,
        notes=[*_notes(losses, group_gains, optimised), *notes, *_missing_notes(sources)], views=views)


def _judges(metrics: Sequence[str], sources: dict[Path, dict[str, Any]], losses: Sequence[str],
            optimised: dict[str, set[str]]) -> list[str]:
    """The metrics that no file says were optimised, if each loss says it and if there are others."""
    known = {plain_name(metric) for scores in sources.values() for metric in scores['optimised'] or ()}
    judges = [metric for metric in metrics if plain_name(metric) not in known]
    return judges if len(optimised) == len(losses) and len(judges) < len(metrics) else []


def _matrix(scores: dict[str, Any], metrics: Sequence[str]) -> np.ndarray:
    """(videos, metrics); sorted by video, so that files to compare have the same rows."""
    return np.array([[scores['videos'][video][metric] for metric in metrics] for video in sorted(scores['videos'])])


def _means(groups: dict[Group, dict[str, np.ndarray]], losses: Sequence[str]) -> dict[str, np.ndarray]:
    """``{loss: mean over the groups that have it}``, for the losses that any has."""
    rows = {loss: [group[loss] for group in groups.values() if loss in group] for loss in losses}
    return {loss: np.mean(row, axis=0) for loss, row in rows.items() if row}


def _views(losses: Sequence[str], group_gains: dict[Group, dict[str, np.ndarray]],
           group_samples: dict[Group, dict[str, np.ndarray]],
           judge_count: int) -> dict[tuple[str | None, str | None], View]:
    views = {}
    for model in (None, *sorted({model for model, _ in group_gains})):
        for dataset in (None, *sorted({dataset for _, dataset in group_gains})):
            gains, samples = (
                _means({group: rows for group, rows in groups.items()
                        if model in (None, group[0]) and dataset in (None, group[1])}, losses)
                for groups in (group_gains, group_samples))
            if gains:
                views[model, dataset] = _view(gains, np.stack([*samples.values()], axis=1), judge_count)
    return views


def _view(gains: dict[str, np.ndarray], samples: np.ndarray, judge_count: int) -> View:
    """A view of ``{loss: (metrics,)}`` and (resamples, losses, metrics)."""
    matrix = np.stack([*gains.values()])
    # the judges are the first columns
    judges = _mean(matrix[:, :judge_count], samples[..., :judge_count]) if judge_count else (None, None, None)
    low, high = interval(samples)
    return View([*gains], matrix, low, high, *_mean(matrix, samples), *judges)


def _mean(gains: np.ndarray, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean over metrics and the ends of its interval, each (losses,)."""
    low, high = interval(samples.mean(axis=2))
    return gains.mean(axis=1), low, high


def _notes(losses: Sequence[str], group_gains: dict[Group, dict[str, np.ndarray]],
           optimised: dict[str, set[str]]) -> list[str]:
    notes = []
    for loss in losses:
        having = [group for group, rows in group_gains.items() if loss in rows]
        if len(having) < len(group_gains):
            names = join_names([f'{model} on {dataset}' for model, dataset in having])
            notes.append(f'{loss}: scored for {len(having)} of {len(group_gains)} models and datasets only ({names}); '
                         'its row is an average over those.')
    silent = [loss for loss in losses if loss not in optimised]
    if silent:
        notes.append(f'The score files do not say what these losses optimised: {join_names(silent)}. Nothing is marked '
                     'in their rows, and no metric is known to be a judge, one that no loss optimised; a key '
                     "'optimised' in their files would tell.")
    return notes


def _missing_notes(sources: dict[Path, dict[str, Any]]) -> list[str]:
    missing = [str(path) for path, scores in sources.items()
               if any(np.isnan([*video.values()]).any() for video in scores['videos'].values())]
    return [f'Scores that were not finite leave n/a in the table: {join_names(missing)}.'] if missing else []
