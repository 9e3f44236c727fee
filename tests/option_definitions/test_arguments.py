from collections.abc import Sequence
from typing import Literal

import pytest
import torch
from basicsr.utils import registry

from basicsr_nriqa.balancing import BALANCERS
from basicsr_nriqa.iqa import CATALOGUE
from basicsr_nriqa.metrics import calculate_iqa
from basicsr_nriqa.option_definitions.arguments import arguments, summary, takes_any
from basicsr_nriqa.option_definitions.classes import loss_arguments, metric_arguments, optimisers


class Example:
    """What it is. More of it.

    Args:
        size (int): In px, see :class:`~basicsr_nriqa.iqa.interface.QualityMetric`.
            Default: 4.
        floor, cap (float): A range, ``floor <= cap``:

            * a list in it. Default: 0.1 and 10.
        rule (str): k, or other
            words.
        options: Of others.

    Raises:
        ValueError: never.
    """

    def __init__(self, size: int | None = None, floor: float = 0.1, cap: float = 10,
                 rule: Literal['log', 'sum'] = 'log', *args, needed: Sequence[int], **options):
        pass


Example.__module__ = 'basicsr_nriqa.example'


def test_kinds_from_hints_and_meanings_from_the_docstring():
    found = arguments(Example)
    assert list(found) == ['size', 'floor', 'cap', 'rule', 'needed'] and takes_any(Example)
    assert found['size'].meaning == 'In px, see `QualityMetric`.' and found['size'].default == '4'
    assert found['size'].kind == int | None
    assert found['floor'].meaning == found['cap'].meaning == 'A range, `floor <= cap`: * a list in it.'
    assert found['cap'].default == '0.1 and 10'
    assert found['rule'].meaning == 'k, or other words.' and found['rule'].default == 'log'
    assert found['rule'].problem('max') == "expected log or sum, got 'max'."
    assert found['needed'].required and not found['rule'].required
    assert summary(Example) == 'What it is. More of it.'


def test_other_peoples_docstrings_are_not_copied():
    adam = arguments(torch.optim.Adam)
    assert summary(torch.optim.Adam) == '' and not any(option.meaning for option in adam.values())
    assert adam['lr'].default == '0.001' and adam['betas'].problem([0.9]) and not adam['betas'].problem([0.9, 0.99])


def test_null_only_where_it_is_meant():
    found = arguments(Example)
    assert not found['size'].problem(None) and found['cap'].problem(None) and found['needed'].problem(None)


def test_a_hint_to_which_its_own_default_does_not_keep_is_not_believed():
    def theirs(size: int = (7, 7), depth: int = None, scale: int = 4):  # noqa: RUF013
        pass
    found = arguments(theirs)
    assert not found['size'].problem([3, 3]) and not found['depth'].problem(None)
    assert found['depth'].problem('x') and found['scale'].problem([4])


def _ours():
    for kind in ('ARCH', 'LOSS', 'METRIC'):
        classes = getattr(registry, f'{kind}_REGISTRY')
        yield from ((name, classes.get(name)) for name in sorted(classes.keys()))
    yield from BALANCERS.items()


OURS = {name: kind for name, kind in _ours() if kind.__module__.startswith('basicsr_nriqa')}


@pytest.mark.parametrize('name', OURS)
def test_all_options_of_ours_have_a_kind_and_a_meaning(name):
    found = arguments(OURS[name])
    if OURS[name] is calculate_iqa:
        found = {option: definition for option, definition in found.items() if option not in ('img', 'img2')}
    elif registry.LOSS_REGISTRY._obj_map.get(name) is OURS[name]:
        found = loss_arguments(OURS[name])
    undocumented = [option for option, definition in found.items() if definition.kind is object
                    or not definition.meaning]
    assert not undocumented


def test_options_of_metrics_have_a_kind_and_a_meaning():
    found = metric_arguments(CATALOGUE)
    assert {'num_crops', 'crops', 'fit', 'weights', 'chunk', 'checkpoint'} <= set(found)
    assert all(definition.kind is not object and definition.meaning for definition in found.values())


def test_optimisers_are_those_that_train_here():
    assert {'Adam', 'AdamW', 'SGD'} <= set(optimisers()) and not {'LBFGS', 'SparseAdam', 'Muon'} & set(optimisers())
