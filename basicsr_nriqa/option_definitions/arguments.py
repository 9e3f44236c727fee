"""Arguments of classes and functions as options: kinds from type hints, meanings from the docstring's ``Args:``."""
import functools
import inspect
import re
import typing
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

from basicsr_nriqa.option_definitions.kinds import fits
from basicsr_nriqa.option_definitions.option import Option, option_problems

_ENTRY = re.compile(r'^ {4}(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \((?:[^()]|\([^()]*\))*\))?: (.*)$')
_DEFAULT = re.compile(r'\s*Defaults?: (.*?)\.?$', re.DOTALL)
_ROLE = re.compile(r':\w+(?::\w+)*:`~?([^`]*)`')
_WORDS = {'True': 'true', 'False': 'false', 'None': 'null'}
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def arguments(function: Callable[..., Any]) -> dict[str, Option]:
    """What a class or a function can be given by name.

    Args:
        function (Callable): A class, of which the constructor's arguments are meant, or a function.

    Returns:
        dict[str, Option]: In the order of the signature. Meanings are those of the docstring, if it is one of this
        package; a kind is ``object`` where there is no type hint, or one that the default itself does not keep to. Null
        may stand where the hint has it or it is the default.
    """
    return dict(_arguments_of(function))


@functools.cache
def _arguments_of(function: Any) -> dict[str, Option]:
    hints = _hints(function)
    own = (getattr(function, '__module__', None) or '').startswith('basicsr_nriqa')
    meanings = _meanings(function) if own else {}
    options = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in _NAMED:
            continue
        required = parameter.default is inspect.Parameter.empty
        meaning, default = meanings.get(name, ('', ''))
        if not default and not required and parameter.default is not None:
            default = _yaml(parameter.default)
        kind = hints.get(name, object)
        if not (required or parameter.default is None or fits(parameter.default, kind)):
            kind = object  # other people's hints need not be true: ``size: int = (7, 7)``
        nullable = parameter.default is None or fits(None, kind)
        options[name] = Option(kind, meaning, default, required=required, nullable=nullable)
    return options


def takes_any(function: Callable[..., Any]) -> bool:
    """Whether a function takes names that its signature does not say (``**options``)."""
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in inspect.signature(function).parameters.values())


def argument_problems(function: Callable[..., Any], options: Mapping[str, Any], given: Container[str] = ('type',),
                      definitions: Mapping[str, Option] | None = None) -> Iterator[tuple[str, str]]:
    """Compare options with the arguments of a class or a function.

    Args:
        function (Callable): What they are given to.
        options (Mapping[str, Any]): As in an option file.
        given (Container[str]): Names that are not for it, or that it gets otherwise. Default: ``type``.
        definitions (Mapping[str, Option] | None): Its arguments. Default: :func:`arguments`.

    Yields:
        tuple[str, str]: Option and what is wrong: unknown, a value that cannot be used, or missing.
    """
    known = {name: option for name, option in (arguments(function) if definitions is None else definitions).items()
             if name not in given}
    own = {name: value for name, value in options.items() if name not in given}
    yield from option_problems(own, known, takes_any(function))
    yield from ((name, 'is missing.') for name, option in known.items() if option.required and name not in options)


def summary(function: Callable[..., Any]) -> str:
    """The first sentence of a docstring of this package, in Markdown; else nothing."""
    if not (getattr(function, '__module__', None) or '').startswith('basicsr_nriqa'):
        return ''
    first = (inspect.getdoc(function) or '').split('\n\n')[0]
    return markdown(first)


def markdown(text: str) -> str:
    """reStructuredText of a docstring, within a paragraph, as Markdown."""
    text = _ROLE.sub(lambda role: f"`{role[1].rpartition('.')[2]}`", ' '.join(text.split())).replace('``', '`')
    return re.sub(r'\b(None|True|False)\b', lambda word: _WORDS[word[0]], text)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except Exception:  # hints of other people's code may name what is not there at run time
        return {}


def _meanings(function: Callable[..., Any]) -> dict[str, tuple[str, str]]:
    """Name -> (meaning, default) from the ``Args:`` of the docstring, or the nearest base class that has the name."""
    found: dict[str, tuple[str, str]] = {}
    for source in (inspect.getmro(function) if inspect.isclass(function) else (function,)):
        if source is object or not (source.__module__ or '').startswith('basicsr_nriqa'):
            continue
        for names, text in _entries(inspect.getdoc(source) or ''):
            default = _DEFAULT.search(text)
            meaning = text[:default.start()] if default else text
            for name in names:
                found.setdefault(name, (_capitalised(meaning), default[1].removeprefix('null') if default else ''))
    return found


def _entries(docstring: str) -> list[tuple[list[str], str]]:
    """(names, text) of each entry of the ``Args:``; lists and paragraphs within one are run together."""
    inside, entries = False, list[tuple[list[str], list[str]]]()
    for line in docstring.splitlines():
        if not line.startswith(' ') and line.strip():
            inside = line.strip() == 'Args:'
        elif inside:
            entry = _ENTRY.match(line)
            if entry:
                entries.append(([name.lstrip('*') for name in entry[1].split(', ')], [entry[2]]))
            elif entries:
                entries[-1][1].append(line.strip())
    return [(names, markdown(' '.join(lines))) for names, lines in entries]


def _capitalised(text: str) -> str:
    """As a sentence, unless it begins with a symbol such as k."""
    return text[:1].upper() + text[1:] if text[1:2].isalpha() else text


def _yaml(value: Any) -> str:
    """A default as it is written in an option file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_yaml, value))}]"
    return str(value) if isinstance(value, (int, float, str)) else ''
