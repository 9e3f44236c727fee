import sys

import pytest
import torch
from conftest import ROOT
from fill import assert_recorded, clip, fill, parity

sys.path.insert(0, str(ROOT / 'benchmarks'))
from straightforward_vrt import ChannelToSpace, SpaceToChannel, Stage, StraightforwardVRT
from straightforward_vrt_blocks import DropPath, merge, partition

PUBLISHED = {
    'vrt_001_bicubic_reds_6_frames': {'img_size': (6, 64, 64), 'window_size': (6, 8, 8), 'pa_frames': 2,
                                      'deformable_groups': 12},
    'vrt_002_bicubic_reds_16_frames': {'img_size': (16, 64, 64), 'window_size': (8, 8, 8), 'pa_frames': 6,
                                       'deformable_groups': 24},
    'vrt_003_bicubic_vimeo_7_frames': {'img_size': (8, 64, 64), 'window_size': (8, 8, 8), 'pa_frames': 4,
                                       'deformable_groups': 16}}
SMALL = {'window_size': (2, 2, 2), 'depths': (2,) * 9, 'indep_reconsts': (8,), 'embed_dims': (12,) * 7 + (16,) * 2,
         'num_heads': (2,) * 9}
# double precision keeps rounding from growing
RECORDED = {
    'pa_frames 4, padded windows': (
        {'pa_frames': 4, 'deformable_groups': 4, 'window_size': (3, 2, 2)}, (1, 5, 3, 24, 16), {
            'shape': [1, 5, 3, 96, 64], 'mean': 0.417682, 'std': 0.436507,
            'value': [0.77659, -0.07996, 0.29982, 0.15531, 0.6402, 1.11587, 0.13761, -0.16143, 0.61745, 0.80413,
                      0.33503, 0.02138, -0.00458, 0.90878, 0.71781, 0.91571, -0.36847, 0.58011, 0.92986, 0.71641,
                      0.22348, -0.24779, 0.90486, 0.90022]}),
    'pa_frames 6, two frames': (
        {'pa_frames': 6, 'deformable_groups': 6}, (2, 2, 3, 16, 24), {
            'shape': [2, 2, 3, 64, 96], 'mean': 0.437154, 'std': 0.427599,
            'value': [0.86918, 0.65608, -0.21642, 0.33238, 0.90886, 0.7193, 1.00236, 0.2552, -0.15623, -0.53642,
                      0.2188, 0.35764, 0.58904, 0.82717, -0.16861, 0.17142, 1.00062, 0.91669, 1.1557, 0.59129,
                      0.2406, 0.28339, 0.91282, 0.38309]}),
    'pa_frames 6, upscale 1, nonblind': (
        {'upscale': 1, 'pa_frames': 6, 'deformable_groups': 6, 'nonblind_denoising': True}, (1, 5, 4, 16, 16), {
            'shape': [1, 5, 3, 16, 16], 'mean': -0.025226, 'std': 0.836730,
            'value': [0.24358, -0.13397, -0.03665, -0.90284, -0.80168, 0.98629, 0.57641, -0.28634, 0.73053, 0.42096,
                      0.32059, -0.34994, -0.99609, -0.52197, 0.06512, 0.11455, -0.4355, -0.47593, -0.25911, 1.3714,
                      0.03263, 0.67006, 0.93098, 0.68634]}),
    'interpolation of two frames': (
        {'upscale': 1, 'pa_frames': 0, 'img_size': (4, 16, 16), 'out_chans': 6}, (1, 4, 3, 16, 16), {
            'shape': [1, 2, 3, 16, 16], 'mean': 0.650284, 'std': 0.547589,
            'value': [1.37886, 0.58701, 0.98374, 2.15787, 0.65451, 0.55119, -0.01866, 0.70988, -0.20702, 0.99137,
                      0.66834, 1.11416, -0.10827, 0.01447, 0.66434, 0.94484, 0.77243, 1.10124, 0.67479, 0.24694,
                      -0.17453, -0.63551, 1.0292, 0.57739]})}


def _small(**options):
    return StraightforwardVRT(**{**SMALL, **options}).eval()


@torch.no_grad()
@pytest.mark.parametrize('name', ['vrt_x4_6frames_pa2', 'vrt_interpolation_pa0'])
def test_equals_the_published_network(name):
    """Each alignment multiplies the rounding of float32, ours and the recorded one; right results differ by 1e-3."""
    recorded = parity(name)
    network = fill(StraightforwardVRT(**recorded['args'])).eval()
    assert {key: list(tensor.shape) for key, tensor in network.state_dict().items()} == recorded['keys']
    outputs = {}

    def keep(part):
        def hook(module, inputs, output):
            outputs.setdefault(part, []).append(output[0] if isinstance(output, list) else output)
        return hook

    # conv_after_body's dimensions lie in another order
    parts = [part for part in recorded['trace'] if part != 'conv_after_body']
    grown = ('stage5', 'stage6', 'stage7', 'stage8.0', 'stage8.1', 'norm') if recorded['args']['pa_frames'] else ()
    for part in parts:
        network.get_submodule(part).register_forward_hook(keep(part))
    output = network(clip(*recorded['input']))
    for part in parts:
        # the published network begins with the last frame that has a next one
        call = recorded['input'][1] - 2 if part == 'stage1.pa_deform' else 0
        assert_recorded(outputs[part][call], recorded['trace'][part], tolerance=1e-2 if part in grown else 2e-4)
    assert_recorded(output, recorded['output'], tolerance=3e-3 if grown else 2e-4)
    assert abs(output.mean() - recorded['output']['mean']) <= 1e-5
    assert abs(output.std() - recorded['output']['std']) <= 1e-5


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_checkpoint_fits(name):
    published = parity(f'published_keys/{name}')
    with torch.device('meta'):
        network = StraightforwardVRT(**PUBLISHED[name])
    weights = network.state_dict()
    assert {key: list(tensor.shape) for key, tensor in weights.items()} == published['state_dict']
    assert sum(parameter.numel() for parameter in network.parameters()) == published['parameters']


@torch.no_grad()
@pytest.mark.slow  # all of them together
@pytest.mark.parametrize('case', RECORDED)
def test_recorded_output(case):
    options, size, recorded = RECORDED[case]
    network = fill(_small(**options)).double()
    assert_recorded(network(clip(*size).double()), recorded, tolerance=2e-5)


@torch.no_grad()
@pytest.mark.slow  # all of them together
@pytest.mark.parametrize('pa_frames', [2, 4, 6])
@pytest.mark.parametrize('direction', [1, -1])
def test_neighbours_are_aligned_nearest_first(pa_frames, direction):
    neighbours, t, dim = pa_frames // 2, 5, 12
    stage = Stage(dim, dim, 'none', 2, 2, (2, 2, 2), 0.5, 2, True, None, [0, 0], pa_frames, 2 * neighbours, 10)
    # each group of output channels is its own neighbour, moved by the flow; the mask halves it
    stage.pa_deform.weight.zero_()
    stage.pa_deform.weight[range(dim), range(dim), 1, 1] = 2
    frames = torch.rand(1, dim, t, 6, 6)
    right = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 6, 6)
    flows = [[step * right] * (t - step) for step in range(1, neighbours + 1)]
    aligned = stage._aligned(frames, flows, direction)

    for index in range(t):
        for step in range(1, neighbours + 1):
            group = slice((step - 1) * dim // neighbours, step * dim // neighbours)
            expected = torch.zeros(1, dim // neighbours, 6, 6)
            if 0 <= index + direction * step < t:
                expected[..., :-step] = frames[:, group, index + direction * step, :, step:]
            torch.testing.assert_close(aligned[:, group, index], expected)


@torch.no_grad()
def test_flows_over_more_steps_add_up():
    network = fill(_small(pa_frames=6, deformable_groups=6))
    for level in network.spynet.basic_module:
        for layer in level.basic_module:
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight.zero_()
                layer.bias.zero_()
        level.basic_module[-1].bias.copy_(torch.tensor([0.02, -0.02]))
    for flows in network._flows(clip(2, 5, 3, 32, 32)):
        assert len(flows) == 4
        for scale, steps in enumerate(flows):
            assert [len(step) for step in steps] == [4, 3, 2]
            inner = [step[0][:, :, 8 >> scale:-(8 >> scale), 8 >> scale:-(8 >> scale)] for step in steps]
            torch.testing.assert_close(inner[1], 2 * inner[0])
            torch.testing.assert_close(inner[2], 3 * inner[0])


def test_composed_flows_follow_the_motion():
    """Where a flow differs from place to place, the second step is looked up where the first one leads."""
    network = _small(pa_frames=4, deformable_groups=4)
    flows = torch.rand(2, 2, 32, 32).round()

    class Flow(torch.nn.Module):
        def forward(self, ref, supp):
            return [flows[:, :, ::2**scale, ::2**scale] for scale in range(4)]

    network.spynet = Flow()
    backward, forward = network._flows(torch.zeros(1, 3, 3, 32, 32))
    row, column = 5, 7
    for (first, second), two_steps in (((0, 1), backward), ((1, 0), forward)):
        start = flows[first, :, row, column]
        x, y = start.int().tolist()
        torch.testing.assert_close(two_steps[0][1][0][0, :, row, column],
                                   start + flows[second, :, row + y, column + x], rtol=0, atol=1e-4)


def test_reshapes_are_each_other_reversed():
    x = torch.rand(2, 3, 2, 4, 6)
    less = SpaceToChannel()(x)
    assert torch.equal(less[1, 1, 1, 2].view(2, 2, 3)[1, 0], x[1, :, 1, 2, 5])
    assert torch.equal(ChannelToSpace()(less.permute(0, 4, 1, 2, 3)), x.permute(0, 2, 3, 4, 1))


def test_windows_are_put_back():
    x = torch.rand(2, 4, 6, 9, 5)
    windows = partition(x, (2, 3, 3))
    assert torch.equal(windows[1].view(2, 3, 3, 5), x[0, :2, :3, 3:6])
    assert torch.equal(merge(windows, (2, 3, 3), (2, 4, 6, 9)), x)


@torch.no_grad()
def test_noise_level_reaches_the_first_convolution_only():
    network = fill(_small(upscale=1, pa_frames=2, deformable_groups=4, nonblind_denoising=True))
    frames = torch.cat((clip(1, 3, 3, 16, 16), torch.full((1, 3, 1, 16, 16), 0.1)), dim=2)
    noisier = frames.clone()
    noisier[:, :, 3:] += 0.1
    assert not torch.allclose(network(frames), network(noisier), atol=1e-3)
    network.conv_first.weight[:, -1] = 0
    assert torch.equal(network(frames), network(noisier))


def test_gradients_reach_all_parameters():
    network = fill(_small(pa_frames=4, deformable_groups=4, drop_path_rate=0)).train()
    network(clip(1, 3, 3, 16, 16)).square().mean().backward()
    without = [name for name, parameter in network.named_parameters() if not parameter.grad.any()]
    assert not without


def test_stochastic_depth_leaves_out_samples_in_training_only():
    drop = DropPath(0.25)
    x = torch.ones(4000, 2, 3)
    dropped = drop(x)
    assert dropped.unique().tolist() == [0, pytest.approx(4 / 3)]
    assert torch.equal(dropped, dropped[:, :1, :1].expand_as(x))
    assert abs(dropped.mean() - 1) < 0.05
    assert torch.equal(drop.eval()(x), x)


@pytest.mark.parametrize(('options', 'message'), [
    ({'upscale': 2}, 'upscale 2'), ({'pa_frames': 3}, 'pa_frames 3'), ({'upscale': 4, 'pa_frames': 0}, 'pa_frames 0'),
    ({'depths': (2,) * 7}, 'got 7, 9 and 9')])
def test_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        _small(**options)


@pytest.mark.parametrize('size', [(1, 1, 3, 16, 16), (1, 3, 4, 16, 16), (1, 3, 3, 20, 16), (1, 3, 3, 16, 8)])
def test_impossible_clips(size):
    with pytest.raises(ValueError, match='the clip must have shape'):
        _small(deformable_groups=4)(clip(*size))


def test_interpolation_needs_its_number_of_frames():
    with pytest.raises(ValueError, match=r'img_size\[0\] = 4'):
        _small(upscale=1, pa_frames=0, img_size=(4, 16, 16))(clip(1, 3, 3, 16, 16))
