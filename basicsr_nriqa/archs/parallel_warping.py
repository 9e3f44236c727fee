"""Parallel warping: every frame sees its neighbours aligned to it (Liang et al., VRT, section 3.3)."""
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from basicsr_nriqa.archs.deform_align import FlowGuidedDeformAlign
from basicsr_nriqa.archs.spynet_arch import SpyNet
from basicsr_nriqa.archs.warp import flow_warp

# A clip has two directions: as it is, in which the next frames are warped to each frame, and reversed in time, in which
# the same arithmetic warps those that came before. All pairs of both directions are one batch.


def both_directions(x: Tensor) -> Tensor:
    """(n, t, ...) -> (2, n, t, ...): the clip, and the clip reversed in time."""
    return torch.stack((x, x.flip(1)))


def neighbours(x: Tensor, distance: int) -> Tensor:
    """Of each frame but the last, the one so much later: (2, n, t, ...) -> (2, n, t - 1, ...); behind the end, zero."""
    return lengthened(x[:, :, distance:], x.shape[2] - 1)


def lengthened(x: Tensor, length: int) -> Tensor:
    """(2, n, t, ...) -> (2, n, length, ...), with zeros behind the end."""
    missing = length - x.shape[2]
    return F.pad(x, [0, 0] * (x.ndim - 3) + [0, missing]) if missing else x


def clip_flows(spynet: SpyNet, x: Tensor, steps: int) -> list[list[Tensor]]:
    """Optical flow from each frame to the next ones, in both directions and at four sizes.

    Args:
        spynet (SpyNet): returns levels 5, 4, 3 and 2.
        x (Tensor): clips, shape (n, t, 3, h, w), t from 2 up.
        steps (int): how many frames away the farthest neighbour is.

    Returns:
        list[list[Tensor]]: for each size from full to an eighth, for each distance from 1 to ``steps`` the flow, shape
        (2, n, t - 1, 2, h', w') in pixels of that size; zero where there is no frame so far away.
    """
    n, t = x.shape[:2]
    clips = both_directions(x)
    sizes = spynet(clips[:, :, :-1].flatten(0, 2), clips[:, :, 1:].flatten(0, 2))
    result = []
    for nearest in sizes:
        flow = nearest.unflatten(0, (2, n, t - 1))
        by_distance = [flow]
        for distance in range(2, steps + 1):
            # as far as before, and from there to the next frame
            reached = by_distance[-1][:, :, :max(t - distance, 0)]
            onward = flow[:, :, distance - 1:]
            if reached.shape[2]:
                reached = reached + flow_warp(onward.flatten(0, 2), reached.flatten(0, 2)).view(reached.shape)
            by_distance.append(lengthened(reached, t - 1))
        result.append(by_distance)
    return result


def warped_images(x: Tensor, flows: Tensor) -> tuple[Tensor, Tensor]:
    """The next and the previous image of each frame warped to it, as the four nearest pixels of each place.

    Args:
        x (Tensor): clips, shape (n, t, c, h, w).
        flows (Tensor): to the nearest neighbours, shape (2, n, t - 1, 2, h, w), as from :func:`clip_flows`.

    Returns:
        tuple[Tensor, Tensor]: from the next and from the previous frame, each (n, t, 4c, h, w); else zero.
    """
    clips = neighbours(both_directions(x), 1)
    warped = flow_warp(clips.flatten(0, 2), flows.flatten(0, 2), mode='nearest4')
    return in_time(warped.unflatten(0, clips.shape[:3]))


def in_time(both: Tensor) -> tuple[Tensor, Tensor]:
    """Results (2, n, t - 1, ...) of both directions -> two of (n, t, ...) in the clip's own order, zeros at its end."""
    both = lengthened(both, both.shape[2] + 1)
    return both[0], both[1].flip(1)


class ParallelWarping(FlowGuidedDeformAlign):
    """Aligns the neighbours of each frame to it, with one deformable convolution for all frames and both directions.

    Args:
        dim (int): channels.
        steps (int): how many neighbours on each side are aligned together.
        deformable_groups (int): groups of channels with offsets of their own.
        max_residue_magnitude (float): the largest offset from the flow, in pixels.
    """

    def __init__(self, dim: int, steps: int, deformable_groups: int, max_residue_magnitude: float) -> None:
        super().__init__(dim, dim, condition_channels=(steps + 1) * dim + 2 * steps, num_frames=steps,
                         deformable_groups=deformable_groups, groups=steps, max_residue_magnitude=max_residue_magnitude)

    def forward(self, x: Tensor, flows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # clips
        """Align.

        Args:
            x (Tensor): features, shape (n, t, h, w, dim), t from 2 up.
            flows (Sequence[Tensor]): by distance, as from :func:`clip_flows` for this size.

        Returns:
            tuple[Tensor, Tensor]: what the next and what the previous frames give each frame, of the shape of ``x``.
        """
        clips = both_directions(x.movedim(4, 2).contiguous())
        current = clips[:, :, :-1].flatten(0, 2)
        frames = [neighbours(clips, distance).flatten(0, 2) for distance in range(1, self.num_frames + 1)]
        single_flows = [flow.flatten(0, 2) for flow in flows]
        warped = [flow_warp(frame, flow) for frame, flow in zip(frames, single_flows)]
        all_flows = torch.cat(single_flows, dim=1)
        aligned = super().forward(frames, (*warped, current, all_flows), all_flows)
        following, previous = in_time(aligned.unflatten(0, (2, len(x), -1)))
        return following.movedim(2, 4), previous.movedim(2, 4)
