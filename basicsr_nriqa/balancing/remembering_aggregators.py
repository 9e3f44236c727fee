"""Many losses to one gradient: the aggregators of TorchJD that remember earlier steps."""
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from basicsr_nriqa.balancing.aggregator import (
    GramianBalancer,
    OneForEach,
    check_argument,
    cosines,
    make_torchjd,
    relative,
)
from basicsr_nriqa.balancing.balancer import register_balancer
from basicsr_nriqa.option_values import is_count, is_number


@register_balancer('nash_mtl')
class NashMTLBalancer(GramianBalancer):
    """The Nash bargaining solution (Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022). Weights are
    scaled to sum to the number of losses.

    Args:
        update_weights_every (int): Calls for which the weights are kept. Default: 1.
        optim_niter (int): Iterations of the solver. Default: 20.

    Raises:
        ValueError: an argument is out of its range, or its solver is not installed.
    """

    def __init__(self, update_weights_every: int = 1, optim_niter: int = 20) -> None:
        super().__init__()
        check_argument('update_weights_every', update_weights_every, 'a whole number, 1 or more',
                       is_count(update_weights_every, 1))
        check_argument('optim_niter', optim_niter, 'a whole number, 1 or more', is_count(optim_niter, 1))
        self.update_weights_every, self.optim_niter = update_weights_every, optim_niter
        self._calls = 0
        self._last: Tensor | None = None
        self._weighting = self._build(1)  # what is missing is said before the training

    def _build(self, count: int) -> Any:
        return make_torchjd('NashMTL', count, max_norm=0, optim_niter=self.optim_niter).weighting

    def _solve(self, gramian: Tensor, lengths: Tensor, names: Sequence[str]) -> Tensor:
        if self._weighting.n_tasks != len(names):
            self._weighting = self._build(len(names))
        if self._calls % self.update_weights_every == 0 or self._last is None:
            # bargaining looks at directions; any matrix with these inner products serves
            values, vectors = torch.linalg.eigh(cosines(gramian, lengths))
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # CVXPY's advice on the form of TorchJD's problem
                weights = self._weighting(vectors * values.clamp(min=0).sqrt()) / lengths
            self._last = len(names) * weights / weights.sum()
        self._calls += 1
        return self._last

    def state_dict(self) -> dict[str, Any]:
        last = None if self._last is None else self._last.tolist()
        return {**super().state_dict(), 'calls': self._calls, 'last': last,
                'start': self._weighting.prvs_alpha.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._calls = state['calls']
        self._last = None if state['last'] is None else torch.tensor(state['last'], dtype=torch.float64)
        self._weighting = self._build(len(state['start']))
        self._weighting.prvs_alpha = torch.tensor(state['start'], dtype=torch.float64).numpy()


class _Remembering(GramianBalancer):
    """One whose TorchJD weighting keeps buffers from call to call; ``_weighting`` is it."""

    _weighting: Any

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), 'memory': {name: value.clone() for name, value
                                                   in self._weighting.state_dict().items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._weighting.reset()
        if state['memory']:
            count = max(value.shape[0] for value in state['memory'].values() if value.ndim)
            with torch.random.fork_rng(devices=[]):
                self._weighting(torch.eye(count, dtype=torch.float64))  # which makes the buffers
            self._weighting.load_state_dict(state['memory'])


@register_balancer('gradvac')
class GradVacBalancer(_Remembering):
    """Gradients are turned towards each other until their cosines are those of before (Wang et al., "Gradient Vaccine",
    ICLR 2021).

    Args:
        beta (float): How fast the remembered cosines follow, in [0,1]. Default: 0.5.

    Raises:
        ValueError: beta is out of its range.
    """

    def __init__(self, beta: float = 0.5) -> None:
        super().__init__()
        check_argument('beta', beta, 'a number from 0 to 1', is_number(beta, 0, 1))
        self._weighting = make_torchjd('GradVacWeighting', beta=beta, eps=1e-30)  # far below any product of lengths

    def _solve(self, gramian: Tensor, lengths: Tensor, names: Sequence[str]) -> Tensor:
        return self._weighting(relative(gramian))


@register_balancer('pcd')
class PCDBalancer(_Remembering):
    """Follows the first loss (``pixel_opt``, where there is one) as far as all others progress by a fraction ``tau``
    ("Not All Objectives Are Born Equal: Priority-Constrained Descent", TMLR 2026). The step is as long as the first
    loss's gradient.

    Args:
        tau (float | dict[str, float] | Sequence[float]): The fraction, in [0,1]; or one for each of the others, by
            default 0.02. Default: 0.02.
        beta (float): Decay of the remembered lengths of gradients, in [0,1). Default: 0.999.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, tau: float | dict[str, float] | Sequence[float] = 0.02, beta: float = 0.999) -> None:
        super().__init__()
        check_argument('beta', beta, 'a number from 0 to below 1', is_number(beta, 0, 1) and beta < 1)
        if isinstance(tau, (int, float)):
            check_argument('tau', tau, 'a number from 0 to 1, or one for each loss but the first', is_number(tau, 0, 1))
            self._tau = OneForEach('tau', {}, tau, 0, 1)
        else:
            self._tau = OneForEach('tau', tau, 0.02, 0, 1)
        self._weighting = make_torchjd('PCDWeighting', beta=beta, eps=0.0)

    def check(self, losses: Sequence[str]) -> None:
        super().check(losses)
        self._tau(losses[1:])

    def _solve(self, gramian: Tensor, lengths: Tensor, names: Sequence[str]) -> Tensor:
        self._weighting.tau = self._tau(names[1:])
        return self._weighting(gramian.float())  # it takes the precision of the inner products from their type
