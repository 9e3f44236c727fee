import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_training import options, run, training
from training_process import start_process

from basicsr_nriqa.options import OptionsError
from basicsr_nriqa.training.checkpoints import Checkpoints, load_resume_state
from basicsr_nriqa.training.state import CheckpointError


@pytest.fixture
def saved(tmp_path):
    """Checkpoints of iterations 5, 10 and 15."""
    run(training(tmp_path), 1, 15)
    return tmp_path


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def _resumed(root, **changes):
    state = load_resume_state(options(root, **changes))
    return state and state['iter']


def test_sums_are_those_of_sha256sum(saved):
    done = subprocess.run('sha256sum -c 5.sha256 10.sha256 15.sha256', shell=True, cwd=saved / 'training_states',
                          capture_output=True, text=True)
    assert done.returncode == 0 and '../models/net_g_15.pth: OK' in done.stdout and '15.state: OK' in done.stdout


def _cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize('damage', [_cut, _flip, Path.unlink], ids=['truncated', 'one bit', 'missing'])
@pytest.mark.parametrize('file', ['models/net_g_15.pth', 'training_states/15.state'])
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(saved, capsys, damage, file):
    damage(saved / file)
    assert _resumed(saved) == 10
    told = capsys.readouterr().out
    if (saved / 'training_states/15.state').exists():
        assert f'warning: {saved / file}: ' in told and 'skipped for the one before' in told


def test_without_sums_what_can_be_read_counts(saved, capsys):
    for path in saved.glob('training_states/*.sha256'):
        path.unlink()
    assert _resumed(saved) == 15
    _cut(saved / 'models/net_g_15.pth')
    assert _resumed(saved) == 10 and 'net_g_15.pth: damaged' in capsys.readouterr().out


def test_a_damaged_sum_is_no_excuse(saved):
    (saved / 'training_states/15.sha256').write_text('0123  15.state\n')
    assert _resumed(saved) == 10


def test_nothing_is_restarted_silently(saved):
    for path in saved.glob('models/*.pth'):
        _cut(path)
    with pytest.raises(CheckpointError, match=r'none of the checkpoints can be resumed(?s:.*)15\.pth(?s:.*)5\.pth'):
        _resumed(saved)
    assert len(_names(saved / 'training_states')) == 7


def test_states_run_no_code(saved, tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / 'run',)

    (saved / 'training_states/15.sha256').unlink()
    torch.save({'epoch': 0, 'iter': 15, 'optimizers': [], 'schedulers': [], 'x': Evil()},
               saved / 'training_states/15.state')
    assert _resumed(saved) == 10 and not (tmp_path / 'run').exists()


def _given(root, state, **changes):
    """Options that name a state."""
    opt = options(root, **changes)
    opt['path'] |= {'resume_state': str(state)}
    return opt


def test_a_given_state(saved, tmp_path_factory):
    state, new = saved / 'training_states/5.state', tmp_path_factory.mktemp('new')
    opt = _given(saved, state, auto_resume=False)
    assert load_resume_state(opt)['iter'] == 5
    assert opt['path']['pretrain_network_g'] == str(saved / 'models/net_g_5.pth')
    assert load_resume_state(_given(saved, state))['iter'] == 15, '--auto_resume comes first'
    _flip(saved / 'models/net_g_5.pth')
    with pytest.raises(CheckpointError, match=r'path:resume_state: .*net_g_5\.pth: damaged, .*sha256'):
        load_resume_state(_given(saved, state, auto_resume=False))
    opt = _given(saved, state, auto_resume=False)
    opt['path']['ignore_resume_networks'] = ['network_g']
    assert load_resume_state(opt)['iter'] == 5
    with pytest.raises(CheckpointError, match=r'net_g_10\.pth: not a training state'):
        load_resume_state(_given(saved, saved / 'models/net_g_10.pth', auto_resume=False))
    with pytest.raises(CheckpointError, match=r'7\.state: no such file'):
        load_resume_state(_given(new, saved / 'training_states/7.state'))
    assert load_resume_state(options(new)) is None


def test_the_seed_is_that_of_the_state(saved):
    opt = options(saved, manual_seed=99)
    load_resume_state(opt)
    assert opt['manual_seed'] == 3


def test_the_seed_that_was_asked_for_is_told_unless_it_was_drawn(saved):
    def state(**drawn):
        return load_resume_state({**options(saved, manual_seed=99), **drawn})
    assert state()['manual_seed_of_options'] == 99
    assert 'manual_seed_of_options' not in state(seed_was_drawn=True)


def test_a_start_that_sets_an_experiment_aside_is_told(tmp_path, capsys):
    opt = options(tmp_path)
    opt['path']['experiments_root'] = str(tmp_path / 'experiments/tiny')
    assert load_resume_state(opt) is None and 'warning' not in capsys.readouterr().out
    (tmp_path / 'experiments/tiny').mkdir(parents=True)
    assert load_resume_state({**opt, 'auto_resume': False}) is None and 'warning' not in capsys.readouterr().out
    assert load_resume_state(opt) is None
    assert capsys.readouterr().out == (
        'warning: --auto_resume: experiments/tiny has no training state, so the training starts at iteration 0; what '
        'is there is kept as tiny_archived_TIME.\n')


def test_left_overs_of_a_killed_process_are_removed(saved):
    for name in ('models/.net_g_20.pth.123.part', 'training_states/20.state.partial'):
        (saved / name).write_bytes(b'half')
    _resumed(saved)
    assert not list(saved.glob('*/.*.part')) and not list(saved.glob('*/*.partial'))


def test_keep_last_spares_the_best_networks(tmp_path):
    loop = training(tmp_path, logger={'keep_last': 2})
    run(loop, 1, 10)  # best: 10
    loop.model.best_metric_results['val']['score']['val'] = 1000.  # what comes is worse
    run(loop, 11, 30)
    assert _names(tmp_path / 'models') == ['net_g_10.pth', 'net_g_25.pth', 'net_g_30.pth']
    assert loop.checkpoints.iterations() == [25, 30]
    done = subprocess.run('sha256sum -c 10.sha256', shell=True, cwd=tmp_path / 'training_states', capture_output=True)
    assert done.returncode == 0
    loop.model.best_metric_results['val']['score'].update(val=0., iter=30)
    run(loop, 31, 35)
    assert _names(tmp_path / 'models') == ['net_g_30.pth', 'net_g_35.pth'], 'it is no longer the best'
    assert _names(tmp_path / 'training_states') == ['30.sha256', '30.state', '30.validated', '35.sha256', '35.state']


@pytest.mark.parametrize('value', [0, -1, 2.5, True, 'all'])
def test_keep_last_must_be_a_number(tmp_path, value):
    with pytest.raises(OptionsError, match='logger:keep_last: expected a whole number, 1 or more'):
        load_resume_state(options(tmp_path, logger={'keep_last': value}))


def _die(root, moment):
    """Write the checkpoint of iteration 10 and remove that of 5; killed before the n-th change of a file."""
    left = [moment]

    def count(event, arguments):
        if event in ('os.rename', 'os.remove') and str(arguments[0]).startswith(str(root)):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    loop = training(root, logger={'keep_last': 1})
    sys.addaudithook(count)
    run(loop, 6, 10)


def _die_at_every_change(folder):
    """Folders 0, 1, ..., in each of which a training died one change later; in the last one it did not."""
    for moment in range(100):
        root = folder / str(moment)
        root.mkdir()
        run(training(root), 1, 5)
        pid = os.fork()
        if not pid:
            _die(root, moment)
            os._exit(0)
        if os.waitpid(pid, 0)[1] != signal.SIGKILL:
            return


def test_killed_at_every_change_of_a_file(tmp_path):
    process = start_process(_die_at_every_change, tmp_path)
    process.join(200)
    folders = sorted(tmp_path.iterdir(), key=lambda path: int(path.name))
    assert process.exitcode == 0 and 15 < len(folders) < 100
    ends = []
    for root in folders:
        found = load_resume_state(options(root))['iter']
        ends.append(found)
        network = torch.load(root / f'models/net_g_{found}.pth', weights_only=True)['params']
        assert network['weight'].tolist() == [[found] * 2], 'networks and state belong together'
        run(training(root, logger={'keep_last': 1}), found + 1, 15)
        assert Checkpoints(options(root)).iterations() == [15]
        assert _names(root / 'training_states') == ['10.sha256', '15.sha256', '15.state']
    assert ends == sorted(ends) and set(ends) == {5, 10}
