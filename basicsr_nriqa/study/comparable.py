"""Whether score files can be compared at all. Whatever speaks against it is an error that names the files."""
import math

from basicsr_nriqa.study.metric_names import LOWER_BETTER, plain_name
from basicsr_nriqa.study.scores import join_names


def group_scores(sources):
    """Sort score files by what they are of.

    Args:
        sources (dict[Path, dict]): Score files and their content, see :mod:`basicsr_nriqa.study.scores`.

    Returns:
        dict[tuple[str, str], dict[str, Path]]: ``{(model, dataset): {loss: path}}``, sorted by model and dataset.

    Raises:
        ValueError: Two files of one model, dataset and loss.
    """
    groups = {}
    for path, scores in sources.items():
        paths = groups.setdefault((scores['model'], scores['dataset']), {})
        if scores['loss'] in paths:
            raise ValueError(f'{paths[scores["loss"]]} and {path} are both {scores["loss"]!r} of {scores["model"]} on '
                             f'{scores["dataset"]}; keep one of them')
        paths[scores['loss']] = path
    return dict(sorted(groups.items()))


def baseline_paths(groups, baseline):
    """The baseline's file of every model and dataset.

    Args:
        groups (dict): As :func:`group_scores` returns them.
        baseline (str): The `loss` of the models that were not fine-tuned.

    Returns:
        dict[tuple[str, str], Path]: ``{(model, dataset): path}``.

    Raises:
        ValueError: One has none.
    """
    for (model, dataset), paths in groups.items():
        if baseline not in paths:
            raise ValueError(
                f'no baseline for {model} on {dataset}: none of {join_names([*map(str, paths.values())])} has the '
                f'loss {baseline!r} (there are: {join_names(sorted(paths))}); add its score file or name another '
                'baseline')
    return {group: paths[baseline] for group, paths in groups.items()}


def check_same_test(sources, groups, base_paths):
    """Check that what is compared was measured on the same videos with the same metrics.

    Args:
        sources (dict[Path, dict]): Score files and their content.
        groups (dict): As :func:`group_scores` returns them.
        base_paths (dict): As :func:`baseline_paths` returns them.

    Raises:
        ValueError: Videos that differ between files of one dataset, metrics that differ between any files, one metric
            under two names in a file.
    """
    first_of_all = next(iter(base_paths.values()))
    first_of_dataset = {}
    for group, paths in groups.items():
        base_path = base_paths[group]
        # models of one dataset are averaged and drawn together, and so shall have the same videos, too
        first = first_of_dataset.setdefault(group[1], base_path)
        for path in (base_path, *paths.values()):
            _check_same('videos', sources[first]['videos'], first, sources[path]['videos'], path)
            _check_same('metrics', _metrics(sources[first_of_all]), first_of_all, _metrics(sources[path]), path)
    seen = {}
    for metric in _metrics(sources[first_of_all]):
        other = seen.setdefault(plain_name(metric), metric)
        if other != metric:
            raise ValueError(f'{first_of_all}: {other} and {metric} are names of one metric; leave one of them out')


def check_baseline_scores(sources, base_paths):
    """Check that there is something to be relative to.

    Args:
        sources (dict[Path, dict]): Score files and their content.
        base_paths (dict): As :func:`baseline_paths` returns them.

    Raises:
        ValueError: A baseline score is missing, or its mean over the videos is zero.
    """
    for path in base_paths.values():
        videos = sources[path]['videos']
        for metric in _metrics(sources[path]):
            missing = [video for video, scores in videos.items() if math.isnan(scores[metric])]
            if missing:
                raise ValueError(f'{path}: the baseline score of {metric} is missing (null or not finite) for '
                                 f'{join_names(missing)}, and nothing can be compared with it; test the baseline again '
                                 'or leave these videos or this metric out of all score files')
            values = [scores[metric] for scores in videos.values()]
            if abs(math.fsum(values)) <= 1e-12 * math.fsum(map(abs, values)):  # what rounding leaves of a sum of 0
                raise ValueError(f'{path}: the baseline score of {metric} is 0 on average over '
                                 f'{join_names(list(videos))}, and nothing is relative to 0; leave this metric out of '
                                 'all score files')


def direction(metric, sources):
    """Whether a lower score of a metric is better.

    Args:
        metric (str): Its name in the score files.
        sources (dict[Path, dict]): Score files and their content.

    Raises:
        ValueError: The files contradict each other, or none says it and the metric is not a well-known one.
    """
    said = {scores['lower_better'][metric]: path for path, scores in sources.items()
            if metric in scores['lower_better']}
    if len(said) == 2:
        raise ValueError(f'{said[True]} says that a lower {metric} is better, {said[False]} that a higher one is; '
                         'correct lower_better in one of them')
    if said:
        return next(iter(said))
    if plain_name(metric) not in LOWER_BETTER:
        raise ValueError(f'whether a lower or higher {metric} is better is unknown; add "lower_better": '
                         f'{{"{metric}": true or false}} to {next(iter(sources))}')
    return LOWER_BETTER[plain_name(metric)]


def optimised_metrics(sources, losses):
    """What each loss contained, as far as score files say it; nothing is guessed from its label.

    Args:
        sources (dict[Path, dict]): Score files and their content.
        losses (Iterable[str]): Those that are asked for: all but the baseline.

    Returns:
        dict[str, set[str]]: ``{loss: metrics}`` by :func:`~basicsr_nriqa.study.metric_names.plain_name`; without the
        losses of which no file says it.

    Raises:
        ValueError: Files of one loss say different things.
    """
    said = {}
    for path, scores in sources.items():
        if scores['optimised'] is None or scores['loss'] not in losses:
            continue
        metrics = set(map(plain_name, scores['optimised']))
        other, expected = said.setdefault(scores['loss'], (path, metrics))
        if metrics != expected:
            raise ValueError(f'{other} and {path} are both {scores["loss"]!r}, but the first optimised '
                             f'{join_names(sorted(expected)) or "nothing"}, the second '
                             f'{join_names(sorted(metrics)) or "nothing"}; correct their key \'optimised\', or give '
                             'them different losses')
    return {loss: metrics for loss, (_, metrics) in said.items()}


def check_checkpoints(sources):
    """Check that the same weights always have the same label, where the files tell their sha256.

    Args:
        sources (dict[Path, dict]): Score files and their content.

    Raises:
        ValueError: One model was scored under the labels of two losses: a test was run with a wrong checkpoint.
    """
    seen = {}
    for path, scores in sources.items():
        digest = scores['checkpoint_sha256']
        other = seen.setdefault((scores['model'], digest), path)
        if digest and sources[other]['loss'] != scores['loss']:
            raise ValueError(f'{other} is {sources[other]["loss"]!r} and {path} is {scores["loss"]!r}, but their '
                             f'checkpoint_sha256 is the same, {digest[:16]}...: one model under two labels; test each '
                             'loss with its own checkpoint')


def mixed_versions_notes(sources, allowed=False):
    """Compare what the scores depend on: packages, metrics' weights, and for each loss the tested checkpoint.

    Args:
        sources (dict[Path, dict]): Score files and their content.
        allowed (bool): Whether differences are to be noted rather than refused.

    Returns:
        list[str]: A sentence for every field of `versions` that differs between files that have it, and for every
        model and loss whose datasets were tested with different checkpoints.

    Raises:
        ValueError: There is one and it is not allowed.
    """
    seen = {}
    for path, scores in sources.items():
        found = {f'versions.{field}': version for field, version in scores['versions'].items()}
        if scores['checkpoint_sha256']:
            found[f'checkpoint_sha256 of {scores["loss"]} with {scores["model"]}'] = scores['checkpoint_sha256'][:16]
        for field, value in found.items():
            seen.setdefault(field, {}).setdefault(value, path)
    differing = {field: values for field, values in seen.items() if len(values) > 1}
    if differing and not allowed:
        field, ((value, path), (other, other_path), *_) = next((name, values.items())
                                                               for name, values in differing.items())
        more = f' (so do {join_names(list(differing)[1:])})' if len(differing) > 1 else ''
        raise ValueError(f'{path} and {other_path} differ in {field}: {value} and {other}{more}. Such scores cannot be '
                         'compared safely; test both in the same environment, or allow it with --mixed-versions '
                         '(mixed_versions=True), which notes it in the report')
    return [f'The score files differ in {field}: {", ".join(sorted(values))}.' for field, values in differing.items()]


def _metrics(scores):
    """Every video of a file has the same metrics."""
    return list(next(iter(scores['videos'].values())))


def _check_same(what, expected, expected_path, given, given_path):
    expected, given = set(expected), set(given)
    if expected != given:
        raise ValueError(f'{expected_path} and {given_path} do not have the same {what}: only the first has '
                         f'{join_names(sorted(expected - given)) or "none"}; only the second has '
                         f'{join_names(sorted(given - expected)) or "none"}; test both on the same')
