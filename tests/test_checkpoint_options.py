"""The options read off published checkpoints and off networks of ours."""
import json

import pytest
import torch
from basicsr.archs import build_network
from hypothesis import given, settings
from hypothesis import strategies as st

from basicsr_nriqa.archs import iseebetter_arch, vrt_arch  # noqa: F401  registered on import
from basicsr_nriqa.checkpoints import network_options, recognise

VRT = {'type': 'VRT', 'upscale': 4, 'out_chans': 3, 'in_chans': 3, 'nonblind_denoising': False,
       'depths': 7 * [8] + 6 * [4], 'embed_dims': 7 * [120] + 6 * [180], 'num_heads': 13 * [6],
       'indep_reconsts': [11, 12], 'mlp_ratio': 2, 'mul_attn_ratio': 0.75, 'qkv_bias': True}
PUBLISHED = {
    'basicvsrpp_openmmlab_c64n7': {'type': 'BasicVSRPP', 'mid_channels': 64, 'num_blocks': 7, 'is_low_res_input': True},
    'rbpn_x4_f7': {'type': 'ISeeBetter', 'base_filter': 256, 'num_feat': 64, 'num_stages': 3,
                   'num_block': 5, 'num_frame': 7, 'scale': 4, 'frames': 'all'},
    'srgan_discriminator': {'type': 'SRGANDiscriminator'},
    'vrt_001_bicubic_reds_6_frames': {**VRT, 'window_size': [6, 8, 8], 'pa_frames': 2, 'deformable_groups': 12},
    'vrt_002_bicubic_reds_16_frames': {**VRT, 'window_size': [8, 8, 8], 'pa_frames': 6, 'deformable_groups': 24},
    'vrt_003_bicubic_vimeo_7_frames': {**VRT, 'window_size': [8, 8, 8], 'pa_frames': 4, 'deformable_groups': 16}}


@pytest.fixture
def parity(shared):
    """What is recorded under a name about a published network."""
    return lambda name: json.loads((shared / 'parity' / f'{name}.json').read_text())


def empty(shapes):
    return {name: torch.empty(shape, device='meta') for name, shape in shapes.items()}


@pytest.mark.parametrize('name', PUBLISHED)
def test_options_of_published_checkpoints(parity, name):
    weights = empty(parity(f'published_keys/{name}')['state_dict'])
    assert network_options(weights) == PUBLISHED[name]


@pytest.mark.parametrize('name', ['vrt_interpolation_pa0', 'vrt_x4_6frames_pa2', 'basicvsrpp_x4'])
def test_options_of_small_published_networks(parity, name):
    recorded = parity(name)
    options = network_options({'params': empty(recorded['keys'])})
    given = {**recorded['args'], 'img_size': options.get('img_size')}  # matters for interpolation only
    assert {key: options.get(key) for key in given} == given
    assert options.get('img_size') in (None, [4, 64, 64])


def assert_round_trip(options):
    """A network's own options lead back to its names and shapes, whether its constants are in the file or not."""
    weights = build_network(options).state_dict()
    published = {name: tensor for name, tensor in weights.items() if name.rpartition('.')[2] not in
                 ('mean', 'std', 'relative_position_index', 'position_bias')}
    for content in (weights, {'params': published}):
        found = network_options(content)
        exact = {name: value for name, value in options.items() if not name.endswith('_ratio')}  # int(dim * ratio) is
        assert {name: found[name] for name in exact} == exact
        rebuilt = build_network(found).state_dict()
        assert {name: tensor.shape for name, tensor in rebuilt.items()} == \
            {name: tensor.shape for name, tensor in weights.items()}


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([8, 16, 24]), st.integers(1, 4), st.booleans())
def test_basicvsrpp_round_trip(mid_channels, num_blocks, is_low_res_input):
    assert_round_trip({'type': 'BasicVSRPP', 'mid_channels': mid_channels, 'num_blocks': num_blocks,
                       'is_low_res_input': is_low_res_input})


@settings(max_examples=15, deadline=None)
@given(st.integers(4, 12), st.integers(4, 8), st.integers(0, 3), st.sampled_from([3, 5, 7]),
       st.sampled_from([2, 4, 8]))
def test_iseebetter_round_trip(base_filter, num_feat, num_block, num_frame, scale):
    assert_round_trip({'type': 'ISeeBetter', 'base_filter': base_filter, 'num_feat': num_feat,
                       'num_block': num_block, 'num_frame': num_frame, 'scale': scale})


@st.composite
def vrt_options(draw):
    tail = draw(st.integers(1, 3))
    heads = draw(st.lists(st.integers(1, 2), min_size=7 + tail, max_size=7 + tail))
    pa_frames = draw(st.sampled_from([0, 2, 4, 6]))
    frames, side = draw(st.integers(2, 8)), draw(st.integers(2, 8))
    *down, bottom = draw(st.lists(st.sampled_from([8, 16]), min_size=4, max_size=4))
    options = {'type': 'VRT', 'window_size': [frames, side, side], 'num_heads': heads, 'pa_frames': pa_frames,
               'depths': [2, *draw(st.lists(st.integers(1, 4), min_size=6 + tail, max_size=6 + tail))],
               'embed_dims': [*down, bottom, *down[::-1], *[draw(st.sampled_from([8, 24]))] * tail],
               'indep_reconsts': sorted(draw(st.sets(st.integers(7, 6 + tail)))),
               'qkv_bias': draw(st.booleans()), 'mlp_ratio': draw(st.sampled_from([1, 1.5, 2, 4])),
               'mul_attn_ratio': draw(st.sampled_from([0.5, 0.75]))}
    if not pa_frames:
        return {**options, 'upscale': 1, 'img_size': [draw(st.integers(2, 6)), 8 * side, 8 * side]}
    return {**options, 'upscale': draw(st.sampled_from([1, 2, 4, 8])), 'nonblind_denoising': draw(st.booleans()),
            'in_chans': 3, 'deformable_groups': pa_frames // 2 * draw(st.sampled_from([1, 2, 4]))}


@settings(max_examples=15, deadline=None)
@given(vrt_options())
def test_vrt_round_trip(options):
    assert_round_trip(options)


def test_vrt_without_mutual_attention_needs_its_index():
    small = {'type': 'VRT', 'window_size': [5, 4, 4], 'depths': 8 * [1], 'embed_dims': 8 * [8], 'num_heads': 8 * [1],
             'indep_reconsts': [7], 'deformable_groups': 2}
    weights = build_network(small).state_dict()
    found = network_options(weights)
    assert {name: found[name] for name in small} == small
    without = {name: tensor for name, tensor in weights.items() if not name.endswith('_index')}
    assert 'window_size' not in network_options(without)


def test_windows_that_are_not_square_are_left_out():
    options = {'type': 'VRT', 'window_size': [2, 4, 8], 'depths': 8 * [2], 'embed_dims': 8 * [8], 'num_heads': 8 * [1],
               'indep_reconsts': [], 'deformable_groups': 2}
    found = network_options(build_network(options).state_dict())
    assert 'window_size' not in found and found['depths'] == 8 * [2]


def test_a_file_with_a_part_of_a_network_is_an_error(parity):
    weights = empty(parity('published_keys/vrt_001_bicubic_reds_6_frames')['state_dict'])
    for lost in ('conv_last.weight', 'stage3.linear1', 'stage8.2.linear', 'stage3.residual_group', 'conv_first'):
        part = {name: tensor for name, tensor in weights.items() if not name.startswith(lost)}
        assert recognise(part) == 'VRT'
        with pytest.raises(ValueError, match='options of this VRT cannot be read off its weights') as error:
            network_options(part)
        assert 'Error' not in str(error.value)
    del weights['conv_last.weight']
    with pytest.raises(ValueError, match=r'conv_last\.weight is missing\. The file may be incomplete'):
        network_options(weights)
