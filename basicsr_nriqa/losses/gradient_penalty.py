"""The norm of a score's gradient, without second derivatives.

Liu et al., "Defense against adversarial attacks on no-reference image quality models with gradient norm
regularization", arXiv 2403.11397, train a metric so that its gradient is small. Here the metric stays and the image is
moved to where its gradient is small.
"""
from collections.abc import Callable

import torch
from torch import Tensor

STEP = 1 / 255  # a grey level: the finest change that an image on disk can have


def scores_and_gradient(scores: Callable[[Tensor, Tensor | None], Tensor], images: Tensor, target: Tensor | None = None,
                        weight: float = 0) -> tuple[Tensor, Tensor]:
    """Scores with the penalty for steep gradients, and the gradient of their sum.

    The L1 norm of the gradient of a score m is the rise of m along the signs d of its gradient, here taken from the
    finite difference (m(x + h d) - m(x)) / h, in which d is a constant. So its gradient takes one more evaluation.

    Args:
        scores (Callable): Of images (n,...) and their target; gives (n,), each depending on its own image. What it
            draws with torch's generator it draws again for the second evaluation.
        images (Tensor): (n,...), nominally in [0,1].
        target (Tensor | None): Passed on.
        weight (float): Of the penalty, of any sign; 0: none.

    Returns:
        tuple[Tensor, Tensor]: (n,) scores + ``weight`` * norms, and the gradient at the images.
    """
    if not weight:
        return _evaluate(scores, images, target)
    state = torch.get_rng_state()
    values, gradient = _evaluate(scores, images, target)
    torch.set_rng_state(state)
    signs = gradient.sign().nan_to_num(0)  # a metric would refuse such images; the result is NaN without
    moved, moved_gradient = _evaluate(scores, images + STEP * signs, target)
    share = weight / STEP
    return values + share * (moved - values), gradient + share * (moved_gradient - gradient)


def _evaluate(scores: Callable[[Tensor, Tensor | None], Tensor], images: Tensor,
              target: Tensor | None) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        values = scores(images, target)
        gradient, = torch.autograd.grad(values.sum(), images)
    return values.detach(), gradient
