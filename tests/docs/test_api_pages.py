"""The pages of the API reference: their examples run, and they are about what mypy holds to full types."""
import doctest
import importlib
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from basicsr_nriqa.balancing import BALANCERS

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / 'docs/api').glob('*.rst'))


@pytest.fixture(scope='module')
def typed():
    """The public modules, or patterns of them, as pyproject.toml lists them for mypy."""
    overrides = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['tool']['mypy']['overrides']
    listed, = (override['module'] for override in overrides if override.get('disallow_untyped_defs'))
    return listed


def documented_modules():
    """The modules that the pages document; of a package, those in which what it exports is defined."""
    for page in PAGES:
        for kind, name in re.findall(r'^\.\. auto(\w+):: (\S+)$', page.read_text(encoding='utf-8'), re.MULTILINE):
            module = importlib.import_module(name if kind == 'module' else name.rpartition('.')[0])
            if hasattr(module, '__path__'):
                yield from {getattr(getattr(module, exported), '__module__', None) for exported in module.__all__}
            else:
                yield module.__name__


def covers(pattern, module):
    return module == pattern.removesuffix('.*') or fnmatch(module, pattern)


def test_what_is_documented_is_typed_and_what_is_typed_is_documented(typed):
    modules = {module for module in documented_modules() if module}
    assert [module for module in sorted(modules) if not any(covers(pattern, module) for pattern in typed)] == []
    assert [pattern for pattern in typed if not any(covers(pattern, module) for module in modules)] == []


@pytest.mark.parametrize('page', [page for page in PAGES if page.stem != 'index'], ids=lambda page: page.stem)
def test_examples_run(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    before = dict(BALANCERS)
    try:
        failed, tried = doctest.testfile(str(page), module_relative=False, encoding='utf-8')
    finally:
        BALANCERS.clear()
        BALANCERS.update(before)
    assert tried and not failed
