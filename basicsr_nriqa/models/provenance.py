"""What scores depend on besides the tested network: a score file says it, so that only equals are compared."""
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from basicsr_nriqa.checkpoints import local_file
from basicsr_nriqa.files import sha256
from basicsr_nriqa.iqa import metric_info
from basicsr_nriqa.iqa.weights import locate, random_seed
from basicsr_nriqa.study.scores import package_versions

_PACKAGES = ('basicsr-nriqa', 'basicsr', 'torch', 'torchvision', 'pyiqa', 'numpy', 'opencv-python')
_INDIFFERENT = ('better', 'weights', 'batch')  # the direction, files that are named by their digests, and speed
_DIGITS = 12  # of a sha256: enough to tell files apart


def score_versions(metrics: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Versions of Python, of packages, and of the metrics' trained weights.

    Args:
        metrics (dict[str, dict]): ``val.metrics``: options by name.

    Returns:
        dict[str, str]: ``{'python': version, package: version, 'metric of NAME': options, 'weights of NAME':
        digests}``, with the beginning of the sha256 of each of the metric's files. Metrics without files of their own
        come with a package. Options that do not change a score are left out.
    """
    versions = {'python': '.'.join(platform.python_version_tuple()[:2]), **package_versions(_PACKAGES)}
    for name, metric_opt in metrics.items():
        options = {key: value for key, value in sorted(metric_opt.items()) if key not in _INDIFFERENT}
        versions[f'metric of {name}'] = ', '.join(f'{key} {value}' for key, value in options.items())
        if metric_opt['type'] == 'calculate_iqa':
            digests = _weights(metric_opt['metric'], metric_opt.get('weights'), random_seed())
            if digests:
                versions[f'weights of {name}'] = digests
    return versions


def checkpoint_digest(checkpoint: str | None) -> str | None:
    """The sha256 of a checkpoint, in hexadecimal.

    Args:
        checkpoint (str | None): Its path or URL; None: there is none.

    Returns:
        str | None: None, too, for a file that was removed while it was tested: no reason to lose scores.
    """
    with suppress(OSError):
        return checkpoint and sha256(local_file(checkpoint))
    return None


def device_name(device: torch.device) -> str:
    """What a person calls a torch device: the model of a GPU, or its type."""
    return torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type


@cache  # what was loaded first is used until the process ends
def _weights(metric: str, weights: str | None, seed: int | None) -> str:
    files = metric_info(metric).files
    if seed is not None:
        return f'random, seed {seed}' if files else ''
    given = None if weights is None else Path(weights).expanduser()
    own_file = given is not None and given.is_file()
    paths = [given if own_file and index == 0 else locate(file, weights) for index, file in enumerate(files)]
    return ' '.join(sha256(path)[:_DIGITS] for path in paths if path)
