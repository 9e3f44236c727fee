"""Many losses to one gradient at the network's output."""
from basicsr_nriqa.balancing import aggregators, remembering_aggregators  # noqa: F401, to register them
from basicsr_nriqa.balancing.anchored import AnchoredBalancer
from basicsr_nriqa.balancing.balancer import BALANCERS, Balancer, register_balancer
from basicsr_nriqa.balancing.fixed import FixedBalancer
from basicsr_nriqa.balancing.gradients import Gradients, summed_over_ranks
from basicsr_nriqa.balancing.gradnorm import GradNormBalancer

__all__ = ['BALANCERS', 'AnchoredBalancer', 'Balancer', 'FixedBalancer', 'GradNormBalancer', 'Gradients',
           'register_balancer', 'summed_over_ranks']
