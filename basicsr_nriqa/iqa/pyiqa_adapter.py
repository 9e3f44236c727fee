"""pyiqa's metrics behind our interface, those that no module of ours computes.

pyiqa's own front (``create_metric``) detaches scores or forces gradients, checks ranges by assertion and fixes its
device; so its networks are built directly. They are imported only when one is asked for: pyiqa takes seconds to load.
"""
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote, urlparse

import torch
from torch import Tensor

from basicsr_nriqa.iqa.interface import MetricError, MetricInfo, QualityMetric, WeightsFile
from basicsr_nriqa.iqa.network_tools import adopt_tensors
from basicsr_nriqa.iqa.weights import fetch_once, locate, published_digits, sha256, weights_path

_OF_COLLECTIONS = ('FID', 'InceptionScore')  # they compare sets of images
_FRAGILE = ('fsim', 'nlpd', 'vsi', 'vif')  # of our catalogue, those that are not finite on some images
_REMOTE_CODE = ('QAlign', 'Compare2Score')  # transformers with trust_remote_code

_USUALLY_ENOUGH = 224  # px; a metric that fails on smaller images fails because of their size


def pyiqa_names() -> list[str]:
    """Names of all metrics of the installed pyiqa that score single images."""
    from pyiqa.default_model_configs import DEFAULT_CONFIGS
    return [name for name, config in DEFAULT_CONFIGS.items()
            if config.get('metric_mode') in ('FR', 'NR') and config['metric_opts']['type'] not in _OF_COLLECTIONS]


def pyiqa_info(name: str) -> MetricInfo:
    """What pyiqa says of one of its metrics."""
    from pyiqa.default_model_configs import DEFAULT_CONFIGS
    config = DEFAULT_CONFIGS[name]
    return MetricInfo(name=name, full_reference=config['metric_mode'] == 'FR',
                      lower_better=config.get('lower_better', False), score_range=_range(config.get('score_range')),
                      min_size=1, source=f"pyiqa's {config['metric_opts']['type']}", license='PolyForm Noncommercial',
                      unlisted=True)


def _range(text: Any) -> tuple[float, float] | None:
    try:
        low, high = (float(part.strip(' ~')) for part in text.split(','))
    except (AttributeError, ValueError):
        return None
    return low, high


class PyiqaMetric(QualityMetric):
    """Any metric of pyiqa, with pyiqa's default settings.

    Where pyiqa's gradient is not finite, as of FSIM on a flat image, no gradient is given. Where its score is not, as
    of VIF on two equal halves, it is the best of the nominal range for identical images and the worst for others. VSI
    sees values outside of [0,1] clipped, and passes the gradient straight through. GMSD, which halves the image, gives
    the last row and column of odd sides no gradient.

    Args:
        info (MetricInfo): Which.

    Raises:
        MetricError: pyiqa could not build it, which usually means that weights could not be downloaded; or it would
            run code that comes with its weights.
    """

    def __init__(self, info: MetricInfo) -> None:
        from pyiqa.archs import build_network
        from pyiqa.default_model_configs import DEFAULT_CONFIGS
        options = dict(DEFAULT_CONFIGS[info.name]['metric_opts'])
        if options['type'] in _REMOTE_CODE:
            raise MetricError(f"metric '{info.name}' is not supported: pyiqa would run code that its weights bring. "
                              'Choose another metric.')
        try:
            with _safe_loading():
                network = build_network(options)
        except MetricError as error:
            raise MetricError(f"metric '{info.name}': {error}") from None
        except Exception as error:
            raise MetricError(f"metric '{info.name}': pyiqa could not build it: {type(error).__name__}: {error}\n"
                              'If it is about a download, run it once on a machine with network and copy '
                              '$TORCH_HOME/hub (default ~/.cache/torch/hub) from there.') from error
        for module in list(network.modules()):
            for hidden in vars(module).values():  # a few keep a network in a list, where freezing does not find it
                for part in hidden if isinstance(hidden, list) else ():
                    if isinstance(part, torch.nn.Module):
                        part.eval().requires_grad_(False)
        super().__init__(info, adopt_tensors(network))
        self.mends = info.unlisted or info.name in _FRAGILE

    def score(self, distorted: Tensor, reference: Tensor | None = None) -> Tensor:
        seen = distorted
        if distorted.requires_grad and self.mends:
            seen = distorted.view_as(distorted)
            seen.register_hook(lambda gradient: gradient.nan_to_num(0, 0, 0))
        if self.info.name == 'vsi' and reference is not None:
            seen, reference = seen + (seen.clamp(0, 1) - seen).detach(), reference.clamp(0, 1)
        try:
            scores = super().score(seen, reference)
        except (RuntimeError, AssertionError, ValueError) as error:
            if min(distorted.shape[2:]) >= _USUALLY_ENOUGH or not self.info.unlisted:
                raise
            height, width = distorted.shape[2:]
            raise MetricError(f'{self.info.name}: pyiqa cannot score images of {width}x{height} px. Use larger ones '
                              f'(gt_size), or another metric. ({error})') from error
        scores = (scores[0] if isinstance(scores, tuple) else scores).reshape(len(distorted))
        if not self.mends or reference is None or self.info.score_range is None:
            return scores
        best, worst = sorted(self.info.score_range, reverse=not self.info.lower_better)
        equal = (distorted == reference).flatten(1).all(1)
        return torch.where(scores.isfinite(), scores, torch.where(equal, best, worst).to(scores))


@contextmanager
def _safe_loading() -> Iterator[None]:
    """While pyiqa builds: its files are found like ours, known hashes checked, and only tensors are loaded."""
    from pyiqa.archs.clip_model import _MODELS
    from pyiqa.utils import download_util
    load, load_scripted, original = torch.load, torch.jit.load, download_util.load_file_from_url
    clip_digests = {url.split('/')[-2] for url in _MODELS.values()}

    def load_tensors(*args: Any, **options: Any) -> Any:
        return load(*args, **{**options, 'weights_only': True})

    def load_known_script(file: Any, *args: Any, **options: Any) -> Any:
        path = Path(getattr(file, 'name', file))
        if sha256(path) not in clip_digests:
            raise MetricError(f'{path} holds code of unknown origin, which is not run. Remove it if it should be a '
                              'published file, or choose another metric.')
        return load_scripted(file, *args, **options)

    def find(url: str, *_: Any, **__: Any) -> str:
        name = unquote(PurePosixPath(urlparse(url).path).name)
        file = WeightsFile(name, url, 'pyiqa', published_digits(name))
        place = weights_path(file)
        try:
            return str(locate(file) or fetch_once(file, place))
        except OSError as error:
            raise MetricError(f'{name} is needed and could not be fetched ({getattr(error, "reason", error)}). Put it, '
                              f'from {url}, to {place}.') from None

    def replace(old: Any, new: Any) -> None:
        for name, module in list(sys.modules.items()):
            if name.startswith('pyiqa.') and vars(module).get('load_file_from_url') is old:
                vars(module)['load_file_from_url'] = new

    with patch.object(torch, 'load', load_tensors), patch.object(torch.jit, 'load', load_known_script):
        replace(original, find)
        try:
            yield
        finally:
            replace(find, original)  # also in modules that were imported meanwhile
