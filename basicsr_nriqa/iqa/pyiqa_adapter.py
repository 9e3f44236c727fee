"""pyiqa's metrics behind our interface.

pyiqa's own front (``create_metric``) detaches scores or forces gradients, checks ranges by assertion and fixes its
device; so its networks are built directly. They are imported only when one is asked for: pyiqa takes seconds to load.
"""
from contextlib import contextmanager

import torch

from basicsr_nriqa.iqa.interface import MetricError, MetricInfo, QualityMetric
from basicsr_nriqa.iqa.weights import find_weights, load_weights


def pyiqa_names():
    """Names of all metrics of the installed pyiqa that score single images."""
    from pyiqa.default_model_configs import DEFAULT_CONFIGS
    return [name for name, config in DEFAULT_CONFIGS.items() if config.get('metric_mode') in ('FR', 'NR')]


def pyiqa_info(name):
    """What pyiqa says of one of its metrics."""
    from pyiqa.default_model_configs import DEFAULT_CONFIGS
    config = DEFAULT_CONFIGS[name]
    return MetricInfo(name=name, full_reference=config['metric_mode'] == 'FR',
                      lower_better=config.get('lower_better', False), score_range=config.get('score_range', 'unknown'),
                      min_size=1, source='pyiqa', weights_license='see pyiqa')


class PyiqaMetric(QualityMetric):
    """Any metric of pyiqa, with pyiqa's default settings.

    Raises:
        MetricError: pyiqa could not build it, which usually means that weights could not be downloaded.
    """

    def __init__(self, info):
        try:
            network = _build(info.name)
        except Exception as error:
            raise MetricError(f"metric '{info.name}': pyiqa could not build it: {type(error).__name__}: {error}\n"
                              'If it is about a download, run it once on a machine with network and copy '
                              '$TORCH_HOME/hub (default ~/.cache/torch/hub) from there.') from error
        super().__init__(info, network)

    def score(self, distorted, reference=None):
        scores = super().score(distorted, reference)
        return scores[0] if isinstance(scores, tuple) else scores


class MANIQAMetric(QualityMetric):
    """MANIQA (Yang et al., CVPR Workshops 2022): a vision transformer on crops of 224 x 224 px.

    Args:
        info (MetricInfo): One of the three variants.
        num_crops (int | None): None scores pyiqa's 20 uniform crops, for measuring. A number scores so many crops,
            drawn from torch's generator anew at each call, for training: one crop costs a twentieth, and on average
            over the steps every pixel is reached.
        weights (str | None): A file with the trained weights; default: pyiqa's place.

    Images with a side of 224 px or less are enlarged, as pyiqa does; then there is only one crop to take.
    """

    window = 224

    def __init__(self, info, num_crops=None, weights=None):
        if num_crops is not None and num_crops < 1:
            raise MetricError(f"metric '{info.name}': num_crops must be at least 1, got {num_crops}.")
        path = find_weights(info, weights)
        with _no_downloads():
            network = _build(info.name, pretrained=False)
        load_weights(network, path)
        super().__init__(info, network)
        self.num_crops = num_crops

    def score(self, distorted, reference=None):
        self.network.save_output.clear()  # an interrupted call would have left its features for this one
        height, width = distorted.shape[-2:]
        if min(height, width) <= self.window:
            self.network.test_sample = 1  # more would be the same crop again
            return self.network(distorted)
        if self.num_crops is None:
            self.network.test_sample = 20
            return self.network(distorted)
        self.network.test_sample = 1
        return torch.stack([self.network(self._crop(distorted)) for _ in range(self.num_crops)]).mean(0)

    def _crop(self, images):
        # pyiqa enlarges what is not larger than its window, so one more pixel is taken; it leaves the last one out
        side = self.window + 1
        top, left = (int(torch.randint(size - side + 1, ())) for size in images.shape[-2:])
        return images[..., top:top + side, left:left + side]


def _build(name, **options):
    from pyiqa.archs import build_network
    from pyiqa.default_model_configs import DEFAULT_CONFIGS
    return build_network({**DEFAULT_CONFIGS[name]['metric_opts'], **options})


@contextmanager
def _no_downloads():
    """MANIQA asks timm for an ImageNet backbone even if its own weights, which hold all of it, are loaded next."""
    import timm
    create_model = timm.create_model

    def without_weights(name, pretrained=False, **options):
        return create_model(name, pretrained=False, **options)

    timm.create_model = without_weights
    try:
        yield
    finally:
        timm.create_model = create_model
