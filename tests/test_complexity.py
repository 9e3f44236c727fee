import json
import runpy
import sys
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch
import torchvision
from conftest import ROOT
from torch import nn
from torch.nn import functional as F

from basicsr_nriqa import complexity
from basicsr_nriqa.archs.basicvsrpp_arch import BasicVSRPP
from basicsr_nriqa.archs.window_attention import WindowAttention  # noqa: F401  registers nriqa::window_attention
from basicsr_nriqa.complexity import count, default_size
from basicsr_nriqa.options import OptionsError

SMALL = {'type': 'BasicVSRPP', 'mid_channels': 8, 'num_blocks': 1}


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def counted(function, *shape):
    return count(Function(function), torch.rand(shape))


def test_a_network_by_hand():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    found = count(network, torch.rand(2, 3, 5, 7))
    assert found['parameters'] == 3 * 8 * 9 + 8 + 8 * 4 + 4
    assert found['flops'] == 2 * 5 * 7 * (3 * 8 * 9 + 8 * 4) == found['flops_by_operator']['conv']
    assert found['activations'] == 2 * 5 * 7 * (8 + 4)
    assert found['not_counted'] == {}
    assert found['table'].count('\n') > 4


def test_attention():
    found = counted(lambda x: F.scaled_dot_product_attention(x, x[..., :5, :], x[..., :5, :]), 2, 3, 7, 4)
    assert found['flops'] == 2 * 3 * 7 * 5 * (4 + 4)
    assert found['activations'] == 2 * 3 * 7 * 4


def test_deformable_convolution():
    weight, offset, mask = torch.rand(6, 4, 3, 3), torch.zeros(2, 18, 5, 7), torch.ones(2, 9, 5, 7)
    found = counted(lambda x: torchvision.ops.deform_conv2d(x, offset, weight, padding=1, mask=mask), 2, 8, 5, 7)
    # the convolution, and for each tap of each input channel one sampled and masked value
    assert found['flops'] == 2 * 5 * 7 * (9 * 4 * 6 + 9 * 8 * (4 + 1))
    assert found['activations'] == 2 * 6 * 5 * 7


def test_a_product_with_one_matrix_counts_for_every_image():
    matrix = torch.rand(6, 4)
    assert counted(lambda x: matrix @ x, 5, 4, 3)['flops'] == 5 * 6 * 4 * 3
    assert counted(lambda x: torch.baddbmm(torch.zeros(1), x, x.transpose(1, 2)), 5, 4, 3)['flops'] == 5 * 4 * 3 * 4


@torch.library.custom_op('nriqa_test::twice', mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


def test_unknown_operators_are_listed_and_can_be_added(monkeypatch):
    found = counted(lambda x: twice(x) + twice(x), 2, 3)
    assert found['not_counted'] == {'nriqa_test::twice': 2, 'aten::add': 1} and found['flops'] == 0
    monkeypatch.setitem(complexity.FLOP_HANDLES, 'nriqa_test::twice', lambda inputs, outputs: 10)
    assert counted(twice, 2, 3)['flops'] == 10


@pytest.mark.parametrize('mutual, keys', [(False, 8), (True, 4)])
def test_window_attention(mutual, keys):
    qkv = torch.rand(3, 8, 3, 2, 5)  # 3 windows of 8 tokens, 2 heads
    arguments = [argument.name for argument in torch.ops.nriqa.window_attention.default._schema.arguments]
    values = {'qkv': qkv, 'bias': torch.zeros(2, keys, keys), 'scale': 1.0, 'mutual': mutual}
    others = [values[name] for name in arguments[1:]]
    found = counted(lambda x: torch.ops.nriqa.window_attention(x, *others), *qkv.shape)
    assert found['flops_by_operator'] == {'window_attention': 3 * 8 * 2 * keys * (5 + 5)}
    assert found['activations'] == 3 * 8 * 2 * 5


@pytest.mark.parametrize('backward', [False, True])
def test_passes_are_measured(backward):
    seconds, memory = complexity._run(SMALL, (2, 16, 16), 'cpu', backward, runs=3)
    assert seconds > 0 and memory > 0


def test_default_size():
    options = {'scale': 4, 'datasets': {'train': {'num_frame': 7, 'gt_size': 256}}}
    assert default_size(options) == (7, 64, 64)
    for lacking in ({}, {**options, 'scale': None}, {'scale': 4, 'datasets': {'val': {}}}):
        with pytest.raises(OptionsError, match='give it as --input'):
            default_size(lacking)


def test_a_measuring_process_that_is_killed_ran_out_of_memory(monkeypatch):
    def killed(*_):
        raise BrokenProcessPool
    monkeypatch.setattr(complexity, '_measured', killed)
    with pytest.raises(ValueError, match=r'memory is too little for a clip of 2 x 16 x 16\. .* --input'):
        complexity.complexity(SMALL, (2, 16, 16))


@pytest.fixture
def script(monkeypatch, capsys):
    """Run the script within this process; returns its exit status, its output and its errors."""
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['complexity.py', *map(str, arguments)])
        status = 0
        try:
            runpy.run_path(str(ROOT / 'scripts' / 'complexity.py'), run_name='__main__')
        except SystemExit as error:
            status = error.code
        return status, *capsys.readouterr()
    return run


@pytest.mark.slow
def test_the_script(script, write_options):
    """Measured in a process of its own, which has to import everything."""
    path = write_options({'network_g': {**SMALL, 'spynet_path': 'nowhere.pth'}, 'scale': 4,
                          'datasets': {'train': {'num_frame': 2, 'gt_size': 64}}})
    status, output, errors = script('-opt', path, '--device', 'cpu', '--backward', '--json')
    assert status == 0, errors
    found = json.loads(output)
    network = BasicVSRPP(mid_channels=8, num_blocks=1)
    assert found['parameters'] == sum(parameter.numel() for parameter in network.parameters())
    assert found['flops'] == count(network.eval(), torch.rand(1, 2, 3, 16, 16))['flops'] > 0
    assert found['seconds'] > 0 and found['memory'] > 0
    assert found['input'] == [1, 2, 3, 16, 16] and found['backward']
    lines = runpy.run_path(str(ROOT / 'scripts' / 'complexity.py'))['summary'](found)
    for words in ('1 x 2 x 3 x 16 x 16', 'parameters:  1,6', ' G, forward; a multiplication with its addition is one',
                  ' MB beyond the network', 's, forward and backward, on cpu', 'not counted: aten::', '|  spynet'):
        assert words in lines


@pytest.mark.parametrize('options, arguments, words', [
    ({'network_g': SMALL}, (), 'give it as --input FRAMES HEIGHT WIDTH'),
    ({}, (), 'network_g: is missing'),
    ({'network_g': {'mid_channels': 8}}, ('--input', 2, 16, 16), 'network_g: has no type. Give the name'),
    ({'network_g': SMALL}, ('--input', 2, 8, 8), 'h and w of 16 pixels or more'),
    ({'network_g': {**SMALL, 'mid_channels': 7}}, ('--input', 2, 16, 16), 'network_g: BasicVSRPP: mid_channels'),
    ({'network_g': {**SMALL, 'blocks': 7}}, ('--input', 2, 16, 16),
     "network_g:blocks: unknown option (did you mean 'num_blocks'?)"),
    ({'network_g': {**SMALL, 'num_blocks': '7'}}, ('--input', 2, 16, 16),
     "network_g:num_blocks: expected a whole number, got '7'"),
    ({'network_g': {'type': 'VSRPP'}}, ('--input', 2, 16, 16), "network_g:type: no network is called 'VSRPP'"),
    ({'network_g': {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1}}, ('--input', 2, 16, 16),
     'MSRResNet does not take clips of shape (1, 2, 3, 16, 16)'),
    ({'network_g': SMALL}, ('--input', 10**6, 10**4, 10**4), 'memory is too little for a clip of 1000000 x 10000 x 10'),
])
def test_what_cannot_be_is_one_line(script, write_options, options, arguments, words):
    path = write_options(options)
    status, _, errors = script('-opt', path, '--device', 'cpu', *arguments)
    assert status == 2 and errors.startswith(f'error: {path}: ') and words in errors and errors.count('\n') == 1


def test_an_absent_option_file_is_one_line(script, tmp_path):
    status, _, errors = script('-opt', tmp_path / 'none.yml')
    assert status == 2 and errors.startswith(f"error: {tmp_path / 'none.yml'}: cannot read this option file")
    assert errors.count('none.yml') == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason='needs a machine without GPU')
@pytest.mark.parametrize('device', ['cuda', 'gpu'])
def test_a_device_that_is_not_there_is_an_error(script, write_options, device):
    status, _, errors = script('-opt', write_options({'network_g': SMALL}), '--device', device)
    assert status == 2 and 'argument --device' in errors and 'Traceback' not in errors


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_on_a_gpu():
    found = complexity.complexity(SMALL, (2, 16, 16), 'cuda', backward=True)
    assert found['memory'] > 0 and found['seconds'] > 0 and 'torchvision::deform_conv2d' not in found['not_counted']
