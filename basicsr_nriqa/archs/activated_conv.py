"""A PReLU and the convolution after it, trained with half the memory."""
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from basicsr_nriqa.recompute import recomputed

# values in a strip of an image that several steps are applied to: they have to stay in the cache in between
STRIP = 2 ** 16


def activated_conv(x: Tensor, act: nn.PReLU | None,
                   conv: nn.Conv2d | nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """``act(x)`` and ``conv(act(x))``, of which only ``x`` is kept for the backward pass.

    On a CPU in full precision everything is in channels_last format, where it is fastest, but for the gradient of the
    weight, which takes three times as long there.

    Args:
        x (Tensor): shape (n, c, h, w), what the activation is still to be applied to.
        act (nn.PReLU | None): activation with one parameter; None for none.
        conv (nn.Conv2d | nn.ConvTranspose2d): convolution with a square kernel and a bias; one group, no dilation, no
            output padding.

    Returns:
        tuple[Tensor, Tensor]: the activated input, and the convolution's output. Values and gradients are those of the
        modules.
    """
    mixed_formats = (x.device.type == 'cpu' and x.dtype in (torch.float32, torch.float64) and torch.is_grad_enabled()
                     and not torch.is_autocast_enabled('cpu') and not torch.compiler.is_compiling())
    if mixed_formats:
        activated, output = _ActivatedConv.apply(x, act.weight if act else None, conv.weight, conv.bias, conv.stride,
                                                 conv.padding, isinstance(conv, nn.ConvTranspose2d))
        return activated if act else x, output
    if not act:
        return x, conv(x)

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        activated = act(x)
        return activated, conv(activated)
    return recomputed(both, x)


class _ActivatedConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor | None, weight: Tensor, bias: Tensor, stride: tuple[int, ...],
                padding: tuple[int, ...], transposed: bool) -> tuple[Tensor | None, Tensor]:
        ctx.save_for_backward(x, slope, weight)
        ctx.set_materialize_grads(False)
        ctx.geometry = stride, padding, transposed
        activated = _activated(x, slope)
        output = (F.conv_transpose2d if transposed else F.conv2d)(activated, weight, bias, stride, padding)
        return None if slope is None else activated, output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_activated: Tensor | None, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        x, slope, weight = ctx.saved_tensors
        stride, padding, transposed = ctx.geometry
        grad_x = grad_slope = grad_weight = grad_bias = None
        if grad is not None:
            if ctx.needs_input_grad[2]:
                _, grad_weight, _ = torch.ops.aten.convolution_backward(
                    grad.contiguous(), _activated(x.contiguous(), slope), weight, None, stride, padding, [1, 1],
                    transposed, [0, 0], 1, [False, True, False])
            if ctx.needs_input_grad[3]:
                grad_bias = grad.sum((0, 2, 3))
            if any(ctx.needs_input_grad[:2]):
                grad_x, _, _ = torch.ops.aten.convolution_backward(
                    grad, x, weight, None, stride, padding, [1, 1], transposed, [0, 0], 1, [True, False, False])
        if grad_activated is not None:
            grad_x = grad_activated if grad_x is None else grad_x.add_(grad_activated)
        if slope is not None and grad_x is not None:
            grad_x, grad_slope = _prelu_gradients(grad_x, x, slope)
        return grad_x, grad_slope, grad_weight, grad_bias, None, None, None


def _activated(x: Tensor, slope: Tensor | None) -> Tensor:
    return x if slope is None else F.prelu(x, slope)


def _prelu_gradients(grad: Tensor, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients for input and slope from that for the output; PyTorch's fills an image to sum for the slope."""
    grad_x, grad_slope = torch.empty_like(x), torch.zeros_like(slope)
    rows = max(1, STRIP // (x.shape[1] * x.shape[3]))
    for images in zip(grad, x, grad_x):
        for out, into, target in zip(*(image.permute(1, 2, 0).split(rows) for image in images)):
            torch.lerp(torch.ops.aten.threshold_backward(out, into, 0), out, slope, out=target)
            grad_slope += torch.dot(into.clamp(max=0).flatten(), out.flatten())
    return grad_x, grad_slope
