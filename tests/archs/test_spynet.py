import pytest
import torch
from fill import assert_recorded, clip, fill, filled, parity

from basicsr_nriqa.archs.spynet_arch import SpyNet
from basicsr_nriqa.checkpoints import convert_state_dict

RECORDED = [  # levels 5 and 3
    {'shape': [2, 2, 37, 50], 'mean': 0.254745, 'std': 0.677278,
     'value': [0.70089, 0.42054, 1.25119, 1.52422, -0.50798, -0.64425, -0.29945, -0.63783, 0.16477, 0.75587, 1.17801,
               1.19788, -0.38306, -0.18976, -0.87045, 0.01447]},
    {'shape': [2, 2, 9, 12], 'mean': 0.042523, 'std': 0.154638,
     'value': [0.12402, 0.09423, 0.19075, 0.2895, -0.12264, -0.17276, -0.11104, -0.10802, 0.11624, 0.1545, 0.1576,
               0.27959, -0.04373, -0.10465, -0.18247, -0.01857]}]


@torch.no_grad()
def test_equals_the_published_network():
    recorded = parity('spynet_levels')
    spynet = SpyNet(**recorded['args'])
    spynet.load_state_dict(convert_state_dict(filled(recorded['keys']), 'SpyNet'), strict=False)
    assert {name: list(tensor.shape) for name, tensor in spynet.state_dict().items()} == recorded['keys']
    frames = clip(*recorded['input'])
    for flow, expected in zip(spynet(frames[:, 0], frames[:, 1]), recorded['output'], strict=True):
        assert_recorded(flow, expected)


@torch.no_grad()
def test_recorded_output():
    spynet = fill(SpyNet(return_levels=(3, 5)))
    frames = clip(2, 2, 3, 37, 50)
    for flow, expected in zip(spynet(frames[:, 0], frames[:, 1]), RECORDED, strict=True):
        assert_recorded(flow, expected, tolerance=1e-4)


@torch.no_grad()
def test_one_level_is_a_tensor_and_equals_its_place_in_the_list():
    frames = clip(1, 2, 3, 32, 40)
    alone = fill(SpyNet(return_levels=(4,)))(frames[:, 0], frames[:, 1])
    _, listed = fill(SpyNet(return_levels=(4, 5)))(frames[:, 0], frames[:, 1])
    torch.testing.assert_close(alone, listed)


def test_untrained_flow_is_zero_and_can_be_trained():
    torch.manual_seed(0)
    spynet = SpyNet()
    ref, supp = clip(1, 2, 3, 20, 33).unbind(1)
    assert not spynet(ref, supp).any()
    target = torch.ones(1, 2, 20, 33)
    optimizer = torch.optim.SGD(spynet.parameters(), lr=1e-3)
    for step in range(2):  # the first step moves the last convolutions, which then let gradients pass
        optimizer.zero_grad()
        (spynet(ref, supp) - target).square().mean().backward()
        for name, parameter in spynet.named_parameters():
            if step or '.basic_module.8.' in name:
                assert parameter.grad.any(), name
        optimizer.step()


@pytest.mark.parametrize('levels', [(), (6,), (-1, 5)])
def test_unknown_levels_are_an_error(levels):
    with pytest.raises(ValueError, match='levels from 0 to 5'):
        SpyNet(return_levels=levels)


@pytest.mark.parametrize('shapes', [((1, 3, 16, 16), (1, 3, 16, 17)), ((1, 3, 16, 7), (1, 3, 16, 7))])
def test_images_of_different_or_too_small_size_are_an_error(shapes):
    with pytest.raises(ValueError, match='at least 8 pixels'):
        SpyNet(return_levels=(2, 5))(*(torch.rand(shape) for shape in shapes))
