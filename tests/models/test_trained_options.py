"""A resumed training names the options that are not those of its state, and goes on as it can."""
import sys

import pytest
import torch
from basicsr.models import build_model
from test_video_iqa_model import prepared  # noqa: F401

from basicsr.train import train_pipeline
from basicsr_nriqa.models.trained_options import options_of_training

WARNING = 'The training goes on with other options than those of its state'


@pytest.fixture
def train(train_options, write_options, monkeypatch, project):
    """Train in this process with options at these places changed; returns the folder of the experiment."""
    train_options['logger']['print_freq'] = 1
    train_options['train']['total_iter'] = 2

    def run(**changes):
        monkeypatch.setattr(sys, 'argv', [
            'train.py', '-opt', str(write_options(train_options)), '--auto_resume', '--force_yml', 'val=null',
            *(f"{place.replace('__', ':')}={value}" for place, value in changes.items())])
        train_pipeline(str(project))
        return project / 'experiments/tiny'
    return run


def _warnings(log):
    return [record.getMessage() for record in log.records if record.getMessage().startswith(WARNING)]


def _state(folder, iteration):
    return torch.load(folder / f'training_states/{iteration}.state', weights_only=True)


def _same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


def test_one_warning_names_each_difference_and_what_is_without_effect(train, log):
    train()
    assert _warnings(log) == []
    log.clear()
    folder = train(train__optim_g__lr=1e-5, train__optim_g__type='AdamW', train__flow_lr_mul=0.5,
                   train__scheduler__eta_min=1e-7, train__iqa_opt__tinyiqa__loss_weight=-0.5, train__clip_norm=1,
                   datasets__train__use_rot=False, datasets__train__num_worker_per_gpu=1, manual_seed=7,
                   train__total_iter=3)
    warning, = _warnings(log)
    fixed = ' (without effect: the state has it)'
    assert sorted(warning.splitlines()[1:-1]) == sorted([
        '- manual_seed: 0 -> 7 (without effect: the seed is that of the state)',
        f'- train:optim_g:lr: 0.0004 -> 1e-05{fixed}',
        '- train:optim_g:type: Adam -> AdamW',
        f'- train:flow_lr_mul: not given -> 0.5{fixed}',
        f'- train:scheduler:eta_min: not given -> 1e-07{fixed}',
        '- train:iqa_opt:tinyiqa:loss_weight: -0.01 -> -0.5',
        '- train:clip_norm: not given -> 1',
        '- datasets:train:use_rot: not given -> False'])
    assert warning.splitlines()[-1].endswith('starts from the weights (path:pretrain_network_g).')
    state = _state(folder, 3)
    assert state['manual_seed'] == 0 and state['schedulers'][0]['eta_min'] == 0
    assert {group['initial_lr'] for group in state['optimizers'][0]['param_groups']} == {4e-4}
    # what was without effect is not what it was trained with: the next one is warned as well
    assert state['options']['train:optim_g:lr'] == 4e-4 and state['options']['train:clip_norm'] == 1
    log.clear()
    train(train__optim_g__lr=1e-5, train__optim_g__type='AdamW', train__iqa_opt__tinyiqa__loss_weight=-0.5,
          train__clip_norm=1, datasets__train__use_rot=False, train__total_iter=4)
    warning, = _warnings(log)
    assert warning.splitlines()[1:-1] == [f'- train:optim_g:lr: 0.0004 -> 1e-05{fixed}']


def test_a_seed_that_is_drawn_and_data_that_have_moved_are_no_difference(train, train_options, log, sample, tmp_path):
    del train_options['manual_seed']
    train()
    (tmp_path / 'moved').symlink_to(sample)
    for key in ('dataroot_gt', 'dataroot_lq', 'meta_info_file'):
        train_options['datasets']['train'][key] = train_options['datasets']['train'][key].replace(
            str(sample), str(tmp_path / 'moved'))
    log.clear()
    train(train__total_iter=3)
    assert 'Resuming training from epoch' in log.text and _warnings(log) == []


def test_states_without_options_resume_as_before(train, log):
    folder = train()
    path = folder / 'training_states/2.state'
    state = _state(folder, 2)
    del state['options']
    torch.save(state, path)
    path.with_suffix('.sha256').unlink()
    log.clear()
    train(train__optim_g__lr=1e-5, train__total_iter=3)
    assert _warnings(log) == [] and 'options' in _state(folder, 3)


def test_a_training_that_is_extended_is_the_one_that_was_longer_from_the_start(train, log):
    folder = train()
    assert sorted(path.name for path in folder.glob('training_states/*')) == ['2.sha256', '2.state']
    log.clear()
    train()
    assert 'The training is complete: iteration 2 of 2. Raise train:total_iter to go on.' in log.messages
    train(train__total_iter=4)
    extended = _state(folder, 4)
    folder.rename(folder.with_name('extended'))
    train(train__total_iter=4)
    assert _same(extended, _state(folder, 4))
    assert _same(*(torch.load(path / 'models/net_g_4.pth', weights_only=True)
                   for path in (folder, folder.with_name('extended'))))


def test_adam_goes_on_from_adamw_as_the_warning_says(prepared, log, tmp_path):  # noqa: F811
    """In newer versions of PyTorch the state makes it AdamW, and that is said; in older ones it is Adam."""
    decay = {'lr': 1e-3, 'weight_decay': 0.5}
    build_model(prepared(train__optim_g={'type': 'AdamW', **decay})).save_training_state(0, 2)
    state = torch.load(tmp_path / 'experiments/tiny/training_states/2.state', weights_only=True)
    model = build_model(prepared(train__optim_g={'type': 'Adam', **decay}))
    model.resume_training(state)
    weights = [parameter.detach().clone() for parameter in model.net_g.parameters()]
    for parameter in model.net_g.parameters():
        parameter.grad = torch.zeros_like(parameter)
    model.optimizer_g.step()
    # without a gradient, AdamW makes weights smaller by lr * weight_decay, and Adam makes steps of lr
    is_adamw = all(torch.allclose(new, old * (1 - 5e-4), rtol=1e-6, atol=0)
                   for new, old in zip(model.net_g.parameters(), weights))
    line, = [line for line in _warnings(log)[0].splitlines() if 'AdamW' in line]
    assert line == '- train:optim_g:type: AdamW -> Adam' + is_adamw * ' (without effect: the state has it)'


@pytest.mark.parametrize('scheduler, fixed, own', [
    ({'type': 'CosineAnnealingRestartLR', 'periods': [20], 'restart_weights': [1]}, ['periods'], []),
    ({'type': 'MultiStepLR', 'milestones': [7], 'gamma': 0.3}, [],
     ['type', 'milestones', 'gamma', 'periods', 'restart_weights'])])
def test_schedules(prepared, log, tmp_path, scheduler, fixed, own):  # noqa: F811
    build_model(prepared()).save_training_state(0, 2)
    state = torch.load(tmp_path / 'experiments/tiny/training_states/2.state', weights_only=True)
    model = build_model(prepared(train__scheduler=dict(scheduler)))
    model.resume_training(state)
    lines = _warnings(log)[0].splitlines()[1:]
    is_fixed = {line.split(': ')[0].rpartition(':')[2]: 'without effect' in line for line in lines if '->' in line}
    assert is_fixed == {**dict.fromkeys(fixed, True), **dict.fromkeys(own, False)}
    for name in fixed:
        assert getattr(model.schedulers[0], name) != scheduler[name]
    for name in set(own) & set(scheduler) - {'type'}:
        assert getattr(model.schedulers[0], name) == scheduler[name] or name == 'milestones'


def test_what_decides_what_is_trained():
    found = options_of_training({
        'train': {'total_iter': 5, 'clip_norm': None, 'iqa_opt': {}, 'optim_g': {'lr': 1e-3, 'betas': (0.9, 0.99)}},
        'datasets': {'train': {'name': 'x', 'type': 'ClipMixtureDataset', 'pin_memory': True, 'datasets': {
            'reds': {'ratio': 0.5, 'dataroot_gt': '/data/a', 'io_backend': {'type': 'lmdb'},
                     'meta_info_file': '/data/list.txt'}}}, 'val': {'num_frame': 3}},
        'network_g': {'type': 'VRT', 'depths': [1, [2]]}, 'network_d': {'type': 'D'}, 'val': {'val_freq': 3}})
    assert found == {'train:optim_g:lr': 1e-3, 'train:optim_g:betas': [0.9, 0.99],
                     'datasets:train:type': 'ClipMixtureDataset', 'datasets:train:datasets:reds:ratio': 0.5,
                     'datasets:train:datasets:reds:meta_info_file': 'list.txt', 'network_g:type': 'VRT',
                     'network_g:depths': [1, [2]], 'network_d:type': 'D'}
