"""Many losses to one gradient: the fixed weights of the paper's Table I."""
from collections.abc import Sequence

from torch import Tensor

from basicsr_nriqa.balancing.balancer import Balancer, register_balancer
from basicsr_nriqa.balancing.gradients import Gradients


@register_balancer('fixed')
class FixedBalancer(Balancer):
    """Sums the gradients: each loss carries its fixed weight (``loss_weight``) already."""

    def check(self, losses: Sequence[str]) -> None:
        """Any number will do."""

    def __call__(self, gradients: Gradients, deficits: dict[str, Tensor]) -> Tensor:
        return gradients.combined(None)
