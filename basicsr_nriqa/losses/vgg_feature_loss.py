"""The distance of VGG-16 features: SRGAN's perceptual loss (Ledig et al., CVPR 2017) as iSeeBetter has it (Chadha et
al., "iSeeBetter: Spatio-temporal video super-resolution using recurrent generative back-projection networks", 2020)."""
from dataclasses import replace
from typing import Any, Literal

import torch
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor, nn

from basicsr_nriqa.iqa import MetricError, MetricInfo, QualityMetric, find_weights, metric_info, refuse_unknown
from basicsr_nriqa.iqa.network_tools import Normalize, channels_last
from basicsr_nriqa.iqa.weights import load_state, load_weights, random_seed
from basicsr_nriqa.losses.iqa_loss import IQALoss

# LPIPS on VGG-16 has the same backbone, and so its files are found and downloaded under this name
_LPIPS = metric_info('lpips-vgg')
INFO = replace(_LPIPS, score_range=None, table1_weight=None, source='SRGAN, Ledig et al. 2017', trained_on='ImageNet',
               files=_LPIPS.files[1:])


class VGGDistance(QualityMetric):
    """(n,3,h,w) RGB in [0,1], twice -> (n,): the mean squared difference of features after the last pooling.

    Args:
        normalize (bool): To ImageNet's mean and deviation first.
        weights (str | None): torchvision's file, or a folder that holds it.
    """

    def __init__(self, normalize: bool = False, weights: str | None = None) -> None:
        from torchvision.models import vgg16
        with torch.device('meta'):  # its classifier would be half a gigabyte for nothing
            features = vgg16(weights=None, init_weights=False).features
        features.to_empty(device='cpu')
        if random_seed() is None:
            path, = find_weights(INFO, weights)
            load_weights(features, {name.removeprefix('features.'): value for name, value in load_state(path).items()
                                    if name.startswith('features.')}, path)
        else:
            _fill(features)
        super().__init__(replace(INFO, name='vgg16'), nn.Sequential(
            Normalize() if normalize else nn.Identity(), features.to(memory_format=torch.channels_last)))

    def score(self, distorted: Tensor, reference: Tensor) -> Tensor:  # type: ignore[override]  # it always gets one
        with torch.no_grad():
            wanted = self.network(channels_last(reference))
        return (self.network(channels_last(distorted)) - wanted).square().flatten(1).mean(1)


def _fill(features: nn.Sequential) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_seed())
        for layer in features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


@LOSS_REGISTRY.register()
class VGGFeatureLoss(IQALoss):
    """``loss_weight`` times the mean squared difference of VGG-16 features after the last pooling.

    Args:
        loss_weight (float): Factor of the loss, above 0. Default: 0.006, as published.
        normalize (bool): Normalise images to ImageNet's mean and deviation, as VGG was trained. The published code of
            SRGAN in PyTorch and of iSeeBetter does not, so the published weight is for images in [0,1] as they are.
            Default: False.
        frames (str | int): Frames of a clip that are compared: ``all``, or so many drawn anew at each call. Default:
            all.
        chunk (int | None): Frames that go through the network at once, which bounds the memory. Default: all at once.
        weights (str | None): torchvision's file ``vgg16-397923af.pth``, or a folder that holds it. Default: found as
            those of the metrics are.

    Raises:
        MetricError: an argument is out of its range, or the weights are not to be had.
    """

    OPTIONS = frozenset({'loss_weight', 'normalize', 'frames', 'chunk', 'weights'})

    def __init__(self, loss_weight: float = 0.006, normalize: bool = False, frames: Literal['all'] | int = 'all',
                 chunk: int | None = None, weights: str | None = None) -> None:
        nn.Module.__init__(self)
        self.check({'loss_weight': loss_weight, 'normalize': normalize, 'frames': frames, 'chunk': chunk})
        self.loss_weight, self.frames, self.chunk = loss_weight, frames, chunk
        self.metric = VGGDistance(normalize, weights)

    @classmethod
    def metric_name(cls, options: dict[str, Any]) -> str:
        return INFO.name

    @classmethod
    def check(cls, options: dict[str, Any]) -> MetricInfo:
        """As :meth:`IQALoss.check`."""
        refuse_unknown(cls.__name__, [option for option in options if option != 'type'], sorted(cls.OPTIONS))
        if not isinstance(options.get('normalize', False), bool):
            raise MetricError(f"{cls.__name__}: normalize must be true or false, got {options['normalize']!r}.")
        IQALoss.check({'metric': INFO.name, **{option: value for option, value in options.items()
                                               if option in ('loss_weight', 'frames', 'chunk')}})
        return INFO
