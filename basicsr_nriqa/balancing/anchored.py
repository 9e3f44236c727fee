"""Many losses to one gradient: some losses are anchors, which the others must not raise."""
from collections.abc import Sequence
from itertools import combinations
from math import prod
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from basicsr_nriqa.balancing.aggregator import check_argument
from basicsr_nriqa.balancing.balancer import Balancer, register_balancer
from basicsr_nriqa.balancing.gradients import Gradients, summed_over_ranks
from basicsr_nriqa.option_values import is_count, is_number
from basicsr_nriqa.suggestion import suggest

MOST_ANCHORS = 6  # each one more doubles the sets of anchors that are tried
# An anchor counts as dependent on others if the squared sine of its angle to their span is smaller: leaving it out then
# leaves a conflict of 5e-6 of the lengths at most, and solving with it would lose as much of double precision.
DEPENDENT = 1e-10


@register_balancer('anchored')
class AnchoredBalancer(Balancer):
    """Anchors are summed as they are. The other losses' summed gradient gives way: unit by unit it is projected to
    where no anchor rises, and then shortened to at most ``trust`` times the length of the anchors' sum.

    The projection is the one-sided form of gradient surgery (Yu et al., "Gradient Surgery for Multi-Task Learning",
    NeurIPS 2020; of the sum, as Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS
    2017, do it), exact for several anchors too. With it and ``trust: 1``, the step is within 45 degrees of the anchors'
    own.

    All is computed in float64 from the gradients at the output, so sizes of gradients are no matter. A unit's result
    depends on that unit alone: parts of a batch and ranks give what the whole batch would. Gradients that are not
    finite stay so in the result.

    Weights in the log: 1 for the anchors; for every other loss the share of their summed gradient that is left,
    <g', g> / <g, g> over the whole batch, 0 where g is 0.

    Args:
        anchors (Sequence[str]): Losses that must not rise, 6 at most. Default: pix.
        per (str | int): The unit: ``clip``, ``frame``, or N for squares of N px of a frame, which are smaller at the
            right and bottom where N does not divide the side. Images (n,3,h,w) are clips of one frame.
            Default: clip.
        project (bool): Project. Default: True.
        trust (float | None): Largest length relative to the anchors' sum, above 0; in a unit where that sum is zero,
            nothing of the other losses is left. None: no limit. Default: 1.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, anchors: Sequence[str] = ('pix',), per: Literal['clip', 'frame'] | int = 'clip',
                 project: bool = True, trust: float | None = 1.0) -> None:
        super().__init__()
        names = list(anchors) if isinstance(anchors, (list, tuple)) else []
        check_argument('anchors', anchors, f'a list of 1 to {MOST_ANCHORS} different losses, such as [pix]',
                       1 <= len(names) <= MOST_ANCHORS and all(isinstance(name, str) for name in names)
                       and len(set(names)) == len(names))
        check_argument('per', per, 'clip, frame or a whole number of px, 1 or more',
                       per in ('clip', 'frame') or is_count(per, 1))
        check_argument('project', project, 'true or false', isinstance(project, bool))
        check_argument('trust', trust, 'a number above 0, or null for no limit',
                       trust is None or (is_number(trust, 0) and trust > 0))
        self.anchors, self.per, self.project, self.trust = names, per, project, trust
        self._left_and_whole = torch.zeros(2, dtype=torch.float64)

    def check(self, losses: Sequence[str]) -> None:
        super().check(losses)
        for name in self.anchors:
            if name not in losses:
                raise ValueError(f"anchors: there is no loss '{name}'{suggest(name, losses)}; the losses are "
                                 f"{', '.join(losses)}. Name those that must not rise.")
        if len(self.anchors) == len(losses):
            raise ValueError('anchors: all losses are anchors, and none is left that could give way. Leave one out, or '
                             'say `type: fixed`.')

    def __call__(self, gradients: Gradients, deficits: dict[str, Tensor]) -> Tensor:
        self.check(gradients.names)
        units = Units(gradients.shape, self.per)
        anchors = units.split(torch.stack([gradients.row(name) for name in self.anchors]).double())
        total = anchors.sum(0)
        others = [gradients.row(name).double() for name in gradients.names if name not in self.anchors]
        given = units.split(sum(others[1:], others[0])[None])[0]
        kept = given
        if self.project:
            kept = _projected(given, anchors, units)
        if self.trust is not None:
            kept = _shortened(kept, self.trust * units.inner(total, total).sqrt(), units)
        self._note(gradients.names, units.inner(kept, given).sum(), units.inner(given, given).sum())
        return units.join(total + kept).to(gradients.matrix)

    def _note(self, names: Sequence[str], left: Tensor, whole: Tensor) -> None:
        """The weights for the log, of all calls since the last step."""
        self._left_and_whole = self._left_and_whole + summed_over_ranks(torch.stack([left, whole])).cpu()
        parts, all_of_it = self._left_and_whole.tolist()
        share = parts / all_of_it if all_of_it else 0.0
        self.weights = {name: 1.0 if name in self.anchors else share for name in names}

    def step(self) -> None:
        self.discard()

    def discard(self) -> None:
        self._left_and_whole = torch.zeros(2, dtype=torch.float64)


class Units:
    """The parts of an output that are treated each by itself, as axes of a view.

    Args:
        shape (Sequence[int]): (n,t,3,h,w) or (n,3,h,w).
        per (str | int): ``clip``, ``frame`` or the side of squares, in px.
    """

    def __init__(self, shape: Sequence[int], per: Literal['clip', 'frame'] | int) -> None:
        self.shape = tuple(shape)
        self.groups = self.shape[0] if per == 'clip' else prod(self.shape[:-3])
        height, width = self.sides = self.shape[-2:]
        self.down, self.across = (per, per) if isinstance(per, int) else (height, width)
        self.padding = (0, -width % self.across, 0, -height % self.down)

    def split(self, images: Tensor) -> Tensor:
        """(rows, \\*shape) -> (rows, clips or frames, channels, units down, px, units across, px); zeros fill up."""
        images = images.reshape(len(images), self.groups, -1, *self.sides)
        if any(self.padding):
            images = pad(images, self.padding)
        return images.unflatten(-1, (-1, self.across)).unflatten(-3, (-1, self.down))

    def join(self, row: Tensor) -> Tensor:
        """Back to the output's shape, from one row."""
        height, width = self.sides
        return row.flatten(-2).flatten(-3, -2)[..., :height, :width].reshape(self.shape)

    @staticmethod
    def inner(one: Tensor, other: Tensor) -> Tensor:
        """Inner products of two rows: (clips or frames, units down, units across)."""
        return (one * other).sum(-1).sum((1, 3))  # along memory first: half the time of all at once

    @staticmethod
    def spread(numbers: Tensor) -> Tensor:
        """One number for each unit, to multiply a row with."""
        return numbers[:, None, :, None, :, None]


def _projected(gradient: Tensor, anchors: Tensor, units: Units) -> Tensor:
    """The nearest gradient, unit by unit, with which no anchor rises."""
    gramian = torch.stack([torch.stack([units.inner(one, other) for other in anchors], -1) for one in anchors], -2)
    products = torch.stack([units.inner(one, gradient) for one in anchors], -1)
    multipliers = cone_multipliers(gramian, products)
    nearest = gradient.clone()
    for number, anchor in enumerate(anchors):
        nearest.addcmul_(units.spread(multipliers[..., number]), anchor)
    return nearest


def cone_multipliers(gramian: Tensor, products: Tensor) -> Tensor:
    """Multipliers x >= 0 that make g + sum of x_k a_k the nearest point to g with no negative <g', a_k>.

    What is added is the projection of -g onto the cone of the anchors a_k. That is the projection onto the span of
    some linearly independent ones, with coefficients that are not negative; and of all such it is the longest. So all
    sets are tried, and no tolerance has to say which conflicts are left.

    Args:
        gramian (Tensor): (...,anchors,anchors), inner products of the anchors, float64.
        products (Tensor): (...,anchors), theirs with g.

    Returns:
        Tensor: (...,anchors); 0 where anchors are zero or something is not finite.
    """
    lengths = gramian.diagonal(dim1=-2, dim2=-1).sqrt()
    lengths = torch.where(lengths > 0, lengths, torch.ones_like(lengths))
    cosines = gramian / (lengths[..., None] * lengths[..., None, :])
    products = products / lengths
    best, longest = torch.zeros_like(products), torch.zeros_like(products[..., 0])
    count = products.shape[-1]
    for chosen in (list(some) for size in range(1, count + 1) for some in combinations(range(count), size)):
        factor, failed = torch.linalg.cholesky_ex(cosines[..., chosen, :][..., chosen])
        pulls = -products[..., chosen]
        solution = torch.cholesky_solve(pulls[..., None], factor)[..., 0]
        squared = (solution * pulls).sum(-1)
        sines_squared = factor.diagonal(dim1=-2, dim2=-1).square()  # of each to the span of those before it
        better = ((failed == 0) & (sines_squared > DEPENDENT).all(-1) & (solution >= 0).all(-1)
                  & (squared > longest))
        candidate = torch.zeros_like(best)
        candidate[..., chosen] = solution
        best = torch.where(better[..., None], candidate, best)
        longest = torch.where(better, squared, longest)
    return best / lengths


def _shortened(gradient: Tensor, limits: Tensor, units: Units) -> Tensor:
    lengths = units.inner(gradient, gradient).sqrt()
    tiny = torch.finfo(lengths.dtype).tiny
    return gradient * units.spread((limits / lengths.clamp(min=tiny)).clamp(max=1))
