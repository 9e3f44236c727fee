"""GPUs of this machine for processes that start side by side: each takes its own, and waits while all are taken."""
import os
import re
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from basicsr_nriqa.files import exclusive

_POLL = 2  # seconds


def visible_gpus():
    """Names of the GPUs that this process may use, without a word to CUDA, which would fix them for good.

    Returns:
        list[str]: What CUDA_VISIBLE_DEVICES says, or else the numbers of all that ``nvidia-smi`` knows.
    """
    said = os.environ.get('CUDA_VISIBLE_DEVICES')
    if said is not None:
        return [name.strip() for name in said.split(',') if name.strip() not in ('', '-1')]
    if not shutil.which('nvidia-smi'):
        return []
    listed = subprocess.run(['nvidia-smi', '-L'], capture_output=True, text=True)
    return re.findall(r'^GPU (\d+):', listed.stdout, re.M) if listed.returncode == 0 else []


@contextmanager
def claimed(count, folder=None):
    """Hold GPUs for this process; the system gives them back however it ends.

    Inside a Slurm job they are numbered anew in each job, and only steps of the same job share them.

    Args:
        count (int): How many.
        folder (Path | None): Where the locks lie; default: the user's cache folder.

    Yields:
        list[str]: Their names, for CUDA_VISIBLE_DEVICES; empty on a machine without GPUs.

    Raises:
        ValueError: more are asked for than there are.
    """
    names = visible_gpus()
    if not names or count == 0:
        yield []
        return
    if count > len(names):
        raise ValueError(f'{count} GPUs are asked for (models:MODEL:gpus of the study), but only {len(names)} can be '
                         f'used here: {", ".join(names)}.')
    folder = folder or Path(os.environ.get('XDG_CACHE_HOME', Path.home() / '.cache'), 'basicsr_nriqa', 'gpus')
    folder.mkdir(parents=True, exist_ok=True)
    told = False
    while True:
        with ExitStack() as held:
            mine = _take(names, count, folder, held)
            if len(mine) == count:
                yield mine
                return
        if not told:
            print(f'Waiting for {count} of the GPUs {", ".join(names)}.', flush=True)
            told = True
        time.sleep(_POLL)


def _take(names, count, folder, held):
    """Lock free GPUs, in order, up to ``count``."""
    mine = []
    place = '-'.join([socket.gethostname(), *filter(None, [os.environ.get('SLURM_JOB_ID')])])
    for name in names:
        if len(mine) == count:
            break
        try:
            held.enter_context(exclusive(folder / f'{place}-{name.replace("/", "_")}.lock'))
            mine.append(name)
        except BlockingIOError:
            continue
    return mine
