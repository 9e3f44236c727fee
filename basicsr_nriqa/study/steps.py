"""The steps of a study, each of which `workflow/Snakefile` starts as a process: check, train, test, artifacts, report.

Every step leaves one file when, and only when, it is complete; all else that it writes may be there in part.
"""
import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import yaml

from basicsr_nriqa import launch
from basicsr_nriqa.data.database_check import check_database
from basicsr_nriqa.files import archive_name, exclusive, sha256, write_atomically
from basicsr_nriqa.option_definitions.file_check import check_file
from basicsr_nriqa.options import OptionsError, given_arguments
from basicsr_nriqa.study.artifacts import check_artifacts, write_artifacts
from basicsr_nriqa.study.done import begin, is_checked, is_tested, is_trained, made_of_artifacts, made_of_test, start_of
from basicsr_nriqa.study.gpus import claimed
from basicsr_nriqa.study.scores import join_names, read_scores
from basicsr_nriqa.version import __version__

_POLL = 2  # seconds
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def check_options(study):
    """Check all options of a study, as training and testing do before they start; missing weights are fetched.

    Args:
        study (basicsr_nriqa.study.grid.Study): The plan.

    Raises:
        OptionsError: all problems of all files.
    """
    parts = [(run.name, run.options, True) for run in study.runs.values()]
    parts += [(options['name'], options, False) for run in study.runs.values() for dataset in study.datasets.values()
              for options in [study.test_options(run, dataset)]]
    problems = {}
    with TemporaryDirectory() as folder:
        for name, options, is_train in parts:
            # what the study itself makes is not there yet
            path = Path(folder, f'{name}.yml')
            own = str(study.output) + '/'
            start = str(options['path'].get('pretrain_network_g') or '')
            if start.startswith(own):
                options = {**options, 'path': {**options['path'], 'pretrain_network_g': None}}
            path.write_text(yaml.safe_dump(options, sort_keys=False))
            try:
                check_file(path, fetch=True, is_train=is_train, trial=False)
            except OptionsError as error:
                for problem in str(error).replace(f'{path}:', '').strip().split('\n'):
                    problems.setdefault(problem, []).append(name)
    if problems:
        lines = [line if len(names) == len(parts) else f'{line}   [{join_names(names, 3)}]'
                 for line, names in problems.items()]
        raise OptionsError(f'{study.source}: the options of this study cannot be used:\n' + '\n'.join(lines))


def databases(options):
    """GT, LR and list of a data set, as far as it is packed in LMDB.

    Args:
        options (dict): A data set's options.

    Returns:
        tuple[Path, Path | None, Path | None] | None
    """
    if (options.get('io_backend') or {}).get('type') != 'lmdb':
        return None
    gt, lq, clips = (Path(options[key]).expanduser() if options.get(key) else None
                     for key in ('dataroot_gt', 'dataroot_lq', 'meta_info_file'))
    return (gt, lq, clips) if gt else (lq, None, clips)


def check_data(options):
    """Check the databases of a data set: keys, checksums, sizes, LR and GT belonging together.

    Args:
        options (dict): The data set's options.

    Returns:
        list[str]: What is wrong; empty if nothing is.
    """
    found = databases(options)
    if found is None:
        return []
    reports = check_database(*found[:2], None, found[2], False, None)
    return [problem for report in reports for problem in report.problems]


def train(study, run):
    """Train, or go on with a training that was interrupted; done if it is complete.

    An experiment that was made by another recipe, of other data or from other weights is set aside first
    (``NAME_archived_TIME``), as BasicSR does. A second process of the same training waits for the first one.

    Args:
        study (basicsr_nriqa.study.grid.Study): The plan.
        run (basicsr_nriqa.study.grid.Run): Which training.

    Raises:
        ValueError: its baseline is not trained by the present options.
    """
    with _alone(study, run.name, 'trained'):
        if run.start:
            _check_trained(study, run.start)
        start = start_of(study, run)
        made_of = ' '.join(filter(None, [run.recipe, study.fingerprint(study.training_data(run)), start]))
        note = study.output / 'recipes' / f'{run.name}.txt'
        if not note.is_file() or note.read_text() != made_of:
            _set_aside(study, run)
            write_atomically(note, made_of)
        elif is_trained(study, run) and study.checkpoint(run).is_file():
            return
        started = time.time()
        study.write_training(run)  # those of the recipe: the files may have been edited since the study began
        with claimed(run.gpus) as gpus:
            _start('train', study, run.name, gpus, '--auto_resume')
        checkpoint = study.checkpoint(run)
        write_atomically(study.trained(run), json.dumps({
            'run': run.name, 'recipe': run.recipe, 'start': start, 'checkpoint': str(checkpoint),
            'sha256': sha256(checkpoint),
            'minutes_of_last_start': round((time.time() - started) / 60, 1), 'basicsr_nriqa': __version__}, indent=1))


def test(study, run, dataset):
    """Test a training on a data set, with its frames; the score file is complete or not there.

    A second process of the same test waits for the first one. What is there of the present options and weights is kept.

    Args:
        study (basicsr_nriqa.study.grid.Study): The plan.
        run (basicsr_nriqa.study.grid.Run): Which training.
        dataset (basicsr_nriqa.study.grid.Dataset): Which data.

    Raises:
        ValueError: it is not trained by the present options.
    """
    name = study.test_name(run, dataset)
    results = study.output / 'results' / name
    with _alone(study, name, 'tested'):
        _check_trained(study, run)
        if is_tested(study, run, dataset) and study.frames(run, dataset).is_dir():
            return
        begin(study, study.scores(run, dataset), made_of_test(study, run, dataset))
        shutil.rmtree(results, ignore_errors=True)  # BasicSR would keep each of them, with all its frames
        study.write_test(run, dataset)
        with claimed(min(run.gpus, 1)) as gpus:
            _start('test', study, name, gpus)
        write_atomically(study.scores(run, dataset), (results / 'scores' / f'{dataset.label}.json').read_bytes())


def measure_artifacts(study, run, dataset):
    """The direct check of a fine-tuned model against its baseline on a data set.

    Args:
        study (basicsr_nriqa.study.grid.Study): The plan.
        run (basicsr_nriqa.study.grid.Run): A fine-tuned model.
        dataset (basicsr_nriqa.study.grid.Dataset): Which data.

    Raises:
        ValueError: it is a baseline, or one of the two is not tested by the present options.
    """
    if run.start is None:
        raise ValueError(f'{run.name} is a baseline, with which fine-tuned models are compared; name one of those')
    for one in (run.start, run):
        if not is_tested(study, one, dataset):
            raise ValueError(f'{one.name} is not tested on {dataset.label} by the present options and weights; do that '
                             f'first: study_step.py test {one.name} {dataset.key}')
    if is_checked(study, run, dataset):
        return
    begin(study, study.artifacts(run, dataset), made_of_artifacts(study, run, dataset))
    options = dataset.options['val']['metrics']
    metrics = [options[name].get('metric', options[name]['type'].removeprefix('calculate_'))
               for name in read_scores(study.scores(run, dataset))['optimised'] or ()]
    with claimed(min(run.gpus, 1)) as gpus:
        os.environ.update({'CUDA_VISIBLE_DEVICES': ','.join(gpus)} if gpus else {})
        on_cpu = run.options['num_gpu'] == 0 or not torch.cuda.is_available()
        content = check_artifacts(study.frames(run, dataset), study.frames(run.start, dataset), metrics,
                                  model=run.model_label, loss=run.loss_label, dataset=dataset.label,
                                  device='cpu' if on_cpu else 'cuda', progress=False,
                                  limit=study.report.get('artifact_clips'))
    write_artifacts(study.artifacts(run, dataset), content)


def _start(what, study, name, gpus, *arguments):
    """Run BasicSR's pipeline on these GPUs, in this process if it is the only one and need not hide any."""
    command = ['-opt', str(study.options_file(name)), *arguments]
    study.output.joinpath('experiments').mkdir(parents=True, exist_ok=True)
    root = study.output.resolve()
    if not gpus:
        with given_arguments(*command):
            getattr(launch, what)(root)
        return
    start = [sys.executable, '-m']
    if len(gpus) > 1:
        start += ['torch.distributed.run', '--standalone', f'--nproc_per_node={len(gpus)}', '-m']
        command += ['--launcher', 'pytorch']
    environment = {**os.environ, 'CUDA_VISIBLE_DEVICES': ','.join(gpus)}
    # it shall not outlive this process, which holds the GPUs
    child = subprocess.Popen([*start, 'basicsr_nriqa.study.worker', what, str(root), *command], env=environment,
                             preexec_fn=_end_with_parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: child.send_signal(number))
    status = child.wait()
    if status:
        sys.exit(status if status > 0 else 128 - status)


def _end_with_parent():
    """In a new process: be terminated, which saves a checkpoint, when the process that started it ends."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _check_trained(study, run):
    if not is_trained(study, run):
        raise ValueError(f'{run.name} is not trained by the present options yet; do that first: study_step.py train '
                         f'{run.name}')


@contextlib.contextmanager
def _alone(study, name, doing):
    lock = study.lock(name)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        told = False
        while True:
            try:
                held.enter_context(exclusive(lock))
                break
            except BlockingIOError:
                if not told:
                    print(f'{name} is being {doing} by another process already; waiting for it.', flush=True)
                told = True
                time.sleep(_POLL)
        yield


def _set_aside(study, run):
    for folder in (study.experiment(run), study.output / 'tb_logger' / run.name):
        if folder.is_dir() and any(folder.iterdir()):
            kept = folder.rename(archive_name(folder))
            print(f'{folder} was made by other options; it is {kept} now.', flush=True)
