"""The workflow as a user runs it: snakemake on plans of tiny trainings."""
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT

from basicsr_nriqa.options import load_yaml
from basicsr_nriqa.study.plan import read_study

pytest.importorskip('snakemake', reason='snakemake needs Python 3.11')
SNAKEMAKE = [sys.executable, '-m', 'snakemake', '-s', ROOT / 'workflow' / 'Snakefile', '--cores', '2']


def snakemake(*arguments, cwd, start=subprocess.run, **options):
    return start([*map(str, SNAKEMAKE), *map(str, arguments)], cwd=cwd, text=True,
                 env={**os.environ, 'OMP_NUM_THREADS': '1'}, **options)


def run(project, *arguments):
    """Run the project's study; returns the completed process with all that it printed."""
    return snakemake('--config', 'study=study.yml', *arguments, cwd=project, stdout=subprocess.PIPE,
                     stderr=subprocess.STDOUT, timeout=900)


@pytest.fixture
def study_project(tmp_path, train_options):
    """A folder with a plan of one tiny model, two losses and a data set, and the files that it names."""
    base = train_options
    test_set = {key: value for key, value in base['datasets'].pop('val').items() if key != 'name'}
    tinyiqa = base['train'].pop('iqa_opt')
    metrics = base.pop('val')['metrics']
    base['logger'] |= {'use_tb_logger': True, 'save_checkpoint_freq': 5}
    files = {
        'base': base,
        'tuned_good': {'_base_': 'base.yml', 'train': {'iqa_opt': tinyiqa}},
        'tuned_bad': {'_base_': 'base.yml', 'train': {'skip_limit': 1, 'iqa_opt': {
            'tinyiqa': {**tinyiqa['tinyiqa'], 'loss_weight': -1e38}}}},
        'test': {**{key: base[key] for key in ('model_type', 'scale', 'num_gpu', 'manual_seed')}, 'name': 'test',
                 'datasets': {'test': {'name': 'held_out', **test_set}}, 'val': {'save_img': True, 'metrics': metrics}},
        'study': {'name': 'Tiny', 'output': 'out', 'losses': {'bad': 'Bad', 'good': 'Good'},
                  'models': {'net': {'baseline': 'base.yml', 'finetune': 'tuned_{loss}.yml'}},
                  'datasets': {'held_out': {'test': 'test.yml'}}, 'flags': {'metric': 'psnr'}}}
    for name, content in files.items():
        write(tmp_path, name, content)
    return tmp_path


def step(project, *arguments):
    """Do a step of the project's study by hand."""
    return subprocess.run([sys.executable, ROOT / 'scripts' / 'study_step.py', '--study', 'study.yml', *arguments],
                          cwd=project, capture_output=True, text=True, timeout=900)


def write(project, name, content):
    (project / f'{name}.yml').write_text(yaml.safe_dump(content))


def edit(project, name, **changes):
    """Change entries ``a__b`` of an option file."""
    content = yaml.safe_load((project / f'{name}.yml').read_text())
    for keys, value in changes.items():
        *parents, last = keys.split('__')
        place = content
        for key in parents:
            place = place.setdefault(key, {})
        place[last] = value
    write(project, name, content)


def test_a_dry_run_of_the_mini_study_has_every_step():
    shown = snakemake('-n', '--forceall', '--config', 'study=workflow/mini_study.yml', cwd=ROOT, capture_output=True)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    counts = dict(re.findall(r'^(\w+) +(\d+)$', shown.stdout + shown.stderr, re.M))
    assert {name: int(count) for name, count in counts.items()} == {
        'check_data': 3, 'train': 15, 'test': 30, 'artifacts': 24, 'report': 1,
        'all': 1, 'total': 74}


@pytest.mark.parametrize(('choice', 'message'), [
    ('models=vtr', r"error: models=vtr: .*mini_study\.yml has no such key \(did you mean 'vrt'\?\)"),
    pytest.param('model=vrt', r"error: --config model=\.\.\.: unknown \(did you mean 'models'\?\)",
                 marks=pytest.mark.slow)])
def test_a_bad_choice_is_one_line(choice, message):
    shown = snakemake('-n', '--config', f"study={ROOT / 'workflow' / 'mini_study.yml'}", choice, cwd=ROOT,
                      capture_output=True)
    assert shown.returncode != 0 and 'Traceback' not in shown.stderr
    assert re.search(message, shown.stderr)


@pytest.mark.slow
def test_a_failed_training_ends_its_branch_only_and_all_else_is_kept(study_project, monkeypatch):
    first = run(study_project)
    monkeypatch.chdir(study_project)
    study = read_study('study.yml')
    good, bad, dataset = study.runs['net_good'], study.runs['net_bad'], study.datasets['held_out']
    page = study.output / 'report' / 'report.html'
    assert first.returncode == 1, first.stdout
    assert 'iterations in a row had to be skipped' in first.stdout  # the end of its log
    assert study.artifacts(good, dataset).is_file() and not study.trained(bad).is_file()
    partial = page.read_text()
    assert 'training failed' in partial and 'had to be skipped' in partial

    kept = {path: path.stat().st_mtime_ns for path in (study.trained(good), study.scores(good, dataset))}
    edit(study_project, 'tuned_bad', train__iqa_opt__tinyiqa__loss_weight=-0.02)
    edit(study_project, 'base', logger__print_freq=2)  # changes no weights
    second = run(study_project)
    assert second.returncode == 0, second.stdout
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert 'training failed' not in page.read_text() and 'Bad' in page.read_text()
    assert (study.output / 'report' / 'figure.pdf').is_file()
    archived = [path.name for path in (study.output / 'experiments').iterdir() if 'archived' in path.name]
    assert [name.startswith('net_bad_archived_') for name in archived] == [True]

    assert 'Nothing to be done' in run(study_project).stdout
    edit(study_project, 'tuned_good', train__total_iter=6)
    shutil.rmtree(study_project / '.snakemake')  # what it remembers does not decide
    shown = run(study_project, '-n').stdout
    assert set(re.findall(r'^(train|test|artifacts|report) +(\d)$', shown, re.M)) == {
        ('artifacts', '1'), ('report', '1'), ('test', '1'), ('train', '1')}

    # nor do the scores of before count for a report or a step by hand
    assert step(study_project, 'report', '--partial').returncode == 0
    assert 'trained by other options' in page.read_text()
    assert not (study.output / 'report' / 'complete.txt').exists()
    untrained = step(study_project, 'test', 'net_good', 'held_out')
    assert untrained.returncode == 1 and 'net_good is not trained by the present options' in untrained.stderr
    # a step goes by the plan as it is, not by option files of an earlier start
    edit(study_project, 'tuned_good', train__total_iter=8)
    trained = step(study_project, 'train', 'net_good')
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert load_yaml(study.options_file('net_good'))['train']['total_iter'] == 8
    assert re.findall(r'iter: +(\d+),', trained.stdout + trained.stderr)[-1] == '8'


@pytest.mark.slow
@pytest.mark.parametrize('survivors', [False, True], ids=['all processes', 'snakemake alone'])
def test_a_killed_study_goes_on_where_it_was(study_project, survivors, monkeypatch):
    # long enough that the training is still running when the second snakemake comes to it
    length = 350 if survivors else 40
    edit(study_project, 'base', train__total_iter=length, train__scheduler__periods=[length])
    edit(study_project, 'tuned_good', train__total_iter=4)
    edit(study_project, 'study', losses={'good': 'Good'})
    monkeypatch.chdir(study_project)
    study = read_study('study.yml')
    baseline = study.runs['net_baseline']
    process = snakemake('--config', 'study=study.yml', cwd=study_project, start=subprocess.Popen,
                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    states = study.experiment(baseline) / 'training_states'
    deadline = time.time() + 300
    while not (states / '5.sha256').is_file():
        assert time.time() < deadline and process.poll() is None
        time.sleep(0.05)
    if survivors:
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    second = run(study_project)
    assert second.returncode == 0, second.stdout
    assert (study.output / 'report' / 'report.html').is_file()
    log = ''.join(path.read_text() for path in study.experiment(baseline).glob('train_*.log'))
    if survivors:  # the training that was left alone is waited for, not done twice
        assert 'is being trained by another process already' in study.log('train', 'net_baseline').read_text()
        assert len(re.findall(r'iter: +20,', log)) == 1
    else:
        assert 'Resuming training from epoch' in log and len(re.findall(r'iter: +1,', log)) == 1
    uninterrupted = run_alone(study_project, baseline)
    weights = [torch.load(path, weights_only=True)['params'] for path in (study.checkpoint(baseline), uninterrupted)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def run_alone(project, baseline):
    """The checkpoint of the same training in one go."""
    options = {**baseline.options, 'name': 'alone'}
    write(project, 'alone', options)
    done = subprocess.run([sys.executable, '-m', 'basicsr_nriqa.study.worker', 'train', str(project), '-opt',
                           'alone.yml'], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(project, 'experiments', 'alone', 'models', 'net_g_latest.pth')
