import hashlib
import json
import runpy
import sys

import pytest
import torch
import yaml
from basicsr.archs import build_network
from conftest import ROOT

from basicsr_nriqa.archs.basicvsrpp_arch import BasicVSRPP
from basicsr_nriqa.checkpoints import describe

NOTE = {'loss': 'lpips & nima', 'optimised': ['lpips', 'nima'], 'iteration': 400, 'basicsr_nriqa': '0.1'}


@pytest.fixture
def network():
    return BasicVSRPP(mid_channels=8, num_blocks=2)


@pytest.fixture
def ours(network, tmp_path):
    """A checkpoint as our training writes it, with averaged weights."""
    path = tmp_path / 'net_g_400.pth'
    torch.save({'params': network.state_dict(), 'params_ema': network.state_dict(), 'trained_with': NOTE}, path)
    return path


@pytest.fixture
def script(monkeypatch, capsys):
    """Run the script within this process; returns its exit status, its output and its errors."""
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['inspect_checkpoint.py', *map(str, arguments)])
        status = 0
        try:
            runpy.run_path(str(ROOT / 'scripts' / 'inspect_checkpoint.py'), run_name='__main__')
        except SystemExit as error:
            status = error.code
        return status, *capsys.readouterr()
    return run


def test_a_checkpoint_of_ours(script, ours, network):
    status, output, errors = script(ours)
    assert (status, errors) == (0, '')
    count = sum(parameter.numel() for parameter in network.parameters())
    for words in (f'{ours}\n', 'BasicVSRPP\n', "own names, under 'params_ema', not those under 'params'", f'{count:,}',
                  hashlib.sha256(ours.read_bytes()).hexdigest(), 'loss: lpips & nima', 'iteration: 400'):
        assert words in output
    block = yaml.safe_load(output[output.index('network_g:'):])['network_g']
    rebuilt = build_network(block).state_dict()
    assert {name: tensor.shape for name, tensor in rebuilt.items()} == \
        {name: tensor.shape for name, tensor in network.state_dict().items()}


def test_published_checkpoints(script, shared, tmp_path):
    names = ('vrt_001_bicubic_reds_6_frames', 'rbpn_x4_f7', 'srgan_discriminator', 'basicvsrpp_openmmlab_c64n7')
    found, blocks = {}, {}
    for name in names:
        published = json.loads((shared / 'parity' / 'published_keys' / f'{name}.json').read_text())
        # a tensor of one number stands for each, so that the file is small
        weights = {key: torch.zeros(()).expand(shape) for key, shape in published['state_dict'].items()}
        torch.save({'params': weights} if name.startswith('vrt') else weights, tmp_path / f'{name}.pth')
        found[name] = describe(tmp_path / f'{name}.pth')
        assert found[name]['parameters'] == published['parameters']
        assert found[name]['trained_with'] is None
        output = script(tmp_path / f'{name}.pth')[1]
        blocks.update(yaml.safe_load(output[output.index('network_'):]))
        assert published['parameters'] == found[name]['parameters'] and f"{published['parameters']:,}" in output
    assert [found[name]['layout'] for name in names] == ['own names', 'RBPN', 'own names', 'OpenMMLab']
    assert [found[name]['wrapper'] for name in names] == ['params', None, None, None]
    assert [found[name]['network'] for name in names] == ['VRT', 'RBPN', 'SRGANDiscriminator', 'BasicVSRPP']
    assert blocks == {'network_g': found['basicvsrpp_openmmlab_c64n7']['options'],
                      'network_d': {'type': 'SRGANDiscriminator'}}


def test_spynet_is_for_other_networks(script, network, tmp_path):
    torch.save(network.spynet.state_dict(), tmp_path / 'spynet.pth')
    _, output, _ = script(tmp_path / 'spynet.pth')
    assert yaml.safe_load(output[output.index('network_g:'):]) == {
        'network_g': {'spynet_path': str(tmp_path / 'spynet.pth')}}


def test_keys(script, ours):
    _, output, _ = script('--keys', ours)
    assert '  conv_last.weight  (3, 64, 3, 3)\n' in output
    _, output, _ = script('--json', '--keys', ours)
    assert json.loads(output)[0]['keys']['conv_last.weight'] == [3, 64, 3, 3]


def test_for_programs(script, ours):
    status, output, _ = script('--json', ours)
    item, = json.loads(output)
    assert status == 0 and item['trained_with'] == NOTE and item['other_wrappers'] == ['params']
    assert item['options'] == {'type': 'BasicVSRPP', 'mid_channels': 8, 'num_blocks': 2, 'is_low_res_input': True}
    assert 'keys' not in item


def test_a_training_state(script, tmp_path):
    torch.save({'epoch': 3, 'iter': 400, 'optimizers': [], 'schedulers': []}, tmp_path / '400.state')
    status, output, _ = script(tmp_path / '400.state')
    assert status == 0 and 'a training state of BasicSR, iteration 400, epoch 3' in output and 'resume_state' in output


def test_bad_files_are_one_line_each_and_good_ones_are_shown(script, ours, tmp_path):
    (tmp_path / 'page.pth').write_text('<html></html>')
    torch.save({'features.0.weight': torch.zeros(1)}, tmp_path / 'vgg.pth')
    torch.save({'params': {}}, tmp_path / 'empty.pth')
    bad = [tmp_path / name for name in ('absent.pth', 'page.pth', 'vgg.pth', 'empty.pth')]
    status, output, errors = script(*bad[:2], ours, *bad[2:])
    assert status == 2 and 'BasicVSRPP' in output
    reasons = ('no such file', 'cannot be read', 'has these names: features.0.weight', 'there are none')
    for line, path, reason in zip(errors.splitlines(), bad, reasons, strict=True):
        assert line.startswith(f'error: Checkpoint {path}: ') and reason in line
