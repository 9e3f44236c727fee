"""Relative gain: by how many percent fine-tuning improved each metric over the baseline model.

Kashkarov et al., Can No-Reference Quality-Assessment Methods Serve as Perceptual Losses for Super-Resolution?,
Section III.C, equation 1 and Fig. 2.
"""
import re
from dataclasses import dataclass, field

import numpy as np

from basicsr_nriqa.study.scores import join_names, read_scores

# The direction of metrics whose score files do not say it.
_LOWER_BETTER = {
    **dict.fromkeys(('lpips', 'lpipsvgg', 'stlpips', 'dists', 'pieapp', 'gmsd', 'mad', 'nlpd', 'niqe', 'ilniqe', 'piqe',
                     'brisque', 'pi', 'mse', 'mae', 'charbonnier'), True),
    **dict.fromkeys(('psnr', 'psnry', 'ssim', 'ssimc', 'msssim', 'cwssim', 'fsim', 'vsi', 'vif', 'dbcnn', 'nima',
                     'paq2piq', 'hyperiqa', 'mdtvsfa', 'maniqa', 'clipiqa', 'musiq', 'topiqnr'), False),
}


def relative_gain(baseline, tuned, lower_better):
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


@dataclass(frozen=True, eq=False)
class GainTable:
    """The numbers of Fig. 2: rows are losses, best first, columns are metrics.

    Attributes:
        losses (list[str]): Row labels.
        metrics (list[str]): Column labels.
        gains (ndarray): (losses, metrics), percent, averaged over models and datasets; NaN where scores are missing.
        optimised (ndarray): (losses, metrics), bool: the loss of this row contained the metric of this column, so its
            gain is no evidence for better quality.
        lower_better (dict[str, bool]): Direction of each metric.
        baselines (dict[tuple[str, str], dict[str, float]]): ``{(model, dataset): {metric: mean score}}``.
        group_gains (dict[tuple[str, str], dict[str, ndarray]]): ``{(model, dataset): {loss: (metrics,) percent}}``.
        sources (dict[Path, dict]): The score files that were read and their content.
        notes (list[str]): What a reader of the table has to know about its sources.
    """

    losses: list
    metrics: list
    gains: np.ndarray
    optimised: np.ndarray
    lower_better: dict = field(default_factory=dict)
    baselines: dict = field(default_factory=dict)
    group_gains: dict = field(default_factory=dict)
    sources: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)

    @property
    def average(self):
        """ndarray: (losses,), percent, mean over all metrics: the last column of Fig. 2."""
        return self.gains.mean(axis=1)


def gain_table(score_files, baseline='baseline'):
    """Compare every tuned model with its baseline, as in Fig. 2.

    For each model and dataset: every metric is averaged over the videos first, then the gain is taken (Section III.C).
    The gains are averaged over models and datasets. Rows are ordered by their mean over metrics, best first.

    Args:
        score_files (Iterable[str | Path]): Score files, see :mod:`basicsr_nriqa.study.scores`. Their `lower_better`
            says the direction of a metric; for files without it a small table of well-known metrics is used.
        baseline (str): The `loss` of the models that were not fine-tuned.

    Returns:
        GainTable: Rows are all losses but the baseline.

    Raises:
        ValueError: A model and dataset without exactly one baseline or with the same loss twice; videos or metrics that
            differ between files to compare; a metric of unknown direction; a baseline score of zero. Names the files.
        FileNotFoundError: No such score file.
    """
    sources = {path: read_scores(path) for path in score_files}
    groups = _group(sources)
    base_paths = {group: _baseline_path(group, paths, baseline) for group, paths in groups.items()}
    first = next(iter(base_paths.values()), None)
    losses = sorted({scores['loss'] for scores in sources.values()} - {baseline})
    if not losses:
        raise ValueError(f'nothing to compare: no score file has a loss other than {baseline!r}')
    means = {path: _means(scores) for path, scores in sources.items()}
    metrics = list(means[first])
    for group, paths in groups.items():
        base_path = base_paths[group]
        for path in paths.values():
            _check_same('videos', sources[base_path]['videos'], base_path, sources[path]['videos'], path)
            _check_same('metrics', means[base_path], base_path, means[path], path)
        _check_same('metrics', metrics, first, means[base_path], base_path)
    lower_better = {metric: _direction(metric, sources) for metric in metrics}

    baselines, group_gains = {}, {}
    for group, paths in groups.items():
        baselines[group] = means[base_paths[group]]
        for metric, mean in baselines[group].items():
            if mean == 0:
                raise ValueError(f'{base_paths[group]}: the baseline score of {metric} is 0, to which nothing is '
                                 'relative; leave this metric out of the score files')
        group_gains[group] = {
            loss: relative_gain([baselines[group][metric] for metric in metrics],
                                [means[paths[loss]][metric] for metric in metrics],
                                [lower_better[metric] for metric in metrics])
            for loss in losses if loss in paths}

    gains = {loss: np.mean([rows[loss] for rows in group_gains.values() if loss in rows], axis=0) for loss in losses}
    # NaN compares false with everything, so that it needs a place of its own: last
    losses.sort(key=lambda loss: (np.isnan(gains[loss].mean()), -np.nan_to_num(gains[loss].mean()), loss))
    return GainTable(losses=losses, metrics=metrics, gains=np.stack([gains[loss] for loss in losses]),
                     optimised=_optimised(losses, metrics, sources), lower_better=lower_better, baselines=baselines,
                     group_gains=group_gains, sources=sources, notes=_notes(losses, group_gains, sources, means))


def _group(sources):
    """``{(model, dataset): {loss: path}}``, sorted."""
    groups = {}
    for path, scores in sources.items():
        paths = groups.setdefault((scores['model'], scores['dataset']), {})
        if scores['loss'] in paths:
            raise ValueError(f'{paths[scores["loss"]]} and {path} are both {scores["loss"]!r} of {scores["model"]} on '
                             f'{scores["dataset"]}; keep one of them')
        paths[scores['loss']] = path
    return dict(sorted(groups.items()))


def _baseline_path(group, paths, baseline):
    if baseline not in paths:
        model, dataset = group
        raise ValueError(f'no baseline for {model} on {dataset}: none of {join_names([*map(str, paths.values())])} has '
                         f'the loss {baseline!r} (there are: {join_names(sorted(paths))}); add its score file or name '
                         'another baseline')
    return paths[baseline]


def _check_same(what, expected, expected_path, given, given_path):
    expected, given = set(expected), set(given)
    if expected != given:
        raise ValueError(f'{expected_path} and {given_path} do not have the same {what}: only the first has '
                         f'{join_names(sorted(expected - given)) or "none"}; only the second has '
                         f'{join_names(sorted(given - expected)) or "none"}; test both on the same')


def _means(scores):
    """``{metric: mean over the videos}``; every video has the same metrics."""
    videos = list(scores['videos'].values())
    return {metric: float(np.mean([video[metric] for video in videos])) for metric in videos[0]}


def _direction(metric, sources):
    said = {scores['lower_better'][metric]: path for path, scores in sources.items()
            if metric in scores['lower_better']}
    if len(said) == 2:
        raise ValueError(f'{said[True]} says that a lower {metric} is better, {said[False]} that a higher one is; '
                         'correct lower_better in one of them')
    if said:
        return next(iter(said))
    if _plain(metric) not in _LOWER_BETTER:
        raise ValueError(f'whether a lower or higher {metric} is better is unknown; add "lower_better": '
                         f'{{"{metric}": true or false}} to {next(iter(sources))}')
    return _LOWER_BETTER[_plain(metric)]


def _plain(name):
    """A metric's name without case and punctuation: CLIP-IQA, clip_iqa and clipiqa are one metric, clipiqa+ another."""
    return re.sub(r'[^a-z0-9+]', '', name.lower())


def _optimised(losses, metrics, sources):
    named = {loss: set() for loss in losses}
    for scores in sources.values():
        named.get(scores['loss'], set()).update(map(_plain, scores['optimised']))
    return np.array([[_plain(metric) in named[loss] for metric in metrics] for loss in losses])


def _notes(losses, group_gains, sources, means):
    notes = []
    for loss in losses:
        having = [group for group, rows in group_gains.items() if loss in rows]
        if len(having) < len(group_gains):
            names = join_names([f'{model} on {dataset}' for model, dataset in having])
            notes.append(f'{loss}: scored for {len(having)} of {len(group_gains)} models and datasets only ({names}); '
                         'its row is an average over those.')
    seen = {}
    for scores in sources.values():
        for package, version in scores['versions'].items():
            seen.setdefault(package, set()).add(str(version))
    notes += [f'The score files were made with different versions of {package}: {", ".join(sorted(versions))}.'
              for package, versions in seen.items() if len(versions) > 1]
    missing = [str(path) for path, scores in means.items() if np.isnan(list(scores.values())).any()]
    if missing:
        notes.append(f'Scores that were not finite leave n/a in the table: {join_names(missing)}.')
    return notes
