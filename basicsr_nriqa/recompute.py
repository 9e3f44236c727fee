"""Less memory for more arithmetic: intermediate results computed again in the backward pass (Chen et al., Training Deep
Nets with Sublinear Memory Cost, 2016)."""
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.utils.checkpoint import checkpoint

Result = TypeVar('Result')


def recomputed(function: Callable[..., Result], *inputs: Any, enabled: bool = True) -> Result:
    """``function(*inputs)``, of which only the inputs are kept for the backward pass, and what it needs is recomputed.

    The recomputation ends as soon as the backward pass has all that it needs. A last matrix product or convolution is
    not repeated, so a cheap function and the layer that takes its result, together in one ``function``, cost no more
    than the cheap function again.

    Args:
        function (Callable): of tensors; it may use parameters, and draws no random numbers.
        inputs (Tensor): its arguments; gradients flow to those that are tensors.
        enabled (bool): False calls the function as it is.

    Returns:
        Tensor | tuple[Tensor]: what the function returns. Gradients are those of the plain call.
    """
    if enabled and torch.is_grad_enabled():
        return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
    return function(*inputs)
