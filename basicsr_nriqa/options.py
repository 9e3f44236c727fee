"""Reading option files: YAML that cannot run code, with ``_base_`` inheritance merged by mmengine's Config."""
import re
import sys
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config

from basicsr_nriqa.suggestion import suggest


class OptionsError(ValueError):
    """The options cannot be used; the message names the file and the option and says what was expected."""


class _Loader(yaml.SafeLoader):
    """Plain data only; numbers as YAML 1.2 has them (``4e-4`` is one); a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, f'{key} cannot be a key', key_node.start_mark)
            if key in seen and key_node.tag != 'tag:yaml.org,2002:merge':
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float', re.compile(r'[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$'), list('-+0123456789.'))


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read one YAML file without inheritance.

    Args:
        path (str | Path): The file.

    Returns:
        dict: Plain Python data.

    Raises:
        OptionsError: no such file, no YAML, no mapping, a key given twice, or a tag such as ``!!python/...`` that
            would run code.
    """
    try:
        with open(path, encoding='utf-8') as stream:
            options = yaml.load(stream, Loader=_Loader)  # a SafeLoader
    except OSError as error:
        near = suggest(Path(path).name, [file.name for file in Path(path).parent.glob('*.y*ml')])
        raise OptionsError(f'{path}: cannot read this option file ({error.strerror}){near}.') from None
    except UnicodeDecodeError as error:
        raise OptionsError(f'{path}: not usable as YAML options: save it as UTF-8 ({error}).') from None
    except yaml.YAMLError as error:
        raise OptionsError(f'{path}: not usable as YAML options: {error}{_hint(error)}') from None
    if not isinstance(options, dict):
        got = 'nothing: it is empty' if options is None else 'a list' if isinstance(options, list) else repr(options)
        raise OptionsError(f'{path}: expected options (name: value), got {got}.')
    for name in options:
        if not isinstance(name, str):
            raise OptionsError(f"{path}: {name!r}: expected text as the name of an option; put quotes around it.")
    return options


def read_options(*paths: str | Path) -> dict[str, Any]:
    """Read an option file and the files that its ``_base_`` names; or several, merged as if one named them all.

    ``_base_`` is a path or a list of paths, relative to the file that names them; later ones win over earlier ones
    and the file wins over all. Mappings are merged key by key; ``_delete_: true`` in a mapping drops what is
    inherited there (mmengine's rules).

    Args:
        paths (str | Path): The file; of several, later ones win.

    Returns:
        dict: Plain Python data.

    Raises:
        OptionsError: as :func:`load_yaml`, or ``_base_`` is no YAML file or leads back to itself.
    """
    merged = _merge([_inherit(Path(path), ()) for path in paths], ' and '.join(map(str, paths)))
    return {key: _without_delete(value) for key, value in merged.items()}


def _inherit(path: Path, heirs: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in heirs:
        raise OptionsError(f'{path}: `_base_` leads back to the file itself.')
    own = load_yaml(path)
    bases = own.pop('_base_', [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise OptionsError(f'{path}: _base_: expected an option file or a list of them, got {bases!r}.')
    parts = []
    for base in (path.parent / base for base in bases):
        if base.suffix not in ('.yml', '.yaml'):
            raise OptionsError(f'{path}: `_base_: {base}` is no YAML file (.yml), and others are '
                               'refused: they could run code.')
        if not base.exists():
            near = suggest(base.name, [file.name for file in base.parent.glob('*.y*ml') if file != path])
            raise OptionsError(f'{path}: _base_: {base}: no such file{near}. Paths are relative to the file that names '
                               'them.')
        parts.append(_inherit(base, (*heirs, path.resolve())))
    return _merge([*parts, own], path)


def _merge(parts: Sequence[dict[str, Any]], source: str | Path) -> dict[str, Any]:
    """By mmengine's rules; a ``_delete_`` that met nothing stays, for what is inherited further up."""
    merged = Config()
    try:
        for part in parts:
            merged.merge_from_dict(part)
    except TypeError as error:
        name = str(error).partition('=')[0]  # mmengine speaks Python: NAME={...} in child config cannot inherit ...
        raise OptionsError(f'{source}: {name}: cannot be merged: these are options (name: value), and its `_base_` '
                           'has a single value. `_delete_: true` among them drops that.') from None
    return merged.to_dict()


def _without_delete(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_delete(item) for key, item in value.items() if key != '_delete_'}
    return value


def parse_value(text: str, given_as: str = '--force_yml') -> Any:
    """A value given on the command line: read as YAML, so never run as code."""
    if text.lower() == 'none':
        return None
    try:
        return yaml.load(text.removeprefix('!!float'), Loader=_Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise OptionsError(f"{given_as}: cannot read the value '{text}': {error}") from None


def split_assignment(text: str) -> list[str]:
    """``['a:b', 'value']`` of ``a:b=value``, as ``--force_yml`` takes it."""
    keys, sign, value = text.partition('=')
    if not sign or not keys.strip():
        raise OptionsError(f"--force_yml: expected OPTION=VALUE such as train:total_iter=100, got '{text}'.")
    return [keys, value]


def _hint(error: yaml.YAMLError) -> str:
    """What mostly is the reason for an error of YAML."""
    problem = str(getattr(error, 'problem', ''))
    for words, hint in (("'\\t'", 'Indent with spaces; a tab is not allowed.'),
                        ('mapping values are not allowed', 'Is a line indented too far, the space after a colon of the '
                                                           'line before missing, or a text with `: ` in it not in '
                                                           'quotes?'),
                        ("could not find expected ':'", 'Is the space after a colon missing?'),
                        ('expected <block end>', 'Are lines of one group indented differently?')):
        if words in problem:
            return f'\n{hint}'
    return ''


@contextmanager
def given_arguments(*arguments: object) -> Iterator[None]:
    """Inside, ``parse_options`` reads these command-line arguments in the place of those of the process."""
    before = sys.argv
    sys.argv = [before[0], *map(str, arguments)]
    try:
        yield
    finally:
        sys.argv = before


def set_option(options: dict[str, Any], keys: str, value: Any) -> None:
    """Set ``options['a']['b']`` for keys ``a:b``; the option must be inside a mapping that exists."""
    *parents, last = keys.split(':')
    if '.' in keys and keys.split('.')[0] in options:
        raise OptionsError(f"--force_yml: groups and options are separated by `:`, so `{keys.replace('.', ':')}`.")
    place = options
    for depth, key in enumerate(parents):
        if key in place and not isinstance(place[key], dict):
            raise OptionsError(f"--force_yml: '{keys}' cannot be set, as '{':'.join(parents[:depth + 1])}' is "
                               f'{place[key]!r} and has no options inside.')
        if key not in place:
            raise OptionsError(f"--force_yml: there are no options '{':'.join(parents[:depth + 1])}'"
                               f'{suggest(key, place)}.')
        place = place[key]
    place[last] = value


def copy_options(source: str | Path, target: str | Path) -> None:
    """Put a copy of the options that can be used from where it is: inherited ones are written out."""
    text = Path(source).read_text(encoding='utf-8')
    if '_base_' in load_yaml(source):
        text = (f'# {Path(source).name} with all that it inherits, {time.asctime()}\n'
                + yaml.safe_dump(read_options(source), sort_keys=False, allow_unicode=True))
    Path(target).write_text(text, encoding='utf-8')


