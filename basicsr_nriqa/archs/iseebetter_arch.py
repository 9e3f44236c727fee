"""iSeeBetter's generator: RBPN (Haris et al., Recurrent Back-Projection Network for Video Super-Resolution, CVPR 2019)
with the flow of SPyNet (Chadha et al., iSeeBetter: Spatio-temporal video super-resolution using recurrent generative
back-projection networks, Computational Visual Media 2020)."""
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from basicsr_nriqa.archs.back_projection import (
    KERNELS,
    BackProjection,
    Conv,
    Deconv,
    ResidualBlocks,
    channels_last,
    init_weights,
)
from basicsr_nriqa.archs.described import described
from basicsr_nriqa.archs.spynet_arch import SpyNet
from basicsr_nriqa.recompute import recomputed

MIN_SIDE = 16
FLOW_PIXELS = 2 ** 20  # of reference images whose flow is computed at once


class RBPN(nn.Module):
    """RBPN: one frame, super-resolved with the help of its neighbours.

    State_dict keys are the published ones, and with equal weights so is the output.

    Args:
        num_in_ch (int): channels of a frame, 1 or more. Default: 3.
        base_filter (int): feature channels at the input's size, 1 or more. Default: 256.
        num_feat (int): feature channels at the output's size, 1 or more. Default: 64.
        num_stages (int): up-projections in DBPN, of which 3 is the only published number. Default: 3.
        num_block (int): residual blocks in each of the three chains, 0 or more. Default: 5.
        num_frame (int): the frame and its neighbours, an odd number from 3 up. Default: 7.
        scale (int): how much larger the output is, 2, 4 or 8. Default: 4.
        checkpoint (bool): keep only what goes from one neighbour to the next, and compute the rest of each step again
            in the backward pass: for input whose features do not fit into memory. Default: False.

    Raises:
        ValueError: an option outside these.
    """

    def __init__(self, num_in_ch: int = 3, base_filter: int = 256, num_feat: int = 64, num_stages: int = 3,
                 num_block: int = 5, num_frame: int = 7, scale: int = 4, checkpoint: bool = False) -> None:
        super().__init__()
        if num_stages != 3:
            raise ValueError(f'RBPN: num_stages must be 3, the only published form; got {num_stages}.')
        if num_frame < 3 or num_frame % 2 == 0:
            raise ValueError(f'RBPN: num_frame must be odd and 3 or more, the frame between its neighbours; '
                             f'got {num_frame}.')
        if scale not in KERNELS:
            raise ValueError(f'RBPN: scale must be one of {sorted(KERNELS)}, got {scale}.')
        if min(num_in_ch, base_filter, num_feat) < 1 or num_block < 0:
            raise ValueError(f'RBPN: num_in_ch, base_filter and num_feat must be 1 or more and num_block 0 or more, '
                             f'got {num_in_ch}, {base_filter}, {num_feat} and {num_block}.')
        self.num_in_ch = num_in_ch
        self.num_frame = num_frame
        self.scale = scale
        self.checkpoint = checkpoint
        self.feat0 = Conv(num_in_ch, base_filter, 3, 1, 1)
        self.feat1 = Conv(2 * num_in_ch + 2, base_filter, 3, 1, 1)
        self.DBPN = BackProjection(base_filter, num_feat, scale)
        self.res_feat1 = ResidualBlocks(base_filter, num_block, Deconv(base_filter, num_feat, *KERNELS[scale]))
        self.res_feat2 = ResidualBlocks(num_feat, num_block, Conv(num_feat, num_feat, 3, 1, 1))
        self.res_feat3 = ResidualBlocks(num_feat, num_block, Conv(num_feat, base_filter, *KERNELS[scale]))
        self.output = Conv((num_frame - 1) * num_feat, num_in_ch, 3, 1, 1, activated=False)
        init_weights(self)

    def forward(self, centre: Tensor, neighbours: Sequence[Tensor], flows: Sequence[Tensor]) -> Tensor:
        """Super-resolve the centre frame.

        Args:
            centre (Tensor): shape (n, num_in_ch, h, w), in [0, 1].
            neighbours (Sequence[Tensor]): num_frame - 1 frames of the same shape, in the order of time.
            flows (Sequence[Tensor]): for each neighbour the flow from the centre to it, shape (n, 2, h, w), in pixels,
                horizontal component first.

        Returns:
            Tensor: shape (n, num_in_ch, scale * h, scale * w), not clipped.

        Raises:
            ValueError: another number of neighbours or flows, or another shape.
        """
        expected = self.num_frame - 1
        flow_shape = (*centre.shape[:1], 2, *centre.shape[2:])
        if (centre.ndim != 4 or centre.shape[1] != self.num_in_ch or not len(neighbours) == len(flows) == expected
                or any(neighbour.shape != centre.shape for neighbour in neighbours)
                or any(flow.shape != flow_shape for flow in flows)):
            raise ValueError(f'RBPN: expected a centre frame (n, {self.num_in_ch}, h, w), {expected} neighbours of its '
                             f'shape and {expected} flows (n, 2, h, w); got {tuple(centre.shape)}, '
                             f'{[tuple(frame.shape) for frame in neighbours]} and '
                             f'{[tuple(flow.shape) for flow in flows]}.')
        return self.restore(centre, self.pair_features(centre, neighbours, flows))

    def pair_features(self, centre: Tensor, neighbours: Sequence[Tensor], flows: Sequence[Tensor]) -> Sequence[Tensor]:
        """What :meth:`restore` needs of each neighbour, computed as one batch.

        A neighbour that takes several places around the centre frame is needed here only once.

        Args:
            centre (Tensor): as for :meth:`forward`.
            neighbours (Sequence[Tensor]): any number of frames of the same shape.
            flows (Sequence[Tensor]): for each neighbour the flow from the centre to it, as for :meth:`forward`.

        Returns:
            Sequence[Tensor]: for each neighbour a tensor (n, base_filter, h, w).
        """
        pairs = torch.cat([torch.cat((centre, neighbour, flow), dim=1) for neighbour, flow in zip(neighbours, flows)])
        features, _ = self.res_feat1.blocks(self.feat1(channels_last(pairs)), self.feat1.act)
        return features.chunk(len(neighbours))

    def restore(self, centre: Tensor, pair_features: Sequence[Tensor]) -> Tensor:
        """Super-resolve the centre frame with what :meth:`pair_features` gave.

        Args:
            centre (Tensor): as for :meth:`forward`.
            pair_features (Sequence[Tensor]): of num_frame - 1 neighbours, in the order of time.

        Returns:
            Tensor: as of :meth:`forward`.
        """
        feature = self.feat0.act(self.feat0(channels_last(centre)))
        projection = recomputed(self._project, feature, pair_features[0], enabled=self.checkpoint)
        # the convolution of all projections side by side is the sum of one for each, and no copy of them is needed
        weights = self.output.conv.weight.chunk(self.num_frame - 1, dim=1)
        output = F.conv2d(projection, weights[0], self.output.conv.bias, padding=1)
        for pair, weight in zip(pair_features[1:], weights[1:]):
            projection = recomputed(self._project_again, projection, pair, enabled=self.checkpoint)
            output.add_(F.conv2d(projection, weight, padding=1))
        return output.contiguous()

    def _project(self, feature: Tensor, pair: Tensor) -> Tensor:
        """Features at the output's size from those carried along and one neighbour's, both at the input's size."""
        single = self.DBPN(feature)
        *blocks, last = self.res_feat1
        multiple = self.res_feat1.act(last(pair, (blocks[-1] if blocks else self.feat1).act))
        return self.res_feat2.act(self.res_feat2(single - multiple)).add_(single)

    def _project_again(self, projection: Tensor, pair: Tensor) -> Tensor:
        return self._project(self.res_feat3.act(self.res_feat3(projection)), pair)


@ARCH_REGISTRY.register()
class ISeeBetter(nn.Module):
    """RBPN with the flow of SPyNet, for clips: ``spynet`` and ``rbpn``.

    Args:
        spynet_path (str | Path | None): checkpoint of SPyNet, a file or a URL. Without one the flow starts at zero
            and is trained from there. Default: none.
        base_filter (int): feature channels at the input's size, 1 or more. Default: 256.
        num_feat (int): feature channels at the output's size, 1 or more. Default: 64.
        num_stages (int): up-projections in DBPN, of which 3 is the only published number. Default: 3.
        num_block (int): residual blocks in each of the three chains, 0 or more. Default: 5.
        num_frame (int): frames that each output frame is made from, itself in the middle; an odd number from 3 up.
            Default: 7.
        scale (int): how much larger the output is, 2, 4 or 8. Default: 4.
        frames (Literal['all', 'center']): ``all`` restores every frame, each in the middle of a window of num_frame;
            where that reaches over an end of the clip, frames are reflected there. ``center`` takes clips of num_frame
            frames and restores the middle one, as published. Default: all.
        checkpoint (bool): keep only what goes from one neighbour to the next, and compute the rest of each step again
            in the backward pass: less memory, more time. Default: False.

    Raises:
        ValueError: an option outside these, or the checkpoint does not fit.
        FileNotFoundError: there is no file at ``spynet_path``.
    """
    min_frames = 2
    min_side = MIN_SIDE

    def __init__(self, spynet_path: str | Path | None = None, base_filter: int = 256, num_feat: int = 64,
                 num_stages: int = 3, num_block: int = 5, num_frame: int = 7, scale: int = 4,
                 frames: Literal['all', 'center'] = 'all', checkpoint: bool = False) -> None:
        super().__init__()
        if frames not in ('all', 'center'):
            raise ValueError(f"ISeeBetter: frames must be 'all' or 'center', got {frames!r}.")
        self.frames = frames
        self.scale = scale
        self.rbpn = RBPN(3, base_filter, num_feat, num_stages, num_block, num_frame, scale, checkpoint)
        self.spynet = SpyNet(spynet_path)
        if frames == 'center':
            self.min_frames = num_frame

    def forward(self, x: Tensor) -> Tensor:
        """Restore a clip.

        Args:
            x (Tensor): frames, shape (n, t, 3, h, w), RGB in [0, 1], h and w from 16 up; t from 2 up, or
                num_frame where ``frames`` is ``'center'``.

        Returns:
            Tensor: shape (n, t, 3, scale * h, scale * w), with one frame instead of t where ``frames`` is ``'center'``;
            not clipped.

        Raises:
            ValueError: another shape, too few or small frames, or no floats.
        """
        num_frame, everywhere = self.rbpn.num_frame, self.frames == 'all'
        if (x.ndim != 5 or x.shape[2] != 3 or min(x.shape[3:]) < self.min_side or x.shape[1] < self.min_frames
                or (not everywhere and x.shape[1] != num_frame) or not x.is_floating_point()):
            wanted = f'{self.min_frames} or more' if everywhere else f'exactly {num_frame}'
            raise ValueError(f'ISeeBetter: expected clips of shape (n, t, 3, h, w) with {wanted} frames, h and w of '
                             f'{self.min_side} pixels or more, and floats in [0, 1]; got {described(x)}.')
        t, half = x.shape[1], num_frame // 2
        images = x.unbind(1)
        windows = {centre: [reflected(centre + step, t) for step in range(-half, half + 1) if step]
                   for centre in (range(t) if everywhere else [half])}
        flows = self._flows(images, {(centre, other): None for centre in windows for other in windows[centre]})
        outputs = []
        for centre, window in windows.items():
            others = list(dict.fromkeys(window))
            features = self.rbpn.pair_features(images[centre], [images[other] for other in others],
                                               [flows[centre, other] for other in others])
            of_frame = dict(zip(others, features))
            outputs.append(self.rbpn.restore(images[centre], [of_frame[other] for other in window]))
        return torch.stack(outputs, dim=1)

    def _flows(self, images: Sequence[Tensor],
               pairs: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Tensor]:
        """Flow (n, 2, h, w) from the first to the second image of each pair of indices, as a dictionary."""
        pairs = list(pairs)
        n, _, h, w = images[0].shape
        at_once = max(1, FLOW_PIXELS // (n * h * w))
        flows: list[Tensor] = []
        for start in range(0, len(pairs), at_once):
            ref, supp = (torch.cat([images[index] for index in indices])
                         for indices in zip(*pairs[start:start + at_once]))
            flows += self.spynet(ref, supp).split(n)
        return dict(zip(pairs, flows))


def reflected(index: int, length: int) -> int:
    """The index from 0 to length - 1 where any index lands, mirrored at the first and the last as often as needed."""
    period = 2 * (length - 1)
    index %= period
    return min(index, period - index)
