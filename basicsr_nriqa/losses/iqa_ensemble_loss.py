"""Several quality metrics as one loss, a few of which are drawn at each call."""
from collections.abc import Callable, Sequence
from typing import Any

import torch
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor, nn

from basicsr_nriqa.iqa import MetricError, MetricInfo, refuse_unknown
from basicsr_nriqa.losses.iqa_loss import IQALoss
from basicsr_nriqa.option_values import is_count
from basicsr_nriqa.suggestion import suggest


@LOSS_REGISTRY.register()
class IQAEnsembleLoss(nn.Module):
    """An unbiased estimate of the sum of N losses, at the cost of k: at each call k members are drawn without
    replacement with torch's global CPU generator, and the loss is N/k times the sum of theirs.

    An output that games one metric is soon judged by another. With k = N it is the sum of all, and nothing is drawn.
    Each part of a batch (``accumulate``) and each rank draws its own.

    Args:
        metrics (dict[str, dict | None]): The members, by name: options of a loss, without ``type`` of
            :class:`~basicsr_nriqa.losses.iqa_loss.IQALoss`, whose ``metric`` is the member's name where it is not
            given.
        per_step (int): k, from 1 to N. Default: 1.
        **defaults (Any): Options of :class:`~basicsr_nriqa.losses.iqa_loss.IQALoss` but ``metric``, for each member
            that is one (or a named one such as ``LPIPSLoss``), has that option and does not give it itself.

    Raises:
        MetricError: an argument is out of its range, or a member cannot be built; the message names it.
    """

    DEFAULTS = IQALoss.OPTIONS - {'metric'}

    def __init__(self, metrics: dict[str, dict | None], per_step: int = 1, **defaults: Any) -> None:
        super().__init__()
        options = self.member_options({'metrics': metrics, 'per_step': per_step, **defaults})
        self.names, self.per_step = tuple(options), per_step
        self.members = nn.ModuleList(_build(name, one) for name, one in options.items())
        self._best: Tensor | float = 0.0  # what the members drawn last would give with their best scores

    @classmethod
    def member_options(cls, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Complete options of the members, before anything is built; they themselves are not checked.

        Args:
            options (dict): Of the ensemble, as in an option file, with or without ``type``.

        Returns:
            dict[str, dict]: Name -> options with ``type``.

        Raises:
            MetricError: unknown or missing option of the ensemble, or one that is out of its range.
        """
        known = sorted({'metrics', 'per_step', *cls.DEFAULTS})
        refuse_unknown(cls.__name__, [option for option in options if option != 'type'], known)
        metrics, per_step = options.get('metrics'), options.get('per_step', 1)
        if not isinstance(metrics, dict) or not metrics:
            raise MetricError(f'{cls.__name__}: metrics must be the members, such as {{maniqa: {{loss_weight: -0.01}}, '
                              f'lpips: {{type: LPIPSLoss}}}}, got {metrics!r}.')
        for name, one in metrics.items():
            if not isinstance(one, (dict, type(None))):
                raise MetricError(f'{cls.__name__}: metrics:{name}: expected options such as {{metric: maniqa, '
                                  f'loss_weight: -0.01}}, got {one!r}.')
        if not is_count(per_step) or per_step > len(metrics):
            raise MetricError(f'{cls.__name__}: per_step must be a whole number from 1 to the number of members, '
                              f'{len(metrics)}, got {per_step!r}.')
        defaults = {option: value for option, value in options.items() if option in cls.DEFAULTS}
        return {name: _complete(name, one or {}, defaults) for name, one in metrics.items()}

    def forward(self, output: Tensor, target: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            output (Tensor): (n,3,h,w) or (n,t,3,h,w), RGB, nominally in [0,1]; gradients flow to it.
            target (Tensor | None): GT of the same shape, for members that compare with it.

        Returns:
            Tensor: Scalar, N/k times the sum of the drawn members' losses.

        Raises:
            MetricError: as the members; or one does not return one number.
        """
        count = len(self.members)
        drawn: Sequence[int] = range(count)
        if self.per_step < count:
            drawn = torch.randperm(count)[:self.per_step].sort().values.tolist()
        losses = [self._loss(index, output, target) for index in drawn]
        values = [loss.detach() for loss in losses]
        distances = [_distance(self.members[index], value) for index, value in zip(drawn, values)]
        factor = count / self.per_step
        self._best = factor * (sum(values) - sum(distances))
        return factor * sum(losses[1:], losses[0])

    def _loss(self, index: int, output: Tensor, target: Tensor | None) -> Tensor:
        loss = self.members[index](output, target)
        if not isinstance(loss, torch.Tensor) or loss.ndim:
            raise MetricError(f'{type(self).__name__}: metrics:{self.names[index]} does not return one number; only '
                              'losses of (output, gt) can be members.')
        return loss

    def deficit(self, value: Tensor) -> Tensor:
        """How far a value of this loss is from the best that it could have been with the same draw, for balancers.

        That is N/k times the sum of the drawn members' distances from their best scores, an unbiased estimate of the
        distance of all.

        Args:
            value (Tensor): What the last call returned.

        Returns:
            Tensor: Positive where all drawn members are inside their nominal ranges.
        """
        return value - self._best


def _distance(loss: nn.Module, value: Tensor) -> Tensor:
    deficit = getattr(loss, 'deficit', None)
    return value if deficit is None else deficit(value)


def metrics_of(loss: nn.Module) -> list[MetricInfo]:
    """What is known of the quality metrics that a loss optimises.

    Args:
        loss (nn.Module): Any loss.

    Returns:
        list[MetricInfo]: One of an :class:`IQALoss`, all of an ensemble's, else none.
    """
    if isinstance(loss, IQAEnsembleLoss):
        return [info for member in loss.members for info in metrics_of(member)]
    metric = getattr(loss, 'metric', None)
    return [] if metric is None else [metric.info]


def _registered(name: object) -> Callable[..., nn.Module] | None:
    """The class, or None."""
    return LOSS_REGISTRY.get(name) if isinstance(name, str) and name in LOSS_REGISTRY else None


def _complete(name: str, options: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    options = {'type': IQALoss.__name__, **options}
    kind = _registered(options['type'])
    if kind is IQALoss:
        options.setdefault('metric', name)
    taken = getattr(kind, 'OPTIONS', ())
    return {**{option: value for option, value in defaults.items() if option in taken}, **options}


def _build(name: str, options: dict[str, Any]) -> nn.Module:
    where = f'{IQAEnsembleLoss.__name__}: metrics:{name}'
    kind = _registered(options['type'])
    if kind is None:
        raise MetricError(f"{where}: no loss is called '{options['type']}'"
                          f"{suggest(options['type'], LOSS_REGISTRY.keys())}.")
    try:
        # not build_loss: basicsr.losses may be what imports this plugin
        return kind(**{key: value for key, value in options.items() if key != 'type'})
    except (TypeError, ValueError) as error:  # BasicSR's own losses take what they are given
        raise MetricError(f'{where}: {error}') from error
