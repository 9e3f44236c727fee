"""LPIPS (Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018), v0.1."""
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from basicsr_nriqa.iqa.interface import MetricInfo, QualityMetric
from basicsr_nriqa.iqa.network_tools import Normalize, recompute, speed_up
from basicsr_nriqa.iqa.weights import find_weights, load_state, load_weights, random_seed

# torchvision's layers after which features are taken, and their channels
_TAPS = {'alexnet': (1, 4, 7, 9, 11), 'vgg16': (3, 8, 15, 22, 29)}
_CHANNELS = {'alexnet': (64, 192, 384, 256, 256), 'vgg16': (64, 128, 256, 512, 512)}


class LPIPS(nn.Module):
    """The distance of normalised features, weighted by channel.

    Args:
        backbone (str): ``alexnet`` or ``vgg16`` of torchvision.
    """

    def __init__(self, backbone: Literal['alexnet', 'vgg16']) -> None:
        super().__init__()
        from torchvision import models
        layers = list(getattr(models, backbone)(weights=None).features)
        ends = [tap + 1 for tap in _TAPS[backbone]]
        self.normalize = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        self.slices = nn.ModuleList(nn.Sequential(*layers[start:end]) for start, end in zip([0, *ends], ends))
        self.weights = nn.ParameterList(torch.rand(channels) for channels in _CHANNELS[backbone])

    def features(self, images: Tensor) -> list[Tensor]:
        """(n,3,h,w) -> the list of unit-length features."""
        images = self.normalize(images)
        found = []
        for part in self.slices:
            images = part(images)
            # the clamp keeps the gradient of the root finite where all features are zero
            length = images.square().sum(1, keepdim=True).clamp_min(1e-20).sqrt()
            found.append(images / (length + 1e-10))
        return found

    def forward(self, distorted: Tensor, reference: Tensor) -> Tensor:
        """(n,3,h,w) RGB in [0,1], twice -> (n,) distances; no gradient goes to the reference."""
        with torch.no_grad():
            wanted = self.features(reference)
        distances = [torch.einsum('nchw,c->n', (mine - theirs).square(), weight) / mine[0, 0].numel()
                     for mine, theirs, weight in zip(self.features(distorted), wanted, self.weights)]
        return sum(distances[1:], distances[0])

    def load(self, heads: dict[str, Tensor], backbone: dict[str, Tensor], paths: list[Path]) -> None:
        """Load the two published files: the heads and torchvision's ImageNet backbone."""
        names = {f'lin{index}.model.1.weight': str(index) for index in range(len(self.weights))}
        # a whole LPIPS saved by pyiqa or its authors has the backbone and the heads' second names as well
        load_weights(self.weights, {names.get(key, key): value.flatten() for key, value in heads.items()
                                    if not key.startswith(('net.', 'lins.', 'scaling_layer.'))}, paths[0])
        layers = nn.Sequential(*(layer for part in self.slices for layer in part.children()))
        load_weights(layers, {key.removeprefix('features.'): value for key, value in backbone.items()
                              if key.startswith('features.')}, paths[1])


class LPIPSMetric(QualityMetric):
    """LPIPS as a metric and loss.

    Args:
        info (MetricInfo): ``lpips`` (AlexNet) or ``lpips-vgg``.
        weights (str | None): File with the published heads, or a folder that holds all files.
        checkpoint (bool): Compute the features a second time in the backward pass instead of keeping them.
    """

    def __init__(self, info: MetricInfo, weights: str | None = None, checkpoint: bool = False) -> None:
        network = LPIPS('vgg16' if info.name == 'lpips-vgg' else 'alexnet')
        if random_seed() is None:
            paths = find_weights(info, weights)
            heads, backbone = map(load_state, paths)
            network.load(heads, backbone, paths)
        speed_up(network)
        if checkpoint:
            recompute([(network.slices, str(index)) for index in range(len(network.slices))])
        super().__init__(info, network)
