"""Many losses to one gradient: the fixed weights of the paper's Table I."""
from basicsr_nriqa.balancing.balancer import Balancer, register_balancer


@register_balancer('fixed')
class FixedBalancer(Balancer):
    """Sums the gradients: each loss carries its fixed weight (``loss_weight``) already."""

    def check(self, losses):
        """Any number will do."""

    def __call__(self, gradients, deficits):
        return gradients.combined(None)
