"""Many losses to one gradient: the aggregators of TorchJD that look at one step only.

Methods that average gradients are multiplied by the number of losses: while no losses conflict, the step is then about
as long as the plain sum's, and learning rates stay comparable.
"""
from collections.abc import Sequence
from typing import Literal

import torch
from scipy.optimize import nnls
from torch import Tensor

from basicsr_nriqa.balancing.aggregator import (
    NOISE,
    AggregatorBalancer,
    GramianBalancer,
    OneForEach,
    as_first_rank,
    check_argument,
    cosines,
    make_torchjd,
    relative,
)
from basicsr_nriqa.balancing.balancer import register_balancer
from basicsr_nriqa.balancing.gradients import Gradients
from basicsr_nriqa.option_values import is_count, is_number


class _Unseeing(AggregatorBalancer):

    def __call__(self, gradients: Gradients, deficits: dict[str, Tensor]) -> Tensor:
        self.check(gradients.names)
        return self._combine(gradients, as_first_rank(self._draw(gradients.names), gradients.matrix.device))

    def _draw(self, names: Sequence[str]) -> Tensor:
        """The weights, (losses,), float64."""
        raise NotImplementedError


@register_balancer('sum')
class SumBalancer(_Unseeing):
    """The plain sum; equal to ``fixed``."""

    def _draw(self, names: Sequence[str]) -> Tensor:
        return torch.ones(len(names), dtype=torch.float64)


@register_balancer('mean')
class MeanBalancer(SumBalancer):
    """The mean, multiplied by the number of losses like all averages: equal to ``fixed``."""


@register_balancer('constant')
class ConstantBalancer(_Unseeing):
    """Constant weights, on top of each ``loss_weight``.

    Args:
        weights (dict[str, float] | Sequence[float]): One for each loss.

    Raises:
        ValueError: no such numbers.
    """

    def __init__(self, weights: dict[str, float] | Sequence[float]) -> None:
        super().__init__()
        self._constant = OneForEach('weights', weights)

    def check(self, losses: Sequence[str]) -> None:
        super().check(losses)
        self._constant(losses)

    def _draw(self, names: Sequence[str]) -> Tensor:
        return self._constant(names)


@register_balancer('random')
class RandomBalancer(_Unseeing):
    """Random positive weights, which sum to the number of losses (Lin et al., "Reasonable Effectiveness of Random
    Weighting", TMLR 2022): what any balancer should beat."""

    def __init__(self) -> None:
        super().__init__()
        self._weighting = make_torchjd('RandomWeighting')

    def _draw(self, names: Sequence[str]) -> Tensor:
        return len(names) * self._weighting(torch.empty(len(names), 0, dtype=torch.float64))


class _Preferring(GramianBalancer):
    """With a preference: how much each loss counts, 1 by default, as in the plain sum."""

    def __init__(self, pref_vector: dict[str, float] | Sequence[float] | None) -> None:
        super().__init__()
        self._preference = OneForEach('pref_vector', pref_vector, default=1.0, low=0)

    def check(self, losses: Sequence[str]) -> None:
        super().check(losses)
        if not self._preference(losses).any():
            raise ValueError('pref_vector: one number at least must be above 0.')


class _DualCone(_Preferring):
    """The dual cone of gradients is that of their directions, so quadratic programs are solved with unit vectors."""

    WEIGHTING = ''

    def __init__(self, pref_vector: dict[str, float] | Sequence[float] | None = None) -> None:
        super().__init__(pref_vector)
        self._weighting = make_torchjd(self.WEIGHTING)

    def _solve(self, gramian: Tensor, lengths: Tensor, names: Sequence[str]) -> Tensor:
        self._weighting.pref_vector = self._preference(names) * lengths
        return self._weighting(cosines(gramian, lengths)) / lengths


@register_balancer('upgrad')
class UPGradBalancer(_DualCone):
    """Each gradient is projected to where no loss rises, then they are summed (Quinton and Rey, "Jacobian Descent for
    Multi-Objective Optimization", 2024). No conflict is left (to 1e-3 of the gradients' lengths).

    Args:
        pref_vector (dict[str, float] | Sequence[float] | None): How much each loss counts, 0 or more. Default: 1 each.

    Raises:
        ValueError: no such numbers, or its solver is not installed.
    """

    WEIGHTING = 'UPGradWeighting'


@register_balancer('dualproj')
class DualProjBalancer(_DualCone):
    """The sum is projected to where no loss rises (Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual
    Learning", NeurIPS 2017). No conflict is left (to 1e-3 of the gradients' lengths).

    Args:
        pref_vector (dict[str, float] | Sequence[float] | None): How much each loss counts, 0 or more. Default: 1 each.

    Raises:
        ValueError: no such numbers, or its solver is not installed.
    """

    WEIGHTING = 'DualProjWeighting'


@register_balancer('aligned_mtl')
class AlignedMTLBalancer(_Preferring):
    """Principal components of the gradients are made equally long (Senushkin et al., "Independent Component Alignment
    for Multi-Task Learning", CVPR 2023).

    Args:
        pref_vector (dict[str, float] | Sequence[float] | None): How much each loss counts, 0 or more. Default: 1 each.
        scale_mode (str): Their length: that of the shortest (``min``), ``median`` or ``rmse``. Default: min.

    Raises:
        ValueError: no such numbers or mode.
    """

    def __init__(self, pref_vector: dict[str, float] | Sequence[float] | None = None,
                 scale_mode: Literal['min', 'median', 'rmse'] = 'min') -> None:
        super().__init__(pref_vector)
        check_argument('scale_mode', scale_mode, 'min, median or rmse', scale_mode in ('min', 'median', 'rmse'))
        self._weighting = make_torchjd('AlignedMTLWeighting', scale_mode=scale_mode)

    def _solve(self, gramian: Tensor, lengths: Tensor, names: Sequence[str]) -> Tensor:
        # Losses with equal gradients leave a component of nothing but rounding, to whose length all would be shortened.
        # Many orders between lengths are no rounding: how many components there are is seen in the directions.
        spread = torch.linalg.eigvalsh(cosines(gramian, lengths))
        dependent = int((spread < NOISE * spread.max()).sum())
        values, vectors = torch.linalg.eigh(relative(gramian))
        values[:dependent] = -1  # below any tolerance
        self._weighting.pref_vector = self._preference(names)
        return self._weighting((vectors * values) @ vectors.T)


@register_balancer('pcgrad')
class PCGradBalancer(GramianBalancer):
    """From each gradient, what conflicts with the others is taken away, in random order (Yu et al., "Gradient Surgery
    for Multi-Task Learning", NeurIPS 2020).
    """

    def __init__(self) -> None:
        super().__init__()
        self._weighting = make_torchjd('PCGradWeighting')

    def _solve(self, gramian: Tensor, lengths: Tensor, names: Sequence[str]) -> Tensor:
        return self._weighting(relative(gramian))


@register_balancer('mgda')
class MGDABalancer(GramianBalancer):
    """The shortest average of the gradients (Désidéri, "Multiple-Gradient Descent Algorithm for Multiobjective
    Optimization", 2012), solved exactly: the usual Frank-Wolfe search ends far from it when lengths differ much. No
    conflict is left (to 1e-3 of the gradients' lengths), and the shortest gradient rules."""

    def _solve(self, gramian: Tensor, lengths: Tensor, names: Sequence[str]) -> Tensor:
        # Up to its length, the shortest point x of the hull is the shortest x with g_i x >= 1 for all i. The
        # multipliers l of unit vectors minimise l C l / 2 - l (1 / lengths), l >= 0: least squares, with C = R^T R.
        root = torch.linalg.cholesky(cosines(gramian, lengths) + NOISE * torch.eye(len(names)), upper=True)
        target = torch.linalg.solve_triangular(root.T, (lengths.min() / lengths)[:, None], upper=False)
        weights = torch.from_numpy(nnls(root.numpy(), target[:, 0].numpy())[0]) / lengths
        return len(names) * weights / weights.sum()


@register_balancer('cagrad')
class CAGradBalancer(GramianBalancer):
    """Near the mean, the direction that serves the worst served loss best (Liu et al., "Conflict-Averse Gradient
    Descent for Multi-task Learning", NeurIPS 2021), divided by 1 + c, as the authors' code can do: without conflict
    the step is the mean.

    Args:
        c (float): How far from the mean, 0 or more; 0 is the mean. Default: 0.5.

    Raises:
        ValueError: c is out of its range, or its solver is not installed.
    """

    def __init__(self, c: float = 0.5) -> None:
        super().__init__()
        check_argument('c', c, 'a number, 0 or more', is_number(c, 0))
        # TorchJD's norm_eps of 1e-4 would make the step zero as soon as one gradient is that much shorter than another
        self._weighting = make_torchjd('CAGradWeighting', c=c, norm_eps=1e-9)

    def _solve(self, gramian: Tensor, lengths: Tensor, names: Sequence[str]) -> Tensor:
        return len(names) / (1 + self._weighting.c) * self._weighting(relative(gramian))


def _equal_cosines(gramian: Tensor, lengths: Tensor, proportions: Tensor) -> Tensor:
    """Weights of a combination whose cosines with the gradients have these proportions."""
    inverse = torch.linalg.pinv(cosines(gramian, lengths), rtol=NOISE, hermitian=True)
    return inverse @ proportions / lengths


@register_balancer('imtl_g')
class IMTLGBalancer(GramianBalancer):
    """The combination with weights of sum 1 that has equal projections on all gradients (Liu et al., "Towards Impartial
    Multi-task Learning", ICLR 2021). Weights may be negative."""

    def _solve(self, gramian: Tensor, lengths: Tensor, names: Sequence[str]) -> Tensor:
        weights = _equal_cosines(gramian, lengths, torch.ones_like(lengths))
        # divided by a negative sum it would be an ascent for every loss
        return len(names) * weights / weights.sum().clamp(min=0)


@register_balancer('config')
class ConFIGBalancer(_Preferring):
    """The direction of equal cosines with all gradients, as long as the projections on it together (Liu et al.,
    "ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks", ICLR 2025).

    Args:
        pref_vector (dict[str, float] | Sequence[float] | None): Proportions of the cosines, 0 or more. Default: 1 each.

    Raises:
        ValueError: no such numbers.
    """

    def __init__(self, pref_vector: dict[str, float] | Sequence[float] | None = None) -> None:
        super().__init__(pref_vector)

    def _solve(self, gramian: Tensor, lengths: Tensor, names: Sequence[str]) -> Tensor:
        # the direction is a combination of gradients, so the matrix itself is not needed
        weights = _equal_cosines(gramian, lengths, self._preference(names))
        return weights * (gramian @ weights).sum() / (weights @ gramian @ weights)


@register_balancer('fairgrad')
class FairGradBalancer(GramianBalancer):
    """Alpha-fair shares of the step (Ban and Ji, "Fair Resource Allocation in Multi-Task Learning", ICML 2024). Weights
    are scaled to sum to the number of losses.

    Args:
        alpha (float): Kind of fairness: 0 the mean, 1 proportional fairness as Nash-MTL, larger: nearer to equal
            progress. Default: 1.
        max_iters (int | None): Evaluations of the solver. Default: as many as SciPy allows.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, alpha: float = 1.0, max_iters: int | None = None) -> None:
        super().__init__()
        check_argument('alpha', alpha, 'a number, 0 or more', is_number(alpha, 0))
        check_argument('max_iters', max_iters, 'empty or a whole number, 1 or more',
                       max_iters is None or is_count(max_iters, 1))
        self._weighting = make_torchjd('FairGradWeighting', alpha=alpha, max_iters=max_iters)

    def _solve(self, gramian: Tensor, lengths: Tensor, names: Sequence[str]) -> Tensor:
        # G x = x**(-1/alpha) in y = x * lengths**(2 alpha / (1 + alpha)), for which the diagonal is 1
        alpha = self._weighting.alpha
        ratios = (lengths[:, None] / lengths) ** ((alpha - 1) / (alpha + 1))
        weights = self._weighting(cosines(gramian, lengths) * ratios) * lengths ** (-2 * alpha / (1 + alpha))
        return len(names) * weights / weights.sum()


@register_balancer('krum')
class KrumBalancer(GramianBalancer):
    """The mean of those gradients that lie nearest to others (Blanchard et al., "Machine Learning with Adversaries:
    Byzantine Tolerant Gradient Descent", NeurIPS 2017).

    Args:
        n_byzantine (int): Gradients that may be wrong; needs three losses more than that. Default: 0.
        n_selected (int): Gradients that are taken. Default: 1.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, n_byzantine: int = 0, n_selected: int = 1) -> None:
        super().__init__()
        check_argument('n_byzantine', n_byzantine, 'a whole number, 0 or more', is_count(n_byzantine, 0))
        check_argument('n_selected', n_selected, 'a whole number, 1 or more', is_count(n_selected, 1))
        self.losses_needed = max(n_byzantine + 3, n_selected)
        self._weighting = make_torchjd('KrumWeighting', n_byzantine, n_selected)

    def _solve(self, gramian: Tensor, lengths: Tensor, names: Sequence[str]) -> Tensor:
        return len(names) * self._weighting(relative(gramian))


class _ByElement(AggregatorBalancer):
    """Looks at each element of the output by itself: each rank at its own, and there are no weights."""

    COLUMNS = 2**20  # taken at once, so that no second matrix is in memory

    def __call__(self, gradients: Gradients, deficits: dict[str, Tensor]) -> Tensor:
        self.check(gradients.names)
        return torch.cat([self._aggregate(part, gradients.names)
                          for part in gradients.matrix.split(self.COLUMNS, 1)]).view(gradients.shape)

    def _aggregate(self, part: Tensor, names: Sequence[str]) -> Tensor:
        """(losses, elements) -> (elements,)."""
        raise NotImplementedError


@register_balancer('graddrop')
class GradDropBalancer(_ByElement):
    """In each element either the positive or the negative gradients, drawn by how much they are in the majority (Chen
    et al., "Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign Dropout", NeurIPS 2020).

    Args:
        leak (dict[str, float] | Sequence[float] | None): Share of each loss's gradient that always passes, in [0,1].
            Default: 0 each.

    Raises:
        ValueError: no such numbers.
    """

    def __init__(self, leak: dict[str, float] | Sequence[float] | None = None) -> None:
        super().__init__()
        self._leak = OneForEach('leak', leak, 0.0, 0, 1)
        self._aggregator = make_torchjd('GradDrop')

    def check(self, losses: Sequence[str]) -> None:
        super().check(losses)
        self._leak(losses)

    def _aggregate(self, part: Tensor, names: Sequence[str]) -> Tensor:
        self._aggregator.leak = self._leak(names).to(part)
        return self._aggregator(part)


@register_balancer('trimmed_mean')
class TrimmedMeanBalancer(_ByElement):
    """In each element the mean without the smallest and the largest gradients (Yin et al., "Byzantine-Robust
    Distributed Learning", ICML 2018), multiplied by the number of losses.

    Args:
        trim_number (int): How many are left out at either end; needs twice as many losses and one. Default: 1.

    Raises:
        ValueError: trim_number is out of its range.
    """

    def __init__(self, trim_number: int = 1) -> None:
        super().__init__()
        check_argument('trim_number', trim_number, 'a whole number, 0 or more', is_count(trim_number, 0))
        self.losses_needed = 2 * trim_number + 1
        self._aggregator = make_torchjd('TrimmedMean', trim_number)

    def _aggregate(self, part: Tensor, names: Sequence[str]) -> Tensor:
        return len(names) * self._aggregator(part)
