"""Warnings that a loss produces artifacts: the rules, their thresholds, and why each one holds."""
from dataclasses import dataclass


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
