"""The building blocks of VRT: transformer blocks in groups, and the stages made of them.

Clips of features are (n, t, h, w, c) throughout.
"""
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from basicsr_nriqa.archs.parallel_warping import ParallelWarping
from basicsr_nriqa.archs.window_attention import WindowAttention, cut_windows, from_windows, to_windows
from basicsr_nriqa.recompute import recomputed


class GatedMlp(nn.Module):
    """fc2(gelu(fc11(x)) * fc12(x)) (Shazeer, GLU Variants Improve Transformer, 2020).

    Args:
        in_features (int): channels of the input.
        hidden_features (int): channels inside.
        out_features (int): channels of the result.
    """

    def __init__(self, in_features: int, hidden_features: int, out_features: int) -> None:
        super().__init__()
        self.fc11 = nn.Linear(in_features, hidden_features)
        self.fc12 = nn.Linear(in_features, hidden_features)
        self.fc2 = nn.Linear(hidden_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        both = F.linear(x, torch.cat((self.fc11.weight, self.fc12.weight)), torch.cat((self.fc11.bias, self.fc12.bias)))
        return recomputed(self._gate, both)

    def _gate(self, both: Tensor) -> Tensor:
        gate, value = both.chunk(2, dim=-1)
        return self.fc2(F.gelu(gate) * value)


class StochasticDepth(nn.Module):
    """Leaves a branch out of clips at random in training (Huang et al., Deep Networks with Stochastic Depth, 2016).

    Args:
        rate (float): how often, from 0 to below 1.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.rate):
            return x
        kept = torch.rand((len(x),) + (1,) * (x.ndim - 1), device=x.device) >= self.rate
        return x * (kept / (1 - self.rate)).to(x.dtype)

    def extra_repr(self) -> str:
        return f'rate={self.rate:.3f}'


class TransformerBlock(nn.Module):
    """Window attention, then a gated MLP, each after LayerNorm and with a skip.

    Args:
        dim (int): channels.
        window_size (Sequence[int]): frames, rows and columns of a window.
        num_heads (int): attention heads; ``dim`` is a multiple of it.
        shifted (bool): whether windows are moved by half their size.
        mutual (bool): with mutual attention; windows have two frames then.
        mlp_ratio (float): channels inside the MLP relative to ``dim``.
        qkv_bias (bool): whether queries, keys and values have a bias.
        qk_scale (float | None): factor of q k^T; None for 1 / sqrt(dim / num_heads).
        drop_path (float): rate of stochastic depth.
        checkpoint_attn (bool): recompute the attention in the backward pass.
        checkpoint_ffn (bool): recompute the MLP in the backward pass.
    """

    def __init__(self, dim: int, window_size: Sequence[int], num_heads: int, *, shifted: bool, mutual: bool,
                 mlp_ratio: float, qkv_bias: bool, qk_scale: float | None, drop_path: float, checkpoint_attn: bool,
                 checkpoint_ffn: bool) -> None:
        super().__init__()
        self.window_size, self.shifted = tuple(window_size), shifted
        self.checkpoint_attn, self.checkpoint_ffn = checkpoint_attn, checkpoint_ffn
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window_size, num_heads, qkv_bias, qk_scale, mutual)
        self.drop_path = StochasticDepth(drop_path)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = GatedMlp(dim, int(dim * mlp_ratio), dim)

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, h, w, dim) -> the same shape."""
        x = x + self.drop_path(recomputed(self._attend, x, enabled=self.checkpoint_attn))
        return x + self.drop_path(recomputed(self._mix, x, enabled=self.checkpoint_ffn))

    def _attend(self, x: Tensor) -> Tensor:
        extent = tuple(x.shape[1:4])
        windows = cut_windows(extent, self.window_size, self.shifted, x.device)
        return from_windows(self.attn(to_windows(self.norm1(x), windows), windows), windows, extent)

    def _mix(self, x: Tensor) -> Tensor:
        return self.mlp(self.norm2(x))


class BlockGroup(nn.Module):
    """Blocks one after the other, of which every second one shifts its windows.

    Args:
        depth (int): how many.
        drop_path (Sequence[float]): rate of stochastic depth of each.
        options (Any): as for :class:`TransformerBlock`.
    """

    def __init__(self, depth: int, *, drop_path: Sequence[float], **options: Any) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(TransformerBlock(shifted=i % 2 == 1, drop_path=drop_path[i], **options)
                                    for i in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Reshape(nn.Module):
    """Frames from the size of one stage to that of the next, by moving pixels into channels or out of them.

    Args:
        how (Literal['none', 'down', 'up']): ``'none'``, ``'down'`` (half the size) or ``'up'`` (twice the size).
    """

    def __init__(self, how: Literal['none', 'down', 'up']) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, h, w, c) -> (n, t, h/2, w/2, 4c), channels by column, row, channel; or the reverse."""
        n, t, h, w, c = x.shape
        if self.how == 'down':
            return x.view(n, t, h // 2, 2, w // 2, 2, c).permute(0, 1, 2, 4, 5, 3, 6).reshape(n, t, h // 2, w // 2, -1)
        if self.how == 'up':
            return x.view(n, t, h, w, 2, 2, c // 4).permute(0, 1, 2, 5, 3, 4, 6).reshape(n, t, 2 * h, 2 * w, -1)
        return x


class Stage(nn.Module):
    """Stage of VRT at one size: mutual and self attention, self attention alone, parallel warping.

    Args:
        in_dim (int): channels of the stage before.
        dim (int): channels of this one.
        reshape (Literal['none', 'down', 'up']): how its frames get here, as for :class:`Reshape`.
        depth (int): blocks in both groups.
        mul_attn_ratio (float): the share of blocks with mutual attention.
        window_size (Sequence[int]): of the blocks without; the others' windows have two frames.
        drop_path (Sequence[float]): rate of stochastic depth of each block.
        pa_frames (int): frames that parallel warping takes in, half from each side: 0, 2, 4 or 6.
        deformable_groups (int): of its deformable convolution.
        max_residue_magnitude (float): its largest offset from the flow, in pixels.
        options (Any): as for :class:`TransformerBlock`.
    """

    def __init__(self, in_dim: int, dim: int, *, reshape: Literal['none', 'down', 'up'], depth: int,
                 mul_attn_ratio: float, window_size: Sequence[int], drop_path: Sequence[float], pa_frames: int,
                 deformable_groups: int, max_residue_magnitude: float, **options: Any) -> None:
        super().__init__()
        channels = {'none': in_dim, 'down': 4 * in_dim, 'up': in_dim // 4}[reshape]
        layers: list[nn.Module] = [Reshape(reshape), nn.LayerNorm(channels)]
        if reshape != 'none':
            layers.append(nn.Linear(channels, dim))
        self.reshape = nn.Sequential(*layers)
        mutual_depth = int(depth * mul_attn_ratio)
        self.residual_group1 = BlockGroup(mutual_depth, dim=dim, window_size=(2, *window_size[1:]), mutual=True,
                                          drop_path=drop_path[:mutual_depth], **options)
        self.linear1 = nn.Linear(dim, dim)
        self.residual_group2 = BlockGroup(depth - mutual_depth, dim=dim, window_size=window_size, mutual=False,
                                          drop_path=drop_path[mutual_depth:], **options)
        self.linear2 = nn.Linear(dim, dim)
        self.pa_frames = pa_frames
        if pa_frames:
            self.pa_deform = ParallelWarping(dim, pa_frames // 2, deformable_groups, max_residue_magnitude)
            self.pa_fuse = GatedMlp(3 * dim, 3 * dim, dim)

    def forward(self, x: Tensor, flows: Sequence[Tensor] | None = None) -> Tensor:
        """Clips (n, t, h, w, in_dim) of the stage before -> (n, t, h', w', dim), with their flows where it warps.

        ``flows`` are those of :class:`~basicsr_nriqa.archs.parallel_warping.ParallelWarping`.
        """
        x = self.reshape(x)
        x = self.linear1(self.residual_group1(x)) + x
        x = self.linear2(self.residual_group2(x)) + x
        if self.pa_frames:
            x = self.pa_fuse(torch.cat((x, *self.pa_deform(x, flows)), dim=-1))
        return x


class TailGroup(nn.Module):
    """Blocks of self attention with a skip over all of them, at full size behind the stages.

    Args:
        dim (int): channels.
        options (Any): as for :class:`BlockGroup`.
    """

    def __init__(self, dim: int, **options: Any) -> None:
        super().__init__()
        self.residual_group = BlockGroup(dim=dim, mutual=False, **options)
        self.linear = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, h, w, dim) -> the same shape."""
        return x + self.linear(self.residual_group(x))
