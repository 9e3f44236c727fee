"""The methods that benchmarks/artifacts.py compares: options of ``train`` for a metric."""
from collections.abc import Callable
from dataclasses import dataclass

# With these each metric starts with the pixel loss's pull: rule "gradient" of scripts/calibrate_weights.py, share 1.
WEIGHTS = {'scnn': -0.0004, 'squeezenet': -0.0014, 'tinyiqa': -0.01}
# Under strong transformations most of a gradient differs from draw to draw; what is common to all needs more weight.
STRONG_WEIGHTS = {'scnn': -0.05, 'squeezenet': -0.003, 'tinyiqa': -0.015}
# a second metric, and its weight beside the first; patterns that one likes the other does not
PARTNERS = {'scnn': ('tinyiqa', -0.007), 'squeezenet': ('tinyiqa', -0.003), 'tinyiqa': ('scnn', -0.004)}
STRONG = {'shift': 2, 'flip': True, 'rotate': True, 'scale': 0.25, 'colour': 0.1, 'noise': 0.03, 'blur': 1.3}


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        title (str): What it says.
        options (Callable[[str], dict]): Of ``train``, for a metric.
        everywhere (bool): For every metric, not for the first only.
        ensemble (bool): It optimises several metrics.
    """

    title: str
    options: Callable
    everywhere: bool = False
    ensemble: bool = False


def options_of(metric, method):
    """Options of ``train`` that make the method."""
    return METHODS[method].options(metric)


def optimised_by(metric, method):
    """Names of all metrics that a method optimises."""
    if METHODS[method].ensemble:
        return [metric, PARTNERS[metric][0]] + ['gmsd'] * method.endswith('_gmsd')
    return [] if method == 'pixel' else [metric]


def _options(weights=WEIGHTS, balance=None, **loss):
    """The loss of one metric, with options, and a balancer."""
    def of(metric):
        options = {'type': 'IQALoss', 'metric': metric, 'loss_weight': weights[metric], **loss}
        return {'iqa_opt': {metric: options}, **({'balance_opt': balance} if balance else {})}
    return of


def _ensemble(weights=WEIGHTS, balance=None, partner=None, **loss):
    """The same for the metric and its partner, one of them drawn in each step."""
    def of(metric):
        other, weight = PARTNERS[metric]
        members = {metric: {'loss_weight': weights[metric]},
                   other: {'loss_weight': weight if partner is None else partner[other]}}
        options = {'type': 'IQAEnsembleLoss', 'metrics': members, 'per_step': 1, **loss}
        return {'iqa_opt': {'ensemble': options}, **({'balance_opt': balance} if balance else {})}
    return of


def _robust_with_gmsd(metric):
    options = METHODS['robust'].options(metric)
    options['iqa_opt']['gmsd'] = {'type': 'IQALoss', 'metric': 'gmsd', 'loss_weight': 0.05}
    return {**options, 'balance_opt': {**options['balance_opt'], 'anchors': ['pix', 'gmsd']}}


METHODS = {
    'pixel': Method('pixel loss alone', lambda metric: {}),
    'plain': Method('plain', _options(), everywhere=True),
    'strong': Method('random transforms, strong set, more weight', _options(STRONG_WEIGHTS, transforms=STRONG)),
    'purify_blur': Method('purifier: blur 1 px', _options(purify={'blur': 1.0})),
    'smooth': Method('smooth gradient, 1 px', _options(smooth_gradient=1.0)),
    'penalty': Method('gradient penalty 0.0003', _options(gradient_penalty=3e-4)),
    'project': Method('projection, squares of 16 px', _options(balance={'type': 'anchored', 'per': 16, 'trust': None})),
    'trust': Method('trust region 0.5', _options(balance={'type': 'anchored', 'project': False, 'trust': 0.5})),
    'upgrad': Method('UPGrad', _options(balance={'type': 'upgrad'})),
    'ensemble': Method('ensemble of two, one a step', _ensemble(partner=WEIGHTS), ensemble=True),
    'robust': Method('combination: strong transforms, ensemble, projection',
                     _ensemble(STRONG_WEIGHTS, transforms=STRONG,
                               balance={'type': 'anchored', 'per': 16, 'trust': None}), ensemble=True),
    'robust_gmsd': Method('combination with GMSD as second anchor', _robust_with_gmsd, everywhere=True, ensemble=True),
}
