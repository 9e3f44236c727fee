"""What the balancers that follow TorchJD's aggregators have in common (Quinton and Rey, "Jacobian Descent for
Multi-Objective Optimization", 2024). TorchJD is imported when a balancer that needs it is made.

Weights of losses follow from the inner products of their gradients, so all that is solved has the size of the number
of losses and is solved on the CPU in float64. Gradients of quality metrics are as small as 1e-9 and differ by orders of
magnitude: wherever a method looks at directions only, it gets gradients of length 1 and its weights are divided by the
lengths; else the largest is scaled to 1. So no epsilon of a solver is ever met by the size of a gradient.
"""
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed

from basicsr_nriqa.balancing.balancer import Balancer
from basicsr_nriqa.balancing.gradients import Gradients, rank_count, summed_over_ranks
from basicsr_nriqa.option_values import is_number
from basicsr_nriqa.suggestion import suggest

# A weighted gradient that much longer than all gradients together comes from a solution near a pole. Single precision
# would still sum such gradients to 1e-4 of the plain sum.
LONGEST = 1000
# Eigenvalues of inner products of unit vectors below this, relative to the largest, may be single precision's rounding.
NOISE = 1e-5


def make_torchjd(name: str, *arguments: Any, **options: Any) -> Any:
    """Make a weighting or an aggregator of TorchJD.

    Raises:
        ValueError: a solver that it needs is not installed.
    """
    try:
        from torchjd import aggregation  # slow to import, and not everybody needs it
        return getattr(aggregation, name)(*arguments, **options)
    except (ImportError, AttributeError) as error:
        reason = str(error).partition('. Install')[0]  # which would install another version
        raise ValueError(f'needs what is not installed ({reason}): pip install '
                         "'torchjd[quadprog-projector,cagrad,fairgrad,nash-mtl]>=0.18,<0.19' clarabel, or choose a "
                         'balancer without a solver, such as mgda') from None


def check_argument(option: str, value: object, expected: str, valid: bool) -> None:
    """Raise a ValueError that says what was expected of an option, unless its value is valid."""
    if not valid:
        raise ValueError(f'{option} must be {expected}, got {value!r}.')


class OneForEach:
    """An option with one number for each loss: ``{NAME: number}`` or a list in the losses' order.

    Args:
        option (str): Its name.
        value (dict[str, float] | list[float] | None): As given.
        default (float | None): For losses that are not named; None: all must be.
        low, high (float): Range.
    """

    def __init__(self, option: str, value: dict[str, float] | Sequence[float] | None, default: float | None = None,
                 low: float = -math.inf, high: float = math.inf) -> None:
        if isinstance(value, (dict, list, tuple)):
            numbers = value.values() if isinstance(value, dict) else value
            valid = all(is_number(number, low, high) for number in numbers)
        else:
            valid = value is None and default is not None
        limits = '' if low == -math.inf else f' of {low:g} or more'
        if high < math.inf:
            limits = f' from {low:g} to {high:g}'
        check_argument(option, value, f'{{loss: number}} or a list with a number{limits} for each loss', valid)
        self.option, self.value, self.default = option, value, default

    def __call__(self, names: Sequence[str]) -> Tensor:
        """The numbers for these losses, (losses,), float64.

        Raises:
            ValueError: a name is no loss, one is missing, or the list has another length.
        """
        given = {} if self.value is None else self.value
        if isinstance(given, dict):
            for name in given:
                if name not in names:
                    raise ValueError(f"{self.option}: there is no loss '{name}'{suggest(name, names)}; the losses are "
                                     f"{', '.join(names)}.")
            default = self.default
            missing = [name for name in names if name not in given]
            if missing and default is None:
                raise ValueError(f"{self.option}: give a number for {', '.join(missing)} too.")
            given = [given[name] if default is None else given.get(name, default) for name in names]
        if len(given) != len(names):
            raise ValueError(f"{self.option}: expected a number for each of {len(names)} losses ({', '.join(names)}), "
                             f"got {len(given)}.")
        return torch.tensor(given, dtype=torch.float64)


def as_first_rank(values: Tensor, device: torch.device) -> Tensor:
    """What the first of all ranks has; solvers may round, and random numbers fall, differently on others."""
    if rank_count() == 1:
        return values
    values = values.to(device)
    distributed.broadcast(values, 0)
    return values.cpu()


class AggregatorBalancer(Balancer):
    """Common to all balancers here.

    Attributes:
        losses_needed (int): Fewer cannot be balanced.
    """

    losses_needed = 1

    def check(self, losses: Sequence[str]) -> None:
        """Check the options that depend on the losses.

        Args:
            losses (Sequence[str]): Their names.

        Raises:
            ValueError: too few losses, or an option names another or has a number too many or too few.
        """
        if len(losses) < self.losses_needed:
            raise ValueError(f"needs {self.losses_needed} losses or more, there are {len(losses)} "
                             f"({', '.join(losses)}). Add one, or choose another balancer.")

    def _combine(self, gradients: Gradients, weights: Tensor) -> Tensor:
        self.weights = dict(zip(gradients.names, weights.tolist()))
        return gradients.combined(weights)


class GramianBalancer(AggregatorBalancer):
    """Weights from the inner products of the gradients. Subclasses have :meth:`_solve`.

    Where these are not finite, where a gradient is zero, or where the solver fails or comes near a pole, the plain sum
    is returned, all weights are 1, and ``skipped`` counts it.
    """

    def __call__(self, gradients: Gradients, deficits: dict[str, Tensor]) -> Tensor:
        self.check(gradients.names)
        # The output of the whole batch is that of all ranks side by side, and the loss the mean over ranks: every
        # gradient counts 1/ranks, so the inner products are the ranks' sum / ranks**2.
        gramian = summed_over_ranks(gradients.gramian).double().cpu() / rank_count()**2
        found = self._usable_weights(gramian, gradients.names)
        weights = torch.ones(len(gramian), dtype=torch.float64) if found is None else found
        failed = weights.new_tensor([found is None])
        agreed = as_first_rank(torch.cat([failed, weights]), gradients.matrix.device)
        self.skipped += int(agreed[0])
        return self._combine(gradients, agreed[1:])

    def _usable_weights(self, gramian: Tensor, names: Sequence[str]) -> Tensor | None:
        lengths = gramian.diagonal().sqrt()
        if not (gramian.isfinite().all() and (lengths > 0).all()):
            return None
        try:
            weights = self._solve(gramian, lengths, names).double()
        except Exception:  # options have been checked: whatever it is, it is a solver's failure
            return None
        longest = (weights.abs() * lengths).sum()
        return weights if longest <= LONGEST * lengths.sum() else None  # not true of NaN either

    def _solve(self, gramian: Tensor, lengths: Tensor, names: Sequence[str]) -> Tensor:
        """The weights.

        Args:
            gramian (Tensor): (losses, losses), float64, on the CPU, finite.
            lengths (Tensor): (losses,), of the gradients, positive.
            names (Sequence[str]): The losses.

        Returns:
            Tensor: (losses,).
        """
        raise NotImplementedError


def cosines(gramian: Tensor, lengths: Tensor) -> Tensor:
    return gramian / torch.outer(lengths, lengths)


def relative(gramian: Tensor) -> Tensor:
    return gramian / gramian.diagonal().max()
