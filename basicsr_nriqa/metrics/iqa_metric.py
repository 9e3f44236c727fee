"""Quality metrics in BasicSR's METRIC_REGISTRY, and the same numbers computed in batches on a device."""
import os

import torch
from basicsr.utils.img_util import img2tensor
from basicsr.utils.registry import METRIC_REGISTRY

from basicsr_nriqa.iqa import MetricError, check_metric, create_metric, metric_options, refuse_unknown

_built = {}  # (process, device, name, options) -> metric: validation asks for the same ones again and again


def cached_metric(name, device, **options):
    """The metric ``name`` on ``device``, built once per process."""
    key = os.getpid(), str(device), name, repr(sorted(options.items()))
    if key not in _built:
        _built[key] = create_metric(name, **options).to(device)
    return _built[key]


@torch.no_grad()
def score_frames(frames, reference, metric, crop_border=0, batch=1, **options):
    """Score frames on their device.

    Args:
        frames (Tensor): (t,3,h,w) RGB in [0,1], as a saved 8-bit image would hold them.
        reference (Tensor | None): The same shape, for full-reference metrics.
        metric (str): Name of the metric.
        crop_border (int): Pixels left out at each side.
        batch (int): Frames scored at once: more is faster on a GPU and takes more memory.
        options: Of the metric.

    Returns:
        Tensor: (t,) raw scores on the CPU; (1,), that of the clip, for clip metrics.
    """
    network = cached_metric(metric, frames.device, **options)
    if frames.ndim != 4 or frames.shape[1] != 3:
        raise MetricError(f'{metric}: frames must be (t,3,h,w), got {tuple(frames.shape)}.')
    if crop_border:
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
def calculate_iqa(img, img2=None, metric=None, crop_border=0, better=None, device=None, batch=1, **options):
    """Any quality metric as BasicSR calls its own: ``{type: calculate_iqa, metric: NAME, better: higher}``.

    Args:
        img (ndarray): (h,w,3) uint8 BGR.
        img2 (ndarray | None): Reference of the same shape; no-reference metrics ignore it.
        metric (str): Name in the catalogue or in pyiqa.
        crop_border (int): Pixels left out at each side.
        better (str | None): Read by BasicSR's models (``higher`` or ``lower``); has no effect here.
        device (str | None): Default: CUDA where there is one.
        batch (int): Frames scored at once by the models of this plugin; has no effect here.
        options: Of the metric.

    Returns:
        float: The raw score.

    Raises:
        MetricError: unknown metric or option, or missing weights.
        MetricError: a grey image or one with alpha, too small an image, no reference where one is needed.
    """
    for image in (img, img2):
        if image is not None and (image.ndim != 3 or image.shape[2] != 3 or image.dtype != 'uint8'):
            raise MetricError(f'{metric}: expected (h,w,3) uint8, BGR, got {image.shape} {image.dtype}. Repeat a grey '
                              'image three times, leave an alpha channel out.')
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    images = [image if image is None else img2tensor(image).unsqueeze(0).to(device) / 255 for image in (img, img2)]
    return score_frames(*images, metric, crop_border, **options).item()


def _check(options):
    """Check the options of a metric before anything is built, as ``IQALoss.check`` does for losses."""
    own = ('type', 'metric', 'crop_border', 'better', 'device', 'batch')
    known = sorted({*own, *metric_options(options.get('metric'))})
    refuse_unknown(f"calculate_iqa with metric '{options['metric']}'", options, known)
    return check_metric(options['metric'], **{key: value for key, value in options.items() if key not in own})


calculate_iqa.check = _check
