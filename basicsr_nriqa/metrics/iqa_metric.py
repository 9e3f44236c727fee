"""Quality metrics in BasicSR's METRIC_REGISTRY, and the same numbers computed in batches on a device."""
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from basicsr.utils.img_util import img2tensor
from basicsr.utils.registry import METRIC_REGISTRY
from torch import Tensor

from basicsr_nriqa.iqa import (
    MetricError,
    MetricInfo,
    QualityMetric,
    check_metric,
    create_metric,
    metric_options,
    refuse_unknown,
)
from basicsr_nriqa.option_values import is_count

# (process, device, name, options) -> metric: validation asks for the same ones again and again
_built: dict[tuple[int, str, str, str], QualityMetric] = {}


def cached_metric(name: str, device: torch.device | str, **options: Any) -> QualityMetric:
    """The metric ``name`` on ``device``, built once per process."""
    key = os.getpid(), str(device), name, repr(sorted(options.items()))
    if key not in _built:
        _built[key] = create_metric(name, **options).to(device)
    return _built[key]


@torch.no_grad()
def score_frames(frames: Tensor, reference: Tensor | None, metric: str, crop_border: int = 0, batch: int = 1,
                 **options: Any) -> Tensor:
    """Score frames on their device.

    Args:
        frames (Tensor): (t,3,h,w) RGB in [0,1], as a saved 8-bit image would hold them.
        reference (Tensor | None): The same shape, for full-reference metrics.
        metric (str): Name of the metric.
        crop_border (int): Pixels left out at each side.
        batch (int): Frames scored at once: more is faster on a GPU and takes more memory.
        **options (Any): Of the metric.

    Returns:
        Tensor: (t,) raw scores on the CPU; (1,), that of the clip, for clip metrics.

    Raises:
        MetricError: unknown metric or option, missing weights, or frames that the metric cannot score.
    """
    _check_counts(metric, crop_border, batch)
    network = cached_metric(metric, frames.device, **options)
    if frames.ndim != 4 or frames.shape[1] != 3:
        raise MetricError(f'{metric}: frames must be (t,3,h,w), got {tuple(frames.shape)}.')
    if crop_border:
        if 2 * crop_border >= min(frames.shape[2:]):
            height, width = frames.shape[2:]
            raise MetricError(f'{metric}: crop_border {crop_border} leaves nothing of {width}x{height} px; expected '
                              'less than half of the shorter side.')
        inside = slice(crop_border, -crop_border)
        frames = frames[..., inside, inside]
        reference = reference if reference is None else reference[..., inside, inside]
    if not network.info.full_reference:
        reference = None
    if network.info.clip:
        return network(frames.unsqueeze(0)).cpu()
    return torch.cat([
        network(frames[i:i + batch], None if reference is None else reference[i:i + batch]).cpu()
        for i in range(0, len(frames), batch)])


@METRIC_REGISTRY.register()
def calculate_iqa(img: np.ndarray, img2: np.ndarray | None = None, metric: str = '', crop_border: int = 0,
                  better: Literal['higher', 'lower'] | None = None, device: str | None = None, batch: int = 1,
                  **options: Any) -> float:
    """Any quality metric as BasicSR calls its own: ``{type: calculate_iqa, metric: NAME, better: higher}``.

    Args:
        img (ndarray): (h,w,3) uint8 BGR.
        img2 (ndarray | None): Reference of the same shape; no-reference metrics ignore it.
        metric (str): Name in the catalogue or in pyiqa; must be given.
        crop_border (int): Pixels left out at each side, 0 or more. Default: 0.
        better (str | None): ``higher`` or ``lower``, by which models choose the best network; this function does not
            read it. Default: ``higher``.
        device (str | None): Where it is computed, such as ``cpu`` or ``cuda:0``; the models of this plugin use their
            own. Default: CUDA where there is one.
        batch (int): Frames scored at once by the models of this plugin, 1 or more: more is faster on a GPU and takes
            more memory. Default: 1.
        **options (Any): Of the metric.

    Returns:
        float: The raw score.

    Raises:
        MetricError: unknown metric or option, missing weights, no image, a grey one or one with alpha, too small an
            image, or no reference where one is needed.
    """
    for name, image in (('img', img), ('img2', img2)):
        if isinstance(image, np.ndarray):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != 'uint8':
                hint = 'Repeat a grey image three times, leave an alpha channel out.' if image.dtype == 'uint8' else \
                    "Of values in [0,1] make (255 * img).round().astype('uint8')."
                raise MetricError(f'{metric}: {name}: expected (h,w,3) uint8, BGR, got {image.shape} {image.dtype}. '
                                  f'{hint}')
        elif image is not None or name == 'img':
            raise MetricError(f'{metric}: {name}: expected an array (h,w,3) uint8, BGR, as cv2.imread gives it of a '
                              f'file that it can read, got {type(image).__name__}.')
    device = _usable(device, partial(torch.empty, 0)) or ('cuda' if torch.cuda.is_available() else 'cpu')
    distorted = _on_device(img, device)
    reference = None if img2 is None else _on_device(img2, device)
    return score_frames(distorted, reference, metric, crop_border, **options).item()


def _usable(device: str | None, try_it: Callable[..., Any]) -> str | None:
    try:
        if device is not None:
            try_it(device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise MetricError(f'calculate_iqa: device must be one that PyTorch can use here, such as cpu or cuda:0, got '
                          f'{device!r} ({str(error).splitlines()[0]}). Leave it out to have one chosen.') from None
    return device


def _on_device(image: np.ndarray, device: str) -> Tensor:
    """(h,w,3) uint8 BGR -> (1,3,h,w) RGB in [0,1]."""
    return img2tensor(image).unsqueeze(0).to(device) / 255


def _check(options: dict[str, Any]) -> MetricInfo:
    """Check the options of a metric before anything is built, as ``IQALoss.check`` does for losses."""
    own = ('type', 'metric', 'crop_border', 'better', 'device', 'batch')
    known = sorted({*own, *metric_options(options.get('metric', ''))})
    refuse_unknown(f"calculate_iqa with metric '{options['metric']}'", options, known)
    _check_counts('calculate_iqa', options.get('crop_border', 0), options.get('batch', 1))
    _usable(options.get('device'), torch.device)  # whether it is here is seen when, and only if, it is used
    return check_metric(options['metric'], **{key: value for key, value in options.items() if key not in own})


def _check_counts(what: str, crop_border: object, batch: object) -> None:
    if not is_count(crop_border, 0):
        raise MetricError(f'{what}: crop_border must be a whole number of px, 0 or more, got {crop_border!r}.')
    if not is_count(batch):
        raise MetricError(f'{what}: batch must be a whole number of frames, 1 or more, got {batch!r}.')


calculate_iqa.check = _check
