"""Deformable alignment guided by optical flow (Chan et al., BasicVSR++, CVPR 2022, equations 3 to 6)."""
import math
from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from basicsr_nriqa.recompute import recomputed


class FlowGuidedDeformAlign(nn.Module):
    """A 3x3 modulated deformable convolution over several frames whose offsets are their flows plus a learned rest.

    Args:
        in_channels (int): channels of one frame.
        out_channels (int): channels of the result.
        condition_channels (int): channels that the offsets are predicted from.
        num_frames (int): frames that are aligned together.
        deformable_groups (int): groups of channels with offsets of their own, the same number for each frame.
        groups (int): channel groups of the convolution itself.
        max_residue_magnitude (float): the largest learned offset, in pixels.

    Raises:
        ValueError: the channels do not divide into the groups.
    """

    def __init__(self, in_channels: int, out_channels: int, condition_channels: int, num_frames: int = 2,
                 deformable_groups: int = 16, groups: int = 1, max_residue_magnitude: float = 10) -> None:
        super().__init__()
        if deformable_groups < 1 or deformable_groups % num_frames or (num_frames * in_channels) % deformable_groups:
            raise ValueError(f'deformable_groups must be a multiple of the {num_frames} frames aligned together and '
                             f'divide their {num_frames * in_channels} channels; got {deformable_groups}.')
        self.num_frames = num_frames
        self.max_residue_magnitude = max_residue_magnitude
        self.num_points = 9 * deformable_groups
        fan_in = 9 * num_frames * in_channels
        self.weight = nn.Parameter(torch.empty(out_channels, num_frames * in_channels // groups, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.uniform_(self.weight, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))
        self.conv_offset = nn.Sequential(
            nn.Conv2d(condition_channels, out_channels, 3, padding=1), nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1), nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1), nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(out_channels, 3 * self.num_points, 3, padding=1))
        # alignment starts as the flow's own
        for parameter in self.conv_offset[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, frames: Sequence[Tensor], condition: Sequence[Tensor], flows: Tensor) -> Tensor:
        """Align ``frames`` to the frame that their flows start from.

        Args:
            frames (Sequence[Tensor]): num_frames of them, each of shape (n, in_channels, h, w).
            condition (Sequence[Tensor]): what the offsets are predicted from, side by side on channels (n,
                condition_channels, h, w).
            flows (Tensor): one flow for each frame, shape (n, num_frames * 2, h, w), in pixels, horizontal first.

        Returns:
            Tensor: shape (n, out_channels, h, w).
        """
        first, *others, _ = self.conv_offset
        # tensors side by side are not kept: all but the warped ones are needed elsewhere anyway
        features = recomputed(lambda *parts: first(torch.cat(parts, dim=1)), *condition)
        for layer in others:
            features = layer(features)
        # nor are the offsets and what is sampled, many times as large as the frames; on CPUs it is one image at a time
        at_once = len(flows) if flows.is_cuda else 1
        images = zip(*(tensor.split(at_once) for tensor in (features, flows, *frames)))
        aligned = [recomputed(self._sample, *image) for image in images]
        return torch.cat(aligned) if len(aligned) > 1 else aligned[0]

    def _sample(self, features: Tensor, flows: Tensor, *frames: Tensor) -> Tensor:
        offset, mask = self.conv_offset[-1](features).split((2 * self.num_points, self.num_points), dim=1)
        offset = (self.max_residue_magnitude * offset.tanh()).unflatten(1, (self.num_frames, -1, 2))
        # a deformable convolution wants the vertical component first
        offset = offset + flows.unflatten(1, (self.num_frames, 1, 2)).flip(3)
        return deform_conv2d(torch.cat(frames, dim=1), offset.flatten(1, 3), mask.sigmoid(), self.weight, self.bias)


def deform_conv2d(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Modulated deformable 3x3 convolution with stride 1 and zeros outside (Zhu et al., Deformable ConvNets v2, 2019).

    The same function as ``torchvision.ops.deform_conv2d`` with padding 1. torchvision's kernel is used on CUDA; its CPU
    version runs on one thread, and the backward pass takes ten times as long as sampling with ``grid_sample``.

    Args:
        x (Tensor): shape (n, c, h, w), h and w from 2 up.
        offset (Tensor): shape (n, g * 9 * 2, h, w) for g deformable groups, in pixels, vertical component first.
        mask (Tensor): shape (n, g * 9, h, w).
        weight (Tensor): shape (out, c // groups, 3, 3).
        bias (Tensor): shape (out,).

    Returns:
        Tensor: shape (n, out, h, w) in the dtype of ``x``.
    """
    # positions and the sums over them need more bits than half precision has
    precise = torch.promote_types(x.dtype, torch.float32)
    if x.is_cuda:
        tensors = (tensor.to(precise) for tensor in (x, offset, weight, bias))
        return torchvision.ops.deform_conv2d(*tensors, padding=1, mask=mask.to(precise)).to(x.dtype)

    n, c, h, w = x.shape
    num_groups = mask.shape[1] // 9
    # the nine taps' own places around each pixel, as the grid that grid_sample wants: -1 and 1 are the outermost pixels
    offset = offset.to(precise).reshape(n * num_groups, 3, 3, 2, h, w)
    tap = torch.arange(-1, 2, dtype=precise, device=x.device)
    rows = (tap.view(3, 1, 1, 1) + torch.arange(h, device=x.device).view(h, 1)) * (2 / max(h - 1, 1)) - 1
    columns = (tap.view(3, 1, 1) + torch.arange(w, device=x.device)) * (2 / max(w - 1, 1)) - 1
    grid = torch.stack((torch.add(columns, offset[:, :, :, 1], alpha=2 / max(w - 1, 1)),
                        torch.add(rows, offset[:, :, :, 0], alpha=2 / max(h - 1, 1))), dim=5)
    taps = F.grid_sample(x.to(precise).reshape(n * num_groups, c // num_groups, h, w),
                         grid.view(n * num_groups, 9 * h, w, 2), align_corners=True)
    taps = taps.view(n, num_groups, c // num_groups, 9, h, w) * mask.reshape(n, num_groups, 1, 9, h, w)
    groups = c // weight.shape[1]
    kernel = weight.reshape(groups, -1, weight.shape[1] * 9)
    output = kernel @ taps.view(n, groups, -1, h * w).to(x.dtype)
    return output.to(x.dtype).view(n, -1, h, w) + bias.to(x.dtype).view(-1, 1, 1)
