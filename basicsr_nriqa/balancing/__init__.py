"""Many losses to one gradient at the network's output."""
from basicsr_nriqa.balancing.fixed import FixedBalancer
from basicsr_nriqa.balancing.gradnorm import GradNormBalancer

BALANCERS = {'fixed': FixedBalancer, 'gradnorm': GradNormBalancer}

__all__ = ['BALANCERS', 'FixedBalancer', 'GradNormBalancer']
