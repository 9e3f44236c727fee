"""Python commands without the seconds of imports: a process that has imported everything forks for each of them.

It never computes anything itself, so that its forks may: a process that forks after a backward pass cannot.
"""
import atexit
import functools
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import shortenings
from conftest import ROOT

# what scripts import
IMPORTED = ('basicsr_nriqa', 'basicsr_nriqa.launch', 'basicsr_nriqa.study.gather', 'kornia', 'matplotlib.pyplot',
             'plotly.graph_objects', 'pyiqa')


@functools.cache
def warm_python():
    """The one process of this test run."""
    return WarmPython()


class WarmPython:
    """Runs ``python ARGUMENTS`` in forks of a process that lives as long as this one."""

    def __init__(self):
        environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, [Path(__file__).parent, ROOT / 'tests'])),
                       'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'agg'}
        self._logs = tempfile.TemporaryDirectory()
        self._server = subprocess.Popen([sys.executable, __file__], env=environment, text=True, cwd='/',
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        atexit.register(self._server.kill)

    def run(self, arguments, folder, shortening=(), seconds=240):
        """Run and wait.

        Args:
            arguments (list[str]): What follows ``python``: a script, ``-m`` with a module, or ``-c`` with code.
            folder (Path): Where to run.
            shortening (tuple[str]): Functions of ``shortenings.py`` that are called before.
            seconds (int): The command is killed after so long.

        Returns:
            tuple[int, str]: The exit status (negative: the signal that ended it) and all that was printed.
        """
        log = Path(self._logs.name, 'log')
        request = {'arguments': list(map(str, arguments)), 'folder': str(folder), 'log': str(log),
                   'shortening': list(shortening), 'seconds': seconds}
        print(json.dumps(request), file=self._server.stdin, flush=True)
        answer = self._server.stdout.readline()
        assert answer, 'the process that forks has died'
        return int(answer), log.read_text(errors='replace')


def _serve():
    for module in IMPORTED:
        importlib.import_module(module)
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # a library that prints must not answer
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if not pid:
            _run(**request)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)


def _run(arguments, folder, log, shortening, seconds):
    """In the fork: as ``python ARGUMENTS`` in a shell."""
    status = 1
    try:
        signal.alarm(seconds)
        os.chdir(folder)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for name in shortening:
            getattr(shortenings, name)()
        status = _status_of(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _status_of(arguments):
    kind, *rest = arguments
    try:
        if kind == '-m':
            sys.argv = rest
            sys.path.insert(0, os.getcwd())
            runpy.run_module(rest[0], run_name='__main__', alter_sys=True)
        elif kind == '-c':
            sys.argv = ['-c', *rest[1:]]
            sys.path.insert(0, '')
            exec(compile(rest[0], '<command>', 'exec'), {'__name__': '__main__'})
        else:
            sys.argv = arguments
            sys.path.insert(0, str(Path(kind).resolve().parent))
            runpy.run_path(str(Path(kind).resolve()), run_name='__main__')
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    _serve()
