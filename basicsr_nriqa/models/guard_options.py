"""Options of the guard, ``val: guard``."""
from dataclasses import dataclass, field
from typing import Any

from basicsr_nriqa.option_definitions.known import GUARD
from basicsr_nriqa.option_definitions.option import Option, option_problems
from basicsr_nriqa.study.artifact_flags import ArtifactRule
from basicsr_nriqa.suggestion import suggest

_PERCENT = Option(float, least=0, nullable=False)


@dataclass(frozen=True)
class GuardOptions:
    """What a training must not lose, and what is done if it does. ``guard_problems`` checks the values.

    Attributes:
        anchors (dict[str, float]): Entry of ``val.metrics`` -> by how many percent of its value at the start its mean
            over a validation set may be worse. Sets without GT are not held to metrics that need it.
        least_kept (float | None): Share of the gain in each optimised no-reference metric that a JPEG, a blur and a
            shift must leave (:class:`~basicsr_nriqa.study.artifact_flags.ArtifactRule`); None: not checked.
        spectrum (bool): Look for peaks in the spectrum of the difference to the output at the start.
        clips (int): So many clips of each set, spread evenly, are looked at for the last two; fixed at the start.
        patience (int): Validations in a row that have to fail before something is done.
        action (str): ``stop`` the training, or ``lower`` the weights of the no-reference losses and go on.
        factor (float): What ``lower`` multiplies them with, each time.
    """

    anchors: dict = field(default_factory=dict)
    least_kept: float | None = ArtifactRule.least_kept
    spectrum: bool = True
    clips: int = 4
    patience: int = 1
    action: str = 'stop'
    factor: float = 0.5


def guard_problems(opt: dict[str, Any]) -> list[tuple[str, str]]:
    """What is wrong with ``val: guard`` of complete training options.

    Args:
        opt (dict): The options.

    Returns:
        list[tuple[str, str]]: (where, problem) of each.
    """
    val = opt['val'] if isinstance(opt.get('val'), dict) else {}
    guard = val.get('guard')
    if guard is None:
        return []
    if not isinstance(guard, dict):
        return [('val:guard', f'expected options such as {{anchors: {{psnr: 1}}}}, got {guard!r}.')]
    found = [(f'val:guard:{name}', problem) for name, problem in option_problems(guard, GUARD)]
    anchors = guard.get('anchors', {})
    metrics = val['metrics'] if isinstance(val.get('metrics'), dict) else {}
    for name, percent in anchors.items() if isinstance(anchors, dict) else ():
        if name not in metrics:
            found.append((f'val:guard:anchors:{name}', f'val:metrics has no such entry{suggest(name, metrics)}.'))
        if _PERCENT.problem(percent):
            found.append((f'val:guard:anchors:{name}', f'in percent, {_PERCENT.problem(percent)}'))
    if not found and GuardOptions(**guard) == GuardOptions(**{**guard, 'anchors': {}, 'least_kept': None,
                                                              'spectrum': False}):
        found.append(('val:guard', 'there is nothing to check: give anchors, least_kept or spectrum.'))
    sets = [(phase, dataset.get('name')) for phase, dataset in opt['datasets'].items() if phase.split('_')[0] == 'val']
    if not sets:
        found.append(('val:guard', 'needs a validation set (datasets:val).'))
    for index, (phase, name) in enumerate(sets):
        if name in [earlier for _, earlier in sets[:index]]:
            found.append((f'datasets:{phase}:name', f"another validation set is called '{name}', too; val:guard tells "
                                                    'them apart by their names.'))
    return found
