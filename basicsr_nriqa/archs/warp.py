"""Backward warping with optical flow."""
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def flow_warp(x: Tensor, flow: Tensor, padding_mode: Literal['zeros', 'border', 'reflection'] = 'zeros',
              mode: Literal['bilinear', 'nearest', 'nearest4'] = 'bilinear') -> Tensor:
    """Sample ``x`` at each pixel's position plus its flow.

    Args:
        x (Tensor): images or features, shape (n, c, h, w).
        flow (Tensor): shape (n, 2, h, w) in pixels, the horizontal component first.
        padding_mode (str): what lies outside ``x``: ``'zeros'``, ``'border'`` or ``'reflection'``.
        mode (str): ``'bilinear'`` or ``'nearest'``; ``'nearest4'`` takes the four pixels around each position
            instead of one interpolated value.

    Returns:
        Tensor: shape (n, c, h, w) in the dtype of ``x``; with ``'nearest4'`` shape (n, 4c, h, w), the pixels (floor x,
        floor y), (floor x, ceil y), (ceil x, floor y), (ceil x, ceil y) one after the other on channels.

    Raises:
        ValueError: ``x`` and ``flow`` differ in batch, height or width, or ``flow`` has not two channels.
    """
    n, _, h, w = x.shape
    if flow.shape != (n, 2, h, w):
        raise ValueError(f'flow_warp: the flow must have shape {(n, 2, h, w)} for x of shape {tuple(x.shape)}, '
                         f'got {tuple(flow.shape)}.')
    if mode == 'nearest4':
        # the position's floor and ceil, not the flow's: what a position's last bit does not show is no next pixel
        place = torch.stack(torch.meshgrid(*(torch.arange(side, device=x.device) for side in (w, h)), indexing='xy'))
        position = flow.to(torch.promote_types(x.dtype, torch.float32)) + place
        low, high = position.floor() - place, position.ceil() - place
        corners = (low, torch.stack((low[:, 0], high[:, 1]), 1), torch.stack((high[:, 0], low[:, 1]), 1), high)
        return torch.cat([flow_warp(x, corner, padding_mode, 'nearest') for corner in corners], dim=1)

    # positions need more bits than half precision has: at column 300 its steps are a quarter of a pixel
    precise = torch.promote_types(x.dtype, torch.float32)
    flow = flow.to(precise)
    columns = torch.linspace(-1, 1, w, dtype=precise, device=x.device)
    rows = torch.linspace(-1, 1, h, dtype=precise, device=x.device).unsqueeze(1)
    grid = torch.stack((torch.add(columns, flow[:, 0], alpha=2 / max(w - 1, 1)),
                        torch.add(rows, flow[:, 1], alpha=2 / max(h - 1, 1))), dim=3)
    return F.grid_sample(x.to(precise), grid, mode, padding_mode, align_corners=True).to(x.dtype)
