"""Recomputation in the backward pass: what it repeats, and every network with it; autocast, DDP and torch.compile."""
import pytest
import torch
from fill import clip, fill
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

from basicsr_nriqa.archs.basicvsrpp_arch import BasicVSRPP
from basicsr_nriqa.archs.iseebetter_arch import ISeeBetter
from basicsr_nriqa.archs.vrt_arch import VRT
from basicsr_nriqa.recompute import recomputed

VRT_OPTIONS = {'img_size': (2, 64, 64), 'window_size': (2, 4, 4), 'depths': (2,) * 8, 'indep_reconsts': (),
               'embed_dims': (8,) * 8, 'num_heads': (2,) * 8, 'deformable_groups': 4}
BUILD = {
    'BasicVSRPP': lambda on: BasicVSRPP(mid_channels=8, num_blocks=1, checkpoint=on),
    'ISeeBetter': lambda on: ISeeBetter(base_filter=8, num_feat=8, num_block=1, num_frame=3, checkpoint=on),
    'VRT': lambda on: VRT(**VRT_OPTIONS, use_checkpoint_attn=on, use_checkpoint_ffn=on)}


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def gradients(network, run, autocast=False):
    network.zero_grad()
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        output = run(clip(1, 2, 3, 16, 16))
    output.float().square().mean().backward()
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


def test_the_last_layer_is_not_repeated():
    linear = nn.Linear(64, 64)
    x = torch.rand(32, 64, requires_grad=True)
    counted = []
    for enabled in (False, True):
        with FlopCounterMode(display=False) as counter:
            recomputed(lambda x: linear(x.sin()), x, enabled=enabled).sum().backward()
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1] > 0


def test_only_the_inputs_are_kept():
    kept = []

    def pack(tensor):
        kept.append(tensor.shape)
        return tensor
    x = torch.rand(7, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        recomputed(lambda x: x.sin().cos().exp(), x)
    assert kept == [x.shape]
    assert not recomputed(lambda x: x.sin(), x.detach()).requires_grad


@pytest.mark.parametrize('name', BUILD)
@pytest.mark.parametrize('autocast', [False, pytest.param(True, marks=pytest.mark.slow)])  # bfloat16 is slow on CPUs
def test_with_ddp_and_autocast_gradients_are_those_of_the_plain_network(name, autocast, process_group):
    torch.manual_seed(0)
    plain, recomputing = (fill(BUILD[name](on), gain=0.5).eval() for on in (False, True))
    expected = gradients(plain, plain, autocast)
    found = gradients(recomputing, DistributedDataParallel(recomputing), autocast)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('name', BUILD)
def test_with_compile_gradients_are_those_of_the_plain_network(name):
    torch.manual_seed(0)
    plain, recomputing = (fill(BUILD[name](on), gain=0.5).eval() for on in (False, True))
    expected = gradients(plain, plain)
    found = gradients(recomputing, torch.compile(recomputing, backend='aot_eager', fullgraph=True))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
