"""What README.md, CONTRIBUTING.md and docs/*.md show: fenced blocks and commands, each with its page and line."""
import re
from dataclasses import dataclass

from conftest import ROOT

SHELLS = ('sh', 'bash', 'console', 'shell')
# a line of a block without a language, or inline code, is a command if it begins with one of these
PROGRAMS = (
    'python', 'python3', 'make', 'snakemake', 'torchrun', 'pip', 'uv', 'git', 'sbatch', 'srun', 'cp', 'cd', 'export',
    'pre-commit', 'pytest', 'ruff', 'mypy', 'codespell', 'sphinx-build', 'tensorboard', 'mkdir', 'mv', 'rm', 'source',
    'unzip', 'tar', 'wget', 'curl', 'apt', 'apt-get', 'sudo', 'docker', 'conda', 'sha256sum', 'taskset', 'nvidia-smi',
    'squeue', 'tail', 'ls', 'cat')
_FENCE = re.compile(r'^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^\n`]*)\n(?P<text>.*?)^ *(?P=fence) *$',
                    re.M | re.S)
_INLINE = re.compile(r'(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)', re.S)
_ENVIRONMENT = r'(?:[A-Z_]+=\S+ +)*'
_COMMAND = re.compile(rf'{_ENVIRONMENT}(?:\.venv/bin/)?({"|".join(map(re.escape, PROGRAMS))})(?= |$)')
# a word that begins with # outside of quotes, and all that follows
_COMMENT = re.compile(r'''((?:'[^']*'|"[^"]*"|[^'"#]|(?<=\S)#)*?)(?:(?:^|(?<=\s))#.*)?$''')


@dataclass(frozen=True)
class Place:
    """Where something stands; as text ``docs/data.md:12``."""
    page: str
    line: int

    def __str__(self):
        return f'{self.page}:{self.line}'


@dataclass(frozen=True)
class Block:
    """A fenced block."""
    place: Place
    language: str
    text: str


def pages():
    """The pages that are there, in the order of their names, README.md first."""
    files = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
    return [file.relative_to(ROOT).as_posix() for file in files if file.is_file()]


def read_page(page):
    return (ROOT / page).read_text(encoding='utf-8')


def blocks(page, text=None):
    """The fenced blocks of a page in their order."""
    text = read_page(page) if text is None else text
    found = []
    for match in _FENCE.finditer(text):
        lines = [line.removeprefix(match['indent']) for line in match['text'].splitlines()]
        language = (match['info'].strip().split() or [''])[0].lower().strip('{}')
        found.append(Block(Place(page, _line(text, match.start('text'))), language, '\n'.join(lines)))
    return found


def commands(page, text=None):
    """Every command of a page, its words separated by one space and without the folder ``.venv/bin``, and its place."""
    text = read_page(page) if text is None else text
    found = []
    for block in blocks(page, text):
        if block.language in ('', *SHELLS):
            found += _commands_of_block(block)
    prose = _FENCE.sub(lambda match: '\n' * match[0].count('\n'), text)
    for match in _INLINE.finditer(prose):
        code = ' '.join(match[2].split())
        program = _COMMAND.match(code)
        # `make` alone is a word; `make study` is a command
        if program and program.end() < len(code):
            found += [(part, Place(page, _line(prose, match.start()))) for part in _parts(code)]
    return found


def _commands_of_block(block):
    lines = block.text.splitlines()
    number = 0
    while number < len(lines):
        place, line = Place(block.place.page, block.place.line + number), lines[number]
        while line.endswith('\\') and number + 1 < len(lines):
            number += 1
            line = f'{line[:-1].rstrip()} {lines[number].strip()}'
        number += 1
        prompt = line.startswith('$ ')
        line = _COMMENT.match(line.removeprefix('$ ')).group(1).strip()
        # a console shows what commands print, too; in a block that says to be of a shell every line is a command
        if line and (prompt or _COMMAND.match(line) or (block.language in SHELLS and block.language != 'console')):
            yield from ((part, place) for part in _parts(line))


def _parts(line):
    return [' '.join(part.split()).removeprefix('.venv/bin/') for part in line.split(' && ')]


def _line(text, position):
    return text.count('\n', 0, position) + 1
