"""PaQ-2-PiQ (Ying et al., "From Patches to Pictures (PaQ-2-PiQ): Mapping the Perceptual Space of Picture Quality",
CVPR 2020)."""
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from basicsr_nriqa.iqa.interface import MetricInfo, QualityMetric
from basicsr_nriqa.iqa.network_tools import channels_last, speed_up
from basicsr_nriqa.iqa.weights import load_trained


def pool_whole_image(features: Tensor, image_size: Sequence[int]) -> Tensor:
    """RoI max pooling of the whole image into 2 x 2 bins, as torchvision's ``RoIPool((2, 2), 1/32)`` bins it.

    torchvision's operator breaks under autocast and scatters its gradient in no fixed order on GPUs.

    Args:
        features (Tensor): (n,c,h,w), of 1/32 of the image's size.
        image_size (Sequence[int]): The image's (height, width).

    Returns:
        Tensor: (n,c,4). A bin beyond the features, which images of 32 px have, is zero.
    """
    spans = []
    for size, pixels in zip(features.shape[2:], image_size):
        width = int(pixels / 32 + 0.5) + 1  # the region's last cell belongs to it
        spans.append([slice(index * width // 2, min(-(-(index + 1) * width // 2), size)) for index in range(2)])
    bins = [features[:, :, rows, columns].flatten(2) for rows in spans[0] for columns in spans[1]]
    return torch.stack([part.max(2).values if part.shape[2] else features.new_zeros(features.shape[:2])
                        for part in bins], 2)


class PaQ2PiQ(nn.Module):
    """ResNet-18, region pooling and a perceptron; keys as published. Its input is not normalised."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet18
        self.body = nn.Sequential(*list(resnet18(weights=None).children())[:-2])
        self.head = nn.Sequential(
            nn.Identity(), nn.Identity(), nn.BatchNorm1d(1024), nn.Identity(), nn.Linear(1024, 512), nn.ReLU(True),
            nn.BatchNorm1d(512), nn.Identity(), nn.Linear(512, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(n,3,h,w) RGB in [0,1] -> (n,1)."""
        bins = pool_whole_image(self.body(channels_last(images)), images.shape[2:])
        return self.head(torch.cat([bins.max(2).values, bins.mean(2)], 1))


class PaQ2PiQMetric(QualityMetric):
    """PaQ-2-PiQ as a metric and loss.

    Args:
        info (MetricInfo): ``paq2piq``.
        weights (str | None): File with the published weights, or the folder that holds it.
    """

    def __init__(self, info: MetricInfo, weights: str | None = None) -> None:
        network = PaQ2PiQ()
        load_trained(network, info, weights)
        super().__init__(info, speed_up(network))
