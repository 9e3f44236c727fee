"""Attention inside windows of a clip (Liang et al., VRT: A Video Restoration Transformer, section 3.2; the relative
position bias and the shifted windows are those of Liu et al., Swin Transformer, ICCV 2021).

Tokens are kept as (n, t, h, w, c) throughout. Windows are made by one gather that shifts, cuts and sorts. Windows
at the same sides of the clip need the same mask, so they lie beside each other and share one sum of bias and mask.
"""
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# attention matrices of this many numbers at a time stay in a core's cache
CACHED_NUMBERS = 2 ** 18
MASKED = -100.0


class Windows(NamedTuple):
    """How the tokens of a clip of one size are cut into windows."""

    size: tuple[int, ...]  # of a window: frames, rows, columns
    padding: tuple[int, ...]  # zeros behind the last frame, row and column
    order: Tensor  # (tokens,): the token that each place in the windows takes
    inverse: Tensor  # (tokens,): the place in the windows that each token takes
    counts: tuple[int, ...]  # how many windows share a mask, in the order in which they come
    masks: tuple[Tensor | None, ...]  # (size, size): 0, or -100 between tokens that are no neighbours in the clip


@torch.compiler.assume_constant_result
def cut_windows(extent: tuple[int, ...], window: tuple[int, ...], shifted: bool, device: torch.device) -> Windows:
    """Plan the windows of a clip, once for each size.

    Args:
        extent (tuple[int, ...]): frames, rows and columns of the clip.
        window (tuple[int, ...]): the same of a window. A dimension of the clip that is no larger is not cut, nor
            shifted.
        shifted (bool): whether windows are moved by half their size; what leaves on one side comes in on the other,
            and is masked there.
        device (torch.device): where the tensors are to be.

    Returns:
        Windows: the plan.
    """
    # whatever the caller's default device and mode are, what is kept has to suit the next caller too
    with torch.device('cpu'), torch.inference_mode(False):
        return _cut_windows(extent, window, shifted, device)


@lru_cache(maxsize=128)
def _cut_windows(extent: tuple[int, ...], window: tuple[int, ...], shifted: bool, device: torch.device) -> Windows:
    size = tuple(min(*pair) for pair in zip(extent, window))
    shift = [side // 2 if shifted and whole > side else 0 for whole, side in zip(extent, size)]
    padding = tuple(-whole % side for whole, side in zip(extent, size))
    padded = [whole + more for whole, more in zip(extent, padding)]

    # places in the shifted clip, and the tokens there
    tokens = torch.arange(math.prod(padded)).view(padded).roll([-s for s in shift], (0, 1, 2))
    # what was moved round from the other side is a region of its own, and so is what lies in front of it
    region = torch.zeros(padded, dtype=torch.long)
    for axis, (whole, side, moved) in enumerate(zip(padded, size, shift)):
        if moved:
            along = torch.zeros(whole, dtype=torch.long)
            along[whole - side:] = 1
            along[whole - moved:] = 2
            region = 3 * region + along.view([-1 if i == axis else 1 for i in range(3)])
    tokens, region = (_cut(places, size) for places in (tokens, region))
    # regions differ inside windows at the sides only, and alike in all windows of one side
    _, kind = torch.unique(region, dim=0, return_inverse=True)
    sort = torch.argsort(kind, stable=True)
    order = tokens[sort].flatten()
    counts = tuple(torch.bincount(kind).tolist())
    masks: list[Tensor | None] = []
    for k in range(len(counts)):
        of_first = region[kind == k][0]
        apart = of_first.unsqueeze(0) != of_first.unsqueeze(1)
        masks.append(apart.float().mul_(MASKED).to(device) if apart.any() else None)
    return Windows(size, padding, order.to(device), torch.argsort(order).to(device), counts, tuple(masks))


def _cut(places: Tensor, size: tuple[int, ...]) -> Tensor:
    """(frames, rows, columns) -> (windows, places in a window)."""
    t, h, w = (whole // side for whole, side in zip(places.shape, size))
    return places.view(t, size[0], h, size[1], w, size[2]).permute(0, 2, 4, 1, 3, 5).reshape(t * h * w, -1)


class _Reorder(torch.autograd.Function):
    """Tokens (n, tokens, c) in another order. The gradient is gathered too, which is faster than adding it up."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return tokens.index_select(1, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        order, inverse = ctx.saved_tensors
        return _Reorder.apply(gradient, inverse, order), None, None


def to_windows(x: Tensor, windows: Windows) -> Tensor:
    """Clips (n, t, h, w, c) -> tokens (n, windows * size, c), window after window."""
    if any(windows.padding):
        t, h, w = windows.padding
        x = F.pad(x, (0, 0, 0, w, 0, h, 0, t))
    return _Reorder.apply(x.flatten(1, 3), windows.order, windows.inverse)


def from_windows(tokens: Tensor, windows: Windows, extent: Sequence[int]) -> Tensor:
    """The reverse of :func:`to_windows`: tokens (n, windows * size, c) -> clips (n, t, h, w, c) of that extent."""
    padded = [whole + more for whole, more in zip(extent, windows.padding)]
    x = _Reorder.apply(tokens, windows.inverse, windows.order).unflatten(1, padded)
    return x[:, :extent[0], :extent[1], :extent[2]] if any(windows.padding) else x


def attention(qkv: Tensor, bias: Tensor | None = None, scale: float = 1.0, mutual: bool = False) -> Tensor:
    """softmax(scale * q k^T + bias) v in every window; attention matrices are not kept for the backward pass.

    Args:
        qkv (Tensor): queries, keys and values, shape (windows, size, 3, heads, d).
        bias (Tensor | None): shape (heads or 1, m, m) with m = ``size``, or half of it where ``mutual``.
        scale (float): factor of the products.
        mutual (bool): the two halves of a window's tokens are each queried by the other one: VRT's mutual attention.

    Returns:
        Tensor: shape (windows, size, heads * d) in the dtype of ``qkv``.
    """
    if qkv.device.type == 'cpu':
        return _cpu_attention(qkv, bias, scale, mutual)
    return _fused_attention(qkv, bias, scale, mutual)


def _fused_attention(qkv: Tensor, bias: Tensor | None, scale: float, mutual: bool) -> Tensor:
    """PyTorch's fused kernels, with the gradient of the bias on GPUs."""
    d = qkv.shape[4]
    # heads that are not whole pieces of 16 bytes would keep the fused kernels away, and the matrices in memory
    surplus = -d % (16 // qkv.element_size())
    q, k, v = _heads_first(F.pad(qkv, (0, surplus)) if surplus else qkv, mutual)
    if bias is not None:
        bias = bias.to(q.dtype).expand(len(q), q.shape[1], -1, -1)
    return _heads_last(F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)[..., :d], qkv)


def _heads_first(qkv: Tensor, mutual: bool) -> list[Tensor]:
    """Views (windows, heads, tokens, d) of queries, keys and values; the halves of a window are windows if mutual."""
    q, k, v = qkv.unflatten(1, (2 if mutual else 1, -1)).unbind(3)
    if mutual:
        q = q.flip(1)
    return [part.flatten(0, 1).transpose(1, 2) for part in (q, k, v)]


def _heads_last(output: Tensor, qkv: Tensor) -> Tensor:
    """(windows, heads, tokens, d) -> (windows, size, heads * d)."""
    windows, size, _, heads, d = qkv.shape
    return output.transpose(1, 2).reshape(windows, size, heads * d)


@torch.library.custom_op('nriqa::window_attention', mutates_args=())
def _cpu_attention(qkv: torch.Tensor, bias: torch.Tensor | None, scale: float, mutual: bool) -> torch.Tensor:
    # PyTorch's fused kernel for CPUs has no gradient of the bias, and is passed over where one seems to be wanted
    bias = None if bias is None else bias.detach()
    return _fused_attention(qkv.detach(), bias, scale, mutual).contiguous()


@_cpu_attention.register_fake
def _(qkv: Tensor, bias: Tensor | None, scale: float, mutual: bool) -> Tensor:
    return qkv.new_empty(qkv.shape[0], qkv.shape[1], qkv.shape[3] * qkv.shape[4])


@torch.library.custom_op('nriqa::window_attention_backward', mutates_args=())
def _cpu_attention_backward(gradient: torch.Tensor, qkv: torch.Tensor, bias: torch.Tensor | None, output: torch.Tensor,
                            scale: float, mutual: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of queries, keys and values, and of the bias, from attention matrices made anew, a few at a time."""
    precise = torch.promote_types(qkv.dtype, torch.float32)
    heads, d = qkv.shape[3:]
    q, k, v = _heads_first(qkv, mutual)
    windows, _, tokens, _ = q.shape
    bias = q.new_zeros((1, tokens, tokens), dtype=precise) if bias is None else bias.to(precise)
    gradient, output = (part.reshape(windows, tokens, heads, d).transpose(1, 2) for part in (gradient, output))
    # a softmax's gradient is p * (dp - sum(p * dp)), and the sum is that of the output times its gradient
    total = (gradient.to(precise) * output.to(precise)).sum(3, keepdim=True)
    grad_bias = torch.zeros_like(bias)
    grads = qkv.new_empty(3, windows, tokens, heads, d)
    grad_q, grad_k, grad_v = grads.transpose(2, 3)
    together = max(1, CACHED_NUMBERS // tokens ** 2)
    for head in range(heads):
        head_bias, head_grad = (tensor[head if len(bias) > 1 else 0] for tensor in (bias, grad_bias))
        for start in range(0, windows, together):
            part = slice(start, start + together), head
            query, key, value, direction = (tensor[part].to(precise) for tensor in (q, k, v, gradient))
            weights = torch.baddbmm(head_bias, query, key.transpose(1, 2), alpha=scale).softmax(2)
            grad_scores = torch.bmm(direction, value.transpose(1, 2)).sub_(total[part]).mul_(weights)
            head_grad += grad_scores[0] if together == 1 else grad_scores.sum(0)
            grad_q[part] = torch.bmm(grad_scores, key) * scale
            grad_k[part] = torch.bmm(grad_scores.transpose(1, 2), query) * scale
            grad_v[part] = torch.bmm(weights.transpose(1, 2), direction)
    grads = grads.unflatten(1, (-1, 2 if mutual else 1))
    if mutual:
        grads[0] = grads[0].flip(1)
    return grads.movedim(0, 3).reshape(qkv.shape), grad_bias


@_cpu_attention_backward.register_fake
def _(gradient: Tensor, qkv: Tensor, bias: Tensor | None, output: Tensor, scale: float,
      mutual: bool) -> tuple[Tensor, Tensor]:
    tokens = qkv.shape[1] // (2 if mutual else 1)
    shape = (1, tokens, tokens) if bias is None else bias.shape
    return torch.empty_like(qkv), qkv.new_empty(shape, dtype=torch.promote_types(qkv.dtype, torch.float32))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    qkv, bias, ctx.scale, ctx.mutual = inputs
    ctx.save_for_backward(qkv, bias, output)


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
    qkv, bias, output = ctx.saved_tensors
    grad_qkv, grad_bias = _cpu_attention_backward(gradient, qkv, bias, output, ctx.scale, ctx.mutual)
    return grad_qkv, grad_bias.to(bias.dtype) if ctx.needs_input_grad[1] else None, None, None


_cpu_attention.register_autograd(_gradients, setup_context=_keep)


class WindowAttention(nn.Module):
    """Multi-head self-attention in windows, and mutual attention of their two frames beside it.

    Args:
        dim (int): channels.
        window_size (Sequence[int]): frames, rows and columns of a window.
        num_heads (int): attention heads; ``dim`` is a multiple of it.
        qkv_bias (bool): whether queries, keys and values have a bias.
        qk_scale (float | None): factor of q k^T. Default: 1 / sqrt(dim / num_heads).
        mutual (bool): with mutual attention; windows have two frames then.
    """

    relative_position_index: Tensor
    position_bias: Tensor

    def __init__(self, dim: int, window_size: Sequence[int], num_heads: int, qkv_bias: bool = True,
                 qk_scale: float | None = None, mutual: bool = False) -> None:
        super().__init__()
        self.window_size, self.num_heads = tuple(window_size), num_heads
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        table = torch.empty(math.prod(2 * side - 1 for side in window_size), num_heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.register_buffer('relative_position_index', relative_position_index(self.window_size))
        self.qkv_self = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear((2 if mutual else 1) * dim, dim)
        self.mutual = mutual
        if mutual:
            self.register_buffer('position_bias', sine_position(self.window_size[1:], dim // 2))
            self.qkv_mut = nn.Linear(dim, 3 * dim, bias=qkv_bias)

    def forward(self, tokens: Tensor, windows: Windows) -> Tensor:
        """Attend.

        Args:
            tokens (Tensor): shape (n, windows * size, dim), as :func:`to_windows` gives them.
            windows (Windows): the plan they were made with.

        Returns:
            Tensor: of the same shape.
        """
        dim = tokens.shape[2]
        seen = self._attend(self.qkv_self(tokens), self._bias(windows.size), windows)
        output = F.linear(seen, self.proj.weight[:, -dim:], self.proj.bias)
        if self.mutual:
            _, h, w = windows.size
            position = self.position_bias.view(*self.window_size[1:], dim)[:h, :w].reshape(h * w, dim)
            # the same as adding the position to every token, but made once
            position = F.linear(position, self.qkv_mut.weight)
            qkv = self.qkv_mut(tokens).unflatten(1, (-1, h * w)) + position
            seen = self._attend(qkv.flatten(1, 2), None, windows)
            output = output + F.linear(seen, self.proj.weight[:, :dim])
        return output

    def _attend(self, qkv: Tensor, bias: Tensor | None, windows: Windows) -> Tensor:
        n, length, _ = qkv.shape
        size = math.prod(windows.size)
        mutual = bias is None
        qkv = qkv.view(n, length // size, size, 3, self.num_heads, -1)
        seen = []
        for part, mask in zip(qkv.split(windows.counts, dim=1), windows.masks):
            part_bias = bias
            if mask is not None:
                part_bias = mask[:size // 2, :size // 2].unsqueeze(0) if bias is None else bias + mask
            part_seen = attention(part.flatten(0, 1), part_bias, self.scale, mutual)
            seen.append(part_seen.view(n, -1, part_seen.shape[2]))
        return torch.cat(seen, dim=1) if len(seen) > 1 else seen[0]

    def _bias(self, size: Sequence[int]) -> Tensor:
        """The bias (heads, m, m) for windows of that size, which is the full one or smaller.

        It is not kept: a moving average of weights is updated in a way that no version number shows.
        """
        t, h, w = size
        index = self.relative_position_index.view(*self.window_size, *self.window_size)[:t, :h, :w, :t, :h, :w]
        bias = torch.gather(self.relative_position_bias_table.t(), 1, index.reshape(1, -1).expand(self.num_heads, -1))
        return bias.view(self.num_heads, t * h * w, t * h * w)


def relative_position_index(window_size: Sequence[int]) -> Tensor:
    """For every two tokens of a window the row of the table that holds their bias, shape (size, size)."""
    places = torch.cartesian_prod(*(torch.arange(side) for side in window_size)).view(-1, len(window_size))
    index = torch.zeros(len(places), len(places), dtype=torch.long)
    for side, place in zip(window_size, places.unbind(1)):
        index = index * (2 * side - 1) + place.unsqueeze(1) - place.unsqueeze(0) + side - 1
    return index


def sine_position(size: Sequence[int], features: int) -> Tensor:
    """Sines and cosines of rows, then of columns, shape (1, rows * columns, 2 * features).

    The encoding of Carion et al., End-to-End Object Detection with Transformers, ECCV 2020, normalised to one turn,
    with temperature 10000.
    """
    encoded = []
    frequency = 10000.0 ** -(torch.arange(features) // 2 * 2 / features)
    for axis, side in enumerate(size):
        place = torch.arange(1, side + 1) / (side + 1e-6) * 2 * math.pi
        phase = place.unsqueeze(1) * frequency
        waves = torch.stack((phase[:, 0::2].sin(), phase[:, 1::2].cos()), dim=2).flatten(1)
        encoded.append(waves.view([-1 if i == axis else 1 for i in range(2)] + [features]).expand(*size, features))
    return torch.cat(encoded, dim=2).reshape(1, -1, 2 * features)
