import os
import re

import pytest
import torch
from torch import nn

from basicsr_nriqa.archs.basicvsrpp_arch import BasicVSRPP
from basicsr_nriqa.archs.iseebetter_arch import RBPN, ISeeBetter
from basicsr_nriqa.archs.spynet_arch import SpyNet
from basicsr_nriqa.archs.srgan_discriminator_arch import SRGANDiscriminator
from basicsr_nriqa.archs.vrt_arch import VRT
from basicsr_nriqa.checkpoints import convert_state_dict, load_checkpoint_file, load_content, load_pretrained, recognise

SMALL_RBPN = {'base_filter': 8, 'num_feat': 4, 'num_block': 1, 'num_frame': 3}
SMALL_VRT = {'window_size': (2, 4, 4), 'depths': 8 * (2,), 'embed_dims': 8 * (8,), 'num_heads': 8 * (2,),
             'indep_reconsts': (), 'deformable_groups': 2}
BUILD = {
    'SpyNet': SpyNet,
    'BasicVSRPP': lambda: BasicVSRPP(mid_channels=8, num_blocks=2),
    'BasicVSRPP at full size': lambda: BasicVSRPP(mid_channels=8, num_blocks=2, is_low_res_input=False),
    'VRT': lambda: VRT(**SMALL_VRT),
    'VRT for interpolation': lambda: VRT(**{**SMALL_VRT, 'upscale': 1, 'pa_frames': 0, 'img_size': (2, 32, 32)}),
    'RBPN': lambda: RBPN(**SMALL_RBPN),
    'ISeeBetter': lambda: ISeeBetter(**SMALL_RBPN),
    'SRGANDiscriminator': SRGANDiscriminator,
}
CONSTANTS = ('mean', 'std', 'relative_position_index', 'position_bias')


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


@pytest.fixture(scope='module', params=BUILD)
def network(request):
    torch.manual_seed(0)
    return BUILD[request.param]()


def without_constants(state_dict):
    return {name: tensor for name, tensor in state_dict.items() if name.rpartition('.')[2] not in CONSTANTS}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_layout_leads_to_the_networks_own_names(network, layout):
    own = network.state_dict()
    content = LAYOUTS[layout](own)
    assert recognise(content) == type(network).__name__
    converted = convert_state_dict(content, type(network).__name__)
    assert converted.keys() == own.keys()
    assert all(torch.equal(converted[name], own[name]) for name in own)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_constants_may_be_absent(network, layout):
    own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    content = LAYOUTS[layout](without_constants(own))
    assert recognise(content) == type(network).__name__
    load_content(network, content)
    loaded = network.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in own.items())


def test_checkpoints_of_every_other_network_are_refused_by_name(network):
    for name, build in BUILD.items():
        other = build()
        arch = type(other).__name__
        if arch != type(network).__name__ and (arch, type(network).__name__) != ('RBPN', 'ISeeBetter'):
            with pytest.raises(ValueError, match=f'Not a {type(network).__name__} checkpoint: .*It is a checkpoint of '
                                                 f'{arch}: use ') as error:
                load_content(network, {'params': other.state_dict()})
            place = {'SRGANDiscriminator': 'network_d: {type: SRGANDiscriminator}', 'SpyNet': 'spynet_path',
                     'RBPN': 'network_g: {type: ISeeBetter, ...}'}
            assert place.get(arch, f'network_g: {{type: {arch}, ...}}') in str(error.value), name


@pytest.mark.parametrize('prefix', ['module', 'net'])
@pytest.mark.parametrize('distributed', ['', 'module.'])
def test_spynet_of_pytorch_spynet(prefix, distributed):
    own = without_constants(SpyNet().state_dict())
    theirs = {distributed + name.replace('basic_module', f'{prefix}Basic'): tensor for name, tensor in own.items()}
    assert recognise(theirs) == 'SpyNet'
    converted = convert_state_dict(theirs, 'SpyNet')
    assert converted.keys() == own.keys() and all(converted[name] is own[name] for name in own)


def test_masks_in_a_file_are_ignored():
    network = BUILD['VRT']()
    masks = {f'stage{i}.residual_group1.blocks.1.attn_mask': torch.zeros(2, 4, 4) for i in (1, 2)}
    load_content(network, {'params': {**network.state_dict(), **masks}})


def test_a_training_state_is_no_network():
    state = {'epoch': 1, 'iter': 5, 'optimizers': [], 'schedulers': [], 'balancer': {}}
    for refuse in (recognise, lambda content: convert_state_dict(content, 'VRT')):
        with pytest.raises(ValueError, match='It is a training state, not a network: give it as path: resume_state.'
                                             r' The network of this iteration is net_g_5\.pth'):
            refuse(state)


def test_some_names_of_no_known_network_are_shown():
    with pytest.raises(ValueError, match=r'None of the known networks \(SpyNet, .*VRT.*\) has these names: layer0\.w, '
                                         r'.* and 92 more'):
        recognise({'params': {f'layer{i}.w': torch.zeros(1) for i in range(100)}})


@pytest.mark.parametrize('refuse', [recognise, lambda content: convert_state_dict(content, 'SpyNet')])
def test_weights_under_an_unknown_name_are_found(refuse):
    content = {'epoch': 3, 'model': SpyNet().state_dict()}
    with pytest.raises(ValueError, match=r"It holds weights under 'model'\. Save them alone: .*torch\.load\(FILE\)"):
        refuse(content)
    with pytest.raises(ValueError) as error:
        refuse({'params': {'a': torch.zeros(1)}, 'optimizer': {'b': torch.zeros(1)}})
    assert 'optimizer' not in str(error.value)


def test_unknown_names_are_listed(network):
    state_dict = {**network.state_dict(), 'other.weight': torch.zeros(1), 'conv_zeroth.bias': torch.zeros(1)}
    with pytest.raises(ValueError, match=r"other\.weight, conv_zeroth\.bias.*BasicSR's layout.*OpenMMLab's"):
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
    with pytest.raises(ValueError, match=r"'EDVR'; known are \['BasicVSRPP', 'ISeeBetter'"):
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
    with pytest.raises(ValueError, match=r'small\.pth: does not fit this BasicVSRPP.*is not in this network') as error:
        load_pretrained(network, path)
    assert 'more' in str(error.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_the_options_to_set_are_said(tmp_path):
    path = tmp_path / 'small.pth'
    torch.save({'params': BasicVSRPP(mid_channels=8, num_blocks=2).state_dict()}, path)
    with pytest.raises(ValueError, match='set mid_channels: 8, num_blocks: 2 in its options; now it is '
                                         r'mid_channels: 16, num_blocks: 1\. In detail: .* is not in this network'):
        load_pretrained(BasicVSRPP(mid_channels=16, num_blocks=1), path)
    torch.save({'params': VRT(**SMALL_VRT).state_dict()}, path)
    with pytest.raises(ValueError, match=r'set pa_frames: 2, window_size: \[2, 4, 4\] in its options; now it is '
                                         r'pa_frames: 4, window_size: \[4, 4, 4\]'):
        load_pretrained(VRT(**{**SMALL_VRT, 'window_size': (4, 4, 4), 'pa_frames': 4}), path)


def test_content_that_was_read_already_is_taken(tmp_path):
    network, other = BasicVSRPP(mid_channels=8, num_blocks=1), BasicVSRPP(mid_channels=8, num_blocks=1)
    load_pretrained(network, tmp_path / 'absent.pth', {'params': other.state_dict()})
    assert torch.equal(network.conv_last.weight, other.conv_last.weight)
    with pytest.raises(ValueError, match=r'absent\.pth: Not a BasicVSRPP checkpoint'):
        load_pretrained(network, tmp_path / 'absent.pth', {'params': {'a': torch.zeros(1)}})


def test_loading_in_part_takes_what_fits_and_says_what_does_not(caplog):
    network, other = BasicVSRPP(mid_channels=8, num_blocks=1), BasicVSRPP(mid_channels=8, num_blocks=1)
    block = 'reconstruction.main.2.5.conv1.weight'
    content = {'params': {**other.state_dict(), 'conv_last.bias': torch.zeros(7), block: torch.zeros(8, 8, 3, 3)}}
    del content['params']['conv_hr.bias']
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match=r'conv_last\.bias has shape'):
        load_content(network, content)
    with caplog.at_level('WARNING', 'basicsr'):
        load_content(network, content, strict=False)
    for name, tensor in network.state_dict().items():
        expected = before[name] if name in ('conv_last.bias', 'conv_hr.bias') else other.state_dict()[name]
        assert torch.equal(tensor, expected), name
    for words in ('Loaded in part', 'conv_hr.bias is missing', f'{block} is not in this network', 'shape (7,)'):
        assert words in caplog.text


def test_loading_in_part_leaves_unknown_names_out_and_says_so(caplog):
    network, other = BasicVSRPP(mid_channels=8, num_blocks=1), BasicVSRPP(mid_channels=8, num_blocks=1)
    content = {'params': {'neck.weight': torch.zeros(1), 'conv_hr.bias': 'no tensor', 'conv_last.bias': torch.ones(3)}}
    before = network.conv_hr.bias.clone()
    with pytest.raises(ValueError, match=r'unknown names neck\.weight'):
        load_content(network, content)
    with caplog.at_level('WARNING', 'basicsr'):
        load_content(network, {'params': {**other.state_dict(), **content['params']}}, strict=False)
    assert torch.equal(network.conv_last.weight, other.conv_last.weight)
    assert torch.equal(network.conv_hr.bias, before) and (network.conv_last.bias == 1).all()
    assert 'neck.weight is not in this network' in caplog.text and 'conv_hr.bias is missing' in caplog.text
    for nothing in ({'neck.weight': torch.zeros(1)}, {}):
        with pytest.raises(ValueError, match='Not a BasicVSRPP checkpoint'):
            load_content(network, {'params': nothing}, strict=False)


@pytest.mark.parametrize('distributed', ['', 'module.'])
def test_rbpn_leaves_the_flow_of_iseebetter_as_it_is(distributed, caplog):
    network, other = ISeeBetter(**SMALL_RBPN), RBPN(**SMALL_RBPN)
    nn.init.ones_(network.spynet.basic_module[5].basic_module[8].weight)
    flow = {name: tensor.clone() for name, tensor in network.spynet.state_dict().items()}
    with caplog.at_level('INFO', 'basicsr'):
        load_content(network, prefixed(distributed, other.state_dict()))
    assert all(torch.equal(network.rbpn.state_dict()[name], tensor) for name, tensor in other.state_dict().items())
    assert all(torch.equal(network.spynet.state_dict()[name], tensor) for name, tensor in flow.items())
    assert 'has no optical-flow network' in caplog.text


def test_iseebetter_with_a_part_of_its_flow_is_an_error():
    network = ISeeBetter(**SMALL_RBPN)
    content = network.state_dict()
    del content['spynet.basic_module.0.basic_module.0.bias']
    with pytest.raises(ValueError, match=r'spynet\.basic_module\.0\.basic_module\.0\.bias is missing'):
        load_content(network, content)


class Foreign(nn.Linear):
    """A network of another project."""


@pytest.mark.parametrize('wrap', [lambda own: own, lambda own: {'params': prefixed('module.', own)},
                                  lambda own: {'state_dict': own, 'iteration': 3}])
def test_other_networks_need_their_own_names(wrap):
    network, other = Foreign(2, 3), Foreign(2, 3)
    load_content(network, wrap(other.state_dict()))
    assert torch.equal(network.weight, other.weight)
    with pytest.raises(ValueError, match=r'does not fit this Foreign.*weight has shape'):
        load_content(Foreign(2, 4), wrap(other.state_dict()))


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
    with pytest.raises(FileNotFoundError, match=r'this is a folder\. Give the file in it'):
        load_checkpoint_file(tmp_path)
    with pytest.raises(FileNotFoundError, match='no such file'):
        load_checkpoint_file('')


@pytest.mark.parametrize('damage', [lambda data: data[:len(data) // 2], lambda _: b'', lambda _: b'<html></html>'])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / 'damaged.pth'
    torch.save({'weight': torch.rand(1000)}, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r'damaged\.pth: cannot be read'):
        load_checkpoint_file(path)


@pytest.mark.parametrize('data', [b'\x80\x02.', b'\x80\x02a.', b'\x80\x02h\x00.', b'\x80\x02K', b'\x80\x02M\x01',
                                  b'\x80', b'\x80\x02)R.', b'\x80\x02N(s.', b'\x80\x02X\xff\xff\xff\xff'])
def test_a_damaged_pickle_is_named(tmp_path, data):
    """Each fails in another way inside torch.load."""
    path = tmp_path / 'damaged.pth'
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r'damaged\.pth: cannot be read'):
        load_checkpoint_file(path)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path):
    path = tmp_path / 'locked.pth'
    torch.save({}, path)
    path.chmod(0)
    with pytest.raises(ValueError, match=r'locked\.pth: cannot be read \(Permission denied\)'):
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
