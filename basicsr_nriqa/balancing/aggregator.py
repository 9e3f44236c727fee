"""What the balancers that follow TorchJD's aggregators have in common (Quinton and Rey, "Jacobian Descent for
Multi-Objective Optimization", 2024). TorchJD is imported when a balancer that needs it is made.

Weights of losses follow from the inner products of their gradients, so all that is solved has the size of the number
of losses and is solved on the CPU in float64. Gradients of quality metrics are as small as 1e-9 and differ by orders of
magnitude: wherever a method looks at directions only, it gets gradients of length 1 and its weights are divided by the
lengths; else the largest is scaled to 1. So no epsilon of a solver is ever met by the size of a gradient.
"""
import math

import torch
from torch import distributed

from basicsr_nriqa.balancing.balancer import Balancer
from basicsr_nriqa.balancing.gradients import rank_count, summed_over_ranks
from basicsr_nriqa.suggestion import suggest

# A weighted gradient that much longer than all gradients together comes from a solution near a pole. Single precision
# would still sum such gradients to 1e-4 of the plain sum.
LONGEST = 1000
# Eigenvalues of inner products of unit vectors below this, relative to the largest, may be single precision's rounding.
NOISE = 1e-5


def make_torchjd(name, *arguments, **options):
    """Make a weighting or an aggregator of TorchJD.

    Raises:
        ValueError: TorchJD or a solver is not installed.
    """
    try:
        from torchjd import aggregation  # slow to import, and not everybody needs it
        return getattr(aggregation, name)(*arguments, **options)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"needs TorchJD with its solvers ({error}): pip install "
                         "'torchjd[quadprog-projector,cagrad,fairgrad,nash-mtl]>=0.18' clarabel") from None


def check_argument(option, value, expected, valid):
    if not valid:
        raise ValueError(f'{option} must be {expected}, got {value!r}.')


def is_number(value, low=-math.inf, high=math.inf):
    return (isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            and low <= value <= high)


def is_count(value, low):
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


class OneForEach:
    """An option with one number for each loss: ``{NAME: number}`` or a list in the losses' order.

    Args:
        option (str): Its name.
        value (dict[str, float] | list[float] | None): As given.
        default (float | None): For losses that are not named; None: all must be.
        low, high (float): Range.
    """

    def __init__(self, option, value, default=None, low=-math.inf, high=math.inf):
        numbers = value.values() if isinstance(value, dict) else value
        valid = (value is None and default is not None) or (
            isinstance(value, (dict, list, tuple)) and all(is_number(number, low, high) for number in numbers))
        limits = f' from {low:g}' * math.isfinite(low) + f' to {high:g}' * math.isfinite(high)
        check_argument(option, value, f'{{loss: number}} or a list with a number{limits} for each loss', valid)
        self.option, self.value, self.default = option, value, default

    def __call__(self, names):
        """The numbers for these losses, (losses,), float64.

        Raises:
            ValueError: a name is no loss, one is missing, or the list has another length.
        """
        value = {} if self.value is None else self.value
        if isinstance(value, dict):
            for name in value:
                if name not in names:
                    raise ValueError(f"{self.option}: there is no loss '{name}'{suggest(name, names)}; the losses are "
                                     f"{', '.join(names)}.")
            missing = [name for name in names if name not in value]
            if missing and self.default is None:
                raise ValueError(f"{self.option}: give a number for {', '.join(missing)} too.")
            value = [value.get(name, self.default) for name in names]
        if len(value) != len(names):
            raise ValueError(f"{self.option}: {len(value)} numbers given for {len(names)} losses "
                             f"({', '.join(names)}).")
        return torch.tensor(value, dtype=torch.float64)


def as_first_rank(values, device):
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

    def check(self, names):
        """Check the options that depend on the losses.

        Args:
            names (Sequence[str]): The losses.

        Raises:
            ValueError: too few losses, or an option names another or has a number too many or too few.
        """
        if len(names) < self.losses_needed:
            raise ValueError(f"needs {self.losses_needed} losses or more, there are {len(names)} ({', '.join(names)}).")

    def _combine(self, gradients, weights):
        self.weights = dict(zip(gradients.names, weights.tolist()))
        return gradients.combined(weights)


class GramianBalancer(AggregatorBalancer):
    """Weights from the inner products of the gradients. Subclasses have :meth:`_solve`.

    Where these are not finite, where a gradient is zero, or where the solver fails or comes near a pole, the plain sum
    is returned, all weights are 1, and ``skipped`` counts it.
    """

    def __call__(self, gradients, deficits):
        self.check(gradients.names)
        # The output of the whole batch is that of all ranks side by side, and the loss the mean over ranks: every
        # gradient counts 1/ranks, so the inner products are the ranks' sum / ranks**2.
        gramian = summed_over_ranks(gradients.gramian).double().cpu() / rank_count()**2
        weights = self._usable_weights(gramian, gradients.names)
        failed = weights is None
        weights = torch.ones(len(gramian), dtype=torch.float64) if failed else weights
        failed, *weights = as_first_rank(torch.cat([weights.new_tensor([failed]), weights]), gradients.matrix.device)
        self.skipped += int(failed)
        return self._combine(gradients, torch.stack(weights))

    def _usable_weights(self, gramian, names):
        lengths = gramian.diagonal().sqrt()
        if not (gramian.isfinite().all() and (lengths > 0).all()):
            return None
        try:
            weights = self._solve(gramian, lengths, names).double()
        except Exception:  # options have been checked: whatever it is, it is a solver's failure
            return None
        longest = (weights.abs() * lengths).sum()
        return weights if longest <= LONGEST * lengths.sum() else None  # not true of NaN either

    def _solve(self, gramian, lengths, names):
        """The weights.

        Args:
            gramian (Tensor): (losses, losses), float64, on the CPU, finite.
            lengths (Tensor): (losses,), of the gradients, positive.
            names (Sequence[str]): The losses.

        Returns:
            Tensor: (losses,).
        """
        raise NotImplementedError


def cosines(gramian, lengths):
    return gramian / torch.outer(lengths, lengths)


def relative(gramian):
    return gramian / gramian.diagonal().max()
