"""Options of the guard, ``val: guard``."""
from dataclasses import dataclass, field, fields

from basicsr_nriqa.study.artifact_flags import ArtifactRule
from basicsr_nriqa.suggestion import suggest

ACTIONS = ('stop', 'lower')


@dataclass(frozen=True)
class GuardOptions:
    """What a training must not lose, and what is done if it does. :func:`guard_problems` checks the values.

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


_EXPECTED = {
    'anchors': ('percent by entry of val:metrics, such as {psnr: 1}', lambda value: isinstance(value, dict)),
    'least_kept': ('a number from 0 to 1, or null', lambda value: value is None or (_is_number(value)
                                                                                    and 0 <= value <= 1)),
    'spectrum': ('true or false', lambda value: isinstance(value, bool)),
    'clips': ('a whole number, 1 or more', lambda value: type(value) is int and value >= 1),
    'patience': ('a whole number, 1 or more', lambda value: type(value) is int and value >= 1),
    'action': (' or '.join(ACTIONS), lambda value: value in ACTIONS),
    'factor': ('a number above 0 and below 1', lambda value: _is_number(value) and 0 < value < 1)}


def guard_problems(opt):
    """What is wrong with ``val: guard`` of complete training options.

    Args:
        opt (dict): The options.

    Returns:
        list[tuple[str, str]]: (where, problem) of each.
    """
    val = opt.get('val')
    guard = val.get('guard') if isinstance(val, dict) else None
    if guard is None:
        return []
    if not isinstance(guard, dict):
        return [('val:guard', f'expected options such as {{anchors: {{psnr: 1}}}}, got {guard!r}.')]
    names, found = [option.name for option in fields(GuardOptions)], []
    for name, value in guard.items():
        if name not in names:
            found.append((f'val:guard:{name}', f'unknown option{suggest(name, names)}.'))
        elif not _EXPECTED[name][1](value):
            found.append((f'val:guard:{name}', f'expected {_EXPECTED[name][0]}, got {value!r}.'))
    anchors = guard.get('anchors', {})
    metrics = val.get('metrics') if isinstance(val.get('metrics'), dict) else {}
    for name, percent in anchors.items() if isinstance(anchors, dict) else ():
        if name not in metrics:
            found.append((f'val:guard:anchors:{name}', f'val:metrics has no such entry{suggest(name, metrics)}.'))
        if not (_is_number(percent) and percent >= 0):
            found.append((f'val:guard:anchors:{name}', f'expected percent, 0 or more, got {percent!r}.'))
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


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)
