"""The gradients of all losses at the network's output, as the rows of one matrix."""
from collections.abc import Sequence

import torch
from torch import Tensor, distributed


class Gradients:
    """What a balancer sees of one batch, or of one part of it.

    Args:
        names (Sequence[str]): The losses.
        output (Tensor): What the network returned, of any shape; gives shape, device and how many columns.
        scale (float): Share of this part of the batch; rows are multiplied with it, so that parts add up to the
            gradient of the batch's mean loss. Default: 1.

    Attributes:
        names (tuple[str]): The losses, in the order of the rows.
        matrix (Tensor): (losses, elements of the output), float32, or float64 as the output.
        at_layer (Tensor | None): (losses, elements of a layer's weights), the gradients there, float32; only where a
            balancer asked for them (``Balancer.layer``).
    """

    def __init__(self, names: Sequence[str], output: Tensor, scale: float = 1.0) -> None:
        self.names, self.shape, self.scale = tuple(names), output.shape, scale
        self.matrix = torch.empty(len(self.names), output.numel(), device=output.device,
                                  dtype=torch.promote_types(output.dtype, torch.float32))
        self.at_layer: Tensor | None = None
        self._gramian: Tensor | None = None

    def put(self, name: str, gradient: Tensor) -> None:
        """Keep the gradient of a loss, of the output's shape."""
        torch.mul(gradient.reshape(-1), self.scale, out=self.matrix[self.names.index(name)])

    def row(self, name: str) -> Tensor:
        """The gradient of a loss, of the output's shape."""
        return self.matrix[self.names.index(name)].view(self.shape)

    @property
    def gramian(self) -> Tensor:
        """Inner products (losses, losses) of the rows, on the device; of this process and part only."""
        if self._gramian is None:
            self._gramian = self.matrix @ self.matrix.T
        return self._gramian

    def combined(self, weights: Sequence[float] | Tensor | None) -> Tensor:
        """The sum of weight * gradient.

        Args:
            weights (Sequence[float] | Tensor | None): One for each loss; None: all 1.

        Returns:
            Tensor: Of the output's shape.
        """
        if weights is None:
            return self.matrix.sum(0).view(self.shape)
        return (torch.as_tensor(weights).to(self.matrix) @ self.matrix).view(self.shape)


def summed_over_ranks(tensor: Tensor) -> Tensor:
    """The sum over all processes of a distributed training, in which all must call; else the tensor itself."""
    if distributed.is_available() and distributed.is_initialized():
        tensor = tensor.clone()
        distributed.all_reduce(tensor)
    return tensor


def rank_count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
