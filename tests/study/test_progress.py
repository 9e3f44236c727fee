"""How far a run is, from the files that trainings and tests leave behind."""
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_plan import BASE, PLAN, TEST, TUNED

from basicsr_nriqa.files import exclusive
from basicsr_nriqa.study.done import begin, made_of_artifacts, made_of_test
from basicsr_nriqa.study.plan import read_study
from basicsr_nriqa.study.progress import log_tail, status

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = {**BASE, 'train': {**BASE['train'], 'total_iter': 5000}}
    for name, content in {'base': base, 'tuned_a': TUNED, 'tuned_b': TUNED, 'test': TEST, 'study': PLAN}.items():
        Path(f'{name}.yml').write_text(yaml.safe_dump(content))
    return read_study('study.yml')


def write(path, content=''):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def finish(study, run, recipe=None):
    write(study.trained(run), json.dumps({'recipe': recipe or run.recipe}))


def finish_test(study, run, dataset):
    begin(study, study.scores(run, dataset), made_of_test(study, run, dataset))
    write(study.scores(run, dataset))


def test_a_run_from_nothing_to_done(study):
    baseline, run = study.runs['net_baseline'], study.runs['net_a']
    dataset = study.datasets['set']
    assert [status(study, one).text for one in (baseline, run)] == ['not begun', 'waits for its baseline']
    finish(study, baseline)
    assert status(study, run).text == 'not begun'
    for iteration in (100, 1200):
        write(study.experiment(run) / 'training_states' / f'{iteration}.state')
    assert status(study, run).text == 'stopped, 1,200 of 5,000 iterations'
    write(study.log('train', run.name), 'INFO: [net_a][epoch: 0, iter:   1,300, lr:(4e-04,)]\n'
                                        'INFO: [net_a][epoch: 0, iter:   1,310, lr:(4e-04,)]\n')
    write(study.output / 'locks' / 'net_a.lock')
    assert status(study, run).kind == 'stopped'
    with exclusive(study.output / 'locks' / 'net_a.lock'):
        state = status(study, run)
    assert (state.kind, state.text, state.iteration, state.total) == (
        'training', 'training, 1,310 of 5,000 iterations', 1310, 5000)
    finish(study, run)
    assert status(study, run).kind == 'trained'
    finish_test(study, run, dataset)
    assert status(study, run).text == 'tested on 1 of 1' and not status(study, run).complete
    assert status(study, baseline).kind == 'trained'
    finish_test(study, baseline, dataset)
    assert status(study, baseline).complete  # nothing to compare it with
    begin(study, study.artifacts(run, dataset), made_of_artifacts(study, run, dataset))
    write(study.artifacts(run, dataset))
    assert status(study, run).complete


def test_a_training_by_other_options_does_not_count(study):
    run = study.runs['net_a']
    finish(study, run, 'another')
    write(study.scores(run, study.datasets['set']))
    assert status(study, run).kind == 'waiting' and 'by other options' in status(study, run).text
    write(study.trained(run), 'half a fi')
    assert status(study, run).kind == 'waiting'


@pytest.mark.parametrize(('end', 'error'), [
    ('error: out of memory\n', 'out of memory'),
    ('Traceback (most recent call last):\n  File "x.py", line 1\nRuntimeError: CUDA error: no more\n',
     'RuntimeError: CUDA error: no more'),
    ('error: first\nINFO: started again, iter: 7\nerror: second\n', 'second'),
    ('set:  50%|#### | 1/2\rset: 100%|####| 2/2\nerror: at the end\n', 'at the end')])
def test_a_failure_is_what_the_log_ends_with(study, end, error):
    run, baseline, dataset = study.runs['net_a'], study.runs['net_baseline'], study.datasets['set']
    log = study.log('train', run.name)
    write(log, end)
    assert status(study, run).text == f'training failed: {error}' and status(study, run).log == log
    finish(study, run)
    assert status(study, run).kind == 'trained'
    write(study.log('test', 'net_a__set'), end)
    assert status(study, run).text == f'test on Set failed: {error}'
    finish_test(study, run, dataset)
    write(study.log('artifacts', 'net_a__set'), end)
    assert status(study, run).text == f'check for artifacts on Set failed: {error}'
    assert status(study, baseline).kind == 'waiting'


def test_the_tail_of_a_long_log_is_short(tmp_path):
    log = tmp_path / 'x.log'
    log.write_text(''.join(f'line {number}\n\n' for number in range(100000)) + 'bar 1%\rbar 2%\rbar 3%\n')
    lines = log_tail(log).split('\n')
    assert len(lines) == 20 and lines[-2:] == ['line 99999', 'bar 3%']
    assert log_tail(tmp_path / 'none.log') == log_tail(None) == ''


def test_the_script_shows_the_grid(study):
    run = study.runs['net_a']
    write(study.experiment(run) / 'training_states' / '1200.state')
    write(study.log('train', 'net_b'), 'error: not enough memory\n')
    shown = subprocess.run([sys.executable, ROOT / 'scripts' / 'list_study.py', 'study.yml', '--failed'],
                           capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[:4] == ['          net', 'baseline  .', 'A & B     stopped 1,200/5,000', 'B         FAILED']
    assert lines[5].startswith('A study: 0 of 3 done')
    assert 'net_b: training failed: not enough memory' in lines and '  | error: not enough memory' in lines
