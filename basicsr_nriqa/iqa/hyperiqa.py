"""HyperIQA (Su et al., "Blindly Assess Image Quality in the Wild Guided by a Self-Adaptive Hyper Network", CVPR 2020).
"""
from typing import Any

from torch import Tensor

from basicsr_nriqa.iqa.crop_metric import CropMetric, Placement
from basicsr_nriqa.iqa.interface import MetricInfo
from basicsr_nriqa.iqa.network_tools import adopt_tensors, blocks, channels_last, no_downloads, recompute, speed_up
from basicsr_nriqa.iqa.weights import load_trained


class HyperIQAMetric(CropMetric):
    """HyperIQA as a metric and loss, on crops of 224 x 224 px.

    Args:
        info (MetricInfo): ``hyperiqa``.
        num_crops (int | None): Crops of an image, 1 or more; null: the published 25. Default in a loss: 1, else null.
        crops (str | None): ``uniform``: in pyiqa's grid; ``random``: drawn for each image and call. Default: random if
            ``num_crops`` is given, else uniform. See :class:`~basicsr_nriqa.iqa.crop_metric.CropMetric`.
        weights (str | None): File with the published weights, or the folder that holds it.
        checkpoint (bool): Compute the features a second time in the backward pass instead of keeping them.
    """

    published_crops = 25

    def __init__(self, info: MetricInfo, num_crops: int | None = None, crops: Placement | None = None,
                 weights: str | None = None, checkpoint: bool = False) -> None:
        from pyiqa.archs.hypernet_arch import HyperNet
        with no_downloads():
            network = HyperNet(pretrained=False)
        load_trained(network, info, weights)
        speed_up(adopt_tensors(network))
        if checkpoint:
            recompute(blocks(network.base_model))
        super().__init__(info, network, num_crops, crops)

    def score_crops(self, crops: Tensor, counts: Tensor) -> Tensor:
        network: Any = self.network  # of pyiqa, which has no types
        scores = network.forward_patch(channels_last(crops)).view(-1, len(counts))
        return scores @ counts / counts.sum()
