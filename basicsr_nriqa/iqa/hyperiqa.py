"""HyperIQA (Su et al., "Blindly Assess Image Quality in the Wild Guided by a Self-Adaptive Hyper Network", CVPR 2020).
"""
from basicsr_nriqa.iqa.crop_metric import CropMetric
from basicsr_nriqa.iqa.network_tools import adopt_tensors, blocks, channels_last, no_downloads, recompute, speed_up
from basicsr_nriqa.iqa.weights import load_trained


class HyperIQAMetric(CropMetric):
    """HyperIQA as a metric and loss, on crops of 224 x 224 px.

    Args:
        info (MetricInfo): ``hyperiqa``.
        num_crops, crops: See :class:`~basicsr_nriqa.iqa.crop_metric.CropMetric`. pyiqa: 25 uniform ones.
        weights (str | None): File with the published weights, or the folder that holds it.
        checkpoint (bool): Compute the features a second time in the backward pass instead of keeping them.
    """

    published_crops = 25

    def __init__(self, info, num_crops=None, crops=None, weights=None, checkpoint=False):
        from pyiqa.archs.hypernet_arch import HyperNet
        with no_downloads():
            network = HyperNet(pretrained=False)
        load_trained(network, info, weights)
        speed_up(adopt_tensors(network))
        if checkpoint:
            recompute(blocks(network.base_model))
        super().__init__(info, network, num_crops, crops)

    def score_crops(self, crops, counts):
        scores = self.network.forward_patch(channels_last(crops)).view(-1, len(counts))
        return scores @ counts / counts.sum()
