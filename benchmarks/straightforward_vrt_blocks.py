"""Attention blocks of the straightforward VRT: windows cut out as copies, attention written out as in the paper (Liang
et al., VRT: A Video Restoration Transformer, 2022, section 3.2)."""
import math

import torch
from torch import nn
from torch.nn import functional as F


class DropPath(nn.Module):
    """Stochastic depth: in training, a sample's branch is left out with this probability, else scaled up."""

    def __init__(self, probability):
        super().__init__()
        self.probability = probability

    def forward(self, x):
        if not self.training or self.probability == 0:
            return x
        kept = torch.rand(len(x), *(1,) * (x.ndim - 1), device=x.device) >= self.probability
        return x * kept.to(x.dtype) / (1 - self.probability)


class GatedMLP(nn.Module):
    """GEGLU: fc2(gelu(fc11(x)) * fc12(x)) on the last dimension."""

    def __init__(self, dim, hidden, out):
        super().__init__()
        self.fc11 = nn.Linear(dim, hidden)
        self.fc12 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc11(x)) * self.fc12(x))


def relative_positions(window):
    """Row of the bias table for each pair of a window's tokens, (N, N); window (t, h, w), N = t * h * w."""
    t, h, w = window
    axes = [torch.arange(size) for size in window]
    tokens = torch.stack(torch.meshgrid(*axes, indexing='ij')).flatten(1)
    difference = tokens[:, :, None] - tokens[:, None, :]
    return ((difference[0] + t - 1) * (2 * h - 1) + difference[1] + h - 1) * (2 * w - 1) + difference[2] + w - 1


def sine_positions(h, w, dim):
    """Sine encoding of rows and columns, (1, h * w, dim): the first half of the channels tells the row."""
    frequency = 10000 ** -(torch.arange(dim // 2).div(2, rounding_mode='floor') * 2 / (dim // 2))

    def encoded(size):
        phase = 2 * math.pi * torch.arange(1, size + 1) / (size + 1e-6)
        phase = phase[:, None] * frequency
        return torch.stack((phase[:, 0::2].sin(), phase[:, 1::2].cos()), dim=2).flatten(1)

    rows = encoded(h)[:, None].expand(h, w, -1)
    columns = encoded(w)[None].expand(h, w, -1)
    return torch.cat((rows, columns), dim=2).reshape(1, h * w, -1)


class WindowAttention(nn.Module):
    """Self attention among a window's tokens and, if mutual, attention of its two frames to each other.

    Args:
        dim (int): channels.
        window (tuple[int]): frames, rows and columns of the largest window.
        num_heads (int): attention heads.
        qkv_bias (bool): biases in the projections.
        qk_scale (float, optional): instead of 1 / sqrt(dim / num_heads).
        mutual (bool): with mutual attention.
    """

    def __init__(self, dim, window, num_heads, qkv_bias=True, qk_scale=None, mutual=False):
        super().__init__()
        self.num_heads = num_heads
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        self.mutual = mutual
        num_positions = math.prod(2 * size - 1 for size in window)
        self.relative_position_bias_table = nn.Parameter(torch.empty(num_positions, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer('relative_position_index', relative_positions(window))
        self.qkv_self = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(2 * dim if mutual else dim, dim)
        if mutual:
            self.register_buffer('position_bias', sine_positions(*window[1:], dim))
            self.qkv_mut = nn.Linear(dim, 3 * dim, bias=qkv_bias)

    def forward(self, x, mask):
        """Windows x, (windows of all samples, N, dim); mask None or (windows of one sample, N, N)."""
        num_tokens = x.shape[1]
        index = self.relative_position_index[:num_tokens, :num_tokens]
        bias = self.relative_position_bias_table[index.reshape(-1)].reshape(num_tokens, num_tokens, -1).permute(2, 0, 1)
        result = self._attention(*self._heads(self.qkv_self(x)), bias, mask)
        if self.mutual:
            half = num_tokens // 2
            q, k, v = self._heads(self.qkv_mut(x + self.position_bias.repeat(1, 2, 1)))
            half_mask = None if mask is None else mask[:, :half, :half]
            first = self._attention(q[:, :, half:], k[:, :, :half], v[:, :, :half], None, half_mask)
            second = self._attention(q[:, :, :half], k[:, :, half:], v[:, :, half:], None, half_mask)
            result = torch.cat((torch.cat((first, second), dim=1), result), dim=2)
        return self.proj(result)

    def _heads(self, qkv):
        """(windows, N, 3 * dim) to three times (windows, heads, N, dim / heads)."""
        windows, num_tokens, _ = qkv.shape
        return qkv.reshape(windows, num_tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)

    def _attention(self, q, k, v, bias, mask):
        """softmax(q k^T * scale + bias + mask) v, heads side by side: (windows, N, dim)."""
        scores = (q * self.scale) @ k.transpose(2, 3)
        if bias is not None:
            scores = scores + bias
        if mask is not None:
            windows, heads, queries, keys = scores.shape
            scores = scores.reshape(-1, len(mask), heads, queries, keys) + mask[None, :, None]
            scores = scores.reshape(windows, heads, queries, keys)
        return (scores.softmax(dim=3) @ v).transpose(1, 2).flatten(2)


def partition(x, window):
    """(n, t, h, w, c) to (n * number of windows, tokens of a window, c)."""
    n, t, h, w, c = x.shape
    x = x.reshape(n, t // window[0], window[0], h // window[1], window[1], w // window[2], window[2], c)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, math.prod(window), c)


def merge(windows, window, shape):
    """The reverse of partition; shape (n, t, h, w)."""
    n, t, h, w = shape
    x = windows.reshape(n, t // window[0], h // window[1], w // window[2], *window, -1)
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(n, t, h, w, -1)


def fitting_window(size, window):
    """Window and shift for features of size (t, h, w); a dimension no larger than its window is not shifted."""
    fitting = tuple(min(pair) for pair in zip(size, window))
    shift = tuple(0 if length <= side else side // 2 for length, side in zip(size, window))
    return fitting, shift


def shift_mask(size, window, shift, device):
    """-100 between tokens that only the cyclic shift put into one window, else 0: (windows of one sample, N, N)."""
    regions = torch.zeros(1, 1, 1, device=device)
    for axis in range(3):
        length = math.ceil(size[axis] / window[axis]) * window[axis]
        place = torch.arange(length, device=device)
        region = (place >= length - window[axis]).long() + (place >= length - shift[axis]).long()
        regions = 3 * regions + region.reshape([-1 if other == axis else 1 for other in range(3)])
    regions = partition(regions[None, ..., None], window).squeeze(2)
    return -100.0 * (regions[:, :, None] != regions[:, None, :])


class Block(nn.Module):
    """LayerNorm, window attention, skip; LayerNorm, GEGLU, skip. On (n, t, h, w, dim)."""

    def __init__(self, dim, num_heads, window, shifted, mutual, mlp_ratio, qkv_bias, qk_scale, drop_path):
        super().__init__()
        self.window = window
        self.shifted = shifted
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window, num_heads, qkv_bias, qk_scale, mutual)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = GatedMLP(dim, int(mlp_ratio * dim), dim)

    def forward(self, x, mask):
        x = x + self.drop_path(self._attention(self.norm1(x), mask))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attention(self, x, mask):
        _, t, h, w, _ = x.shape
        window, shift = fitting_window((t, h, w), self.window)
        x = F.pad(x, (0, 0, 0, -w % window[2], 0, -h % window[1], 0, -t % window[0]))
        shape = x.shape[:4]
        shifts = self.shifted and any(shift)
        if shifts:
            x = torch.roll(x, [-places for places in shift], dims=(1, 2, 3))
        x = merge(self.attn(partition(x, window), mask if shifts else None), window, shape)
        if shifts:
            x = torch.roll(x, shift, dims=(1, 2, 3))
        return x[:, :t, :h, :w]


class BlockGroup(nn.Module):
    """Blocks one after the other, each second one with shifted windows. On (n, dim, t, h, w).

    Args:
        dim (int): channels.
        depth (int): number of blocks.
        num_heads (int): attention heads.
        window (tuple[int]): frames, rows and columns of a window.
        mutual (bool): mutual and self attention instead of self attention only.
        mlp_ratio (float): hidden channels of the MLP, as a multiple of dim.
        qkv_bias (bool): biases in the attention's projections.
        qk_scale (float, optional): instead of 1 / sqrt(dim / num_heads).
        drop_path (list[float]): each block's probability of being left out in training.
    """

    def __init__(self, dim, depth, num_heads, window, mutual, mlp_ratio, qkv_bias, qk_scale, drop_path):
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(
            Block(dim, num_heads, window, index % 2 == 1, mutual, mlp_ratio, qkv_bias, qk_scale, drop_path[index])
            for index in range(depth))

    def forward(self, x):
        size = x.shape[2:]
        mask = shift_mask(size, *fitting_window(size, self.window), x.device)
        x = x.permute(0, 2, 3, 4, 1)
        for block in self.blocks:
            x = block(x, mask)
        return x.permute(0, 4, 1, 2, 3)
