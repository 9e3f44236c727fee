"""SPyNet optical flow (Ranjan and Black, Optical Flow Estimation using a Spatial Pyramid Network, CVPR 2017)."""
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from basicsr_nriqa.archs.warp import flow_warp
from basicsr_nriqa.checkpoints import load_pretrained

NUM_LEVELS = 6


class FlowLevel(nn.Module):
    """What one pyramid level adds to the flow: five 7x7 convolutions, starting as exactly nothing.

    Input (n, 8, h, w): reference, warped supporting image, upsampled flow. Output (n, 2, h, w).
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (8, 32, 64, 32, 16, 2)
        layers: list[nn.Module] = []
        for num_in, num_out in pairwise(widths):
            layers += [nn.Conv2d(num_in, num_out, 7, padding=3), nn.ReLU(inplace=True)]
        self.basic_module = nn.Sequential(*layers[:-1])
        # random flow would misalign what it should align; zero flow is a sound start for training without weights
        for parameter in self.basic_module[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return self.basic_module(x)


class SpyNet(nn.Module):
    """SPyNet with six levels. Without weights its flow is zero, and it can be trained from there.

    Args:
        load_path (str | Path | None): checkpoint, a file or a URL, in the layout of BasicSR, OpenMMLab or
            pytorch-spynet. Default: none.
        return_levels (Sequence[int]): which levels' flows to return, from 0 to 5, the finest. Default: that alone.

    Raises:
        ValueError: a level outside 0 to 5, or a checkpoint that does not fit
            (:func:`~basicsr_nriqa.checkpoints.load_pretrained`).
        FileNotFoundError: there is no file at ``load_path``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, load_path: str | Path | None = None, return_levels: Sequence[int] = (5,)) -> None:
        super().__init__()
        self.return_levels = sorted(return_levels, reverse=True)
        if not self.return_levels or not set(self.return_levels) <= set(range(NUM_LEVELS)):
            raise ValueError(f'SpyNet: return_levels must name levels from 0 to {NUM_LEVELS - 1}, got {return_levels}.')
        self.basic_module = nn.ModuleList(FlowLevel() for _ in range(NUM_LEVELS))
        self.register_buffer('mean', torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer('std', torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        if load_path:
            load_pretrained(self, load_path)

    def forward(self, ref: Tensor, supp: Tensor) -> Tensor | list[Tensor]:
        """Flow with which ``flow_warp(supp, flow)`` looks like ``ref``.

        Args:
            ref (Tensor): reference images, shape (n, 3, h, w), RGB in [0, 1].
            supp (Tensor): supporting images of the same shape.

        Returns:
            Tensor | list[Tensor]: flow in pixels, horizontal component first. Level L has shape (n, 2, h // s, w // s)
            with s = 2**(5 - L), in pixels of that size. A list, finest first, where several levels were asked for.

        Raises:
            ValueError: the shapes differ, or the images are too small for a returned level.
        """
        h, w = ref.shape[-2:]
        if ref.shape != supp.shape or min(h, w) < 2 ** (NUM_LEVELS - 1 - self.return_levels[-1]):
            raise ValueError(f'SpyNet: reference and supporting images must have one shape and at least '
                             f'{2 ** (NUM_LEVELS - 1 - self.return_levels[-1])} pixels a side for levels '
                             f'{self.return_levels}, got {tuple(ref.shape)} and {tuple(supp.shape)}.')
        flow: Tensor | None = None
        flows: list[Tensor] = []
        for level, (refine, image) in enumerate(zip(self.basic_module, self._pyramid(torch.cat((ref, supp))))):
            ref_image, supp_image = image.chunk(2)
            if flow is None:
                flow = torch.zeros_like(ref_image[:, :2])
            else:
                flow = 2 * F.interpolate(flow, scale_factor=2, mode='bilinear', align_corners=True)
            warped = flow_warp(supp_image, flow, padding_mode='border')
            flow = flow + refine(torch.cat((ref_image, warped, flow), dim=1))
            if level in self.return_levels:
                shrink = 2 ** (NUM_LEVELS - 1 - level)
                flows.insert(0, _resize_flow(flow, h // shrink, w // shrink))
            if level == self.return_levels[0]:
                break
        return flows if len(flows) > 1 else flows[0]

    def _pyramid(self, x: Tensor) -> list[Tensor]:
        """Normalised images from 1/32 of the size to all of it, coarsest first; a side is a multiple of 32."""
        h, w = (math.ceil(side / 32) * 32 for side in x.shape[-2:])
        images = [(_resize(x, h, w) - self.mean) / self.std]
        for _ in range(NUM_LEVELS - 1):
            images.insert(0, F.avg_pool2d(images[0], 2))
        return images


def _resize(x: Tensor, h: int, w: int) -> Tensor:
    return x if x.shape[-2:] == (h, w) else F.interpolate(x, (h, w), mode='bilinear', align_corners=False)


def _resize_flow(flow: Tensor, h: int, w: int) -> Tensor:
    old_h, old_w = flow.shape[-2:]
    if (old_h, old_w) == (h, w):
        return flow
    flow = _resize(flow, h, w)
    return torch.cat((flow[:, :1] * (w / old_w), flow[:, 1:] * (h / old_h)), dim=1)
