"""MANIQA (Yang et al., "MANIQA: Multi-Dimension Attention Network for No-Reference Image Quality Assessment", CVPR
Workshops 2022)."""
from typing import Any

import torch
from torch import Tensor, nn

from basicsr_nriqa.iqa.crop_metric import CropMetric, Placement
from basicsr_nriqa.iqa.interface import MetricInfo
from basicsr_nriqa.iqa.network_tools import adopt_tensors, no_downloads, recompute
from basicsr_nriqa.iqa.weights import load_trained

_TAPS = [6, 7, 8, 9]  # blocks of the vision transformer whose tokens are used; what follows them is left out


class MANIQAMetric(CropMetric):
    """MANIQA as a metric and loss, on crops of 224 x 224 px.

    Args:
        info (MetricInfo): One of the three variants.
        num_crops (int | None): Crops of an image, 1 or more; null: the published 20, of whose
            patches the weighted mean is taken over all crops together. Default in a loss: 1, else null.
        crops (str | None): ``uniform``: in pyiqa's grid; ``random``: drawn for each image and call. Default: random if
            ``num_crops`` is given, else uniform. See :class:`~basicsr_nriqa.iqa.crop_metric.CropMetric`.
        weights (str | None): File with the published weights, or the folder that holds it.
        checkpoint (bool): Compute the transformers a second time in the backward pass instead of keeping them.
    """

    published_crops = 20

    def __init__(self, info: MetricInfo, num_crops: int | None = None, crops: Placement | None = None,
                 weights: str | None = None, checkpoint: bool = False) -> None:
        from pyiqa.archs.maniqa_arch import MANIQA
        from pyiqa.default_model_configs import DEFAULT_CONFIGS
        with no_downloads():
            network = MANIQA(**{**DEFAULT_CONFIGS[info.name]['metric_opts'], 'pretrained': False})
        load_trained(network, info, weights)
        adopt_tensors(network)
        vit = network.vit
        for block in vit.blocks:
            block._forward_hooks.clear()  # they would keep the features of an interrupted call for the next one
        vit.blocks, vit.norm, vit.head = vit.blocks[:_TAPS[-1] + 1], nn.Identity(), nn.Identity()
        if checkpoint:
            parts = [vit.blocks, *(layer.blocks for swin in (network.swintransformer1, network.swintransformer2)
                                   for layer in swin.layers), network.tablock1, network.tablock2]
            recompute([(part, name) for part in parts for name in part._modules])
        super().__init__(info, network, num_crops, crops)

    def score_crops(self, crops: Tensor, counts: Tensor) -> Tensor:
        network: Any = self.network  # of pyiqa, which has no types
        side = network.input_size
        tokens = network.vit.forward_intermediates(
            (crops - network.default_mean) / network.default_std, indices=_TAPS, norm=False, output_fmt='NLC',
            intermediates_only=True)
        maps = torch.cat(tokens, 2).transpose(1, 2)
        for attend, mix, swin in ((network.tablock1, network.conv1, network.swintransformer1),
                                  (network.tablock2, network.conv2, network.swintransformer2)):
            for block in attend:
                maps = block(maps.flatten(2))
            maps = swin(mix(maps.unflatten(2, (side, side))))
        patches = maps.flatten(2).transpose(1, 2)
        weights = network.fc_weight(patches).view(-1, len(counts), side * side) * counts[:, None]
        scores = network.fc_score(patches).view(weights.shape)
        return (weights * scores).sum((1, 2)) / (weights.sum((1, 2)) + 1e-8)
