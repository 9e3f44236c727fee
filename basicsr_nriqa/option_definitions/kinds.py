"""What a value may be, said as a type annotation: whether a value fits, in words, and as JSON schema.

Option files are YAML, so what an annotation names is meant as it is written there: a list goes for any sequence, a
whole number for a float, text for a path. Types that no YAML can give (a tensor, a function) are passed over beside
others and allow anything alone.
"""
import os
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

_LISTS = (list, tuple, set, frozenset, Sequence)
_PLAIN = {bool: ('true or false', 'boolean'), int: ('a whole number', 'integer'), float: ('a number', 'number'),
          str: ('text', 'string'), type(None): ('null', 'null')}


def fits(value: Any, kind: Any) -> bool:
    """Whether a value read from YAML is of a kind.

    Args:
        value: Plain Python data.
        kind: A type annotation.

    Returns:
        bool
    """
    form, parts = _form(kind)
    if form == 'union':
        return any(fits(value, part) for part in parts)
    if form == 'words':
        return any(value == word and type(value) is type(word) for word in parts)
    if form == 'list':
        return isinstance(value, (list, tuple)) and _count_fits(value, parts) and all(
            fits(item, part) for item, part in zip(value, _item_kinds(parts, len(value))))
    if form == 'dict':
        return isinstance(value, Mapping) and all(fits(item, parts[1]) for item in value.values())
    if form == 'plain':
        return isinstance(value, (int, float) if parts is float else parts) and (parts is bool
                                                                                or not isinstance(value, bool))
    return True


def words(kind: Any, limits: str = '') -> str:
    """What is expected, such as ``a whole number or all``; None, which means that the option is left out, is not said.

    Args:
        kind: A type annotation.
        limits (str): Said after numbers, such as ``, 1 or more``.

    Returns:
        str
    """
    form, parts = _form(kind)
    if form == 'union':
        return ' or '.join(dict.fromkeys(words(part, limits) for part in parts if part is not type(None)))
    if form == 'words':
        return ' or '.join(str(word).lower() if isinstance(word, bool) else str(word) for word in parts)
    if form == 'list':
        item = {_item_words(part) for part in _item_kinds(parts, 1)} - {''}
        return 'a list' + (f" of {' or '.join(sorted(item))}" if item else '')
    if form == 'dict':
        return 'numbers by name' if parts[1] is float else 'options (name: value)'
    if form == 'plain':
        return _PLAIN[parts][0] + (limits if parts in (int, float) else '')
    return 'anything'


def schema(kind: Any) -> dict[str, Any]:
    """JSON schema (draft 7) of a kind.

    Args:
        kind: A type annotation.

    Returns:
        dict: ``{}`` where anything goes.
    """
    form, parts = _form(kind)
    if form == 'union':
        choices = [schema(part) for part in parts]
        if all(set(choice) == {'type'} for choice in choices):
            return {'type': list(dict.fromkeys(choice['type'] for choice in choices))}
        return {'anyOf': choices}
    if form == 'words':
        return {'enum': list(parts)}
    if form == 'list':
        return {'type': 'array', **_items(parts)}
    if form == 'dict':
        values = schema(parts[1])
        return {'type': 'object', **({'additionalProperties': values} if values else {})}
    return {'type': _PLAIN[parts][1]} if form == 'plain' else {}


def optional(kind: Any) -> Any:
    """The kind, or null."""
    return kind if fits(None, kind) else kind | None


def _form(kind: Any) -> tuple[str, Any]:
    """Which of the forms above a kind has, and what it is made of."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        known = [part for part in parts if _form(part)[0] != 'other']
        return ('union', known) if known else ('other', ())
    if origin is typing.Literal:
        return 'words', parts
    if origin is typing.Annotated:
        return _form(parts[0])
    plain = origin or kind
    if plain is None or (isinstance(plain, type) and plain in _PLAIN):
        return 'plain', plain or type(None)
    if isinstance(plain, type) and issubclass(plain, os.PathLike):
        return 'plain', str
    if isinstance(plain, type) and issubclass(plain, _LISTS) and not issubclass(plain, (str, bytes)):
        return 'list', parts
    if isinstance(plain, type) and issubclass(plain, Mapping):
        return 'dict', parts or (object, object)
    return 'other', ()


def _count_fits(value: Sequence[Any], parts: tuple[Any, ...]) -> bool:
    return not parts or len(parts) == 1 or parts[-1] is Ellipsis or len(value) == len(parts)


def _item_kinds(parts: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """The kind of each of so many items; ``tuple[int, int]`` has one for each, all others the same."""
    if len(parts) > 1 and parts[-1] is not Ellipsis:
        return parts
    return (parts[0] if parts else object,) * count


def _item_words(kind: Any) -> str:
    plural = {int: 'whole numbers', float: 'numbers', str: 'words'}
    return plural.get(kind, '')


def _items(parts: tuple[Any, ...]) -> dict[str, Any]:
    if len(parts) > 1 and parts[-1] is not Ellipsis:
        return {'items': [schema(part) for part in parts], 'minItems': len(parts), 'maxItems': len(parts)}
    values = schema(parts[0]) if parts else {}
    return {'items': values} if values else {}
