import sys
from pathlib import Path

import pytest
import torch
from basicsr.archs import build_network
from fill import assert_recorded, clip, fill, filled, parity

from basicsr_nriqa.archs.vrt_arch import VRT

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'benchmarks'))
from straightforward_vrt import StraightforwardVRT

TINY = {'img_size': (2, 64, 64), 'window_size': (2, 4, 4), 'depths': (2,) * 9, 'indep_reconsts': (8,),
        'embed_dims': (12,) * 7 + (18, 18), 'num_heads': (2,) * 9, 'deformable_groups': 6}
SETTINGS = {
    'super-resolution': ({}, 3),
    'two neighbours on each side': ({'pa_frames': 4, 'window_size': (4, 4, 4)}, 4),
    'three neighbours on each side': ({'pa_frames': 6}, 4),
    'more neighbours than frames': ({'pa_frames': 6}, 2),
    'deblurring': ({'upscale': 1}, 2),
    'denoising': ({'upscale': 1, 'nonblind_denoising': True}, 2),
    'interpolation': ({'upscale': 1, 'pa_frames': 0, 'out_chans': 6}, 2)}
SLOW = ('super-resolution', 'two neighbours on each side', 'three neighbours on each side', 'deblurring')
PUBLISHED = {
    'vrt_001_bicubic_reds_6_frames': {'img_size': (6, 64, 64), 'window_size': (6, 8, 8), 'deformable_groups': 12},
    'vrt_002_bicubic_reds_16_frames': {'img_size': (16, 64, 64), 'window_size': (8, 8, 8), 'pa_frames': 6,
                                       'deformable_groups': 24},
    'vrt_003_bicubic_vimeo_7_frames': {'img_size': (8, 64, 64), 'window_size': (8, 8, 8), 'pa_frames': 4,
                                       'deformable_groups': 16}}


def tiny(**options):
    return fill(VRT(**{**TINY, **options}), gain=0.7).eval()


def frames_for(options, t, h=32, w=32):
    return clip(1, t, 4 if options.get('nonblind_denoising') else 3, h, w)


@pytest.fixture(scope='module')
def network():
    return tiny().requires_grad_(False)


@torch.no_grad()
def test_interpolation_equals_the_published_network():
    recorded = parity('vrt_interpolation_pa0')
    network = VRT(**recorded['args']).eval()
    assert {name: list(tensor.shape) for name, tensor in network.state_dict().items()} == recorded['keys']
    network.load_state_dict(fill_of(recorded), strict=False)
    assert_recorded(network(clip(*recorded['input'])), recorded['output'])


@torch.no_grad()
def test_super_resolution_equals_the_published_network():
    """Alignment multiplies rounding in every stage: with these weights the published output itself, in single
    precision, is 6e-4 away from what the same network gives in double. Up to the fourth stage it is below 2e-4."""
    recorded = parity('vrt_x4_6frames_pa2')
    network = VRT(**recorded['args']).eval()
    assert {name: list(tensor.shape) for name, tensor in network.state_dict().items()} == recorded['keys']
    network.load_state_dict(fill_of(recorded), strict=False)
    seen = {}
    for name in ('stage1.residual_group1', 'stage1.residual_group2', 'stage1', 'stage2', 'stage3', 'stage4'):
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.__setitem__(name, output.movedim(4, 1)))
    output = network(clip(*recorded['input']))
    for name, features in seen.items():
        assert_recorded(features, recorded['trace'][name])
    assert_recorded(output, recorded['output'], tolerance=3e-3)
    assert abs(output.double().mean() - recorded['output']['mean']) < 5e-6
    assert abs(output.double().std() - recorded['output']['std']) < 5e-6


def fill_of(recorded):
    """Weights by the rule; the index, a constant, is the network's own."""
    return filled({name: shape for name, shape in recorded['keys'].items() if 'relative_position_index' not in name})


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_checkpoint_fits(name):
    published = parity(f'published_keys/{name}')
    with torch.device('meta'):
        network = VRT(**PUBLISHED[name])
    assert {key: list(tensor.shape) for key, tensor in network.state_dict().items()} == published['state_dict']
    assert sum(parameter.numel() for parameter in network.parameters()) == published['parameters']


@pytest.mark.parametrize('setting', [  # all of them together are slow
    pytest.param(setting, marks=[pytest.mark.slow] * (setting in SLOW)) for setting in SETTINGS])
def test_equals_the_straightforward_network_in_value_and_gradient(setting):
    """In double precision, since alignment multiplies rounding."""
    options, t = SETTINGS[setting]
    ours = tiny(**options)
    theirs = StraightforwardVRT(**{**TINY, **options}).eval()
    theirs.load_state_dict(ours.state_dict())
    outputs, gradients = [], []
    for network in (ours, theirs):
        network.double()
        frames = frames_for(options, t).double().requires_grad_()
        output = network(frames)
        (output * torch.linspace(-1, 1, output.numel(), dtype=torch.double).view(output.shape).sin()).sum().backward()
        outputs.append(output.detach())
        gradients.append({name: parameter.grad for name, parameter in network.named_parameters()} | {'x': frames.grad})
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-9)
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-8)


@torch.no_grad()
def test_recorded_output():
    """Pins this network, so that what is done for speed changes nothing; double precision."""
    assert_recorded(fill(VRT(**TINY), gain=0.7).eval().double()(clip(1, 3, 3, 19, 24).double()), {
        'shape': [1, 3, 3, 76, 96], 'mean': 0.4603391, 'std': 0.2245471,
        'value': [0.733948, 0.261216, 0.217532, 0.645364, 0.514127, 0.334748, 0.164249, 0.451487, 0.799805,
                 0.171942, 0.393014, 0.548659, 0.412543, 0.677401, 0.100073, 0.652906, 0.693352, 0.157649,
                 0.513401, 0.557051, 0.460472, 0.461037, 0.160339, 0.582057]}, tolerance=1e-5)


@pytest.mark.parametrize('setting', SETTINGS)
def test_checkpointing_gives_the_same_output_and_gradient(setting):
    options, t = SETTINGS[setting]
    frames = frames_for(options, t, 16, 16)
    results = []
    for checkpointing in ({}, {'use_checkpoint_attn': True, 'use_checkpoint_ffn': True,
                               'no_checkpoint_attn_blocks': (1,), 'no_checkpoint_ffn_blocks': (2, 8)}):
        torch.manual_seed(0)
        network = tiny(**options, **checkpointing).train()
        output = network(frames)
        output.square().mean().backward()
        results.append((output.detach(), {name: parameter.grad for name, parameter in network.named_parameters()}))
    torch.testing.assert_close(*results)


def test_stages_left_out_of_checkpointing():
    network = VRT(**TINY, use_checkpoint_attn=True, no_checkpoint_attn_blocks=(1, 8))
    kept = [{block.checkpoint_attn for block in part.modules() if hasattr(block, 'checkpoint_attn')}
            for part in (network.stage1, network.stage2, network.stage8[1], network.stage8[2])]
    assert kept == [{True}, {False}, {True}, {False}]


def test_a_stage_compiles_without_graph_breaks():
    stage = fill(VRT(**TINY), gain=0.7).eval().stage2.double()
    x, flows = torch.rand(1, 3, 16, 24, 12).double(), [torch.randn(2, 1, 2, 2, 8, 12).double()]
    results = []
    for run in (stage, torch.compile(stage, backend='aot_eager', fullgraph=True)):
        stage.zero_grad()
        output = run(x, flows)
        output.square().sum().backward()
        results.append((output.detach(), {name: parameter.grad for name, parameter in stage.named_parameters()}))
    torch.testing.assert_close(*results)


@pytest.mark.slow
@pytest.mark.parametrize('setting', ['super-resolution', 'interpolation'])
def test_compiles_without_graph_breaks(setting):
    options, t = SETTINGS[setting]
    network = tiny(**options)
    frames = frames_for(options, t, 16, 16)
    expected = network(frames)
    expected.square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    network.zero_grad()
    output = torch.compile(network, backend='aot_eager', fullgraph=True)(frames)
    output.square().mean().backward()
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close({name: parameter.grad for name, parameter in network.named_parameters()}, gradients,
                               rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize('size', [(1, 2, 3, 16, 16), (1, 3, 3, 17, 31), (2, 5, 3, 33, 18)])
def test_any_size_and_length(network, size):
    output = network(clip(*size))
    n, t, c, h, w = size
    assert output.shape == (n, t, c, 4 * h, 4 * w)
    assert output.isfinite().all()


def test_clips_of_a_batch_do_not_mix():
    network = tiny().requires_grad_(False).double()
    clips = clip(2, 3, 3, 16, 24).double()
    torch.testing.assert_close(network(clips), torch.cat([network(one) for one in clips.split(1)]))


def test_channels_last_weights_and_input_change_nothing():
    network = tiny().requires_grad_(False).double()
    frames = clip(1, 2, 3, 16, 16).double()
    expected = network(frames)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.to(memory_format=torch.channels_last)
    moved = frames.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(network(moved), expected)


@pytest.mark.parametrize('setting', ['three neighbours on each side', 'interpolation'])
def test_gradients_reach_all_parameters(setting):
    options, t = SETTINGS[setting]
    network = tiny(**options)
    network(frames_for(options, t, 16, 16)).square().mean().backward()
    assert not [name for name, parameter in network.named_parameters() if not parameter.grad.any()]


def test_mixed_precision_stays_close():
    network = VRT(**TINY).eval()
    frames = clip(1, 2, 3, 16, 16)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = network(frames)
        mixed.float().square().mean().backward()
    torch.testing.assert_close(mixed.float(), network(frames), rtol=0, atol=0.05)


def test_stochastic_depth_leaves_out_branches_in_training_only():
    network = VRT(**TINY, drop_path_rate=0.5)
    frames = clip(1, 2, 3, 16, 16)
    assert not torch.equal(network(frames), network(frames))
    network.eval()
    assert torch.equal(network(frames), network(frames))


def test_is_registered_and_built_from_options():
    assert isinstance(build_network({'type': 'VRT', **{name: list(value) if isinstance(value, tuple) else value
                                                       for name, value in TINY.items()}}), VRT)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('setting', SETTINGS)
def test_gpu_gives_the_output_and_gradient_of_the_cpu(setting):
    options, t = SETTINGS[setting]
    network = tiny(**options).double()
    frames = frames_for(options, t).double()
    results = []
    for device in ('cpu', 'cuda'):
        network.to(device).zero_grad()
        output = network(frames.to(device))
        output.square().mean().backward()
        results.append((output.cpu(), {name: parameter.grad.cpu() for name, parameter in network.named_parameters()}))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(('options', 'message'), [
    ({'upscale': 3}, 'upscale must be 1, 2, 4'), ({'pa_frames': 3}, 'pa_frames must be 0, 2, 4 or 6'),
    ({'depths': (2,) * 8}, 'one number from 1 up for each of the 7 stages'), ({'num_heads': (5,) * 9}, r'\(12, 5\)'),
    ({'depths': (2, 0, *(2,) * 7)}, 'from 1 up'), ({'embed_dims': (8,) * 6 + (16, 8, 8)}, 'read the same backwards'),
    ({'indep_reconsts': (3,)}, '7 to 8'), ({'mul_attn_ratio': 2}, 'a share'), ({'out_chans': 4}, 'must be 3, RGB'),
    ({'window_size': (8, 8)}, r'\(frames, rows, columns\)'), ({'pa_frames': 0}, 'needs upscale 1, .*; got 4, False'),
    ({'window_size': (0, 4, 4)}, 'each from 1 up'), ({'num_heads': (0,) * 9}, 'from 1 up'),
    ({'mlp_ratio': 0}, 'mlp_ratio must be above 0'), ({'drop_path_rate': 1}, 'drop_path_rate must be from 0 to below'),
    ({'deformable_groups': 0}, 'deformable_groups must be a multiple'), ({'deformable_groups': 7}, 'got 7'),
    ({'deformable_groups': 2, 'pa_frames': 6}, 'multiple of pa_frames / 2')])
def test_options_that_do_not_go_together_are_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        VRT(**{**TINY, **options})


@pytest.mark.parametrize('shape', [(1, 1, 3, 16, 16), (1, 2, 3, 15, 16), (1, 2, 4, 16, 16), (2, 3, 16, 16)])
def test_unusable_clips_are_an_error(network, shape):
    with pytest.raises(ValueError, match=r'\(n, t, 3, h, w\) with 2 frames or more, h and w of 16 pixels or more'):
        network(torch.rand(shape))


def test_interpolation_wants_its_number_of_frames():
    with pytest.raises(ValueError, match='with 2 frames, h and w'):
        tiny(upscale=1, pa_frames=0)(torch.rand(1, 3, 3, 16, 16))


def test_denoising_wants_the_noise_level():
    with pytest.raises(ValueError, match='the noise level as the last channel'):
        tiny(upscale=1, nonblind_denoising=True)(torch.rand(1, 2, 3, 16, 16))
