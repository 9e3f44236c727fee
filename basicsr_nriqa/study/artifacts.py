"""The direct check for artifacts: what a tuned model did to the frames of its baseline, without any reference.

Artifact files are JSON, one for each model, loss and dataset; see docs/artifacts.md::

    {"model": "BasicVSRPP", "loss": "MANIQA", "dataset": "REDS4", "videos": 4,
     "gaming": {"maniqa": {"lower_better": false, "tuned": 0.61, "baseline": 0.48, "gain": 0.13,
                           "perturbations": {"jpeg": {"tuned": 0.52, "baseline": 0.47, "gain": 0.05, "kept": 0.38,
                                                      "drop": 0.09}, ...},
                           "videos": {"000": {"tuned": {"none": 0.6, "jpeg": ...}, "baseline": {...}}, ...}}},
     "spectrum": {"identical": false, "rms": 2.1, "blocks": 880,
                  "peaks": [{"ratio": 31.0, "frequency": [0.25, 0.5], "period": 1.8, "amplitude": 0.7}, ...],
                  "log_power": [[...], ...]},
     "versions": {"basicsr-nriqa": "1.0.0", ...}, "settings": {...}}
"""
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from basicsr_nriqa.files import write_atomically
from basicsr_nriqa.iqa import check_metric, create_metric
from basicsr_nriqa.study import gaming, spectrum
from basicsr_nriqa.study.saved_frames import pair_clips
from basicsr_nriqa.study.scores import package_versions

SMALLEST_GAIN = 0.02  # of the baseline's score: of less than this nothing can be said to be kept
SETTINGS = {'jpeg_quality': gaming.JPEG_QUALITY, 'blur_sigma': gaming.BLUR_SIGMA, 'shift': 1,
            'smallest_gain': SMALLEST_GAIN, 'block': spectrum.BLOCK, 'lowest_frequency': spectrum.LOWEST_FREQUENCY}

_PACKAGES = ('basicsr-nriqa', 'torch', 'torchvision', 'pyiqa', 'numpy', 'opencv-python')
_Expected = tuple[type | tuple[type, ...], str]  # of a key: the types, and what they are in words
_OBJECT: _Expected = (dict, 'an object')
_NUMBER: _Expected = ((int, float), 'a number')
_KEYS: dict[str, _Expected] = {
    'model': (str, 'a string'), 'loss': (str, 'a string'), 'dataset': (str, 'a string'),
    'videos': (int, 'the number of videos'), 'gaming': _OBJECT, 'spectrum': _OBJECT, 'versions': _OBJECT,
    'settings': _OBJECT}
_METRIC_KEYS: dict[str, _Expected] = {
    'lower_better': (bool, 'true or false'), 'tuned': _NUMBER, 'baseline': _NUMBER, 'gain': _NUMBER,
    'perturbations': _OBJECT}
_PERTURBATION_KEYS: dict[str, _Expected] = {
    'tuned': _NUMBER, 'baseline': _NUMBER, 'gain': _NUMBER,
    'kept': ((int, float, type(None)), 'a number, or null for no gain'), 'drop': _NUMBER}
_SPECTRUM_KEYS: dict[str, _Expected] = {
    'identical': (bool, 'true or false'), 'rms': _NUMBER, 'blocks': _NUMBER, 'peaks': (list, 'a list'),
    'log_power': (list, 'a list of rows')}
_PEAK_KEYS: dict[str, _Expected] = {
    'ratio': _NUMBER, 'frequency': (list, 'two numbers'), 'period': _NUMBER, 'amplitude': _NUMBER}


def check_artifacts(tuned_folder: str | Path, baseline_folder: str | Path, metrics: Iterable[str], *, model: str,
                    loss: str, dataset: str, device: str | torch.device = 'cpu', progress: bool = True,
                    limit: int | None = None) -> dict[str, Any]:
    """Compare the saved frames of a tuned model with those of its baseline.

    Args:
        tuned_folder, baseline_folder (str | Path): Folders of one dataset as our test loop writes them
            (``results/NAME/visualization/DATASET``, with frames ``CLIP/FRAME_NAME.png``).
        metrics (Iterable[str]): The metrics that the loss contains; may be empty. Those that compare with a reference,
            which saved frames do not have, are left out.
        model, loss, dataset (str): Labels, those of the score files.
        device (str | torch.device): Where the metrics compute.
        progress (bool): Show a progress bar.
        limit (int | None): At most so many clips, spread evenly.

    Returns:
        dict: The content of an artifact file. With the tuned model T, its baseline B, a metric m and s = -1 if lower is
        better, else +1: ``gain`` is s (m(T) - m(B)), or the same after a perturbation P; ``kept`` is
        (s m(P(T)) - min(s m(B), s m(P(B)))) / gain, None where the gain is not above 2 % of ``|m(B)|``; ``drop`` is
        s (m(T) - m(P(T))). All are means over the frames of a clip, then over the clips. ``kept`` is the share of the
        gain that survives; the minimum is there because a perturbation that improves the baseline, such as a blur of
        its noise, does not make the tuned model any worse.

    Raises:
        ValueError: The folders do not hold the same frames, a frame is damaged or smaller than 64 px a side, or a
            metric is unknown or lacks its weights. Names the folder, file or metric.
    """
    # what can be wrong with the metrics is found before any frame is read
    names = [metric for metric in metrics if not check_metric(metric).full_reference]
    pairs = pair_clips(tuned_folder, baseline_folder, limit)
    built = {name: create_metric(name).to(device) for name in names}
    scores: dict[str, dict[str, dict[str, dict[str, float]]]] = {name: {} for name in names}
    differences = spectrum.DifferenceSpectrum()
    for pair in tqdm(pairs, f'{loss}, {dataset}', unit='clip', disable=not progress):
        tuned, baseline = (clip.to(device) for clip in pair.load())
        if min(tuned.shape[-2:]) < spectrum.BLOCK:
            raise ValueError(f'{tuned_folder}: the frames of clip {pair.name!r} have {tuned.shape[-1]}x'
                             f'{tuned.shape[-2]} px, expected at least {spectrum.BLOCK} px a side')
        differences.add(tuned, baseline)
        both = [gaming.score_perturbed(built, clip) for clip in (tuned, baseline)]
        for name in names:
            scores[name][pair.name] = {'tuned': both[0][name], 'baseline': both[1][name]}
    return {'model': model, 'loss': loss, 'dataset': dataset, 'videos': len(pairs),
            'gaming': {name: perturbed_gains(videos, built[name].info.lower_better)
                       for name, videos in scores.items()},
            'spectrum': differences.result(),
            'versions': package_versions(_PACKAGES),
            'settings': dict(SETTINGS)}


def perturbed_gains(videos: dict[str, dict[str, dict[str, float]]], lower_better: bool) -> dict[str, Any]:
    """The entry of one metric in ``gaming``.

    Args:
        videos (dict[str, dict]): ``{video: {'tuned': scores, 'baseline': scores}}`` with the metric's scores of
            ``basicsr_nriqa.study.gaming.score_perturbed``.
        lower_better (bool): Its direction.

    Returns:
        dict: As the module's docstring shows it.
    """
    sign = -1 if lower_better else 1

    def mean(which: str, perturbation: str) -> float:
        return sum(video[which][perturbation] for video in videos.values()) / len(videos)

    def compare(perturbation: str) -> dict[str, float]:
        tuned, baseline = mean('tuned', perturbation), mean('baseline', perturbation)
        return {'tuned': tuned, 'baseline': baseline, 'gain': sign * (tuned - baseline)}

    plain = compare('none')
    perturbations: dict[str, dict[str, Any]] = {
        name: compare(name) for name in gaming.PERTURBATIONS
        if all(name in scores for video in videos.values() for scores in video.values())}
    for perturbed in perturbations.values():
        clear = plain['gain'] > SMALLEST_GAIN * abs(plain['baseline'])
        worse_baseline = min(sign * plain['baseline'], sign * perturbed['baseline'])
        perturbed['kept'] = (sign * perturbed['tuned'] - worse_baseline) / plain['gain'] if clear else None
        perturbed['drop'] = sign * (plain['tuned'] - perturbed['tuned'])
    return {'lower_better': lower_better, **plain, 'perturbations': perturbations, 'videos': videos}


def write_artifacts(path: str | Path, content: dict[str, Any]) -> None:
    """Write one artifact file.

    Args:
        path (str | Path): The file, by custom ``artifacts/NAME.json``.
        content (dict): From :func:`check_artifacts`.

    Raises:
        ValueError: The content would not be a valid artifact file; names the file and the key.
    """
    _check(content, path)
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + '\n')


def read_artifacts(path: str | Path) -> dict[str, Any]:
    """Read one artifact file and check its structure.

    Args:
        path (str | Path): A file of :func:`write_artifacts`.

    Returns:
        dict: The content under the file's own keys.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not JSON, or not an artifact file; names the file and the key.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such artifact file')
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f'{path}: not valid JSON ({error}); check the frames again to rewrite it') from error
    _check(content, path)
    return content


def _check(content: Any, path: str | Path) -> None:
    _check_keys(content, _KEYS, path, '')
    if content['videos'] < 1:
        raise ValueError(f'{path}: key \'videos\' should be a positive number, got {content["videos"]}')
    for metric, entry in content['gaming'].items():
        _check_keys(entry, _METRIC_KEYS, path, f'gaming.{metric}.')
        for name, perturbed in entry['perturbations'].items():
            _check_keys(perturbed, _PERTURBATION_KEYS, path, f'gaming.{metric}.perturbations.{name}.')
    _check_keys(content['spectrum'], _SPECTRUM_KEYS, path, 'spectrum.')
    for index, peak in enumerate(content['spectrum']['peaks']):
        _check_keys(peak, _PEAK_KEYS, path, f'spectrum.peaks.{index}.')
        if len(peak['frequency']) != 2 or not all(map(_is_number, peak['frequency'])):
            raise ValueError(f'{path}: key \'spectrum.peaks.{index}.frequency\' should be two numbers, '
                             f'got {peak["frequency"]!r:.80}')
    rows = content['spectrum']['log_power']
    if not all(isinstance(row, list) and all(map(_is_number, row)) for row in rows):
        raise ValueError(f'{path}: key \'spectrum.log_power\' should be rows of numbers, got {rows!r:.80}')


def _is_number(value: object) -> bool:
    """Of those that JSON has; true is a number for Python, and its reader takes NaN and 1e999."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_keys(content: Any, keys: dict[str, _Expected], path: str | Path, parent: str) -> None:
    if not isinstance(content, dict):
        raise ValueError(f'{path}: expected {f"an object at {parent[:-1]!r}" if parent else "a JSON object"} with the '
                         f'keys {", ".join(keys)}, got {content!r:.80}')
    for key, (kind, expected) in keys.items():
        if key not in content:
            raise ValueError(f'{path}: key {parent + key!r} is missing, expected {expected}')
        value = content[key]
        is_other = kind is not bool and isinstance(value, (int, float)) and not _is_number(value)
        if is_other or not isinstance(value, kind):
            raise ValueError(f'{path}: key {parent + key!r} should be {expected}, got {value!r:.80}')
