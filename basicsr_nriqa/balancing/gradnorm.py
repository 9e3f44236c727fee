"""Many losses to one gradient: weights that follow GradNorm, the algorithm tried in Sec. II.B of the paper."""
import math
import statistics

import numpy as np
import torch
from torch import distributed

_NUMBER = (int, float)


class GradNormBalancer:
    """Weights of the losses such that a loss that falls slower than the others pulls harder (Chen et al., "GradNorm:
    Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks", ICML 2018).

    With G_i = w_i * ||g_i||, g_i the gradient of loss i at the network's output, and r_i = L_i/L_i(0) over the mean
    of all, the weights are driven to G_i = c_i, c_i proportional to r_i**alpha. They sum to the number of losses.

    The paper's step on w_i, lr * sign(c_i - G_i) * ||g_i||, is as long as the gradient is large, and those of quality
    metrics differ by orders of magnitude. Here the log w_i move along log c_i - log G_i, shortened so that none moves
    by more than ``lr``: the same signs at any scale, at rest on the target, and losses find their balance even while
    ``floor`` holds another one. The c_i are scaled to the sum of the G_i, lest all G_i lie below; rescaling the
    weights takes away their common factor anyway.

    L_i(0) is the median of the first ``warmup`` values of loss i; until every loss has so many, the weights are 1.

    Args:
        alpha (float): Strength of the restoring force, 0 or more; 0 makes all G_i equal. Default: 1.5, as in the paper.
        lr (float): Largest step of log w in one call, before the rescaling, in (0,1]. Default: 0.025.
        floor, cap (float): Range of the weights, 0 < floor <= 1 <= cap. Default: 0.01 and 10.
        warmup (int): Values that make L_i(0), 1 or more. Default: 20.
        freeze_after (int | None): Calls, more than ``warmup``, after which the weights stay as they are. Default: None.

    Attributes:
        weights (dict[str, float]): Loss name -> weight; empty before the first call.
        skipped (int): Calls whose norms or values were not all finite and positive; they did not change the weights.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, alpha=1.5, lr=0.025, floor=0.01, cap=10.0, warmup=20, freeze_after=None):
        _check('alpha', alpha, 'a number, 0 or more', isinstance(alpha, _NUMBER) and 0 <= alpha < math.inf)
        _check('lr', lr, 'a number above 0, at most 1', isinstance(lr, _NUMBER) and 0 < lr <= 1)
        _check('floor', floor, 'a number above 0, at most 1', isinstance(floor, _NUMBER) and 0 < floor <= 1)
        _check('cap', cap, 'a number, 1 or more', isinstance(cap, _NUMBER) and 1 <= cap < math.inf)
        _check('warmup', warmup, 'a whole number, 1 or more', isinstance(warmup, int) and warmup >= 1)
        _check('freeze_after', freeze_after, f'empty or a whole number above warmup ({warmup})',
               freeze_after is None or (isinstance(freeze_after, int) and freeze_after > warmup))
        self.alpha, self.lr, self.floor, self.cap = alpha, lr, floor, cap
        self.warmup, self.freeze_after = warmup, freeze_after
        self.weights, self.skipped = {}, 0
        self._calls, self._first_values = 0, {}

    @torch.no_grad()
    def __call__(self, gradients, values):
        """Update the weights, then combine. On many ranks, all must call; norms and values are averaged over them.

        Args:
            gradients (dict[str, Tensor]): Loss name -> gradient, all of the output's shape; they may be changed.
            values (dict[str, Tensor | float]): Loss name -> positive distance of the loss from its best value, 0-d.

        Returns:
            Tensor: The sum of weight * gradient.

        Raises:
            ValueError: the names are not the same in both, or not those of earlier calls or of the loaded state.
        """
        self._check_names(gradients, values)
        self._calls += 1
        if self.freeze_after is None or self._calls <= self.freeze_after:
            self._update(*self._measure(gradients, values))
        (first, weight), *others = ((gradients[name], weight) for name, weight in self.weights.items())
        total = first.contiguous().mul_(weight)  # the gradient of a plain sum is one expanded number: not writable
        for gradient, weight in others:
            total.add_(gradient, alpha=weight)
        return total

    def _check_names(self, gradients, values):
        if not self.weights:
            self.weights = dict.fromkeys(gradients, 1.0)
            self._first_values = {name: [] for name in gradients}
        for what, given in (('gradients', gradients), ('values', values)):
            if not given or set(given) != set(self.weights):
                raise ValueError(f"gradnorm: expected {what} of the losses {', '.join(self.weights) or '(one or more)'}"
                                 f", got {', '.join(given) or 'none'}; the losses cannot change during a training.")

    def _measure(self, gradients, values):
        """Norms and values as float64 arrays in the order of the weights; the only wait for the device."""
        norms = [torch.linalg.vector_norm(gradient, dtype=torch.promote_types(gradient.dtype, torch.float32)).double()
                 for gradient in (gradients[name] for name in self.weights)]
        values = [value.to(norms[0]) if isinstance(value, torch.Tensor) else norms[0].new_full((), value)
                  for value in (values[name] for name in self.weights)]
        measured = torch.stack(norms + values)
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(measured)
            measured /= distributed.get_world_size()
        return np.split(np.array(measured.tolist()), 2)

    def _update(self, norms, values):
        usable = np.isfinite(values) & (values > 0)
        ready = usable.all() and bool((np.isfinite(norms) & (norms > 0)).all())
        self.skipped += not ready
        if any(len(first) < self.warmup for first in self._first_values.values()):
            for first, value, use in zip(self._first_values.values(), values.tolist(), usable):
                if use and len(first) < self.warmup:
                    first.append(value)
        elif ready:
            start = np.array([statistics.median(first) for first in self._first_values.values()])
            weights = np.array(list(self.weights.values()))
            step = (_log_shares(self.alpha * (np.log(values) - np.log(start)))
                    - _log_shares(np.log(weights) + np.log(norms)))
            step *= self.lr / max(self.lr, np.abs(step).max())
            self.weights = dict(zip(self.weights, self._rescale(weights * np.exp(step)).tolist()))

    def _rescale(self, weights):
        """The multiple that sums to the number of losses once it is clamped; the sum is piecewise linear in it."""
        weights = weights.clip(self.floor, self.cap)
        factors = np.sort(np.concatenate([self.floor / weights, self.cap / weights]))
        sums = np.outer(factors, weights).clip(self.floor, self.cap).sum(1)
        return (np.interp(len(weights), sums, factors) * weights).clip(self.floor, self.cap)

    def state_dict(self):
        """All that a resumed training needs to go on with the same numbers: plain numbers, lists and dicts."""
        return {'calls': self._calls, 'skipped': self.skipped, 'weights': dict(self.weights),
                'first_values': {name: list(first) for name, first in self._first_values.items()}}

    def load_state_dict(self, state):
        """Go on from a :meth:`state_dict`; the next call must have its losses."""
        self._calls, self.skipped, self.weights = state['calls'], state['skipped'], dict(state['weights'])
        self._first_values = {name: list(first) for name, first in state['first_values'].items()}


def _log_shares(logs):
    return logs - np.logaddexp.reduce(logs)


def _check(option, value, expected, valid):
    if not valid:
        raise ValueError(f'gradnorm: {option} must be {expected}, got {value!r}.')
