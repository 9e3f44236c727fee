"""Real trainings that the guard stops or lowers, also when they are cut off on the way."""
import json
import sys

import pytest
import torch

from basicsr.train import train_pipeline
from basicsr_nriqa.models.guard import Guard
from basicsr_nriqa.models.guarded_training import GuardedTraining
from basicsr_nriqa.models.video_iqa_model import VideoIQAModel
from basicsr_nriqa.options import OptionsError
from basicsr_nriqa.training.checkpoints import Checkpoints
from basicsr_nriqa.training.state import CheckpointError


@pytest.fixture
def options(train_options):
    """Validations after 2 and 4 iterations lose less than 1 % PSNR, that after 6 more; a checkpoint after 4."""
    train_options['train'] |= {'total_iter': 8, 'ema_decay': 0.5, 'scheduler': {
        'type': 'MultiStepLR', 'milestones': [100]}}
    train_options['train']['iqa_opt']['tinyiqa'] |= {'loss_weight': -10, 'frames': 1}
    train_options['val'] |= {'val_freq': 2, 'guard': {'anchors': {'psnr': 1}, 'least_kept': None}}
    train_options['logger']['save_checkpoint_freq'] = 4
    return train_options


@pytest.fixture
def train(write_options, monkeypatch, tmp_path):
    """Train in this process; returns the folder of the experiment."""
    def run(options, *arguments, folder='project'):
        monkeypatch.setattr(sys, 'argv', ['train.py', '-opt', str(write_options(options)), *arguments])
        train_pipeline(str(tmp_path / folder))
        return tmp_path / folder / 'experiments' / options['name']
    return run


def _load(path):
    return torch.load(path, weights_only=True)


def _same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


def _left(folder):
    """All that a training leaves, but for its logs."""
    return {str(path.relative_to(folder)): _load(path) for path in folder.rglob('*')
            if path.suffix in ('.pth', '.state', '.validated')}


def test_a_training_that_turns_is_stopped_with_its_last_good_weights(train, options, log):
    folder = train(options)
    names = [path.name for path in (folder / 'scores').iterdir()]
    assert sorted(names) == [f'held_out_{iteration}.json' for iteration in (0, 2, 4, 6)]
    assert 'Guard, held_out: passed. psnr is' in log.text and 'Guard, held_out: failed. psnr is' in log.text
    assert 'stopped after iteration 6' in log.text and 'those of iteration 4; net_g_latest.pth gets them' in log.text

    latest, good, turned = (_load(folder / f'models/net_g_{name}.pth') for name in ('latest', 'good', 6))
    assert good['trained_with']['iteration'] == 4 and set(good) == {'params', 'params_ema', 'trained_with'}
    of_checkpoint = _load(folder / 'models/net_g_4.pth')
    for key in ('params', 'params_ema'):
        assert _same(latest[key], good[key]) and _same(good[key], of_checkpoint[key])
        assert not _same(turned[key], good[key])
    start = json.loads((folder / 'scores/held_out_0.json').read_text())['videos']
    assert sorted(path.name for path in (folder / 'guard/held_out').glob('*/*')) == sorted(
        clip.rpartition('/')[2] for clip in start)

    # once more: nothing is trained
    before = _left(folder)
    log.clear()
    train(options, '--auto_resume')
    assert 'was ended by val:guard after iteration 6; there is nothing left to do' in log.text
    assert 'iter:       7' not in log.text and 'Validation' not in log.text and _same(_left(folder), before)

    # without a guard it goes on from where it was
    del options['val']['guard']
    train(options, '--auto_resume')
    assert (folder / 'scores/held_out_8.json').exists()
    assert not _same(_load(folder / 'models/net_g_latest.pth')['params'], good['params'])


def test_a_guard_that_finds_nothing_changes_nothing(train, options):
    options['val']['guard'] = {'anchors': {'psnr': 100}, 'least_kept': 0, 'spectrum': False, 'patience': 9}
    guarded = _load(train(options) / 'models/net_g_latest.pth')
    del options['val']['guard']
    assert _same(_load(train(options, folder='free') / 'models/net_g_latest.pth'), guarded)


def test_a_lowered_weight_is_a_lower_weight(train, options, log):
    """From the first failure on, iteration 2, the steps are those of a training with half the weight."""
    options['val']['guard'] |= {'anchors': {'psnr': 0}, 'action': 'lower', 'factor': 0.5}
    options['train'] |= {'total_iter': 4, 'optim_g': {'type': 'Adam', 'lr': 1e-3}}
    options['logger']['save_checkpoint_freq'] = 2
    folder = train(options)
    assert 'the weights of tinyiqa are 0.5 times those of the options' in log.text and 'w_guard: 5.0000e-01' in log.text
    factors = [_load(folder / f'training_states/{iteration}.{kind}')['guard']['factor']
               for iteration, kind in ((2, 'state'), (2, 'validated'), (4, 'state'), (4, 'validated'))]
    assert factors[:3] == [1, 0.5, 0.5]

    del options['val']['guard']
    options |= {'path': {'resume_state': str(folder / 'training_states/2.state')}, 'name': 'halved'}
    options['train']['iqa_opt']['tinyiqa']['loss_weight'] /= 2
    models = folder.with_name('halved') / 'models'
    models.mkdir(parents=True)
    for sub in ('training_states', 'visualization'):
        (models.parent / sub).mkdir()
    (models / 'net_g_2.pth').write_bytes((folder / 'models/net_g_2.pth').read_bytes())
    halved = train(options)
    for key in ('params', 'params_ema'):
        assert _same(_load(halved / 'models/net_g_4.pth')[key], _load(folder / 'models/net_g_4.pth')[key])


def test_the_last_validation_is_judged_where_it_is_not_one_of_the_regular_ones(train, options):
    options['train']['total_iter'] = 7
    options['val'] |= {'val_freq': 4}
    folder = train(options)
    assert _load(folder / 'training_states/7.validated')['guard']['stopped'] == 7
    latest = _load(folder / 'models/net_g_latest.pth')
    assert _same(latest['params_ema'], _load(folder / 'models/net_g_4.pth')['params_ema'])


def test_a_complete_training_that_is_started_again_is_not_judged_again(train, options):
    """It fails at 5 and 8; once more at 8, with `patience` 3, and it would lose its last weights."""
    options['val'] |= {'val_freq': 5, 'guard': {'anchors': {'psnr': 0}, 'least_kept': None, 'patience': 3}}
    folder = train(options)
    before = _left(folder)
    assert before['training_states/8.validated']['guard']['violations'] == 2
    train(options, '--auto_resume')
    assert _same(_left(folder), before)


def test_a_set_cannot_be_added_on_the_way(train, options, log):
    options['train']['total_iter'] = 4
    train(options)
    options['datasets']['val_2'] = {**options['datasets']['val'], 'name': 'new'}
    options['train']['total_iter'] = 8
    log.clear()
    with pytest.raises(OptionsError, match='new was no validation set when this training started'):
        train(options, '--auto_resume')
    assert 'iter:       5' not in log.text


class _Killed(BaseException):
    pass


_STOPS = {'anchors': {'psnr': 1}, 'least_kept': None, 'spectrum': True}
_LOWERS = {'anchors': {'psnr': 0.3}, 'least_kept': 0.2, 'action': 'lower', 'patience': 2}
_slow = pytest.mark.slow


@pytest.mark.parametrize('guard, place, count', [
    (_STOPS, (VideoIQAModel, 'optimize_parameters'), 6),
    (_LOWERS, (VideoIQAModel, 'optimize_parameters'), 7),
    (_STOPS, (Checkpoints, 'set_validated'), 2),
    pytest.param(_STOPS, (GuardedTraining, 'load_good'), 1, marks=_slow),
    pytest.param(_STOPS, (Guard, 'judge'), 3, marks=_slow),
    pytest.param(_STOPS, (VideoIQAModel, 'optimize_parameters'), 2, marks=_slow),
    pytest.param(_STOPS, (Guard, 'look'), 1, marks=_slow),
    pytest.param(_STOPS, (Guard, 'judge'), 1, marks=_slow),
    pytest.param(_STOPS, (Guard, 'judge'), 4, marks=_slow),
    pytest.param(_STOPS, (Checkpoints, 'commit'), 2, marks=_slow),
    pytest.param(_STOPS, (Checkpoints, 'set_validated'), 1, marks=_slow),
    pytest.param(_LOWERS, (VideoIQAModel, 'optimize_parameters'), 5, marks=_slow),
    pytest.param(_LOWERS, (Checkpoints, 'set_validated'), 1, marks=_slow),
    pytest.param(_LOWERS, (Checkpoints, 'set_validated'), 2, marks=_slow),
    pytest.param(_LOWERS, (Guard, 'judge'), 5, marks=_slow),
])
def test_a_training_that_is_cut_off_is_judged_as_the_whole_one(train, options, monkeypatch, guard, place, count):
    """Cut off before the so many-th call of a function."""
    options['val']['guard'] = guard
    whole = train(options, folder='whole')
    owner, name = place
    calls, function = [], getattr(owner, name)

    def cut(*arguments, **more):
        calls.append(1)
        if len(calls) == count:
            raise _Killed
        return function(*arguments, **more)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, cut)
        with pytest.raises(_Killed):
            train(options, '--auto_resume')
    folder = train(options, '--auto_resume')
    assert _same(_left(folder), _left(whole))
    end = _load(max(folder.glob('training_states/*.validated')))['guard']
    assert (end['stopped'], end['factor'] < 1) == ((6, False) if guard is _STOPS else (None, True))


def test_what_a_resumed_training_needs_is_missed_before_it_goes_on(train, options, monkeypatch):
    options['train']['total_iter'] = 4
    folder = train(options)
    frame = next((folder / 'guard').rglob('*.png'))
    content = frame.read_bytes()
    frame.unlink()
    with pytest.raises(CheckpointError, match=rf'{frame.parent}: missing or damaged(?s:.*)val:guard:spectrum to false'):
        train(options, '--auto_resume')
    options['val']['guard']['spectrum'] = False
    train(options, '--auto_resume')
    options['val']['guard']['spectrum'] = True
    frame.write_bytes(content[:-50] + bytes(50))
    with pytest.raises(CheckpointError, match='missing or damaged'):
        train(options, '--auto_resume')
    frame.write_bytes(content)
    good = folder / 'models/net_g_good.pth'
    good.rename(folder / 'models/away.pth')
    with pytest.raises(CheckpointError, match=r'net_g_good\.pth: no such file.* those of iteration 4'):
        train(options, '--auto_resume')


def test_a_guard_cannot_be_added_on_the_way(train, options):
    guard = options['val'].pop('guard')
    options['train']['total_iter'] = 4
    train(options)
    options['val']['guard'] = guard
    with pytest.raises(OptionsError, match='the start network was not measured when this training started'):
        train(options, '--auto_resume')


def test_its_options_are_checked_before_anything_is_built(train, options):
    options['val']['guard']['anchors'] = {'pnsr': 1}
    with pytest.raises(OptionsError, match=r"val:guard:anchors:pnsr: .* \(did you mean 'psnr'\?\)"):
        train(options)
