"""Total variation (Rudin et al. 1992), squared, as the code of SRGAN in PyTorch and of iSeeBetter has it."""
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor, nn

from basicsr_nriqa.iqa import MetricError
from basicsr_nriqa.option_values import is_number


@LOSS_REGISTRY.register()
class TotalVariationLoss(nn.Module):
    """``loss_weight`` times twice the mean squared difference of vertical neighbours plus that of horizontal ones.

    Args:
        loss_weight (float): Factor of the loss, 0 or more. Default: 2e-8, as published.

    Raises:
        MetricError: loss_weight is no such number.
    """

    def __init__(self, loss_weight: float = 2e-8) -> None:
        super().__init__()
        if not is_number(loss_weight, 0):
            raise MetricError(f'TotalVariationLoss: loss_weight must be a number, 0 or more, got {loss_weight!r}.')
        self.loss_weight = loss_weight

    def forward(self, output: Tensor, target: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            output (Tensor): (n,3,h,w) or (n,t,3,h,w), RGB, nominally in [0,1], 2 px a side or more.
            target (Tensor | None): Not used.

        Returns:
            Tensor: Scalar.

        Raises:
            MetricError: another shape.
        """
        if output.ndim not in (4, 5) or min(output.shape[-2:]) < 2:
            raise MetricError('TotalVariationLoss takes (n,3,h,w) or (n,t,3,h,w) of 2 px a side or more, got '
                              f'{tuple(output.shape)}.')
        vertical, horizontal = (output.diff(dim=dim).square().mean() for dim in (-2, -1))
        return 2 * self.loss_weight * (vertical + horizontal)
