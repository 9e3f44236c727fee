"""The mean score of many images in the memory of few."""
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from basicsr_nriqa.losses.gradient_penalty import scores_and_gradient

Scores = Callable[[Tensor, Tensor | None], Tensor]


def mean_score(draw: Callable[[], Scores], output: Tensor, target: Tensor | None = None, draws: int = 1,
               chunk: int | None = None, penalty: float = 0) -> Tensor:
    """The mean over draws and images of a metric's scores, plus ``penalty`` times the mean norm of their gradients.

    Unless it is plain, one draw of all images at once and no penalty, each part's gradient is computed at once and its
    graph freed, so that memory is that of one part; then there are no second derivatives.

    Args:
        draw (Callable): Gives a function of images (k,...) and their target or None that returns (k,) scores.
        output (Tensor): (n,...); gradients flow to it.
        target (Tensor | None): The same shape.
        draws (int): How many times ``draw`` is called.
        chunk (int | None): Images that are scored at once. Default: all.
        penalty (float): See :func:`~basicsr_nriqa.losses.gradient_penalty.scores_and_gradient`; of any sign.

    Returns:
        Tensor: Scalar.
    """
    if draws == 1 and (chunk is None or chunk >= len(output)) and not penalty:
        return draw()(output, target).mean()
    return _MeanOfParts.apply(output, target, draw, draws, chunk or max(len(output), 1), penalty)


class _MeanOfParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, target: Tensor | None, draw: Callable[[], Scores], draws: int, chunk: int,
                penalty: float) -> Tensor:
        wanted, count = ctx.needs_input_grad[0], draws * len(output)
        shares: list[Tensor] = []  # of the parts in the mean
        gradient = torch.zeros_like(output)
        images, sums = output.split(chunk), gradient.split(chunk)
        targets = [None] * len(images) if target is None else target.split(chunk)
        for _ in range(draws):
            scores = draw()
            for part, reference, part_sum in zip(images, targets, sums):
                if wanted or penalty:
                    values, part_gradient = scores_and_gradient(scores, part, reference, penalty)
                    part_sum += part_gradient / count
                else:
                    values = scores(part, reference)
                shares.append(values.sum() / count)
        if wanted:
            ctx.save_for_backward(gradient)
        return sum(shares[1:], shares[0])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient * ctx.saved_tensors[0], None, None, None, None, None
