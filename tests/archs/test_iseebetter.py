import sys

import pytest
import torch
from basicsr.archs import build_network
from conftest import ROOT
from fill import assert_recorded, clip, fill, filled, parity
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from basicsr_nriqa.archs.activated_conv import activated_conv
from basicsr_nriqa.archs.iseebetter_arch import RBPN, ISeeBetter, reflected

sys.path.insert(0, str(ROOT / 'benchmarks'))
from straightforward_rbpn import StraightforwardRBPN

SMALL = {'base_filter': 8, 'num_feat': 4, 'num_block': 1, 'num_frame': 3}
RECORDED = {
    'all': {'shape': [2, 3, 3, 72, 84], 'mean': 0.12486, 'std': 0.365487,
            'value': [-0.0348, -0.62104, 0.4383, 0.46056, -0.20323, 0.45937, 0.59693, -0.86877, 0.35543, 0.19245,
                      0.3794, 0.04174, -0.53192, 0.66094, 0.27657, -0.06685, 0.09652, 0.64634,
                      0.01628, -0.09912, 0.16219, 0.71782, 0.02254, 0.02359]},
    'center': {'shape': [2, 1, 3, 72, 84], 'mean': 0.125404, 'std': 0.366092,
               'value': [-0.03514, 0.4527, 0.06649, -0.60664, 0.19753, 0.57468, 0.49528, 0.35434, -0.21039, -0.05957,
                         0.04093, 0.231, -0.36018, -0.55799, -0.08228, -0.04079, 0.68355,
                         0.75313, 0.61644, 0.28718, 0.02018, -0.81388, 0.04342, 0.02452]}}


def inputs(n=1, num_frame=3, h=16, w=19, dtype=torch.float32):
    """Centre frame, neighbours and flows."""
    frames = clip(n, num_frame, 3, h, w).to(dtype)
    half = num_frame // 2
    flows = [4 * clip(n, 1, 2, h, w, seed=i)[:, 0].to(dtype) - 2 for i in range(num_frame - 1)]
    return frames[:, half], [frames[:, i] for i in range(num_frame) if i != half], flows


def value_and_gradients(network, centre, neighbours, flows):
    """Output, and gradients for all parameters, the centre frame, the last neighbour and its flow."""
    leaves = [tensor.clone().requires_grad_() for tensor in (centre, neighbours[-1], flows[-1])]
    output = network(leaves[0], [*neighbours[:-1], leaves[1]], [*flows[:-1], leaves[2]])
    direction = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)
    return output, torch.autograd.grad(output, (*network.parameters(), *leaves), direction)


def assert_same(found, expected, rtol):
    """Equal values, and gradients whose difference is small against themselves."""
    torch.testing.assert_close(found[0], expected[0], rtol=rtol, atol=rtol)
    for gradient, wanted in zip(found[1], expected[1], strict=True):
        assert (gradient - wanted).norm() <= rtol * wanted.norm()


@torch.no_grad()
def test_equals_the_published_network():
    recorded = parity('rbpn_x4')
    names = {'num_channels': 'num_in_ch', 'feat': 'num_feat', 'n_resblock': 'num_block', 'nFrames': 'num_frame',
             'scale_factor': 'scale'}
    network = RBPN(**{names.get(name, name): value for name, value in recorded['args'].items()})
    network.load_state_dict(filled(recorded['keys'], recorded['gain']))
    n, t, _, h, w = recorded['input']
    frames = clip(*recorded['input'])
    flows = [4 * (clip(n, 1, 2, h, w, seed=i)[:, 0] - 0.5) for i in range(t - 1)]
    output = network(frames[:, t // 2], [frames[:, i] for i in range(t) if i != t // 2], flows)
    assert_recorded(output, recorded['output'], tolerance=1e-5)


def test_published_checkpoint_fits():
    published = parity('published_keys/rbpn_x4_f7')
    network = RBPN()
    assert {name: list(tensor.shape) for name, tensor in network.state_dict().items()} == published['state_dict']
    assert sum(parameter.numel() for parameter in network.parameters()) == published['parameters'] == 12771943


@torch.no_grad()
@pytest.mark.parametrize('frames', RECORDED)
def test_recorded_output(frames):
    network = fill(ISeeBetter(**SMALL, frames=frames), gain=1.2)
    assert_recorded(network(clip(2, 3, 3, 18, 21)), RECORDED[frames], tolerance=1e-4)


@pytest.mark.parametrize('options', [{}, {'scale': 2, 'num_block': 2}, {'scale': 8, 'num_block': 0},
                                     {'num_frame': 5, 'num_in_ch': 3, 'base_filter': 5, 'num_feat': 7}])
def test_equals_the_straightforward_network_in_value_and_gradient(options):
    options = {**SMALL, **options}
    network = fill(RBPN(**options)).double()
    plain = StraightforwardRBPN(**options).double()
    plain.load_state_dict(network.state_dict())
    tensors = inputs(2, options['num_frame'], 11, 6, torch.float64)
    assert_same(value_and_gradients(network, *tensors), value_and_gradients(plain, *tensors), rtol=1e-11)


def test_equals_the_straightforward_network_in_single_precision():
    network, plain = fill(RBPN(**SMALL)), StraightforwardRBPN(**SMALL)
    plain.load_state_dict(network.state_dict())
    assert_same(value_and_gradients(network, *inputs()), value_and_gradients(plain, *inputs()), rtol=1e-5)


@pytest.mark.parametrize('slope', [0.25, 0., -0.5, 1.5])
@pytest.mark.parametrize('conv', [nn.Conv2d(5, 4, 3, padding=1), nn.Conv2d(5, 4, 8, 4, 2),
                                  nn.ConvTranspose2d(5, 3, 8, 4, 2), nn.Conv2d(5, 4, 1)],
                         ids=['3x3', 'down', 'up', '1x1'])
def test_activated_convolution_equals_its_modules_for_any_slope(conv, slope, monkeypatch):
    """In strips of a few rows; both results take part, or one alone; sizes leave a rest that no kernel sees."""
    monkeypatch.setattr('basicsr_nriqa.archs.activated_conv.STRIP', 100)
    act, conv = nn.PReLU(init=slope).double(), conv.double()
    x = torch.randn(2, 5, 15, 18, dtype=torch.float64, requires_grad=True)
    leaves = (x, act.weight, conv.weight, conv.bias)
    expected = act(x), conv(act(x))
    found = activated_conv(x, act, conv)
    torch.testing.assert_close(found, expected)
    directions = [torch.randn_like(result) for result in expected]
    for used in ((0, 1), (0,), (1,)):
        gradients = [torch.autograd.grad([pair[i] for i in used], leaves, [directions[i] for i in used],
                                         retain_graph=True, allow_unused=True) for pair in (found, expected)]
        torch.testing.assert_close(*gradients)


def test_half_of_the_features_is_kept_for_the_backward_pass():
    sizes = {}
    network, plain = RBPN(**SMALL), StraightforwardRBPN(**SMALL)
    for name, module in (('ours', network), ('plain', plain), ('checkpoint', RBPN(**SMALL, checkpoint=True))):
        kept = {}

        def pack(tensor, kept=kept):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = module(*inputs(h=32, w=32))
        sizes[name] = sum(kept.values())
        del output
    assert sizes['checkpoint'] < sizes['ours'] < 0.6 * sizes['plain']


def test_checkpoint_gives_the_same_gradients():
    network, again = fill(RBPN(**SMALL)), fill(RBPN(**SMALL, checkpoint=True))
    assert_same(value_and_gradients(again, *inputs()), value_and_gradients(network, *inputs()), rtol=1e-6)


@pytest.mark.slow
def test_compiled_network_is_the_same():
    torch._dynamo.reset()
    network = fill(RBPN(**SMALL))
    compiled = torch.compile(network, backend='aot_eager', fullgraph=True)
    expected = value_and_gradients(network, *inputs())
    output = compiled(*inputs())
    torch.testing.assert_close(output, expected[0], rtol=1e-5, atol=1e-5)
    output.backward(torch.linspace(-1, 1, output.numel()).view(output.shape))
    gradients = [parameter.grad for parameter in network.parameters()]
    assert_same((output, gradients), (expected[0], expected[1][:len(gradients)]), rtol=1e-4)


@torch.no_grad()
def test_memory_format_changes_nothing():
    network = fill(ISeeBetter(**SMALL, frames='center'), gain=0.7)
    frames = clip(1, 3, 3, 16, 19)
    expected = network(frames)
    network = network.to(memory_format=torch.channels_last)
    other = frames.transpose(3, 4).contiguous().transpose(3, 4)
    torch.testing.assert_close(network(other), expected, rtol=1e-5, atol=1e-5)


def test_mixed_precision_stays_close():
    network = ISeeBetter(**SMALL)
    frames = clip(1, 2, 3, 16, 16)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = network(frames)
        mixed.float().square().mean().backward()
    expected = network(frames)
    assert (mixed.float() - expected).norm() <= 0.02 * expected.norm()
    assert all(parameter.grad.isfinite().all() for parameter in network.rbpn.parameters())


@torch.no_grad()
def test_pure_half_precision_stays_close():
    network = RBPN(**SMALL)
    centre, neighbours, flows = inputs()
    expected = network(centre, neighbours, flows)
    half = network.bfloat16()(centre.bfloat16(), [x.bfloat16() for x in neighbours], [x.bfloat16() for x in flows])
    assert half.dtype == torch.bfloat16
    assert (half.float() - expected).norm() <= 0.02 * expected.norm()


@torch.no_grad()
def test_untrained_network_gives_moderate_values():
    """So that training from scratch can start; the flow is zero then."""
    torch.manual_seed(0)
    output = ISeeBetter(base_filter=32, num_feat=16)(clip(1, 2, 3, 16, 16))
    assert 1e-3 < output.std() < 10


def test_is_registered_and_built_from_options():
    network = build_network({'type': 'ISeeBetter', **SMALL})
    assert (network.scale, network.min_frames, network.min_side) == (4, 2, 16)
    assert build_network({'type': 'ISeeBetter', **SMALL, 'frames': 'center'}).min_frames == 3


@torch.no_grad()
def test_frames_all_restores_the_middle_as_center_does():
    everywhere, centre = (fill(ISeeBetter(**{**SMALL, 'num_frame': 5}, frames=frames), gain=0.7)
                          for frames in ('all', 'center'))
    frames = clip(2, 5, 3, 16, 17)
    output = centre(frames)
    assert output.shape == (2, 1, 3, 64, 68)
    torch.testing.assert_close(everywhere(frames)[:, 2:3], output, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_clip_ends_are_reflected():
    """Each frame comes out as from a clip that was reflected at both ends beforehand."""
    everywhere, centre = (fill(ISeeBetter(**{**SMALL, 'num_frame': 5}, frames=frames), gain=0.7)
                          for frames in ('all', 'center'))
    frames = clip(1, 3, 3, 16, 17)
    longer = frames[:, [2, 1, 0, 1, 2, 1, 0]]
    expected = torch.cat([centre(longer[:, start:start + 5]) for start in range(3)], dim=1)
    torch.testing.assert_close(everywhere(frames), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_flows_in_small_batches_are_the_same(monkeypatch):
    network = fill(ISeeBetter(**SMALL), gain=0.7)
    frames = clip(1, 4, 3, 16, 17)
    expected = network(frames)
    monkeypatch.setattr('basicsr_nriqa.archs.iseebetter_arch.FLOW_PIXELS', 1)
    torch.testing.assert_close(network(frames), expected, rtol=1e-5, atol=1e-5)


@given(st.integers(2, 9), st.integers(-30, 30))
def test_reflection_goes_to_and_fro(length, index):
    path = [*range(length), *range(length - 2, 0, -1)] if length > 2 else [0, 1]
    assert reflected(index, length) == path[index % len(path)]


@pytest.mark.parametrize('size', [(1, 2, 3, 16, 16), (1, 2, 3, 17, 31), (2, 3, 3, 33, 18)])
def test_any_size_and_length(size):
    output = ISeeBetter(**SMALL)(clip(*size))
    n, t, c, h, w = size
    assert output.shape == (n, t, c, 4 * h, 4 * w)
    assert output.isfinite().all()


def test_clips_of_a_batch_do_not_mix():
    network = fill(ISeeBetter(**SMALL), gain=0.7)
    clips = clip(2, 2, 3, 16, 19)
    apart = torch.cat([network(one) for one in clips.split(1)])
    torch.testing.assert_close(network(clips), apart, rtol=1e-5, atol=1e-5)


def test_gradients_reach_all_parameters():
    network = fill(ISeeBetter(**SMALL), gain=0.7)
    network(clip(1, 3, 3, 16, 16)).square().mean().backward()
    assert not [name for name, parameter in network.named_parameters() if not parameter.grad.any()]


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_gpu_gives_the_output_and_gradients_of_the_cpu():
    network = fill(RBPN(**SMALL)).double()
    expected = value_and_gradients(network, *inputs(dtype=torch.float64))
    centre, neighbours, flows = inputs(dtype=torch.float64)
    network.cuda()
    output = network(centre.cuda(), [x.cuda() for x in neighbours], [x.cuda() for x in flows])
    direction = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)
    gradients = torch.autograd.grad(output, list(network.parameters()), direction.cuda())
    found = output.cpu(), [gradient.cpu() for gradient in gradients]
    assert_same(found, (expected[0], expected[1][:len(gradients)]), rtol=1e-8)


@pytest.mark.parametrize(('options', 'message'), [
    ({'num_stages': 2}, 'num_stages must be 3'), ({'num_frame': 4}, 'num_frame must be odd'),
    ({'num_frame': 1}, 'num_frame must be odd'), ({'scale': 3}, r'one of \[2, 4, 8\]'),
    ({'num_feat': 0}, 'must be 1 or more'), ({'num_block': -1}, 'num_block 0 or more'),
    ({'frames': 'middle'}, "'all' or 'center'")])
def test_unusable_options_are_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        ISeeBetter(**{**SMALL, **options})


@pytest.mark.parametrize('shape', [(1, 1, 3, 16, 16), (1, 2, 1, 16, 16), (1, 2, 3, 15, 16), (2, 3, 16, 16)])
def test_unusable_clips_are_an_error(shape):
    with pytest.raises(ValueError, match=r'2 or more frames.*16 pixels or more'):
        ISeeBetter(**SMALL)(torch.rand(shape))


@pytest.mark.parametrize('t', [2, 4])
def test_center_wants_its_number_of_frames(t):
    with pytest.raises(ValueError, match='exactly 3 frames'):
        ISeeBetter(**SMALL, frames='center')(torch.rand(1, t, 3, 16, 16))


@pytest.mark.parametrize('change', [
    lambda centre, neighbours, flows: (centre[:, :2], neighbours, flows),
    lambda centre, neighbours, flows: (centre, neighbours[:1], flows),
    lambda centre, neighbours, flows: (centre, neighbours, [*flows, flows[0]]),
    lambda centre, neighbours, flows: (centre, [neighbours[0], neighbours[1][..., 1:]], flows),
    lambda centre, neighbours, flows: (centre, neighbours, [flows[0], flows[1][:, :1]])])
def test_frames_and_flows_that_do_not_fit_are_an_error(change):
    with pytest.raises(ValueError, match='RBPN: expected a centre frame'):
        RBPN(**SMALL)(*change(*inputs()))


def test_a_missing_spynet_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'absent\.pth'):
        ISeeBetter(spynet_path=tmp_path / 'absent.pth', **SMALL)
