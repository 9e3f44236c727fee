"""One iteration of training: the engine against plain PyTorch, its options, and what is not finite."""
import copy
import logging

import pytest
import torch
from basicsr.losses import build_loss
from basicsr.models import build_model
from basicsr.utils.registry import ARCH_REGISTRY
from test_video_iqa_model import prepared  # noqa: F401

from basicsr_nriqa.options import OptionsError
from basicsr_nriqa.training.stop import stop

TINY_VRT = {'type': 'VRT', 'upscale': 4, 'img_size': [2, 16, 16], 'window_size': [2, 8, 8], 'depths': [1] * 8,
            'indep_reconsts': [], 'embed_dims': [8] * 8, 'num_heads': [2] * 8, 'pa_frames': 2, 'deformable_groups': 2,
            'drop_path_rate': 0}
NETWORKS = {
    'BasicVSRPP': {'type': 'BasicVSRPP', 'mid_channels': 8, 'num_blocks': 1},
    'ISeeBetter': {'type': 'ISeeBetter', 'base_filter': 8, 'num_feat': 8, 'num_block': 1, 'num_frame': 3},
    'VRT': TINY_VRT}
LOSSES = {'tinyiqa': {'type': 'IQALoss', 'metric': 'tinyiqa', 'loss_weight': -0.5},
          'gmsd': {'type': 'IQALoss', 'metric': 'gmsd', 'loss_weight': 0.7},
          'ssim': {'type': 'IQALoss', 'metric': 'ssim', 'loss_weight': -0.3}}
SGD = {'type': 'SGD', 'lr': 1.0}


def batch(seed=0, count=2, frames=2, side=16):
    generator = torch.Generator().manual_seed(seed)
    gt = torch.nn.functional.interpolate(torch.rand(count * frames, 3, side, side, generator=generator),
                                         scale_factor=4, mode='bicubic').clamp(0, 1)
    lq = torch.nn.functional.avg_pool2d(gt, 4)
    return {'lq': lq.unflatten(0, (count, frames)), 'gt': gt.unflatten(0, (count, frames))}


def step(model, data, iteration=1):
    model.feed_data(data)
    model.optimize_parameters(iteration)
    return model


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.get_bare_model(model.net_g).parameters()])


@pytest.mark.parametrize('network', NETWORKS)
def test_the_gradient_is_that_of_the_naive_sum(prepared, network):  # noqa: F811
    model = build_model(prepared(train__iqa_opt=LOSSES, train__optim_g=SGD, network_g=NETWORKS[network]))
    data = {key: value.double() for key, value in batch().items()}
    model.net_g.double()
    naive = copy.deepcopy(model.net_g)
    output = naive(data['lq'])
    sum(loss(output, data['gt']) for loss in model.losses.values()).backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in naive.parameters()])
    before = weights_of(model)
    step(model, data)
    got = torch.cat([parameter.grad.flatten() for parameter in model.net_g.parameters()])
    assert (got - expected).norm() < 1e-6 * expected.norm() and expected.norm() > 0
    torch.testing.assert_close(weights_of(model), before - got)
    log = model.get_current_log()
    assert log['grad_norm'] == pytest.approx(expected.norm().item(), rel=1e-4)


def test_log_has_values_norms_and_cosines_at_the_output(prepared):  # noqa: F811
    model = build_model(prepared(train__iqa_opt=LOSSES, train__optim_g=SGD))
    data = batch()
    with torch.no_grad():
        output = model.net_g(data['lq'])
    gradients = {}
    step(model, data)
    log = model.get_current_log()
    for name, loss in model.losses.items():
        leaf = output.clone().requires_grad_()
        value = loss(leaf, data['gt'])
        gradients[name], = torch.autograd.grad(value, leaf)
        assert log[f'l_{name}'] == pytest.approx(value.item(), rel=1e-5)
        assert log[f'g_{name}'] == pytest.approx(gradients[name].norm().item(), rel=1e-4)
    cosine = torch.nn.functional.cosine_similarity(gradients['ssim'].flatten(), gradients['pix'].flatten(), 0)
    assert log['cosines/ssim~pix'] == pytest.approx(cosine.item(), abs=1e-4)
    assert log['cos_min'] == min(value for key, value in log.items() if key.startswith('cosines/'))


@pytest.mark.parametrize('balance', [{'type': 'fixed'}, {'type': 'gradnorm', 'every': 1, 'warmup': 1},
                                     {'type': 'gradnorm', 'every': 1, 'warmup': 1, 'layer': 'output'}])
def test_accumulating_two_halves_is_one_batch(prepared, balance):  # noqa: F811
    options = {'train__iqa_opt': LOSSES, 'train__optim_g': {'type': 'SGD', 'lr': 0.1}, 'train__balance_opt': balance,
               'datasets__train__batch_size_per_gpu': 2}
    whole = build_model(prepared(**options))
    halves = build_model(prepared(**options, train__accumulate=2))
    halves.net_g.load_state_dict(whole.net_g.state_dict())
    for iteration in (1, 2, 3):
        for model in (whole, halves):
            step(model, batch(iteration), iteration)
    torch.testing.assert_close(weights_of(halves), weights_of(whole), rtol=1e-5, atol=2e-6)
    logs = whole.get_current_log(), halves.get_current_log()
    assert logs[1] == pytest.approx(logs[0], rel=1e-3, abs=1e-6)
    assert halves.output.shape == whole.output.shape


@pytest.mark.parametrize('network', ['BasicVSRPP', 'VRT'])
@pytest.mark.parametrize('precision', ['bf16', 'fp16'])
def test_mixed_precision_is_near_float32(prepared, network, precision):  # noqa: F811
    def gradient(**options):
        model = build_model(prepared(train__iqa_opt=LOSSES, train__optim_g={'type': 'SGD', 'lr': 0.0},
                                     train__balance_opt={'type': 'gradnorm'}, network_g=NETWORKS[network], **options))
        model.net_g.load_state_dict(start)
        for iteration in range(1, 9):  # fp16 may have to lower its scale first
            step(model, batch(count=1), iteration)
            if model.skipped < iteration:
                break
        return torch.cat([parameter.grad.flatten() for parameter in model.net_g.parameters()]), model
    torch.manual_seed(5)
    start = build_model(prepared(network_g=NETWORKS[network])).net_g.state_dict()
    expected, _ = gradient()
    got, model = gradient(train__precision=precision)
    assert got.dtype == torch.float32 and model.skipped < 8 and not torch.equal(got, expected)
    assert torch.nn.functional.cosine_similarity(got, expected, 0) > 0.98
    assert got.norm().item() == pytest.approx(expected.norm().item(), rel=0.1)


def test_fp16_scale_falls_after_an_overflow_and_is_resumed(prepared):  # noqa: F811
    options = {'train__precision': 'fp16', 'train__optim_g': {'type': 'SGD', 'lr': 0.1}}
    model = build_model(prepared(**options))
    model.step_g.scaler = torch.amp.GradScaler('cpu', init_scale=2.0**40)
    before = weights_of(model)
    step(model, batch(count=1))
    assert torch.equal(weights_of(model), before) and model.skipped == 1
    assert model.step_g.scaler.get_scale() == 2.0**39
    model.save(0, 1)
    state = torch.load(f"{model.opt['path']['training_states']}/1.state", weights_only=True)
    fresh = build_model(prepared(**options))
    fresh.resume_training(state)
    assert fresh.step_g.scaler.get_scale() == 2.0**39


def test_the_gradient_is_clipped(prepared):  # noqa: F811
    model = build_model(prepared(train__optim_g=SGD, train__clip_norm=1e-3))
    before = weights_of(model)
    step(model, batch())
    assert model.get_current_log()['grad_norm'] > 0.01
    assert (weights_of(model) - before).norm() == pytest.approx(1e-3, rel=1e-2)
    free = build_model(prepared(train__optim_g=SGD, train__clip_norm=1e3))
    free.net_g.load_state_dict(model.net_g.state_dict())
    before = weights_of(free)
    step(free, batch())
    assert (weights_of(free) - before).norm() == pytest.approx(free.get_current_log()['grad_norm'], rel=1e-3)


@pytest.mark.parametrize('option', [
    {'train__channels_last': True},
    pytest.param({'train__compile': {'backend': 'aot_eager'}}, marks=pytest.mark.slow)])
def test_memory_format_and_compilation_change_nothing(prepared, option):  # noqa: F811
    plain = build_model(prepared(train__optim_g=SGD))
    other = build_model(prepared(train__optim_g=SGD, train__ema_decay=0.5, **option))
    other.net_g.load_state_dict(plain.net_g.state_dict())
    assert set(other.net_g.state_dict()) == set(plain.net_g.state_dict())
    for model in (plain, other):
        step(model, batch())
    torch.testing.assert_close(weights_of(other), weights_of(plain), rtol=1e-4, atol=1e-5)
    other.feed_data(batch(frames=3, side=20))  # another size, by the average
    other.test()
    assert other.output.shape == (2, 3, 3, 80, 80)


@pytest.mark.parametrize('optimiser', [
    {'type': 'Adam', 'lr': 1e-3, 'betas': [0.9, 0.99]}, {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 0.1},
    {'type': 'RAdam', 'lr': 1e-3}, {'type': 'RMSprop', 'lr': 1e-3}])
def test_optimisers_by_name(prepared, optimiser):  # noqa: F811
    model = build_model(prepared(train__optim_g=optimiser))
    before = weights_of(model)
    step(model, batch())
    assert type(model.optimizer_g).__name__ == optimiser['type'] and not torch.equal(weights_of(model), before)


@pytest.fixture
def warnings_of_basicsr(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('basicsr'), 'propagate', True)
    caplog.set_level(logging.WARNING, 'basicsr')
    return caplog


class _Broken(torch.nn.Module):
    """A loss with a finite value and a gradient that is not."""

    def forward(self, output, gt):
        return (output - output.detach()).abs().sqrt().mean()


def test_what_is_not_finite_is_named_and_changes_nothing(prepared, warnings_of_basicsr):  # noqa: F811
    model = build_model(prepared(train__balance_opt={'type': 'gradnorm', 'every': 1, 'warmup': 1},
                                 train__ema_decay=0.9))
    step(model, batch(), 1)
    before = copy.deepcopy((model.net_g.state_dict(), model.net_g_ema.state_dict(), model.balancer.state_dict(),
                            model.optimizer_g.state_dict()))
    nan = batch()
    nan['gt'][0, 0, 0, 0, 0] = float('nan')
    step(model, nan, 2)
    assert 'Iteration 2 is skipped: not finite: value or gradient of pix' in warnings_of_basicsr.text
    assert 'tinyiqa' not in warnings_of_basicsr.text  # the metric without a reference is innocent
    model.losses['broken'] = _Broken()
    model.balancer = type(model.balancer)(warmup=1, every=1)
    step(model, batch(), 3)
    assert 'Iteration 3 is skipped: not finite: value or gradient of broken (2 in a row' in warnings_of_basicsr.text
    infinite = batch()
    infinite['lq'][:] = float('inf')
    step(model, infinite, 4)
    assert "Iteration 4 is skipped: the network's output is not finite" in warnings_of_basicsr.text
    assert model.get_current_log()['skipped'] == 3
    del model.losses['broken']
    model.balancer.load_state_dict(before[2])
    after = (model.net_g.state_dict(), model.net_g_ema.state_dict(), model.balancer.state_dict(),
             model.optimizer_g.state_dict())
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    step(model, batch(), 5)
    assert not torch.equal(model.net_g.state_dict()['conv_last.weight'], before[0]['conv_last.weight'])


def test_training_ends_after_too_many_skips_in_a_row(prepared, monkeypatch):  # noqa: F811
    failures = []
    monkeypatch.setattr(stop, 'fail', failures.append)
    model = build_model(prepared(train__skip_limit=2))
    nan = batch()
    nan['gt'][:] = float('nan')
    step(model, nan, 1)
    step(model, batch(), 2)
    step(model, nan, 3)
    assert not failures
    step(model, nan, 4)
    assert len(failures) == 1 and 'Iteration 4: 2 iterations in a row' in str(failures[0])
    assert 'gradient of pix' in str(failures[0]) and isinstance(failures[0], FloatingPointError)


def test_a_skipped_iteration_is_forgotten_by_balancers_that_remember(prepared):  # noqa: F811
    model = build_model(prepared(train__balance_opt={'type': 'gradvac'}, train__iqa_opt=LOSSES))
    for iteration in (1, 2):
        step(model, batch(iteration), iteration)
    before = copy.deepcopy(model.balancer.state_dict())
    handle = model.net_g.conv_last.weight.register_hook(lambda gradient: gradient * float('nan'))
    step(model, batch(3), 3)
    handle.remove()
    assert model.skipped == 1
    torch.testing.assert_close(model.balancer.state_dict(), before, rtol=0, atol=0)
    step(model, batch(4), 4)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(model.balancer.state_dict(), before, rtol=0, atol=0)


def test_another_balancer_than_that_of_the_state_starts_afresh(prepared, warnings_of_basicsr):  # noqa: F811
    model = build_model(prepared())
    step(model, batch())
    model.save(0, 1)
    fresh = build_model(prepared(train__balance_opt={'type': 'gradnorm'}))
    fresh.resume_training(torch.load(f"{model.opt['path']['training_states']}/1.state", weights_only=True))
    assert 'balance_opt was FixedBalancer and is GradNormBalancer now' in warnings_of_basicsr.text
    step(fresh, batch(), 2)


def test_a_loss_that_is_not_one_number_is_refused(prepared):  # noqa: F811
    model = build_model(prepared(train__iqa_opt={'stock': {'type': 'IQALoss', 'metric': 'ssim', 'loss_weight': -1}}))
    model.losses['stock'] = lambda output, gt: (output.mean(), None)
    with pytest.raises(OptionsError, match='train:iqa_opt:stock: function does not return one number'):
        step(model, batch())


def test_a_frozen_layer_is_refused(prepared):  # noqa: F811
    layer = 'spynet.basic_module.5.basic_module.8'
    model = build_model(prepared(train__balance_opt={'type': 'gradnorm', 'layer': layer}, train__fix_flow=5))
    with pytest.raises(OptionsError, match=f"'{layer}' is not trained"):
        step(model, batch())


def test_an_unknown_layer_is_refused(prepared):  # noqa: F811
    opt = prepared(train__balance_opt={'type': 'gradnorm', 'layer': 'conv_lst'})
    with pytest.raises(OptionsError, match=r"no layer with weights called 'conv_lst' \(did you mean 'conv_last'\?\)"):
        build_model(opt)


@ARCH_REGISTRY.register()
class OneConvolution(torch.nn.Module):
    """Frame by frame, so that many iterations take little time."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 48, 3, padding=1)

    def forward(self, x):
        return torch.nn.functional.pixel_shuffle(self.conv(x.flatten(0, 1)), 4).unflatten(0, x.shape[:2])


def test_five_hundred_iterations_with_nine_losses_of_any_scale(prepared):  # noqa: F811
    """Two full-reference and seven no-reference losses, random networks whose scales differ by ten orders."""
    names = [f'loss{index}' for index in range(9)]
    model = build_model(prepared(train__balance_opt={'type': 'gradnorm', 'lr': 0.1, 'every': 1},
                                 train__optim_g={'type': 'Adam', 'lr': 1e-3}, network_g={'type': 'OneConvolution'}))
    model.losses = {name: _RandomMetric(index) for index, name in enumerate(names)}
    model.balancer = type(model.balancer)(lr=0.1, every=1)
    data = batch(count=1)
    for iteration in range(1, 501):
        step(model, data, iteration)
    log = model.get_current_log()
    weights = [log[f'w_{name}'] for name in names]
    assert not model.skipped and not model.balancer.skipped and torch.isfinite(weights_of(model)).all()
    assert sum(weights) == pytest.approx(9) and min(weights) >= 0.01 and max(weights) <= 10


class _RandomMetric(torch.nn.Module):
    """A small random network as a metric, full-reference for the first two."""

    def __init__(self, index):
        super().__init__()
        generator = torch.Generator().manual_seed(index)
        self.weight = torch.randn(4, 3, 3, 3, generator=generator)
        self.reference, self.scale = index < 2, 10.0 ** (index - 5)

    def forward(self, output, gt):
        features = torch.tanh(torch.nn.functional.conv2d(output.flatten(0, 1), self.weight))
        if self.reference:
            features = features - torch.tanh(torch.nn.functional.conv2d(gt.flatten(0, 1), self.weight))
        return self.scale * features.square().mean()

    def deficit(self, value):
        return value


def test_losses_are_built_as_the_options_say(prepared):  # noqa: F811
    model = build_model(prepared(train__iqa_opt=LOSSES))
    assert list(model.losses) == ['pix', *LOSSES]
    assert model.losses['gmsd'].loss_weight == build_loss(LOSSES['gmsd']).loss_weight


def test_frozen_flow_stays_frozen_after_a_resume_and_is_released_in_time(prepared):  # noqa: F811
    options = {'train__fix_flow': 4, 'train__flow_lr_mul': 0.25}
    model = build_model(prepared(**options))
    flow = 'spynet.basic_module.5.basic_module.8.weight'
    for iteration in (1, 2):
        step(model, batch(), iteration)
    model.save(0, 2)
    fresh = build_model(prepared(**options))
    fresh.load_network(fresh.net_g, f"{model.opt['path']['models']}/net_g_2.pth")
    fresh.resume_training(torch.load(f"{model.opt['path']['training_states']}/2.state", weights_only=True))
    start = fresh.net_g.state_dict()[flow].clone()
    for iteration in (3, 4, 5):
        for one in (model, fresh):
            step(one, batch(iteration), iteration)
        assert torch.equal(fresh.net_g.state_dict()[flow], start) == (iteration < 4)
        assert torch.equal(weights_of(fresh), weights_of(model))
    assert [group['lr'] for group in fresh.optimizer_g.param_groups] == [4e-4, 1e-4]
