"""Training against a discriminator: the generator's gradient, the discriminator's step, what is saved and resumed."""
import copy
import logging
import math

import pytest
import torch
from basicsr.models import build_model
from basicsr.utils.registry import ARCH_REGISTRY
from conftest import ROOT
from test_video_iqa_model import _batch, prepared  # noqa: F401
from torch import distributed, multiprocessing, nn

from basicsr_nriqa.iqa import random_weights
from basicsr_nriqa.models.iseebetter_model import AdversarialLoss, frames_of
from basicsr_nriqa.options import OptionsError, read_options


@ARCH_REGISTRY.register()
class TinyDiscriminator(nn.Sequential):
    """With a batch normalisation and a fraction of SRGAN's time."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3, 4), nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(0), nn.Sigmoid())


@pytest.fixture
def gan_options(prepared):  # noqa: F811
    def prepare(**changes):
        return prepared(**{
            'model_type': 'ISeeBetterModel', 'network_d': {'type': 'TinyDiscriminator'},
            'train__gan_opt': {'loss_weight': 0.5}, 'train__optim_d': {'type': 'SGD', 'lr': 1.0},
            'train__optim_g': {'type': 'SGD', 'lr': 1.0},
            'train__iqa_opt': {'tv': {'type': 'TotalVariationLoss', 'loss_weight': 0.1}}, **changes})
    return prepare


def _step(model, batch, iteration=1):
    model.feed_data(batch)
    model.optimize_parameters(iteration)
    return model.get_current_log()


def _state(model):
    return {f'{name}.{key}': value.clone() for name in ('net_g', 'net_d')
            for key, value in getattr(model, name).state_dict().items()}


def _assert_equal(one, other):
    assert one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_one_step_of_both_networks(gan_options):
    """Against the naive sum of the generator's losses and against the discriminator's loss, written out."""
    opt = gan_options(network_d={'type': 'SRGANDiscriminator'})
    model, batch = build_model(opt), _batch(opt)
    naive, discriminator = copy.deepcopy(model.net_g), copy.deepcopy(model.net_d)
    before = _state(model)
    output = naive(batch['lq'])
    (model.losses['pix'](output, batch['gt']) + model.losses['tv'](output)
     - 0.5 * discriminator(output.flatten(0, 1)).mean()).backward()
    discriminator = copy.deepcopy(model.net_d)  # the generator's call leaves no trace in it
    real = discriminator(batch['gt'].flatten(0, 1)).mean()
    fake = discriminator(output.detach().flatten(0, 1)).mean()
    (1 - real + fake).backward()

    log = _step(model, batch)
    for name, parameter in naive.named_parameters():
        moved = before[f'net_g.{name}'] - model.net_g.get_parameter(name)
        torch.testing.assert_close(moved, parameter.grad, rtol=1e-3, atol=1e-6)
    for name, parameter in discriminator.named_parameters():
        moved = before[f'net_d.{name}'] - model.net_d.get_parameter(name)
        torch.testing.assert_close(moved, parameter.grad, rtol=1e-3, atol=1e-6)
    for name, buffer in discriminator.named_buffers():
        torch.testing.assert_close(model.net_d.get_buffer(name), buffer)
    expected = {'d_real': real.item(), 'd_fake': fake.item(), 'l_d': (1 - real + fake).item()}
    assert {name: log[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert log['l_gan'] == pytest.approx(-0.5 * log['d_fake'], abs=1e-4)
    assert {'l_pix', 'l_tv'} <= log.keys()


def test_the_adversarial_loss_leaves_the_discriminator_as_it_is():
    network = TinyDiscriminator()
    before = copy.deepcopy(network.state_dict())
    loss, clips = AdversarialLoss(network, 2.0), torch.rand(2, 3, 3, 16, 16, requires_grad=True)
    value = loss(clips)
    value.backward()
    assert clips.grad.any() and all(parameter.grad is None for parameter in network.parameters())
    _assert_equal(network.state_dict(), before)
    assert all(parameter.requires_grad for parameter in network.parameters()) and network[1].track_running_stats
    assert not list(loss.parameters())
    assert value.item() == pytest.approx(-2 * network(frames_of(clips)).mean().item(), rel=1e-5)
    assert 0 < loss.deficit(value).item() < 2


def test_parts_of_a_batch_are_the_whole(gan_options):
    """But for batch statistics, which are those of a part; without them both are equal."""
    opt = gan_options(datasets__train__batch_size_per_gpu=2)
    models = [build_model(opt), build_model(gan_options(datasets__train__batch_size_per_gpu=2, train__accumulate=2))]
    batch = {name: torch.cat([value, value.flip(-1)]) for name, value in _batch(opt).items()
             if isinstance(value, torch.Tensor)}
    models[1].net_g.load_state_dict(models[0].net_g.state_dict())
    models[1].net_d.load_state_dict(models[0].net_d.state_dict())
    for model in models:
        model.net_d.eval()
        _step(model, batch)
    for name, value in _state(models[0]).items():
        torch.testing.assert_close(_state(models[1])[name], value, rtol=1e-3, atol=1e-6)


def test_goes_on_from_a_checkpoint_to_the_bit(gan_options, tmp_path):
    changes = {'train__optim_g': {'type': 'Adam', 'lr': 1e-3}, 'train__optim_d': {'type': 'Adam', 'lr': 1e-2}}
    opt = gan_options(**changes)
    model, batch = build_model(opt), _batch(opt)
    for iteration in (1, 2):
        model.update_learning_rate(iteration)
        _step(model, batch, iteration)
    model.save(0, 2)
    folder = tmp_path / 'experiments' / 'tiny'
    model.update_learning_rate(3)
    expected = _step(model, batch, 3)
    # as BasicSR sets the paths on resuming
    fresh = build_model(gan_options(**changes, path__pretrain_network_g=str(folder / 'models/net_g_2.pth'),
                                    path__pretrain_network_d=str(folder / 'models/net_d_2.pth')))
    fresh.resume_training(torch.load(folder / 'training_states/2.state', weights_only=True))
    fresh.update_learning_rate(3)
    assert _step(fresh, batch, 3) == expected
    _assert_equal(_state(fresh), _state(model))
    assert fresh.optimizer_d.param_groups[0]['lr'] == model.optimizer_d.param_groups[0]['lr'] != 1e-2


def test_the_scale_of_half_precision_is_resumed(gan_options, tmp_path):
    models = [build_model(gan_options(train__precision='fp16')) for _ in range(2)]
    models[0].step_d.scale(torch.ones(1))
    models[0].step_d.scaler.update(123.0)
    models[0].save(0, 2)
    models[1].resume_training(torch.load(tmp_path / 'experiments/tiny/training_states/2.state', weights_only=True))
    assert models[1].step_d.scale(torch.ones(1)).item() == 123


def test_a_skipped_iteration_does_not_train_the_discriminator(gan_options):
    opt = gan_options()
    model, batch = build_model(opt), _batch(opt)
    before = _state(model)
    batch['gt'][0, 0, 0, 0, 0] = math.nan
    log = _step(model, batch)
    assert log['skipped'] == 1 and 'l_d' not in log
    _assert_equal(_state(model), before)
    assert 'l_d' in _step(model, _batch(opt), 2)


def test_a_discriminator_that_is_not_finite_is_reported(gan_options, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('basicsr'), 'propagate', True)
    opt = gan_options()
    model, batch = build_model(opt), _batch(opt)
    model.net_d[0].weight.register_hook(lambda gradient: gradient * math.nan)
    before = copy.deepcopy(dict(model.net_d.named_parameters()))
    _step(model, batch, 7)
    assert 'Iteration 7: the gradient of the discriminator is not finite' in caplog.text
    _assert_equal(dict(model.net_d.named_parameters()), before)


def _on_one_rank(rank, opt, batch, folder):
    distributed.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    torch.manual_seed(0)
    model = build_model({**opt, 'dist': True, 'rank': rank, 'world_size': 2})
    logs = [_step(model, {name: value[rank:rank + 1] for name, value in batch.items()})]
    model.net_d.module[0].weight.register_hook(lambda gradient: gradient * (math.nan if rank else 1))
    logs.append(_step(model, {name: value[rank:rank + 1] for name, value in batch.items()}, 2))
    torch.save([logs, [parameter.detach() for parameter in model.net_d.parameters()]], f'{folder}/{rank}.pth')
    distributed.destroy_process_group()


def test_two_ranks_step_alike(gan_options, tmp_path):
    """Forked, since a new interpreter would import everything again."""
    opt = gan_options(train__accumulate=1)
    batch = {name: torch.cat([value, value.flip(-1)]) for name, value in _batch(opt).items()
             if isinstance(value, torch.Tensor)}
    multiprocessing.start_processes(_on_one_rank, (opt, batch, str(tmp_path)), nprocs=2, start_method='fork')
    (logs, first), (_, second) = (torch.load(tmp_path / f'{rank}.pth', weights_only=True) for rank in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second))
    torch.manual_seed(0)
    # each rank has batch statistics of its own, as each part of an accumulated batch has
    one = build_model(gan_options(train__accumulate=2, datasets__train__batch_size_per_gpu=2))
    log = _step(one, batch)
    for name in ('l_d', 'd_real', 'd_fake', 'l_gan', 'l_pix'):
        assert logs[0][name] == pytest.approx(log[name], rel=1e-4)
    for mine, parameter in zip(first, one.net_d.parameters()):  # the second step was skipped on both
        torch.testing.assert_close(mine, parameter.detach(), rtol=1e-3, atol=1e-5)


def test_the_shipped_options_build_and_train():
    options = read_options(ROOT / 'options' / 'iseebetter_gan.yml')
    assert options['network_g']['type'] == 'ISeeBetter' and options['train']['iqa_opt'].keys() == {'vgg', 'tv'}
    assert options['train']['iqa_opt']['tv']['loss_weight'] == 2e-8
    options['network_g'] = {'type': 'ISeeBetter', 'base_filter': 8, 'num_feat': 4, 'num_block': 1, 'num_frame': 3}
    options |= {'num_gpu': 0, 'is_train': True, 'dist': False, 'rank': 0, 'world_size': 1}
    with random_weights():
        model = build_model(options)
    log = _step(model, {'lq': torch.rand(1, 3, 3, 16, 16), 'gt': torch.rand(1, 3, 3, 64, 64)})
    assert {'l_pix', 'l_vgg', 'l_tv', 'l_gan', 'l_d', 'd_real', 'd_fake'} <= log.keys()
    assert all(math.isfinite(value) for value in log.values())


@pytest.mark.parametrize('changes, message', [
    ({'network_d': None}, 'network_d: is missing'),
    ({'network_d': {'type': 'SRGANDiscriminator', 'depth': 3}}, 'network_d:depth: unknown option'),
    ({'network_d': {'type': 'SRGANDiscriminato'}}, "network_d:type: no network is called 'SRGANDiscriminato'"),
    ({'train__optim_d': None}, 'train:optim_d: is missing'),
    ({'train__optim_d': {'type': 'Adam', 'lr': 1, 'beta': 1}}, 'train:optim_d:beta: unknown option'),
    ({'train__optim_d': {'type': 'Adm', 'lr': 1}}, "train:optim_d:type: 'Adm' is not known"),
    ({'train__gan_opt': {'weight': 1}}, 'train:gan_opt:weight: unknown option'),
    ({'train__gan_opt': {'loss_weight': -1}}, 'train:gan_opt:loss_weight: expected a number above 0, got -1'),
    ({'train__iqa_opt': {'gan': {'type': 'TotalVariationLoss'}}}, 'train:iqa_opt:gan: is the name of'),
    ({'train__balance_opt': {'type': 'constant', 'weights': {'pix': 1, 'tv': 1}}}, 'give a number for gan too'),
])
def test_bad_options_are_refused(gan_options, changes, message):
    with pytest.raises(OptionsError) as error:
        gan_options(**changes)
    assert message in str(error.value)
