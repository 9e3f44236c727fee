"""Many losses to one gradient at the network's output."""
from basicsr_nriqa.balancing.fixed import FixedBalancer

BALANCERS = {'fixed': FixedBalancer}

__all__ = ['BALANCERS', 'FixedBalancer']
