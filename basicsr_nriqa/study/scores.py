"""Score files: what one trained model scored on one dataset, metric by metric and video by video.

A score file is plain JSON, written by the test loop and read by everything in the study::

    {"model": "BasicVSRPP", "loss": "LPIPS & NIMA", "dataset": "REDS", "checkpoint": "net_g_15000.pth",
     "videos": {"000": {"psnr": 30.1, "lpips": 0.21}, "011": {"psnr": 28.4, "lpips": 0.27}},
     "versions": {"pyiqa": "0.1.16", "weights of lpips": "df73285e2c5b 7be5be791159"},
     "lower_better": {"psnr": false, "lpips": true}, "optimised": ["lpips"],
     "checkpoint_sha256": "9f86d081...", "device": "NVIDIA H100"}

The last four keys are optional. A score that is not finite (a diverged model, the PSNR of two equal frames) is stored
as ``null``, since JSON has no word for it, and is NaN again when read.
"""
import importlib.metadata
import json
import logging
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, SupportsFloat

from basicsr_nriqa.files import write_atomically

logger = logging.getLogger(__name__)

_KEYS: dict[str, tuple[type | tuple[type, ...], str]] = {
    'model': (str, 'a string'), 'loss': (str, 'a string'), 'dataset': (str, 'a string'),
    'checkpoint': ((str, type(None)), 'a string, or null for a method without weights'),
    'videos': (dict, 'an object {video: {metric: score}}'), 'versions': (dict, 'an object {package: version}'),
    'lower_better': (dict, 'an object {metric: true or false}'),
    'optimised': ((list, type(None)), 'a list of metric names, or null where it is not known'),
    'checkpoint_sha256': ((str, type(None)), '64 hexadecimal digits in lower case, or null'),
    'device': ((str, type(None)), 'a string, or null')}
_DEFAULTS: dict[str, Any] = {'lower_better': {}, 'optimised': None, 'checkpoint_sha256': None, 'device': None}
_LARGEST = 1e100  # no metric comes near, and sums and ratios of scores stay far from overflowing


def write_scores(path: str | Path, *, model: str, loss: str, dataset: str, checkpoint: str | None,
                 videos: Mapping[str, Mapping[str, SupportsFloat]], versions: Mapping[str, str],
                 lower_better: Mapping[str, bool] | None = None, optimised: Iterable[str] | None = None,
                 checkpoint_sha256: str | None = None, device: str | None = None) -> None:
    """Write one score file.

    Args:
        path (str | Path): The file, by custom ``scores/NAME.json``.
        model (str): Network, such as ``'BasicVSRPP'``.
        loss (str): Label of what it was fine-tuned with; ``'baseline'`` for the model that was not.
        dataset (str): What it was tested on.
        checkpoint (str | None): The weights that were tested.
        videos (dict[str, dict[str, float]]): ``{video: {metric: score}}``, the same metrics for every video. Anything
            that ``float`` takes will do: numpy and torch scalars too. Non-finite scores are stored as ``null``, and
            so are those beyond 1e100.
        versions (dict[str, str]): ``{package: version}`` of whatever the scores depend on. Files to be compared have to
            agree on what both have.
        lower_better (dict[str, bool] | None): Direction of each metric.
        optimised (Iterable[str] | None): The metrics that were part of the loss; None: not known.
        checkpoint_sha256 (str | None): The digest of the weights that were tested, in hexadecimal.
        device (str | None): Name of what computed the scores; nothing is made of it.

    Raises:
        ValueError: The content would not be a valid score file; names the file and the key.
    """
    stored = {video: {metric: _or_null(float(score)) for metric, score in scores.items()}
              for video, scores in videos.items()}
    content = {'model': model, 'loss': loss, 'dataset': dataset, 'checkpoint': checkpoint, 'videos': stored,
               'versions': dict(versions), 'lower_better': dict(lower_better or {}),
               'optimised': None if optimised is None else list(optimised), 'checkpoint_sha256': checkpoint_sha256,
               'device': device}
    _check(content, path)
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + '\n')


def _or_null(score: float) -> float | None:
    return score if abs(score) <= _LARGEST else None


def read_scores(path: str | Path) -> dict[str, Any]:
    """Read one score file and check its structure.

    Args:
        path (str | Path): A file of :func:`write_scores`, or one of the same form.

    Returns:
        dict: The content under the file's own keys; the optional ones are there even if the file has them not:
        `lower_better` is empty then, the others are None. Every score is a float. A missing score (``null``, or beyond
        1e100) is NaN and reported as a logged warning.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not JSON, or not a score file; names the file and the key.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such score file')
    try:
        content = json.loads(path.read_bytes(), parse_constant=_refuse_constant, parse_int=float,
                             object_pairs_hook=_refuse_repeated)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path}: not valid JSON ({error}); test the model again to rewrite it') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path}: expected a JSON object with the keys {", ".join(_KEYS)}, '
                         f'got a {type(content).__name__}')
    content = {**_DEFAULTS, **content}
    _check(content, path)

    missing = []
    for video, scores in content['videos'].items():
        for metric, score in scores.items():
            # 1e999 is valid JSON and reads as infinity
            scores[metric] = score if score is not None and abs(score) <= _LARGEST else math.nan
            if math.isnan(scores[metric]):
                missing.append(f'{metric} of {video}')
    if missing:
        logger.warning('%s: scores are missing because they were not finite: %s', path, join_names(missing))
    return content


def find_scores(paths: Iterable[str | Path]) -> list[Path]:
    """Collect score files.

    Args:
        paths (Iterable[str | Path]): Files, taken as they are, and folders, searched recursively for ``scores/*.json``;
            a folder that is itself called ``scores`` counts.

    Returns:
        list[Path]: Every file once, sorted.

    Raises:
        FileNotFoundError: A path does not exist, or a folder has no score file.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if path.is_dir():
            files = [file for file in path.rglob('*.json') if file.absolute().parent.name == 'scores']
            if not files:
                raise FileNotFoundError(f'{path}: no scores/*.json in this folder; test a model first, or name the '
                                        'score files themselves')
        elif path.is_file():
            files = [path]
        else:
            raise FileNotFoundError(f'{path}: no such file or folder')
        for file in files:
            found.setdefault(file.resolve(), file)
    return sorted(found.values())


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions, for the ``versions`` of a result.

    Args:
        packages (Iterable[str]): Names of distributions. One that is not installed is left out: OpenCV has several, and
            that is no reason to lose a result.

    Returns:
        dict[str, str]: ``{package: version}``.
    """
    versions = {}
    for package in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def join_names(names: Sequence[str], limit: int = 5) -> str:
    """Join names for a message: ``'a, b, c and 7 more'``.

    Args:
        names (Sequence[str]): Names in the order to print.
        limit (int): How many to print before the rest is only counted.
    """
    rest = len(names) - limit
    return ', '.join(names[:limit]) + (f' and {rest} more' if rest > 0 else '')


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f'{constant} is no JSON number; a score that is not finite is null')


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f'key {next(key for key in keys if keys.count(key) > 1)!r} is there twice')
    return content


def _check(content: dict[str, Any], path: str | Path) -> None:
    for key, (kind, expected) in _KEYS.items():
        if key not in content:
            raise ValueError(f'{path}: key {key!r} is missing, expected {expected}')
        if not isinstance(content[key], kind):
            raise ValueError(f'{path}: key {key!r} should be {expected}, got {content[key]!r}')
    for key in ('model', 'loss', 'dataset'):
        if not _is_label(content[key]):
            raise ValueError(f'{path}: key {key!r} should be a name without control characters, got {content[key]!r}')
    for key in ('versions', 'lower_better'):
        _check_names(content[key], key, path)
    digest = content['checkpoint_sha256']
    if digest is not None and not re.fullmatch('[0-9a-f]{64}', digest):
        raise ValueError(f"{path}: key 'checkpoint_sha256' should be {_KEYS['checkpoint_sha256'][1]}, got {digest!r}")
    for package, version in content['versions'].items():
        if not _is_label(version):
            raise ValueError(f'{path}: key versions.{package} should be a version as a string, got {version!r}')
    for metric, lower in content['lower_better'].items():
        if not isinstance(lower, bool):
            raise ValueError(f'{path}: key lower_better.{metric} should be true or false, got {lower!r}')
    for metric in content['optimised'] or ():
        if not isinstance(metric, str):
            raise ValueError(f'{path}: key \'optimised\' should be a list of metric names, got {metric!r} in it')
    _check_videos(content['videos'], path)


def _check_videos(videos: dict[str, Any], path: str | Path) -> None:
    if not videos:
        raise ValueError(f'{path}: key \'videos\' is empty, expected at least one video')
    _check_names(videos, 'videos', path)
    metrics = None
    for video, scores in videos.items():
        if not isinstance(scores, dict) or not scores:
            raise ValueError(f'{path}: key videos.{video} should be an object {{metric: score}}, got {scores!r}')
        _check_names(scores, f'videos.{video}', path)
        metrics = metrics or set(scores)
        if set(scores) != metrics:
            raise ValueError(f'{path}: key videos.{video} has other metrics than the first video: '
                             f'{join_names(sorted(metrics ^ set(scores)))}')
        for metric, score in scores.items():
            if score is not None and (isinstance(score, bool) or not isinstance(score, (int, float))):
                raise ValueError(f'{path}: key videos.{video}.{metric} should be a number or null, got {score!r}')


def _check_names(names: Iterable[str], key: str, path: str | Path) -> None:
    for name in names:
        if not _is_label(name):
            raise ValueError(f'{path}: names in key {key} should be without control characters, got {name!r}')


def _is_label(text: object) -> bool:
    """Names end up in tables, file names and terminals. Of any script: an ideographic space is no control character."""
    return isinstance(text, str) and bool(text.strip()) and \
        not any(unicodedata.category(character) in ('Cc', 'Cs', 'Zl', 'Zp') for character in text)
