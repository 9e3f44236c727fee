"""PieAPP (Prashnani et al., "PieAPP: Perceptual Image-Error Assessment through Pairwise Preference", CVPR 2018)."""
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from basicsr_nriqa.iqa.interface import MetricInfo, QualityMetric
from basicsr_nriqa.iqa.network_tools import Recomputed, channels_last, speed_up
from basicsr_nriqa.iqa.weights import load_trained

_PATCHES_RECOMPUTED_AT_ONCE = 16


class PieAPPMetric(QualityMetric):
    """PieAPP on pyiqa's patches: 64 x 64 px at every 27th pixel, which overlap.

    Gradient reaches every pixel that a patch covers: up to 26 px at the right and bottom get none, depending on the
    size (10 px at 128, 3 px at 256, 6 px at 448); sides of 64 + 27 k px are covered whole.

    Args:
        info (MetricInfo): ``pieapp``.
        weights (str | None): File with the published weights, or the folder that holds it.
        checkpoint (bool): Compute the patches' features a second time in the backward pass instead of keeping them.
    """

    patch, stride = 64, 27

    def __init__(self, info: MetricInfo, weights: str | None = None, checkpoint: bool = False) -> None:
        from pyiqa.archs.pieapp_arch import PieAPP
        network = PieAPP(pretrained=False)
        load_trained(network, info, weights)
        super().__init__(info, speed_up(network))
        self.checkpoint = checkpoint

    def score(self, distorted: Tensor, reference: Tensor) -> Tensor:  # type: ignore[override]  # it always gets one
        network: Any = self.network  # of pyiqa, which has no types
        with torch.no_grad():
            wanted, wanted_coarse = network.compute_features(self._patches(reference))
        patches = self._patches(distorted)
        if self.checkpoint:
            features = Recomputed(network.compute_features)
            parts = [features(part) for part in patches.split(_PATCHES_RECOMPUTED_AT_ONCE)]
            found, found_coarse = (torch.cat(column) for column in zip(*parts))
        else:
            found, found_coarse = network.compute_features(patches)
        errors = network.fc2_score(F.relu(_linear(network.fc1_score, wanted - found)))
        errors = network.ref_score_subtract(0.01 * errors).view(len(distorted), -1)
        weights = network.fc2_weight(F.relu(network.fc1_weight(wanted_coarse - found_coarse))) + 1e-6
        weights = weights.view(len(distorted), -1)
        return (weights * errors).sum(1) / weights.sum(1)

    def _patches(self, images: Tensor) -> Tensor:
        images = 255 * images.flip(1)  # the network was trained on BGR in [0,255]
        patches = images.unfold(2, self.patch, self.stride).unfold(3, self.patch, self.stride)
        return channels_last(patches.permute(0, 2, 3, 1, 4, 5).flatten(0, 2))


def _linear(layer: nn.Linear, rows: Tensor) -> Tensor:
    """``layer(rows)``: with the 250 MB of weights on the left it takes half the time for few rows on a CPU."""
    return (layer.weight @ rows.T).T + layer.bias
