import copy
import json
import logging
import signal
import sys
from pathlib import Path

import pytest
import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.models import build_model
from basicsr.utils.options import parse_options

from basicsr_nriqa.options import OptionsError
from basicsr_nriqa.training.stop import Stop


@pytest.fixture
def prepared(train_options, write_options, monkeypatch, tmp_path):
    """Options as BasicSR hands them to a model, the folders made."""
    def prepare(is_train=True, **changes):
        options = copy.deepcopy(train_options)
        for place, value in changes.items():
            *parents, last = place.split('__')
            target = options
            for key in parents:
                target = target[key]
            target[last] = value
        monkeypatch.setattr(sys, 'argv', ['train.py', '-opt', str(write_options(options))])
        opt, _ = parse_options(str(tmp_path), is_train)
        for key in ('models', 'training_states'):
            if is_train:
                (tmp_path / 'experiments' / 'tiny' / key).mkdir(parents=True, exist_ok=True)
        return opt
    return prepare


def _batch(opt):
    dataset = build_dataset(opt['datasets']['train'])
    return next(iter(torch.utils.data.DataLoader(dataset, batch_size=1)))


def _validate(model, opt, iteration=4, save_img=False):
    dataset_opt = opt['datasets']['val']
    loader = build_dataloader(build_dataset(dataset_opt), dataset_opt, num_gpu=0, dist=False, sampler=None, seed=0)
    model.validation(loader, iteration, None, save_img)


def test_the_step_is_that_of_the_naive_sum(prepared):
    opt = prepared(train__iqa_opt={
        'tinyiqa': {'type': 'IQALoss', 'metric': 'tinyiqa', 'loss_weight': -0.5},
        'gmsd': {'type': 'IQALoss', 'metric': 'gmsd', 'loss_weight': 0.7}}, train__optim_g={'type': 'SGD', 'lr': 1.0})
    model = build_model(opt)
    batch = _batch(opt)
    naive = copy.deepcopy(model.net_g)
    output = naive(batch['lq'])
    sum(loss(output, batch['gt']) for loss in model.losses.values()).backward()
    before = {name: value.detach().clone() for name, value in model.net_g.named_parameters()}
    model.feed_data(batch)
    model.optimize_parameters(1)
    for (name, new), parameter in zip(model.net_g.named_parameters(), naive.parameters()):
        torch.testing.assert_close(before[name] - new, parameter.grad, rtol=1e-3, atol=1e-6)
    losses = ('pix', 'tinyiqa', 'gmsd')
    assert set(model.get_current_log()) == {'grad_norm', *(f'{kind}_{name}' for kind in 'lg' for name in losses),
                                            'cos_tinyiqa~pix', 'cos_gmsd~pix', 'cos_gmsd~tinyiqa'}


def test_metric_weights_are_in_no_state_and_no_optimiser(prepared):
    model = build_model(prepared())
    assert len(list(model.net_g.parameters())) == sum(len(group['params']) for group in model.optimizer_g.param_groups)
    assert not any('metric' in name for name in model.net_g.state_dict())


def test_checkpoint_says_what_trained_it_and_loads_in_stock_basicsr(prepared):
    opt = prepared(train__ema_decay=0.5)
    model = build_model(opt)
    model.feed_data(_batch(opt))
    model.optimize_parameters(1)
    model.save(0, 1)
    path = f"{opt['path']['models']}/net_g_1.pth"
    content = torch.load(path, weights_only=True)
    assert content['trained_with']['loss'] == 'tinyiqa' and content['trained_with']['iteration'] == 1
    fresh = build_model(prepared(path__pretrain_network_g=path))
    for name, value in model.net_g.state_dict().items():
        assert torch.equal(value, fresh.net_g.state_dict()[name])
    from basicsr.models.base_model import BaseModel
    BaseModel.load_network(model, fresh.net_g, path, True, 'params_ema')
    assert torch.equal(fresh.net_g.conv_last.weight, model.net_g_ema.conv_last.weight)


def test_moving_average(prepared):
    opt = prepared(train__ema_decay=0.75)
    model = build_model(opt)
    before = model.net_g.conv_last.weight.detach().clone()
    assert torch.equal(model.net_g_ema.conv_last.weight, before)
    model.feed_data(_batch(opt))
    model.optimize_parameters(1)
    expected = 0.75 * before + 0.25 * model.net_g.conv_last.weight
    torch.testing.assert_close(model.net_g_ema.conv_last.weight, expected)
    model.feed_data(_batch(opt))
    model.test()
    with torch.no_grad():
        assert torch.equal(model.output, model.net_g_ema(model.lq))  # validation uses the average
    assert model.net_g.training and not model.net_g_ema.training


def test_flow_is_fixed_and_released(prepared):
    opt = prepared(train__fix_flow=3, train__flow_lr_mul=0.25, train__optim_g={'type': 'AdamW', 'lr': 1e-3})
    model = build_model(opt)
    assert [group['lr'] for group in model.optimizer_g.param_groups] == [1e-3, 2.5e-4]
    batch, flow = _batch(opt), model.net_g.spynet.basic_module[5].basic_module[8].weight
    start = flow.detach().clone()
    for iteration, moved in ((1, False), (2, False), (3, True)):
        model.feed_data(batch)
        model.optimize_parameters(iteration)
        assert (not torch.equal(flow, start)) == moved


def test_validation_report_images_and_scores(prepared, caplog, monkeypatch):
    opt = prepared()
    opt['datasets']['val_2'] = {**opt['datasets']['val'], 'name': 'without_gt', 'dataroot_gt': None}
    model = build_model(opt)
    monkeypatch.setattr(logging.getLogger('basicsr'), 'propagate', True)
    with caplog.at_level(logging.INFO, 'basicsr'):
        _validate(model, opt, save_img=True)
        _validate(model, {**opt, 'datasets': {'val': opt['datasets']['val_2']}})
    text = caplog.text
    assert 'Validation held_out' in text and '# psnr:' in text and 'Best:' in text
    assert 'without_gt has no GT (dataroot_gt) to compare with: psnr left out' in text and model.net_g.training
    root = opt['path']['experiments_root']
    scores = json.loads(Path(root, 'scores/held_out_4.json').read_text())
    assert set(scores['videos']) == {'00002/0001', '00002/0002'} and scores['optimised'] == ['tinyiqa']
    assert scores['lower_better'] == {'psnr': False, 'tinyiqa': False} and scores['versions']['basicsr'] == '1.4.2'
    assert set(json.loads(Path(root, 'scores/without_gt_4.json').read_text())['videos']['00002/0001']) == {'tinyiqa'}
    # the saved frames give the scores: nothing was measured that a user cannot see
    import cv2
    from basicsr.metrics import calculate_metric
    for clip, values in scores['videos'].items():
        found = []
        for number in (1, 2):
            frame = cv2.imread(f"{opt['path']['visualization']}/held_out/{clip}/im{number}_4.png")
            found.append(calculate_metric({'img': frame}, {'type': 'calculate_iqa', 'metric': 'tinyiqa'}))
        assert values['tinyiqa'] == pytest.approx(sum(found) / 2, abs=1e-6)


def test_validation_without_metrics(prepared):
    opt = prepared(val__metrics=None)
    _validate(build_model(opt), opt)


def test_a_foreign_checkpoint_is_refused(prepared, tmp_path):
    torch.save({'params': {'conv.weight': torch.zeros(1)}}, tmp_path / 'other.pth')
    opt = prepared(path__pretrain_network_g=str(tmp_path / 'other.pth'))
    with pytest.raises(OptionsError, match=r'path:pretrain_network_g: .*other\.pth: Not a BasicVSRPP checkpoint'):
        build_model(opt)


def test_a_validation_is_left_between_clips_only_where_resuming_does_it_again(prepared, monkeypatch):
    stop = Stop()
    monkeypatch.setattr('basicsr_nriqa.models.clip_validation.stop', stop)
    opt = prepared()
    model = build_model(opt)
    restored, restore = [], model._restore

    def restore_and_be_asked_to_stop(item):
        restored.append(item['folder'])
        stop._request(signal.SIGTERM, None)
        return restore(item)
    monkeypatch.setattr(model, '_restore', restore_and_be_asked_to_stop)
    scores = Path(opt['path']['experiments_root'], 'scores/held_out_4.json')
    stop.in_validation = True
    with pytest.raises(SystemExit) as left:
        _validate(model, opt)
    assert left.value.code == 128 + signal.SIGTERM and len(restored) == 1 and not scores.exists()
    stop.in_validation = False
    _validate(model, opt)
    assert len(restored) == 3 and scores.exists()
