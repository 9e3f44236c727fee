import os
import re

import pytest
import torch

from basicsr_nriqa.archs.basicvsrpp_arch import BasicVSRPP
from basicsr_nriqa.archs.spynet_arch import SpyNet
from basicsr_nriqa.checkpoints import convert_state_dict, load_checkpoint_file, load_pretrained


def to_openmmlab(state_dict):
    """Our names -> OpenMMLab's."""
    renamed = {}
    for name, tensor in state_dict.items():
        name = re.sub(r'upconv(\d)\.', r'upsample\1.upsample_conv.', name)
        name = re.sub(r'(basic_module\.\d\.basic_module\.)(\d)\.', lambda m: f'{m[1]}{int(m[2]) // 2}.conv.', name)
        renamed[name] = tensor
    return renamed


def prefixed(prefix, state_dict):
    return {prefix + name: tensor for name, tensor in state_dict.items()}


def shifted(state_dict):
    """The same names with other weights, which must not be taken."""
    return {name: tensor + 1 for name, tensor in state_dict.items()}


LAYOUTS = {
    'plain': lambda own: own,
    'params': lambda own: {'params': own},
    'params_ema': lambda own: {'params': shifted(own), 'params_ema': own},
    'distributed': lambda own: {'params': prefixed('module.', own)},
    'openmmlab': lambda own: {'meta': {'epoch': 1}, 'state_dict': {
        **prefixed('generator.', to_openmmlab(own)), 'step_counter': torch.zeros(1)}},
    'openmmlab network alone': to_openmmlab,
    'openmmlab with averaged weights': lambda own: {'state_dict': {
        **prefixed('generator.', to_openmmlab(shifted(own))), **prefixed('generator_ema.', to_openmmlab(own)),
        'discriminator.conv.weight': torch.zeros(1)}},
    'openmmlab distributed': lambda own: {'state_dict': prefixed('module.generator.', to_openmmlab(own))},
}


@pytest.fixture(scope='module', params=['SpyNet', 'BasicVSRPP', 'BasicVSRPP at full size'])
def network(request):
    torch.manual_seed(0)
    if request.param == 'SpyNet':
        return SpyNet()
    return BasicVSRPP(mid_channels=8, num_blocks=2, is_low_res_input=request.param == 'BasicVSRPP')


@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_layout_leads_to_the_networks_own_names(network, layout):
    own = network.state_dict()
    converted = convert_state_dict(LAYOUTS[layout](own), type(network).__name__)
    assert converted.keys() == own.keys()
    assert all(torch.equal(converted[name], own[name]) for name in own)


def test_unknown_names_are_listed(network):
    state_dict = {**network.state_dict(), 'other.weight': torch.zeros(1), 'conv_first.bias': torch.zeros(1)}
    with pytest.raises(ValueError, match=r"other\.weight, conv_first\.bias.*BasicSR's layout.*OpenMMLab's"):
        convert_state_dict(state_dict, type(network).__name__)


def test_unknown_names_beside_a_generator_are_listed():
    state_dict = {**prefixed('generator.', SpyNet().state_dict()), 'neck.weight': torch.zeros(1)}
    with pytest.raises(ValueError, match=r'unknown names neck\.weight\.'):
        convert_state_dict({'state_dict': state_dict}, 'SpyNet')


def test_many_unknown_names_are_counted():
    with pytest.raises(ValueError, match='and 80 more'):
        convert_state_dict({f'layer{i}.weight': torch.zeros(1) for i in range(100)}, 'BasicVSRPP')


def test_an_empty_checkpoint_is_an_error():
    with pytest.raises(ValueError, match='it is empty'):
        convert_state_dict({'params': {}}, 'SpyNet')


def test_an_unknown_network_is_an_error():
    with pytest.raises(ValueError, match=r"'EDVR'; known are \['BasicVSRPP', 'SpyNet'"):
        convert_state_dict({}, 'EDVR')


@pytest.mark.parametrize('layout', ['params', 'openmmlab network alone'])
@pytest.mark.parametrize('with_constants', [True, False])
def test_spynet_path_takes_both_layouts_with_or_without_constants(tmp_path, layout, with_constants):
    weights = {name: torch.rand_like(tensor) if name not in ('mean', 'std') else tensor
               for name, tensor in SpyNet().state_dict().items() if with_constants or name not in ('mean', 'std')}
    path = tmp_path / 'spynet.pth'
    torch.save(LAYOUTS[layout](weights), path)
    network = BasicVSRPP(mid_channels=8, num_blocks=1, spynet_path=path)
    loaded = network.spynet.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
    torch.testing.assert_close(network.spynet.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))


def test_a_checkpoint_of_other_options_is_an_error_and_loads_nothing(tmp_path):
    path = tmp_path / 'small.pth'
    torch.save({'params': BasicVSRPP(mid_channels=8, num_blocks=2).state_dict()}, path)
    network = BasicVSRPP(mid_channels=16, num_blocks=1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match=r'small\.pth: does not fit this BasicVSRPP.*is too much') as error:
        load_pretrained(network, path)
    assert 'more' in str(error.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_basicsr_cpu_checkpoint_without_alignment_is_an_error(tmp_path):
    """BasicSR on a CPU trains a network without deformable alignment."""
    network = BasicVSRPP(mid_channels=8, num_blocks=1)
    path = tmp_path / 'cpu.pth'
    torch.save({name: tensor for name, tensor in network.state_dict().items() if 'deform' not in name}, path)
    with pytest.raises(ValueError, match=r'deform_align\.backward_1\.weight is missing'):
        load_pretrained(network, path)


def test_an_unknown_file_is_named(tmp_path):
    path = tmp_path / 'vgg.pth'
    torch.save({'features.0.weight': torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r'vgg\.pth: Not a SpyNet checkpoint: unknown names features\.0\.weight'):
        SpyNet(load_path=path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'absent\.pth: no such file'):
        SpyNet(load_path=tmp_path / 'absent.pth')


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='no such file'):
        load_checkpoint_file(tmp_path)


@pytest.mark.parametrize('damage', [lambda data: data[:len(data) // 2], lambda _: b'', lambda _: b'<html></html>'])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / 'damaged.pth'
    torch.save({'weight': torch.rand(1000)}, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r'damaged\.pth: cannot be read'):
        load_checkpoint_file(path)


class RunsCode:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_code_in_a_file_is_refused_and_not_run(tmp_path):
    path, folder = tmp_path / 'code.pth', tmp_path / 'made'
    torch.save({'params': RunsCode(folder)}, path)
    with pytest.raises(ValueError, match=r'code\.pth: refused, since loading \S+\.mkdir could run code'):
        load_checkpoint_file(path)
    assert not folder.exists()


def test_a_file_without_a_dictionary_is_an_error(tmp_path):
    path = tmp_path / 'list.pth'
    torch.save([torch.zeros(1)], path)
    with pytest.raises(ValueError, match=r'list\.pth: expected a dictionary of tensors, found list'):
        load_checkpoint_file(path)
