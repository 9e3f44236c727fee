"""DBCNN (Zhang et al., "Blind Image Quality Assessment Using a Deep Bilinear Convolutional Neural Network", 2018)."""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from basicsr_nriqa.iqa.interface import MetricInfo, QualityMetric
from basicsr_nriqa.iqa.network_tools import Normalize, recompute, speed_up
from basicsr_nriqa.iqa.weights import load_trained

_SCNN = ((48, 1), (48, 2), (64, 1), (64, 2), (64, 1), (64, 2), (128, 1), (128, 1), (128, 2))  # channels, stride


def scnn_features() -> nn.Sequential:
    """The convolutions of S-CNN, the branch that was trained to tell synthetic distortions apart."""
    layers: list[nn.Module] = []
    channels = 3
    for width, stride in _SCNN:
        layers += [nn.Conv2d(channels, width, 3, stride, 1), nn.BatchNorm2d(width), nn.ReLU(True)]
        channels = width
    return nn.Sequential(*layers)


class DBCNN(nn.Module):
    """VGG-16 and S-CNN features, pooled bilinearly; keys as published."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import vgg16
        self.normalize = Normalize()
        self.features1 = vgg16(weights=None).features[:-1]
        self.features2 = scnn_features()
        self.fc = nn.Linear(512 * 128, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(n,3,h,w) RGB in [0,1] -> (n,1)."""
        images = self.normalize(images)
        content, distortion = self.features1(images), self.features2(images)
        if content.shape[2:] != distortion.shape[2:]:
            distortion = F.interpolate(distortion, content.shape[2:], mode='bilinear', align_corners=True)
        pooled = content.flatten(2) @ distortion.flatten(2).transpose(1, 2) / content[0, 0].numel()
        return self.fc(F.normalize(torch.sqrt(pooled.flatten(1) + 1e-8)))


class DBCNNMetric(QualityMetric):
    """DBCNN as a metric and loss.

    Args:
        info (MetricInfo): ``dbcnn``.
        weights (str | None): File with the published weights, or the folder that holds it.
        checkpoint (bool): Compute the features a second time in the backward pass instead of keeping them.
    """

    def __init__(self, info: MetricInfo, weights: str | None = None, checkpoint: bool = False) -> None:
        network = DBCNN()
        load_trained(network, info, weights)
        speed_up(network)
        if checkpoint:
            for name, ends in (('features1', (5, 10, 17, 24, 30)), ('features2', (6, 12, 27))):  # VGG-16's at its pools
                layers = getattr(network, name)
                parts = nn.Sequential(*(layers[start:end] for start, end in zip((0, *ends), ends)))
                setattr(network, name, parts)
                recompute([(parts, part) for part in list(parts._modules)])
        super().__init__(info, network)
