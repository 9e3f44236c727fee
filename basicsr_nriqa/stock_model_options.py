"""Options of ours that BasicSR's own models do not read, or would fail at."""
import inspect

from basicsr.utils.registry import LOSS_REGISTRY

from basicsr_nriqa.iqa import MetricError
from basicsr_nriqa.losses import IQAEnsembleLoss, IQALoss, IQAPerceptualLoss

_UNREAD = (('train', ('iqa_opt', 'balance_opt', 'precision', 'accumulate')), ('val', ('guard',)))


def stock_model_problems(opt):
    """What is wrong with complete options of a model of BasicSR.

    Args:
        opt (dict): The options.

    Returns:
        list[tuple[str, str]]: (where, problem) of each.
    """
    found = []
    for group, names in _UNREAD:
        options = opt[group] if isinstance(opt.get(group), dict) else {}
        for name in names:
            if options.get(name):
                instead = (' Give one metric as `perceptual_opt: {type: IQAPerceptualLoss, metric: NAME, ...}`, or use '
                           '`model_type: VideoIQAModel`.' if name == 'iqa_opt' else
                           ' `model_type: VideoIQAModel` has it.')
                found.append((f'{group}:{name}', f"{opt['model_type']} of BasicSR does not read this.{instead}"))
    return [*found, *_perceptual(opt)]


def _perceptual(opt):
    """A loss of ours where these models unpack a content and a style loss."""
    options = opt['train'].get('perceptual_opt') if isinstance(opt.get('train'), dict) else None
    name = options.get('type') if isinstance(options, dict) else None
    loss = LOSS_REGISTRY.get(name) if isinstance(name, str) and name in LOSS_REGISTRY else None
    if inspect.isclass(loss) and issubclass(loss, (IQALoss, IQAEnsembleLoss)) \
            and not issubclass(loss, IQAPerceptualLoss):
        yield 'train:perceptual_opt:type', (
            f"BasicSR's models want two values from this, {name} gives one; say `type: IQAPerceptualLoss` and `metric: "
            f'{_metric_of(loss, options)}`.')


def _metric_of(loss, options):
    """The metric that options of a loss ask for, as far as they say it."""
    try:
        return loss.metric_name(options) or 'NAME'
    except (AttributeError, MetricError):  # an ensemble has several; what else is wrong is told elsewhere
        return 'NAME'
