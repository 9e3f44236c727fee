"""The classes that ``type`` may name in the different places of an option file, and the options of each."""
import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Literal

import torch
from basicsr.models import lr_scheduler

from basicsr_nriqa.iqa import CATALOGUE, class_of_metric
from basicsr_nriqa.losses import IQAEnsembleLoss, IQALoss
from basicsr_nriqa.losses.named_loss import NamedLoss
from basicsr_nriqa.option_definitions.arguments import arguments
from basicsr_nriqa.option_definitions.known import STOCK_METRIC
from basicsr_nriqa.option_definitions.option import Option

# optimisers of PyTorch that a step with ready gradients of images cannot drive, and why
UNUSABLE = {getattr(torch.optim, 'Muon', None): 'matrices as weights',  # from PyTorch 2.9
            torch.optim.LBFGS: 'to compute the loss again and again', torch.optim.SparseAdam: 'sparse gradients'}
SCHEDULERS = {'MultiStepLR': lr_scheduler.MultiStepRestartLR, 'MultiStepRestartLR': lr_scheduler.MultiStepRestartLR,
              'CosineAnnealingRestartLR': lr_scheduler.CosineAnnealingRestartLR}


def optimisers() -> dict[str, type[torch.optim.Optimizer]]:
    """Name -> class of the optimisers of PyTorch that train here."""
    return {name: kind for name, kind in sorted(vars(torch.optim).items())
            if inspect.isclass(kind) and name[0] != '_' and kind not in UNUSABLE
            and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer}


def metric_arguments(names: Iterable[str]) -> dict[str, Option]:
    """The options of several metrics of the catalogue together, besides their names."""
    options: dict[str, Option] = {}
    for name in names:
        for option, definition in arguments(class_of_metric(name)).items():
            if option != 'info':
                options.setdefault(option, definition)
    return options


def stock_metric_arguments(metric: Callable[..., float]) -> dict[str, Option]:
    """The options of a metric of BasicSR."""
    options = {name: option for name, option in arguments(metric).items() if name not in ('img', 'img2')}
    return {name: replace(STOCK_METRIC[name], required=option.required) if name in STOCK_METRIC else option
            for name, option in options.items()}


def loss_arguments(loss: type) -> dict[str, Option]:
    """The options of a class of the loss registry.

    Args:
        loss (type): A class.

    Returns:
        dict[str, Option]: Those that are handed on to metrics and members included.
    """
    if issubclass(loss, IQAEnsembleLoss):
        shared = {name: option for name, option in arguments(IQALoss).items() if name in loss.DEFAULTS}
        return {**arguments(loss), **shared}
    if not issubclass(loss, IQALoss):
        return arguments(loss)
    own = {name: option for name, option in arguments(IQALoss).items() if name in loss.OPTIONS}
    if issubclass(loss, NamedLoss):
        first = next(iter(loss.VARIANTS))
        variant = Option(_one_of(loss.VARIANTS), 'Which published weights.', first)
        return {'variant': variant, **own, **metric_arguments(loss.VARIANTS.values())}
    return {**own, **metric_arguments(CATALOGUE)}


def _one_of(words: Iterable[str]) -> Any:
    return Literal[tuple(words)]
