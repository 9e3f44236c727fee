from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from basicsr_nriqa.option_definitions import Option
from basicsr_nriqa.option_definitions.kinds import fits, schema, words


class _Word(str, Enum):
    A = 'a'


KINDS = [bool, int, float, str, dict, list, list[int], tuple[int, ...], tuple[int, float], Sequence[str],
         dict[str, float], Mapping[str, Any], int | None, int | Literal['all'], Literal['log', 'published'],
         bool | dict, float | torch.Tensor, torch.Tensor, Any, object, Path | None, list[float] | dict[str, float]]
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, -1.5, 2.25]),
              st.sampled_from(['', 'all', 'log', 'x'])),
    lambda values: st.one_of(st.lists(values, max_size=3), st.dictionaries(st.sampled_from('ab'), values, max_size=2)),
    max_leaves=4)


@pytest.mark.parametrize('kind, right, wrong', [
    (bool, [True, False], [0, 'true', None]),
    (int, [0, -3], [True, 1.0, '1', None]),
    (float, [0, 1.5], [True, '1.5', [1.0]]),
    (str, ['', 'x'], [3, ['x']]),
    (Path, ['folder/file.pth'], [3]),
    (Sequence[int], [[], [1, 2], (1,)], ['12', [1.5], 3, [True]]),
    (tuple[int, int], [[1, 2]], [[1], [1, 2, 3]]),
    (dict[str, float], [{}, {'a': 1}], [{'a': 'b'}, []]),
    (int | Literal['all'], [1, 'all'], ['al', 1.5, None]),
    (Literal[1, 2], [1, 2], [True, 1.0, 3]),
    (float | torch.Tensor, [0.1], ['0.1']),
    (_Word, ['a'], []),  # what a class of text makes of a word, only it knows
    (Callable, [1, 'x'], []),  # nothing that YAML gives is one, and nothing is refused
])
def test_what_fits(kind, right, wrong):
    assert all(fits(value, kind) for value in right)
    assert not any(fits(value, kind) for value in wrong)


@pytest.mark.parametrize('kind, said', [
    (int, 'a whole number, 1 or more'), (int | Literal['all'] | None, 'a whole number, 1 or more or all'),
    (bool | dict, 'true or false or options (name: value)'), (list[float], 'a list of numbers'),
    (tuple[int, ...], 'a list of whole numbers'), (dict[str, float], 'numbers by name'),
    (list | Literal[False], 'a list or false'), (torch.Tensor, 'anything'), (Path, 'text')])
def test_in_words(kind, said):
    assert words(kind, ', 1 or more') == said


@pytest.mark.parametrize('kind', KINDS, ids=str)
@given(value=VALUES)
def test_check_and_schema_agree(kind, value):
    validator = jsonschema.Draft7Validator(schema(kind))
    assert validator.is_valid(value) == fits(value, kind)


@given(value=st.one_of(st.none(), st.integers(-3, 5), st.sampled_from([0.5, 1.0, 1.5, 'x', True])),
       least=st.sampled_from([None, 0, 1]), above=st.sampled_from([None, 0, 0.5]), most=st.sampled_from([None, 1, 3]),
       below=st.sampled_from([None, 1, 2]), nullable=st.booleans())
def test_ranges_of_check_and_schema_agree(value, least, above, most, below, nullable):
    option = Option(float | Literal['x'], least=least, above=above, most=most, below=below, nullable=nullable)
    assert jsonschema.Draft7Validator(option.schema()).is_valid(value) == (not option.problem(value))
