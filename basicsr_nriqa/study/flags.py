"""Warnings that a loss produces artifacts: the rules, their thresholds, and why each one holds."""
from dataclasses import dataclass

import numpy as np

from basicsr_nriqa.study.metric_names import plain_name, shown_name
from basicsr_nriqa.study.relative_gain import GainTable
from basicsr_nriqa.study.scores import join_names
from basicsr_nriqa.study.table_text import format_interval


@dataclass(frozen=True)
class Flag:
    """One warning of the report.

    Attributes:
        rule (str): Which rule: ``'reference'``, ``'gaming'`` or ``'spectrum'``.
        loss (str): Label of the loss, a row of the table.
        reason (str): Why, in a sentence with the numbers and the threshold.
        model (str | None): The model it was seen in; None: in the average over all.
        dataset (str | None): The dataset it was seen on; None: in the average over all.
    """

    rule: str
    loss: str
    reason: str
    model: str | None = None
    dataset: str | None = None


@dataclass(frozen=True)
class ReferenceRule:
    """The paper's last observation as a rule.

    "Huge LPIPS deterioration indicates the presence of these patterns when that perceptual loss was not optimized
    directly; small LPIPS changes instead of a large improvement indicate the presence of artificial patterns when it
    was optimized directly" (Kashkarov et al., Section IV). The paper gives no thresholds. Those here lie between the
    rows of Fig. 2 which its text says have artifacts and those which have none. Not optimised: the smallest
    deterioration with artifacts is 28 % (MDTVSFA), the largest without is 25 % (PaQ-2-PiQ). Optimised: the largest gain
    with artifacts is 1 % (LPIPS & NIMA), the smallest without is 11 % (LPIPS with GradNorm). So they were read off 15
    rows of one study: other models, data and training lengths may want others.

    Attributes:
        metric (str): The full-reference metric that is looked at.
        worsened (float): Percent; flagged where the loss did not contain the metric and lost more than this.
        hardly_improved (float): Percent; flagged where the loss contained the metric and gained less than this.

    Raises:
        ValueError: A threshold is not a number, or `worsened` is negative.
    """

    metric: str = 'lpips'
    worsened: float = 26.0
    hardly_improved: float = 5.0

    def __post_init__(self) -> None:
        for name in ('worsened', 'hardly_improved'):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
                raise ValueError(f'reference rule: {name} should be a number of percent, got {value!r}')
        if self.worsened < 0:
            raise ValueError(f'reference rule: worsened should be 0 or more percent, a deterioration, '
                             f'got {self.worsened!r}')


def reference_flags(table: GainTable, thresholds: ReferenceRule = ReferenceRule()) -> list[Flag]:
    """Flag the losses after which a full-reference metric is as the paper saw it with artifacts.

    A loss of which the score files do not say what it optimised is taken not to contain the metric.

    Args:
        table (basicsr_nriqa.study.relative_gain.GainTable): The numbers, with their views.
        thresholds (ReferenceRule): The rule.

    Returns:
        list[Flag]: Those of the average over all first, then, where there are several, of each model and dataset; in
        the order of the table. Empty where the table lacks the metric, see :func:`reference_notes`.
    """
    column = _column(table, thresholds)
    if column is None:
        return []
    places = [(None, None), *(table.group_gains if len(table.group_gains) > 1 else ())]
    flags = []
    for model, dataset in places:
        view = table.views.get((model, dataset))
        if view is None:  # no loss has scores there
            continue
        for row, loss in enumerate(view.losses):
            optimised = table.optimised[table.losses.index(loss), column]
            ends = view.low[row, column], view.high[row, column]
            reason = _reason(thresholds, optimised, view.gains[row, column], *ends)
            if reason:
                flags.append(Flag('reference', loss, reason, model, dataset))
    return flags


def reference_notes(table: GainTable, thresholds: ReferenceRule = ReferenceRule()) -> list[str]:
    """What the rule could not judge. No flag does not mean there that a loss is free of artifacts.

    Args:
        table (basicsr_nriqa.study.relative_gain.GainTable): The numbers.
        thresholds (ReferenceRule): The rule.

    Returns:
        list[str]: A sentence if the table lacks the metric, and one on the losses whose score of it is missing.
    """
    column = _column(table, thresholds)
    if column is None:
        return [f'The reference rule could not be applied: no score file has {shown_name(thresholds.metric)}.']
    missing = [loss for loss, gain in zip(table.losses, table.gains[:, column]) if np.isnan(gain)]
    if not missing:
        return []
    return [f'The reference rule could not be applied to {join_names(missing)}: their '
            f'{shown_name(thresholds.metric)} is missing.']


def _column(table: GainTable, rule: ReferenceRule) -> int | None:
    names = [plain_name(metric) for metric in table.metrics]
    return names.index(plain_name(rule.metric)) if plain_name(rule.metric) in names else None


def _reason(rule: ReferenceRule, optimised: bool, gain: float, low: float, high: float) -> str:
    """A sentence if the gain is beyond the threshold, else nothing; NaN is beyond none."""
    limit = rule.hardly_improved if optimised else 0 - rule.worsened  # and not -0.0
    if not gain < limit:
        return ''
    name = shown_name(rule.metric)
    said = (f'{name} gained only {gain:+.1f} % although it was optimised; flagged below {limit:+g} %' if optimised else
            f'{name}, which was not optimised, changed by {gain:+.1f} %; flagged below {limit:+g} %')
    if np.isnan([low, high]).any():
        return f'{said}. There is no interval to tell how sure that is.'
    ends = f'95 % interval {format_interval(low, high, 1)}'
    return f'{said}. The whole {ends} is below.' if high < limit else \
        f'{said}. The {ends} reaches beyond the threshold: other videos might not be flagged.'
