"""Each command of the pages is run; where that takes a network, a cluster or hours, its arguments are checked."""
import glob
import importlib.metadata
import importlib.util
import itertools
import re
import shlex
import subprocess
from collections import defaultdict

import pytest
from conftest import ROOT
from documentation import commands, pages
from documented_commands import ENTRIES, SCENARIOS
from packaging.requirements import Requirement
from user_checkout import make_checkout, run_in_shell
from warm_python import warm_python

from basicsr_nriqa.options import read_options

TABLE = 'tests/docs/documented_commands.py'


def _places():
    """Each distinct command, and where it stands."""
    found = defaultdict(list)
    for page in pages():
        for command, place in commands(page):
            found[command].append(place)
    return found


PLACES = _places()


@pytest.fixture
def warm():
    return warm_python()


def test_every_command_is_tested():
    problems = []
    for command, places in PLACES.items():
        entries = [entry.pattern for entry in ENTRIES if entry.takes(command)]
        if not entries:
            problems.append(f'{places[0]}: no test runs `{command}`: add it to {TABLE}')
        elif len(entries) > 1:
            problems.append(f'{places[0]}: `{command}` belongs to several entries of {TABLE}: {entries}')
    assert not problems, '\n'.join(problems)


@pytest.mark.parametrize('entry', ENTRIES, ids=lambda entry: entry.pattern)
def test_every_entry_is_used_and_says_why(entry):
    assert any(entry.takes(command) for command in PLACES), f'no page shows it any more: remove it from {TABLE}'
    explained = entry.why or entry.tested_by or (entry.scenario and not entry.shortening)
    assert explained, 'say what is shortened, or why it is not run'


@pytest.mark.parametrize('name', [pytest.param(name, marks=[pytest.mark.slow] * scenario.slow)
                                  for name, scenario in SCENARIOS.items()])
def test_commands_do_what_the_pages_say(name, warm, tmp_path):
    root = make_checkout(tmp_path / 'basicsr-nriqa', SCENARIOS[name].data)
    failures = []
    for entry in ENTRIES:
        if entry.scenario == name:
            for command in filter(entry.takes, PLACES):
                failures += _run(entry, command, root, warm)
    assert not failures, '\n\n'.join(failures)


def _run(entry, command, root, warm):
    """Run a command with those that it needs; what is wrong with it, with its place."""
    if command.startswith('snakemake ') and not importlib.util.find_spec('snakemake'):
        return []  # it needs Python 3.11
    for line in (*entry.first, entry.as_run(command)):
        if entry.shell:
            status, output = run_in_shell(line, root)
        else:
            words = [found for word in shlex.split(line)[1:]
                     for found in (sorted(glob.glob(word, root_dir=root)) if '*' in word else [word])]
            status, output = warm.run(words, root, entry.shortening)
        if status:
            return [f'{PLACES[command][0]}: `{line}` ended with status {status}:\n{output[-2500:]}']
    values = _values(line, root)
    missing = [path for path in (template.format_map(values) for template in entry.writes)
               if not any(file.is_dir() or file.stat().st_size for file in root.glob(path))]
    if missing:
        return [f'{PLACES[command][0]}: `{line}` did not write {missing}:\n{output[-1500:]}']
    if not re.search(entry.prints, output):
        return [f'{PLACES[command][0]}: `{line}` did not print {entry.prints!r}:\n{output[-1500:]}']
    return []


def _values(line, root):
    """What the command line says about its output."""
    words = shlex.split(line)
    values = {}
    if '-o' in words:
        values['out'] = words[words.index('-o') + 1].rstrip('/')
    if '-opt' in words:
        named = [word.removeprefix('name=') for word in words if word.startswith('name=')]
        values['name'] = named[-1] if named else read_options(root / words[words.index('-opt') + 1])['name']
    return values


NOT_RUN = [(entry, command) for command in PLACES for entry in ENTRIES if entry.takes(command) and not entry.scenario]


@pytest.mark.parametrize(('entry', 'command'), NOT_RUN, ids=[command for _, command in NOT_RUN])
def test_arguments_of_commands_that_are_not_run(entry, command, warm, tmp_path):
    if entry.tested_by:
        name = next(word for word in command.split() if word.endswith(('.yml', '.py')))
        assert name.rpartition('/')[2] in (ROOT / 'tests' / entry.tested_by).read_text()
        return
    words = shlex.split(entry.as_run(command))
    while '=' in words[0] or words[0] == 'taskset':
        words = words[3 if words[0] == 'taskset' else 1:]
    program, *rest = words
    check = {'make': _check_target, 'pip': _check_installed, 'uv': _check_installed, 'export': _check_variable,
             'python': _check_python, 'torchrun': _check_launcher, 'srun': _check_launcher}.get(program)
    if check is None:
        assert program in ('git', 'cd', 'source', 'sha256sum', 'pre-commit', 'tensorboard')  # nothing of ours to check
        return
    for option in ('-opt', '--opt', '--study'):
        if option in rest:
            assert (ROOT / rest[rest.index(option) + 1]).is_file()
    check(rest, warm, tmp_path)


def _check_python(words, warm, folder):
    if words[:2] == ['-m', 'pytest']:
        _check_tests(words[2:])
        return
    if words == ['-m', 'torch.distributed.run']:
        words = [*words, '--help']
    words = words if words[0] == '-m' else [ROOT / words[0], *words[1:]]
    shortening = () if '--help' in words else ('arguments_only',)
    status, output = warm.run(words, folder, shortening, seconds=60)
    assert status == 0, output[-2000:]
    assert ('arguments accepted' if shortening else 'usage: ') in output


def _check_tests(words):
    """That the tests that pytest is told to run are there."""
    files = [ROOT / word for word in words if word.endswith('.py')] or sorted((ROOT / 'tests').rglob('test_*.py'))
    text = '\n'.join(file.read_text() for file in files)
    for option, value in itertools.pairwise(words):
        if option == '-k':
            assert re.search(value, text)
        if option == '-m':
            assert value.removeprefix('not ') == 'slow'


def _check_launcher(words, warm, folder):
    """torchrun's own arguments by torchrun, and those of the script that it or srun starts."""
    script = next(index for index, word in enumerate(words) if word.endswith('.py'))
    if 'python' not in words:  # torchrun
        _check_python(['-m', 'torch.distributed.run', *words], warm, folder)
    _check_python(words[script:], warm, folder)


def _check_target(words, warm, folder):
    shown = subprocess.run(['make', '-n', *words], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert f'\n{words[0]}:' in (ROOT / 'Makefile').read_text()


def _check_installed(words, warm, folder):
    """Files that are there, and packages that this project names, in versions and with extras as installed."""
    sources = ('constraints.txt', 'setup.cfg', 'pyproject.toml', 'Makefile')
    named = ''.join((ROOT / name).read_text() for name in sources)
    command = 'uninstall' if 'uninstall' in words else 'install'
    words = words[words.index(command) + 1:]
    with_file = [index for index, word in enumerate(words) if word in ('-r', '--build-constraints')]
    files = [words.pop(index + 1) for index in reversed(with_file)]
    assert all((ROOT / file).is_file() for file in files)
    ours = importlib.metadata.metadata('basicsr-nriqa').get_all('Provides-Extra')
    for word in words:
        if word.startswith('.'):
            assert set(re.findall(r'\w+', word)) <= {*ours}
        elif not word.startswith('-'):
            asked = Requirement(word)
            assert re.search(rf'(?m)(?<![\w-]){re.escape(asked.name)}(?![\w-])', named)
            if asked.specifier or asked.extras:
                installed = importlib.metadata.metadata(asked.name)
                assert asked.specifier.contains(installed['Version'])
                assert asked.extras <= {*installed.get_all('Provides-Extra', [])}


def _check_variable(words, warm, folder):
    name = words[0].partition('=')[0]
    assert any(name in file.read_text() for file in (ROOT / 'basicsr_nriqa').rglob('*.py'))
