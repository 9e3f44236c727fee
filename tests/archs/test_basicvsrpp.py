from unittest import mock

import pytest
import torch
from basicsr.archs import build_network
from basicsr.archs.basicvsrpp_arch import BasicVSRPlusPlus
from fill import assert_recorded, clip, fill, filled, parity

from basicsr_nriqa.archs.basicvsrpp_arch import BasicVSRPP
from basicsr_nriqa.checkpoints import convert_state_dict

SMALL = {'mid_channels': 8, 'num_blocks': 1}
RECORDED = {
    True: ((2, 4, 3, 18, 21), {
        'shape': [2, 4, 3, 72, 84], 'mean': 0.613277, 'std': 0.381927,
        'value': [0.83264, 0.07851, 0.27196, 0.64505, 0.53257, -0.24834, 0.24829, 0.04465, 0.57704, 0.35034, 0.25158,
                  0.22975, 1.11558, 0.44849, 0.46425, 0.11856, 0.6356, 0.83375, 0.71446, 0.33507, 0.56371, 0.87412,
                  0.60303, 0.67075, 0.20198, 0.10725, 0.20584, 0.41718, 0.6188, 0.75404, 0.07061, 0.49373]}),
    False: ((1, 3, 3, 64, 72), {
        'shape': [1, 3, 3, 64, 72], 'mean': 0.630629, 'std': 0.308108,
        'value': [0.73022, 1.03534, 1.01556, 0.54339, 0.57212, 0.35318, 0.96781, 0.77567, 0.97284, 0.74322, 0.63996,
                  0.31798, 0.90838, 0.53625, 0.55435, 0.39679, 0.47321, 0.05611, 0.89949, 1.31777, 1.45894, 0.19029,
                  -0.10957, 0.12965]})}


@pytest.fixture(scope='module')
def network():
    """Filled with large weights, so that the flow of both orders and the learned offsets matter to the output."""
    return fill(BasicVSRPP(**SMALL)).requires_grad_(False)


@torch.no_grad()
def test_equals_the_published_network():
    recorded = parity('basicvsrpp_x4')
    network = BasicVSRPP(**recorded['args'])
    weights = convert_state_dict(filled(recorded['keys'], recorded['gain']), 'BasicVSRPP')
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert (sorted(missing), unexpected) == (['spynet.mean', 'spynet.std'], [])
    assert_recorded(network(clip(*recorded['input'])), recorded['output'])


def test_published_checkpoint_fits():
    published = parity('published_keys/basicvsrpp_openmmlab_c64n7')
    network = BasicVSRPP()
    weights = {name: torch.empty(shape, device='meta') for name, shape in published['state_dict'].items()}
    converted = convert_state_dict({'state_dict': weights}, 'BasicVSRPP')
    own = network.state_dict()
    assert {name: tensor.shape for name, tensor in converted.items()} == {name: own[name].shape for name in own}
    assert len(own) == 274
    assert sum(parameter.numel() for parameter in network.parameters()) == published['parameters'] == 7322927


@pytest.mark.parametrize('is_low_res_input', [True, False])
@torch.no_grad()
def test_equals_basicsr(is_low_res_input):
    options = {**SMALL, 'is_low_res_input': is_low_res_input}
    # BasicSR leaves alignment out where it sees no GPU when it is built
    with mock.patch('torch.cuda.is_available', return_value=True):
        theirs = BasicVSRPlusPlus(**options)
    ours = fill(BasicVSRPP(**options))
    theirs.load_state_dict(ours.state_dict())
    frames = clip(1, 3, 3, *((64, 67) if is_low_res_input else (256, 256)))
    torch.testing.assert_close(ours(frames), theirs(frames), rtol=0, atol=5e-5)


@pytest.mark.parametrize('is_low_res_input', [True, False])
@torch.no_grad()
def test_recorded_output(is_low_res_input):
    size, recorded = RECORDED[is_low_res_input]
    network = fill(BasicVSRPP(**SMALL, is_low_res_input=is_low_res_input))
    assert_recorded(network(clip(*size)), recorded, tolerance=1e-4)


def test_is_registered_and_built_from_options():
    network = build_network({'type': 'BasicVSRPP', **SMALL})
    assert isinstance(network, BasicVSRPP)


def test_a_mirrored_clip_changes_nothing_later(network):
    normal = clip(1, 4, 3, 16, 16)
    half = normal[:, :2]
    before = network(normal)
    network(torch.cat((half, half.flip(1)), dim=1))
    assert torch.equal(network(normal), before)


def test_a_mirrored_clip_gives_mirrored_flows(network):
    """What BasicSR's shortcut for such clips relies on holds without it."""
    half = clip(1, 2, 3, 16, 20).transpose(0, 1)
    backward, forward = network._flows(torch.cat((half, half.flip(0))), at_once=4)
    torch.testing.assert_close(backward, forward)


@pytest.mark.parametrize('size', [(1, 1, 3, 16, 16), (1, 2, 3, 17, 31), (2, 3, 3, 33, 18)])
def test_any_size_and_length(network, size):
    output = network(clip(*size))
    n, t, c, h, w = size
    assert output.shape == (n, t, c, 4 * h, 4 * w)
    assert output.isfinite().all()


def test_clips_of_a_batch_do_not_mix(network):
    clips = clip(3, 3, 3, 16, 19)
    torch.testing.assert_close(network(clips), torch.cat([network(one) for one in clips.split(1)]))


@torch.no_grad()
def test_full_size_input_of_odd_size_keeps_its_size():
    network = fill(BasicVSRPP(**SMALL, is_low_res_input=False))
    frames = clip(1, 2, 3, 67, 65)
    assert network(frames).shape == frames.shape


def test_cache_in_main_memory_gives_the_same_output_and_gradient():
    frames = clip(2, 3, 3, 16, 16)
    results = []
    for length in (100, 2):
        network = fill(BasicVSRPP(**SMALL, cpu_cache_length=length))
        output = network(frames)
        output.square().mean().backward()
        results.append((output.detach(), network.feat_extract.main[0].weight.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


def test_gradients_reach_all_parameters():
    torch.manual_seed(0)
    network = BasicVSRPP(**SMALL)
    frames = clip(1, 3, 3, 16, 16)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-2)
    for _ in range(2):  # the first step moves the convolutions that start as zero and hold gradients back
        optimizer.zero_grad()
        (network(frames) - 1).square().mean().backward()
        optimizer.step()
    without = [name for name, parameter in network.named_parameters() if not parameter.grad.any()]
    assert not without


def test_mixed_precision_stays_close():
    torch.manual_seed(0)
    network = BasicVSRPP(**SMALL)
    frames = clip(1, 2, 3, 16, 16)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = network(frames)
        mixed.float().square().mean().backward()
    torch.testing.assert_close(mixed.float(), network(frames), rtol=0, atol=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@torch.no_grad()
@pytest.mark.parametrize('cpu_cache_length', [100, 2])
def test_gpu_gives_the_output_of_the_cpu(cpu_cache_length):
    network = fill(BasicVSRPP(**SMALL, cpu_cache_length=cpu_cache_length), gain=0.8)
    frames = clip(1, 3, 3, 18, 21)
    expected = network(frames)
    torch.testing.assert_close(network.cuda()(frames.cuda()).cpu(), expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize('mid_channels', [0, 12, 63])
def test_channels_that_do_not_divide_are_an_error(mid_channels):
    with pytest.raises(ValueError, match='multiple of 8'):
        BasicVSRPP(mid_channels=mid_channels)


@pytest.mark.parametrize('options', [{'num_blocks': -1}, {'max_residue_magnitude': -1.5}])
def test_negative_options_are_an_error(options):
    with pytest.raises(ValueError, match='must be 0 or more'):
        BasicVSRPP(**{**SMALL, **options})


@pytest.mark.parametrize('shape', [(1, 2, 3, 15, 16), (1, 2, 3, 64, 8), (1, 0, 3, 16, 16), (1, 2, 1, 16, 16),
                                   (2, 3, 16, 16)])
def test_unusable_clips_are_an_error(network, shape):
    with pytest.raises(ValueError, match='16 pixels or more'):
        network(torch.rand(shape))
