"""One optimiser's step: mixed precision, clipping, and never with a gradient that is not finite."""
import math
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor

Precision = Literal['bf16', 'fp16']
PRECISIONS: dict[Precision, torch.dtype] = {'bf16': torch.bfloat16, 'fp16': torch.float16}


class GuardedStep:
    """Steps of one optimiser.

    Args:
        optimizer (torch.optim.Optimizer): What steps.
        device (str | torch.device): Of the weights.
        precision (str | None): ``bf16``, ``fp16`` (with a scaled loss), or None for float32.
        clip (float | None): Largest norm of the gradient of all weights together; None: no limit.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: str | torch.device, precision: Precision | None = None,
                 clip: float | None = None) -> None:
        self.optimizer, self.clip = optimizer, clip
        self.device, self.dtype = torch.device(device).type, PRECISIONS[precision] if precision else None
        self.scaler = torch.amp.GradScaler(self.device, enabled=precision == 'fp16')

    def autocast(self) -> AbstractContextManager:
        """The context in which the network runs."""
        return torch.autocast(self.device, self.dtype, enabled=self.dtype is not None)

    def scale(self, tensor: Tensor) -> Tensor:
        """What goes into the backward pass, a loss or a gradient, scaled where the precision needs it."""
        return self.scaler.scale(tensor)

    def __call__(self) -> float:
        """Step, unless the gradient is not finite.

        Returns:
            float: The norm of the gradient of all weights before clipping; the step was made if it is finite.
        """
        self.scaler.unscale_(self.optimizer)
        gradients = [parameter.grad for group in self.optimizer.param_groups for parameter in group['params']
                     if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        value = norm.item()
        if math.isfinite(value):
            if self.clip is not None:
                torch._foreach_mul_(gradients, min(1.0, self.clip / (value + 1e-6)))
            self.scaler.step(self.optimizer)
        if self.scaler.is_enabled():
            scale = self.scaler.get_scale()
            self.scaler.update()
            if not math.isfinite(value) and self.scaler.get_scale() >= scale:
                self.scaler.update(scale * self.scaler.get_backoff_factor())  # the norm alone had overflowed
        return value

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs besides the optimiser's own state."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Go on from a :meth:`state_dict`."""
        if self.scaler.is_enabled() and state:
            self.scaler.load_state_dict(state)
