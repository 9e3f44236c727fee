"""How far the runs of a study are, read from what lies on the disk."""
import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path

from basicsr_nriqa.study.done import is_checked, is_tested, is_trained, trained_with

_TAIL = 16384  # bytes
_LINES = 20


@dataclass(frozen=True)
class Status:
    """What one run of the grid has come to.

    Attributes:
        kind (str): ``waiting``, ``training``, ``stopped``, ``failed``, ``trained``, ``tested`` or ``done``.
        text (str): The same in a few words, with numbers.
        iteration, total (int): Of the training.
        log (Path | None): What to read if something failed.
    """

    kind: str
    text: str
    iteration: int
    total: int
    log: Path | None = None

    @property
    def complete(self):
        """bool: Trained, and tested and checked on all data sets."""
        return self.kind == 'done'


def status(study, run):
    """Find out how far a run is.

    Args:
        study (basicsr_nriqa.study.grid.Study): The plan.
        run (basicsr_nriqa.study.grid.Run): The run.

    Returns:
        Status
    """
    total = run.options['train'].get('total_iter', 0)
    log = study.log('train', run.name)
    if is_trained(study, run):
        return _of_tests(study, run, total)
    if trained_with(study.trained(run)):
        return Status('waiting', 'trained by other options, will be trained again', 0, total)
    iteration = _iteration(study, run, log)
    text = f'{iteration:,} of {total:,} iterations'
    if _is_locked(study.lock(run.name)):
        return Status('training', f'training, {text}', iteration, total, log)
    error = _error(log)
    if error:
        return Status('failed', f'training failed: {error}', iteration, total, log)
    if iteration:
        return Status('stopped', f'stopped, {text}', iteration, total, log)
    start = run.start and not is_trained(study, run.start)
    return Status('waiting', 'waits for its baseline' if start else 'not begun', 0, total)


def _of_tests(study, run, total):
    steps = {'test': is_tested, 'artifacts': is_checked} if run.start else {'test': is_tested}
    count = len(study.datasets)
    done = {step: sum(is_done(study, run, dataset) for dataset in study.datasets.values())
            for step, is_done in steps.items()}
    for step, is_done in steps.items():
        for dataset in study.datasets.values():
            log = study.log(step, study.test_name(run, dataset))
            error = None if is_done(study, run, dataset) else _error(log)
            if error:
                what = 'test' if step == 'test' else 'check for artifacts'
                return Status('failed', f'{what} on {dataset.label} failed: {error}', total, total, log)
    if all(number == count for number in done.values()):
        return Status('done', 'done', total, total)
    if done['test']:
        return Status('tested', f"tested on {done['test']} of {count}", total, total)
    return Status('trained', 'trained', total, total)


def log_tail(log):
    """The last lines of a log without the states of progress bars; empty if there is none."""
    if log is None or not Path(log).is_file():
        return ''
    with open(log, 'rb') as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
        text = file.read().decode(errors='replace')
    lines = [line.rpartition('\r')[2].rstrip() for line in text.replace('\r\n', '\n').split('\n')]
    return '\n'.join([line for line in lines if line][-_LINES:])


def _iteration(study, run, log):
    """The last one that is saved or logged."""
    saved = [int(path.stem) for path in (study.experiment(run) / 'training_states').glob('*.state')
             if path.stem.isdigit()]
    logged = [int(number.replace(',', '')) for number in re.findall(r'iter: *([\d,]+)', log_tail(log))]
    return max([0, *saved, *logged[-1:]])


def _error(log):
    """The error that a step ended with, as its log's end tells it."""
    found = re.findall(r'^(?:error: .+|\w+(?:Error|Exception)\b.*|ERROR: .+)$', log_tail(log), re.M)
    return found[-1].removeprefix('error: ') if found else None


def _is_locked(path):
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
