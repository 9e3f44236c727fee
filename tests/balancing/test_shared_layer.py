"""Gradients at a layer's weights against those of plain backward passes, for every network."""
import pytest
import torch
from basicsr.archs import build_network
from torch import nn

from basicsr_nriqa.balancing.shared_layer import gradients_at, last_convolution, weight_of

NETWORKS = {
    'basicvsrpp': ({'type': 'BasicVSRPP', 'mid_channels': 8, 'num_blocks': 1}, 'conv_last'),
    'basicvsrpp, recomputed': ({'type': 'BasicVSRPP', 'mid_channels': 8, 'num_blocks': 1, 'checkpoint': True},
                               'conv_last'),
    'iseebetter': ({'type': 'ISeeBetter', 'base_filter': 8, 'num_feat': 8, 'num_block': 1, 'num_frame': 3},
                   'rbpn.output.conv'),
    'vrt': ({'type': 'VRT', 'upscale': 4, 'img_size': [2, 16, 16], 'window_size': [2, 8, 8], 'depths': [1] * 8,
             'indep_reconsts': [], 'embed_dims': [8] * 8, 'num_heads': [2] * 8, 'pa_frames': 2,
             'deformable_groups': 2, 'drop_path_rate': 0}, 'conv_last')}


@pytest.mark.parametrize('network', NETWORKS)
def test_gradients_at_the_last_convolution(network):
    options, last = NETWORKS[network]
    torch.manual_seed(0)
    net = build_network(options).double()
    output = net(torch.rand(1, 3, 3, 16, 16, dtype=torch.double))
    name, weight = last_convolution(net, output)
    assert name == last and weight is weight_of(net, last)
    gradients = torch.randn(3, output.numel(), dtype=torch.double) * torch.tensor([[1e-9], [1.0], [0.0]])
    got = gradients_at(weight, output, gradients)
    for row, gradient in zip(got, gradients):
        expected, = torch.autograd.grad(output, weight, gradient.view_as(output), retain_graph=True)
        torch.testing.assert_close(row, expected.flatten(), rtol=1e-9, atol=0)
    assert not got[2].any() and all(parameter.grad is None for parameter in net.parameters())
    output.sum().backward()  # the graph is still there
    assert weight.grad.any()


def test_small_gradients_do_not_vanish_in_half_precision():
    layer = nn.Conv2d(3, 3, 3, padding=1)
    images = torch.rand(1, 3, 8, 8)
    with torch.autocast('cpu', torch.float16):
        output = layer(images)
    assert output.dtype == torch.float16
    gradients = torch.randn(2, output.numel()) * torch.tensor([[1e-10], [1e6]])
    got = gradients_at(layer.weight, output, gradients)
    for row, gradient in zip(got, gradients):
        expected, = torch.autograd.grad(layer(images), layer.weight, gradient.view_as(output))
        assert (row - expected.flatten()).norm() < 0.01 * expected.norm()


def test_large_images_do_not_overflow_in_half_precision():
    layer = nn.Conv2d(4, 3, 3, padding=1)
    images = torch.rand(2, 4, 256, 256)
    with torch.autocast('cpu', torch.float16):
        output = layer(images)
    gradients = torch.full((1, output.numel()), 1e-6)  # as of a mean absolute error, all of one sign
    got = gradients_at(layer.weight, output, gradients)
    expected, = torch.autograd.grad(layer(images), layer.weight, gradients.view_as(output))
    assert (got[0] - expected.flatten()).norm() < 0.01 * expected.norm()


def test_the_last_of_equally_near_convolutions_is_always_the_same():
    def found():
        net = nn.ModuleDict({name: nn.Conv2d(3, 3, 1) for name in 'abc'})
        image = torch.rand(1, 3, 4, 4)
        return last_convolution(net, net['b'](image) + net['a'](image) + net['c'](image))[0]
    assert len({found() for _ in range(20)}) == 1


def test_a_layer_by_name_and_what_is_none():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Linear(4, 2))
    assert weight_of(net, '0') is net[0].weight and weight_of(net, '2') is net[2].weight
    for layer in ('1', '7'):
        with pytest.raises(ValueError, match=f"Sequential has no layer with weights called '{layer}'"):
            weight_of(net, layer)
    net[0].requires_grad_(False)
    with pytest.raises(ValueError, match='Sequential has no convolution that is trained'):
        last_convolution(net, net(torch.rand(1, 3, 4, 4)))
