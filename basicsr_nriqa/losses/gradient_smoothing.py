"""Gradients without the fine texture that most artificial patterns are made of."""
from typing import Any

import torch
from torch import Tensor

from basicsr_nriqa.losses.image_operations import blur


def smooth_gradient(images: Tensor, sigma: float) -> Tensor:
    """The same images, whose gradient is blurred by a Gaussian on its way back, frame by frame.

    The blur is symmetric and has no negative eigenvalue (:func:`~basicsr_nriqa.losses.image_operations.blur_matrix`),
    so a step along the smoothed gradient does not go against the gradient itself, and it keeps each frame's sum.

    Args:
        images (Tensor): (..., h, w).
        sigma (float): Standard deviation in px; 0: the gradient as it is.

    Returns:
        Tensor: ``images``.
    """
    return _SmoothGradient.apply(images, sigma) if sigma else images


class _SmoothGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, sigma: float) -> Tensor:
        ctx.sigma = sigma
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return blur(gradient, ctx.sigma), None
