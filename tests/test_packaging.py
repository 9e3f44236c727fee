"""What is built is complete and nothing else; the wheel works alone; what the package imports, it asks for."""
import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from configparser import ConfigParser
from email import message_from_bytes
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from basicsr_nriqa.version import __version__

# BasicSR asks for tb-nightly, which owns `tensorboard`; asking for `tensorboard` would bring a second owner
THROUGH_OTHERS = {'tensorboard': 'basicsr'}


def source_files():
    """All files of this checkout but those that .gitignore names, relative to it. It needs no git repository."""
    ignored = ['/.git/', *(ROOT / '.gitignore').read_text().split()]

    def is_source(folder):
        name = f'/{folder.relative_to(ROOT).as_posix()}/'
        return not any(fnmatch(name, pattern if pattern.startswith('/') else f'*/{pattern}') for pattern in ignored)

    found = set()
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if is_source(Path(folder, name))]
        found.update(Path(folder, name).relative_to(ROOT).as_posix() for name in files if name != '.git')
    return found


def build(source, out, kind):
    """Build a ``'wheel'`` or an ``'sdist'`` of a source tree as every front end does, with the installed setuptools."""
    code = f'import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])'
    done = subprocess.run([sys.executable, '-c', code, out], cwd=source, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    built, = out.glob('*.whl' if kind == 'wheel' else '*.tar.gz')
    return built


@pytest.fixture(scope='module')
def source_tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp('source')
    for name in source_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope='module')
def wheel(source_tree, tmp_path_factory):
    return build(source_tree, tmp_path_factory.mktemp('wheel'), 'wheel')


@pytest.fixture(scope='module')
def unpacked_sdist(source_tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp('sdist')
    with tarfile.open(build(source_tree, folder, 'sdist')) as archive:
        archive.extractall(folder)
    return folder / f'basicsr_nriqa-{__version__}'


def contents(wheel):
    """``{name: bytes}`` of a wheel without the list of its files, whose order is free."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith('/RECORD')}


@pytest.mark.slow
def test_the_wheel_is_the_package(wheel):
    files = {name for name in contents(wheel) if not name.startswith(f'basicsr_nriqa-{__version__}.dist-info/')}
    package = {name for name in source_files() if name.startswith('basicsr_nriqa/')}
    assert files == package | {'basicsr_nriqa.pth', 'basicsr_nriqa_startup.py'}


@pytest.mark.slow
def test_metadata(wheel):
    assert wheel.name == f'basicsr_nriqa-{__version__}-py3-none-any.whl'
    found = contents(wheel)
    info = f'basicsr_nriqa-{__version__}.dist-info'
    header = message_from_bytes(found[f'{info}/METADATA'])
    assert (header['Name'], header['Version'], header['Requires-Python']) == ('basicsr-nriqa', __version__, '>=3.10')
    assert 'Typing :: Typed' in header.get_all('Classifier')
    assert header['Description-Content-Type'] == 'text/markdown'
    assert {'balancers', 'study'} <= set(header.get_all('Provides-Extra'))
    assert found[f'{info}/licenses/LICENSE'] == (ROOT / 'LICENSE').read_bytes()


@pytest.mark.slow
def test_the_sdist_is_the_repository(unpacked_sdist):
    files = {path.relative_to(unpacked_sdist).as_posix() for path in unpacked_sdist.rglob('*') if path.is_file()}
    made = {name for name in files if name == 'PKG-INFO' or name.startswith('basicsr_nriqa.egg-info/')}
    assert files - made == source_files() - made, 'MANIFEST.in says what is in it'
    assert os.access(unpacked_sdist / '.ci' / 'run', os.X_OK)


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel(unpacked_sdist, wheel, tmp_path):
    assert contents(build(unpacked_sdist, tmp_path, 'wheel')) == contents(wheel)


@pytest.mark.slow
def test_the_wheel_works_where_there_is_no_checkout(wheel, tmp_path):
    """A path file adds this environment's packages, but not this checkout: path files there are not read again."""
    venv.create(tmp_path / 'venv', with_pip=True)
    python = tmp_path / 'venv' / 'bin' / 'python'
    subprocess.run([python, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-index', wheel], check=True)
    site, = (tmp_path / 'venv').glob('lib/python*/site-packages')
    packages = [path for path in sys.path if path.endswith(('site-packages', 'dist-packages'))]
    (site / 'zz_packages_of_the_tests.pth').write_text('\n'.join(packages) + '\n')
    empty = tmp_path / 'empty'
    empty.mkdir()
    script = shutil.copy(ROOT / 'tests' / 'wheel_smoke.py', empty)
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    done = subprocess.run([python, script], cwd=empty, env=environment, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f'ok: basicsr_nriqa {__version__},')


def test_what_is_imported_is_asked_for():
    owners = metadata.packages_distributions()
    setup = ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    extras = setup['options.extras_require']
    lines = '\n'.join([setup['options']['install_requires'], extras['balancers'], extras['study']]).split('\n')
    asked_for = {canonicalize_name(Requirement(line).name) for line in lines if line}
    missing = {}
    for path in (ROOT / 'basicsr_nriqa').rglob('*.py'):
        for module in imported_modules(path) - sys.stdlib_module_names - {'basicsr_nriqa', 'basicsr_nriqa_startup'}:
            names = {canonicalize_name(name) for name in owners.get(module, ())} | {THROUGH_OTHERS.get(module)}
            if not names & asked_for:
                missing.setdefault(module, []).append(path.name)
    assert not missing, 'not in install_requires of setup.cfg'


def imported_modules(path):
    """Top-level names of the modules that a file imports anywhere, absolutely."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.partition('.')[0] for name in names}


def test_the_changelog_begins_with_this_version():
    newest, = re.findall(r'^## \[(\d.*?)\]', (ROOT / 'CHANGELOG.md').read_text(), flags=re.MULTILINE)[:1]
    assert newest == __version__


def test_the_citation_names_the_paper_and_no_version():
    """The version is written in version.py only."""
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert {'cff-version', 'message', 'title', 'authors'} <= citation.keys()
    assert 'version' not in citation
    paper = citation['preferred-citation']
    assert paper['title'] in ' '.join((ROOT / 'README.md').read_text().split())
    assert [author['family-names'] for author in paper['authors']] == [
        'Kashkarov', 'Chistov', 'Molodetskikh', 'Vatolin']
