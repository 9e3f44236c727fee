"""NIMA (Talebi and Milanfar, "NIMA: Neural Image Assessment", IEEE Trans. Image Processing 2018)."""
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from basicsr_nriqa.iqa.interface import MetricError, MetricInfo, QualityMetric
from basicsr_nriqa.iqa.network_tools import Normalize, blocks, recompute, speed_up
from basicsr_nriqa.iqa.weights import load_trained

Fit = Literal['center', 'tiles', 'whole']


class NIMA(nn.Module):
    """A timm backbone, averaged over space, and one linear layer; keys as pyiqa publishes them.

    Args:
        backbone (str): ``inception_resnet_v2`` or ``vgg16`` of timm.
        num_classes (int): 10 for a distribution over the scores 1 to 10 (AVA), 1 for a score.
    """

    scores: Tensor

    def __init__(self, backbone: str, num_classes: int) -> None:
        super().__init__()
        import timm
        base_model: Any = timm.create_model(backbone, pretrained=False, features_only=True)
        self.base_model = base_model
        config = base_model.pretrained_cfg
        self.side: int = config['input_size'][-1]
        self.normalize = Normalize(config['mean'], config['std'])
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Identity(), nn.Linear(base_model.feature_info.channels()[-1], num_classes))
        self.register_buffer('scores', torch.arange(1., num_classes + 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(n,3,side,side) RGB in [0,1] -> (n,)."""
        result = self.classifier(self.base_model(self.normalize(images))[-1].mean((2, 3)))
        return result.softmax(1) @ self.scores if len(self.scores) > 1 else result.squeeze(1)


class NIMAMetric(QualityMetric):
    """NIMA as a metric and loss.

    Args:
        info (MetricInfo): One of the four variants.
        fit (str): How an image comes to the network's square input (299 px, VGG-16: 224):
            ``center``: the shorter side resized, the middle cropped, as pyiqa does; beyond the middle square no pixel
            gets a gradient (448 x 256 px: 96 px at the left and at the right).
            ``tiles``: the shorter side resized, the longer one covered by as few tiles as possible, the mean of their
            scores; every pixel gets a gradient, 448 x 256 px takes two tiles.
            ``whole``: both sides resized, which changes the aspect; every pixel gets a gradient.
            Of a square image all three are the same. Default: center.
        weights (str | None): File with the published weights, or the folder that holds it.
        checkpoint (bool): Compute the features a second time in the backward pass instead of keeping them; not for
            VGG-16.
    """

    FITS: tuple[Fit, ...] = get_args(Fit)

    def __init__(self, info: MetricInfo, fit: Fit = 'center', weights: str | None = None,
                 checkpoint: bool = False) -> None:
        self.check_options(info, fit, checkpoint)
        network = NIMA('vgg16' if 'vgg16' in info.name else 'inception_resnet_v2',
                       num_classes=1 if info.name in ('nima-koniq', 'nima-spaq') else 10)
        load_trained(network, info, weights)
        speed_up(network)
        if checkpoint:
            recompute(blocks(network.base_model))
        super().__init__(info, network)
        self.fit = fit

    @classmethod
    def check_options(cls, info: MetricInfo, fit: str = 'center', checkpoint: bool = False, **_: Any) -> None:
        if fit not in cls.FITS:
            raise MetricError(f"metric '{info.name}': fit must be one of {', '.join(cls.FITS)}, got {fit!r}.")
        if checkpoint and 'vgg16' in info.name:
            raise MetricError(f"metric '{info.name}' cannot recompute its features; leave `checkpoint` out.")

    def score(self, distorted: Tensor, reference: Tensor | None = None) -> Tensor:
        tiles = self._tiles(distorted)
        return self.network(tiles.flatten(0, 1)).view(tiles.shape[:2]).mean(1)

    def _tiles(self, images: Tensor) -> Tensor:
        """(n,3,h,w) -> (n,k,3,side,side)."""
        from torchvision.transforms.functional import center_crop, resize
        network: Any = self.network
        side = network.side
        if self.fit == 'whole':
            return F.interpolate(images, (side, side), mode='bilinear', antialias=True).unsqueeze(1)
        images = resize(images, side)
        if self.fit == 'center':
            return center_crop(images, side).unsqueeze(1)
        axis = -1 if images.shape[-1] > images.shape[-2] else -2
        length = images.shape[axis]
        count = -(-length // side)
        starts = [round(index * (length - side) / max(count - 1, 1)) for index in range(count)]
        return torch.stack([images.narrow(axis, start, side) for start in starts], 1)
