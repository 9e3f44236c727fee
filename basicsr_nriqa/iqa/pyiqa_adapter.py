"""pyiqa's metrics behind our interface, those that no module of ours computes.

pyiqa's own front (``create_metric``) detaches scores or forces gradients, checks ranges by assertion and fixes its
device; so its networks are built directly. They are imported only when one is asked for: pyiqa takes seconds to load.
"""
import sys
from contextlib import contextmanager
from pathlib import PurePosixPath
from unittest.mock import patch
from urllib.parse import unquote, urlparse

import torch

from basicsr_nriqa.iqa.interface import MetricError, MetricInfo, QualityMetric
from basicsr_nriqa.iqa.network_tools import adopt_tensors
from basicsr_nriqa.iqa.weights import WeightsFile, fetch, locate, published_digits, weights_path

_OF_COLLECTIONS = ('FID', 'InceptionScore')  # they compare sets of images


def pyiqa_names():
    """Names of all metrics of the installed pyiqa that score single images."""
    from pyiqa.default_model_configs import DEFAULT_CONFIGS
    return [name for name, config in DEFAULT_CONFIGS.items()
            if config.get('metric_mode') in ('FR', 'NR') and config['metric_opts']['type'] not in _OF_COLLECTIONS]


def pyiqa_info(name):
    """What pyiqa says of one of its metrics."""
    from pyiqa.default_model_configs import DEFAULT_CONFIGS
    config = DEFAULT_CONFIGS[name]
    return MetricInfo(name=name, full_reference=config['metric_mode'] == 'FR',
                      lower_better=config.get('lower_better', False), score_range=_range(config.get('score_range')),
                      min_size=1, source=f"pyiqa's {config['metric_opts']['type']}", license='PolyForm Noncommercial',
                      fixed_by_pyiqa=True)


def _range(text):
    try:
        low, high = (float(part.strip(' ~')) for part in text.split(','))
    except (AttributeError, ValueError):
        return None
    return low, high


class PyiqaMetric(QualityMetric):
    """Any metric of pyiqa, with pyiqa's default settings.

    Where pyiqa's gradient is not finite, as of FSIM on a flat image, no gradient is given. Where its score is not, as
    of VIF on two equal halves, it is the best of the nominal range for identical images and the worst for others. VSI
    sees values outside of [0,1] clipped, and passes the gradient straight through.

    Args:
        info (MetricInfo): Which.

    Raises:
        MetricError: pyiqa could not build it, which usually means that weights could not be downloaded.
    """

    def __init__(self, info):
        from pyiqa.archs import build_network
        from pyiqa.default_model_configs import DEFAULT_CONFIGS
        try:
            with _safe_loading():
                network = build_network(dict(DEFAULT_CONFIGS[info.name]['metric_opts']))
        except Exception as error:
            raise MetricError(f"metric '{info.name}': pyiqa could not build it: {type(error).__name__}: {error}\n"
                              'If it is about a download, run it once on a machine with network and copy '
                              '$TORCH_HOME/hub (default ~/.cache/torch/hub) from there.') from error
        super().__init__(info, adopt_tensors(network))

    def score(self, distorted, reference=None):
        seen = distorted
        if distorted.requires_grad:
            seen = distorted.view_as(distorted)
            seen.register_hook(lambda gradient: gradient.nan_to_num(0, 0, 0))
        if self.info.name == 'vsi':
            seen, reference = seen + (seen.clamp(0, 1) - seen).detach(), reference.clamp(0, 1)
        scores = super().score(seen, reference)
        scores = (scores[0] if isinstance(scores, tuple) else scores).reshape(len(distorted))
        if reference is None or self.info.score_range is None:
            return scores
        best, worst = sorted(self.info.score_range, reverse=not self.info.lower_better)
        equal = (distorted == reference).flatten(1).all(1)
        return torch.where(scores.isfinite(), scores, torch.where(equal, best, worst).to(scores))


@contextmanager
def _safe_loading():
    """While pyiqa builds: its files are found like ours, their hashes checked, and only tensors are loaded."""
    load = torch.load

    def load_tensors(*args, **options):
        return load(*args, **{**options, 'weights_only': True})

    def find(url, *_, **__):
        name = unquote(PurePosixPath(urlparse(url).path).name)
        file = WeightsFile(name, url, 'pyiqa', published_digits(name))
        return str(locate(file) or fetch(file, weights_path(file).parent))

    import pyiqa.archs  # noqa: F401  all of its modules, so that none takes its own loader later
    loaders = [module for name, module in sys.modules.items()
               if name.startswith('pyiqa.') and hasattr(module, 'load_file_from_url')]
    with patch.object(torch, 'load', load_tensors):
        originals = [(module, module.load_file_from_url) for module in loaders]
        try:
            for module in loaders:
                module.load_file_from_url = find
            yield
        finally:
            for module, original in originals:
                module.load_file_from_url = original
