"""Many losses to one gradient: weights that follow GradNorm, the algorithm tried in Sec. II.B of the paper."""
import statistics
from typing import Any, Literal, get_args

import numpy as np
import torch
from basicsr.utils import get_root_logger
from torch import Tensor

from basicsr_nriqa.balancing.aggregator import check_argument
from basicsr_nriqa.balancing.balancer import Balancer, register_balancer
from basicsr_nriqa.balancing.gradients import Gradients, rank_count, summed_over_ranks
from basicsr_nriqa.option_values import is_count, is_number

Rule = Literal['log', 'published']
RULES: tuple[Rule, ...] = get_args(Rule)


@register_balancer('gradnorm')
class GradNormBalancer(Balancer):
    """Weights of the losses such that a loss that falls slower than the others pulls harder (Chen et al., "GradNorm:
    Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks", ICML 2018).

    With G_i = w_i * ||g_i||, g_i the gradient of loss i at the weights of a layer that all losses share (or at the
    network's output), and r_i = L_i/L_i(0) over the mean of all, the weights are driven to G_i = c_i, c_i = mean(G) *
    r_i**alpha. They sum to the number of losses. As in the paper, a step of the network is made with the weights that
    the steps before have led to.

    The paper's step on w_i, lr * sign(c_i - G_i) * ||g_i||, is as long as the gradient is large, and those of quality
    metrics differ by orders of magnitude. By default the log w_i move instead, along log c_i - log G_i, shortened so
    that none moves by more than ``lr``: the same signs at any scale, at rest on the target, and losses find their
    balance even while ``floor`` holds another one. There the c_i are scaled to the sum of the G_i, lest all G_i lie
    below; rescaling the weights takes away their common factor anyway.

    L_i(0) is the median of the first ``warmup`` values of loss i; until every loss has so many, the weights are 1.

    Args:
        alpha (float): Strength of the restoring force, 0 or more; 0 makes all G_i equal. Default: 1.5, as in the paper.
        lr (float): Largest step of log w, before the rescaling, in (0,1]; with the published rule the factor of the
            step. Default: 0.025.
        floor, cap (float): Range of the weights, 0 < floor <= 1 <= cap. Default: 0.01 and 10.
        warmup (int): Values that make L_i(0), 1 or more. Default: 20.
        every (int): Iterations from one measurement, and step of the weights, to the next: what the gradients at a
            layer cost is shared by so many. Default: 4.
        freeze_after (int | None): Measurements, more than ``warmup``, after which the weights stay as they are.
            Default: None.
        layer (str): Where the g_i are taken: ``last``, at the weights of the network's last convolution; a module's
            name, at its weights; or ``output``. Default: last.
        rule (str): ``log`` or ``published``, the step on the weights, see above. Default: log.

    Attributes:
        weights (dict[str, float]): Loss name -> weight; empty before the first call.
        skipped (int): Measurements whose norms or values were not all finite and positive; they did not change the
            weights.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, alpha: float = 1.5, lr: float = 0.025, floor: float = 0.01, cap: float = 10.0, warmup: int = 20,
                 every: int = 4, freeze_after: int | None = None, layer: str = 'last', rule: Rule = 'log') -> None:
        super().__init__()
        _check('alpha', alpha, 'a number, 0 or more', is_number(alpha, 0))
        _check('lr', lr, 'a number above 0, at most 1', is_number(lr, 0, 1) and lr > 0)
        _check('floor', floor, 'a number above 0, at most 1', is_number(floor, 0, 1) and floor > 0)
        _check('cap', cap, 'a number, 1 or more', is_number(cap, 1))
        _check('warmup', warmup, 'a whole number, 1 or more', is_count(warmup, 1))
        _check('every', every, 'a whole number, 1 or more', is_count(every, 1))
        _check('freeze_after', freeze_after, f'empty or a whole number above warmup ({warmup})',
               freeze_after is None or is_count(freeze_after, warmup + 1))
        _check('layer', layer, "'last', 'output' or the name of a layer", isinstance(layer, str) and layer != '')
        _check('rule', rule, ' or '.join(RULES), rule in RULES)
        self.alpha, self.lr, self.floor, self.cap = alpha, lr, floor, cap
        self.warmup, self.every, self.freeze_after = warmup, every, freeze_after
        self.layer, self.rule = layer, rule
        self._steps = 0
        self._first_values: dict[str, list[float]] = {}
        self._values: Tensor | None = None
        self._squares: Tensor | None = None
        self._at_layer: Tensor | None = None

    def __call__(self, gradients: Gradients, deficits: dict[str, Tensor]) -> Tensor:
        """Combine with the weights as they are, and gather what :meth:`step` needs.

        Raises:
            ValueError: the losses are not those of earlier calls or of the loaded state.
        """
        if not self.weights:
            self.weights = dict.fromkeys(gradients.names, 1.0)
            self._first_values = {name: [] for name in gradients.names}
        if set(gradients.names) != set(self.weights):
            raise ValueError(f"gradnorm: expected gradients of the losses {', '.join(self.weights)}, got "
                             f"{', '.join(gradients.names)}; the losses cannot change during a training.")
        weights = [self.weights[name] for name in gradients.names]
        self.weights = dict(zip(gradients.names, weights))  # in the order of the rows from now on
        if self.measures:
            values = torch.stack([torch.as_tensor(deficits[name]).to(gradients.matrix) for name in gradients.names])
            self._values = _added(self._values, values.double() * gradients.scale)
            if gradients.at_layer is None:
                # parts and ranks hold different elements of the output: their squares add up
                self._squares = _added(self._squares, gradients.gramian.diagonal().double())
            else:
                self._at_layer = _added(self._at_layer, gradients.at_layer)
        return gradients.combined(weights)

    @property
    def measures(self) -> bool:  # type: ignore[override]  # an attribute of others, here it follows from the step
        return self._steps % self.every == 0 and (
            self.freeze_after is None or self._steps < self.freeze_after * self.every)

    def discard(self) -> None:
        self._values = self._squares = self._at_layer = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights. On many ranks, all must call: norms and values are those of the whole batch."""
        if self.measures:
            self._update(*self._measured())
        self._steps += 1
        self.discard()

    def _measured(self) -> list[np.ndarray]:
        """Norms and values as float64 arrays in the order of the weights; the only wait for the device."""
        ranks, values = rank_count(), self._values
        if values is not None and self._at_layer is not None:
            summed = summed_over_ranks(torch.cat([self._at_layer.double(), values[:, None]], 1)).T
            norms = torch.linalg.vector_norm(summed[:-1], dim=0) / ranks
        elif values is not None and self._squares is not None:
            summed = summed_over_ranks(torch.stack([self._squares, values]))
            norms = summed[0].sqrt() / ranks
        else:
            raise RuntimeError('gradnorm: step() has nothing to go by; combine the gradients of an iteration first.')
        return np.split(np.array(torch.cat([norms, summed[-1] / ranks]).tolist()), 2)

    def _update(self, norms: np.ndarray, values: np.ndarray) -> None:
        usable = np.isfinite(values) & (values > 0)
        ready = usable.all() and bool((np.isfinite(norms) & (norms > 0)).all())
        self.skipped += not ready
        if any(len(first) < self.warmup for first in self._first_values.values()):
            for name, value, use in zip(self.weights, values.tolist(), usable):
                if use and len(self._first_values[name]) < self.warmup:
                    self._first_values[name].append(value)
            self._complain()
        elif ready:
            start = np.array([statistics.median(self._first_values[name]) for name in self.weights])
            weights = np.array(list(self.weights.values()))
            move = self._published if self.rule == 'published' else self._logarithmic
            moved = self._rescale(move(weights, norms, np.log(values) - np.log(start)))
            self.weights = dict(zip(self.weights, moved.tolist()))

    def _complain(self) -> None:
        """Say it once if there is no start because a loss is hardly ever above its best value."""
        if self._steps == 10 * self.warmup * self.every:
            late = [name for name, first in self._first_values.items() if len(first) < self.warmup]
            get_root_logger().warning(
                f"gradnorm: the weights are still 1 after {self._steps} iterations: {', '.join(late)} had no positive, "
                'finite distance from its best value to start from. Leave it out, or use another balancer.')

    def _logarithmic(self, weights: np.ndarray, norms: np.ndarray, log_ratios: np.ndarray) -> np.ndarray:
        step = _log_shares(self.alpha * log_ratios) - _log_shares(np.log(weights) + np.log(norms))
        return weights * np.exp(step * self.lr / max(self.lr, np.abs(step).max()))

    def _published(self, weights: np.ndarray, norms: np.ndarray, log_ratios: np.ndarray) -> np.ndarray:
        """The gradient of sum |G_i - c_i| over w_i, with c_i held constant, is sign(G_i - c_i) * ||g_i||."""
        ratios = np.exp(log_ratios)
        pulls = weights * norms
        targets = pulls.mean() * (ratios / ratios.mean()) ** self.alpha
        return weights - self.lr * np.sign(pulls - targets) * norms

    def _rescale(self, weights: np.ndarray) -> np.ndarray:
        """The multiple that sums to the number of losses once it is clamped; the sum is piecewise linear in it."""
        weights = weights.clip(self.floor, self.cap)
        factors = np.sort(np.concatenate([self.floor / weights, self.cap / weights]))
        sums = np.outer(factors, weights).clip(self.floor, self.cap).sum(1)
        return (np.interp(len(weights), sums, factors) * weights).clip(self.floor, self.cap)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), 'steps': self._steps,
                'first_values': {name: list(first) for name, first in self._first_values.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a ``state_dict``; the next call must have its losses."""
        super().load_state_dict(state)
        self._steps = state['steps']
        self._first_values = {name: list(first) for name, first in state['first_values'].items()}


def _added(total: Tensor | None, more: Tensor) -> Tensor:
    return more if total is None else total + more


def _log_shares(logs: np.ndarray) -> np.ndarray:
    return logs - np.logaddexp.reduce(logs)


def _check(option: str, value: object, expected: str, valid: bool) -> None:
    check_argument(f'gradnorm: {option}', value, expected, valid)
