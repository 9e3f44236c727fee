"""A PReLU and the convolution after it, trained with half the memory."""
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from basicsr_nriqa.archs.recompute import recomputed

# values in a strip of an image that several steps are applied to: they have to stay in the cache in between
STRIP = 2 ** 16


def activated_conv(x, act, conv):
    """``act(x)`` and ``conv(act(x))``, of which only ``x`` is kept for the backward pass.

    On a CPU in full precision the gradient of the weight is a product of matrices of patches, and the image is gone
    through in strips: in channels_last format, in which all else is fastest, PyTorch's own takes three times as long.

    Args:
        x (Tensor): shape (n, c, h, w), what the activation is still to be applied to.
        act (nn.PReLU | None): activation with one parameter; None for none.
        conv (nn.Conv2d | nn.ConvTranspose2d): convolution with a square kernel and a bias; one group, no dilation, no
            output padding.

    Returns:
        tuple[Tensor]: the activated input, and the convolution's output. Values and gradients are those of the modules.
    """
    in_strips = (x.device.type == 'cpu' and x.dtype in (torch.float32, torch.float64) and torch.is_grad_enabled()
                 and not torch.is_autocast_enabled('cpu') and not torch.compiler.is_compiling())
    if in_strips:
        activated, output = _ActivatedConv.apply(x, act.weight if act else None, conv.weight, conv.bias, conv.stride,
                                                 conv.padding, isinstance(conv, nn.ConvTranspose2d))
        return activated if act else x, output
    if not act:
        return x, conv(x)

    def both(x):
        activated = act(x)
        return activated, conv(activated)
    return recomputed(both, x)


class _ActivatedConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, slope, weight, bias, stride, padding, transposed):
        ctx.save_for_backward(x, slope, weight)
        ctx.set_materialize_grads(False)
        ctx.geometry = stride, padding, transposed
        activated = _activated(x, slope)
        output = (F.conv_transpose2d if transposed else F.conv2d)(activated, weight, bias, stride, padding)
        return None if slope is None else activated, output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_activated, grad):
        x, slope, weight = ctx.saved_tensors
        stride, padding, transposed = ctx.geometry
        grad_x = grad_slope = grad_weight = grad_bias = None
        if grad is not None:
            if ctx.needs_input_grad[2]:
                grad_weight = _weight_gradient(x, slope, grad, weight.shape[-1], stride[0], padding[0], transposed)
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


def _activated(x, slope):
    return x if slope is None else F.prelu(x, slope)


def _prelu_gradients(grad, x, slope):
    """Gradients for input and slope from that for the output; PyTorch's fills an image to sum for the slope."""
    grad_x, grad_slope = torch.empty_like(x), torch.zeros_like(slope)
    rows = max(1, STRIP // (x.shape[1] * x.shape[3]))
    for images in zip(grad, x, grad_x):
        for out, into, target in zip(*(image.permute(1, 2, 0).split(rows) for image in images)):
            torch.lerp(torch.ops.aten.threshold_backward(out, into, 0), out, slope, out=target)
            grad_slope += torch.dot(into.clamp(max=0).flatten(), out.flatten())
    return grad_x, grad_slope


def _weight_gradient(x, slope, grad, kernel_size, stride, padding, transposed):
    """Patches of the convolution's larger side times the pixels of its smaller side that they belong to."""
    small, large = (x, grad) if transposed else (grad, x)
    channels, num_pixels = large.shape[1], small.shape[3]
    rows = max(1, 8 * STRIP // (num_pixels * channels * kernel_size ** 2))
    product = x.new_zeros(kernel_size ** 2 * channels, small.shape[1])
    for small_image, large_image in zip(small.permute(0, 2, 3, 1), large.permute(0, 2, 3, 1)):
        for start, pixels in zip(range(0, len(small_image), rows), small_image.split(rows)):
            first = start * stride - padding
            end = first + (len(pixels) - 1) * stride + kernel_size
            seen = large_image[max(first, 0):end]
            if transposed:
                pixels = _activated(pixels, slope)
            else:
                seen = _activated(seen, slope)
            seen = F.pad(seen, (0, 0, padding, padding, max(-first, 0), max(end - len(large_image), 0)))
            patches = seen.unfold(0, kernel_size, stride).unfold(1, kernel_size, stride)[:, :num_pixels]
            patches = patches.permute(0, 1, 3, 4, 2).reshape(-1, len(product))
            product.addmm_(patches.t(), pixels.reshape(len(patches), -1))
    return product.view(kernel_size, kernel_size, channels, -1).permute(3, 2, 0, 1)
