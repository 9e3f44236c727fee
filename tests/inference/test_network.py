import logging

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional as F
from videos import moving_frames

from basicsr_nriqa.archs.basicvsrpp_arch import BasicVSRPP
from basicsr_nriqa.archs.spynet_arch import SpyNet
from basicsr_nriqa.inference import InferenceError
from basicsr_nriqa.inference.network import Restorer, default_cut, load_network

SMALL = {'mid_channels': 8, 'num_blocks': 1}


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'tiny.pth'
    torch.save({'params': BasicVSRPP(**SMALL).state_dict()}, path)
    return path


def test_the_weights_tell_their_network(weights):
    network, options = load_network(weights, model='BasicVSRPP')
    assert {'type': 'BasicVSRPP', **SMALL}.items() <= options.items()
    state_dict = torch.load(weights)['params']
    assert all(torch.equal(tensor, state_dict[name]) for name, tensor in network.state_dict().items())
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())


def test_options_and_overrides_tell_the_network(weights, tmp_path):
    path = tmp_path / 'options.yml'
    path.write_text(yaml.safe_dump({'network_g': {'type': 'BasicVSRPP', 'mid_channels': 16, 'num_blocks': 1}}))
    network, options = load_network(weights, options=path, overrides=['mid_channels=8', 'cpu_cache_length=3'])
    assert options['mid_channels'] == 8 and network.cpu_cache_length == 3


@pytest.mark.parametrize(('arguments', 'message'), [
    ({'model': 'VRT'}, r'tiny\.pth: this is the network BasicVSRPP, not VRT'),
    ({'overrides': ['num_blocks']}, 'expected name=value'),
    ({'overrides': ['num_blocks=[']}, r'--network num_blocks=\[: cannot read the value'),
    ({'overrides': ['blocks=3']}, r"--network blocks: unknown option \(did you mean 'num_blocks'\?\)"),
    ({'overrides': ['num_blocks=x']}, "--network num_blocks: expected a whole number, got 'x'"),
    ({'overrides': ['type=EDVRR']}, "--network type: no network is called 'EDVRR'"),
    ({'overrides': ['type=null']}, "--network type: is missing."),
    ({'overrides': ['mid_channels=12']}, r'tiny\.pth: BasicVSRPP cannot be built .* multiple of 8'),
    ({'overrides': ['num_blocks=2']}, 'does not fit this BasicVSRPP'),
    ({'overrides': ['type=VRT', 'pa_frames=0']}, 'makes frames between frames')])
def test_what_does_not_fit_is_an_error(weights, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_network(weights, **arguments)


def test_options_without_network_are_an_error(weights, tmp_path):
    (tmp_path / 'options.yml').write_text('scale: 4\n')
    with pytest.raises(InferenceError, match=r'options\.yml: expected options with a block network_g'):
        load_network(weights, options=tmp_path / 'options.yml')


def test_a_wrong_option_in_a_file_is_named(weights, tmp_path):
    (tmp_path / 'options.yml').write_text('network_g: {type: BasicVSRPP, mid_channels: "8"}\n')
    with pytest.raises(InferenceError, match=r"options\.yml: network_g:mid_channels: expected a whole number, got '8'"):
        load_network(weights, options=tmp_path / 'options.yml')


def test_a_training_state_is_an_error_that_names_the_network(tmp_path):
    torch.save({'epoch': 1, 'iter': 5, 'optimizers': [], 'schedulers': []}, tmp_path / '5.state')
    with pytest.raises(InferenceError, match=r'is net_g_5\.pth in the folder models') as error:
        load_network(tmp_path / '5.state')
    assert '--options' not in str(error.value)


def test_a_network_for_another_purpose_is_an_error(tmp_path):
    torch.save(SpyNet().state_dict(), tmp_path / 'flow.pth')
    with pytest.raises(InferenceError, match=r'flow\.pth'):
        load_network(tmp_path / 'flow.pth')


class Enlarge(nn.Module):
    """Nearest enlargement that keeps what it was given."""
    scale, min_frames, min_side = 4, 3, 16

    def forward(self, x):
        self.seen = x
        return F.interpolate(x[:, :, :3].flatten(0, 1), scale_factor=4).unflatten(0, x.shape[:2])


@pytest.mark.parametrize('size', [(1, 20, 24), (2, 7, 24), (5, 20, 3), (1, 1, 1)])
def test_few_frames_and_small_sides_are_mirrored_and_cut(size):
    network, frames = Enlarge(), moving_frames(*size)
    output = Restorer(network)(frames)
    t, h, w = size
    assert network.seen.shape == (1, max(t, 3), 3, max(h, 16), max(w, 16))
    expected = torch.from_numpy(frames).repeat_interleave(4, 1).repeat_interleave(4, 2).permute(0, 3, 1, 2) / 255
    assert torch.equal(output, expected)


def test_noise_level_is_a_channel():
    network = Enlarge()
    Restorer(network, noise_level=51)(moving_frames(3))
    assert network.seen.shape[2] == 4 and (network.seen[:, :, 3] == 0.2).all()


@torch.no_grad()
def test_is_the_networks_own_output_without_tiles(weights):
    network, _ = load_network(weights)
    frames = moving_frames(2, 16, 18)
    expected = network(torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() / 255)[0]
    assert torch.equal(Restorer(network)(frames), expected)
    mixed = Restorer(network, precision='bf16')(frames)
    assert mixed.dtype == torch.float32
    assert 0 < (mixed - expected).abs().max() < 0.05


class SmallMemory(Enlarge):
    """Runs out of memory as CUDA does, at more than so many pixels."""

    def __init__(self, pixels, error=None):
        super().__init__()
        self.pixels = pixels
        self.error = error or torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate much.')

    def forward(self, x):
        if x.shape[3] * x.shape[4] > self.pixels:
            raise self.error
        return super().forward(x)


def test_tiles_are_halved_until_they_fit(caplog):
    frames = moving_frames(3, 100, 130)
    logger = logging.getLogger('basicsr')
    logger.addHandler(caplog.handler)
    restorer = Restorer(SmallMemory(40 * 40), tile=0, tile_overlap=24)
    output = restorer(frames)
    logger.removeHandler(caplog.handler)
    assert (restorer.tile, restorer.tile_overlap) == (33, 8)
    assert caplog.text.count('on with tiles of') == 2 and 'tiles of 33 pixels' in caplog.text
    torch.testing.assert_close(output, Restorer(Enlarge())(frames), rtol=0, atol=1e-5)


@pytest.mark.parametrize('message', [
    'CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`',
    'cuDNN error: CUDNN_STATUS_ALLOC_FAILED', 'cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED',
    'GET was unable to find an engine to execute this computation', 'CUDA error: out of memory\nMore lines.'])
def test_libraries_that_are_out_of_memory_say_so_otherwise(message):
    restorer = Restorer(SmallMemory(40 * 40, RuntimeError(message)))
    restorer(moving_frames(3, 60, 70))
    assert restorer.tile == 35


def test_other_errors_are_handed_on():
    with pytest.raises(RuntimeError, match='CUBLAS_STATUS_EXECUTION_FAILED'):
        Restorer(SmallMemory(0, RuntimeError('CUDA error: CUBLAS_STATUS_EXECUTION_FAILED')))(moving_frames(3))


def test_too_little_memory_for_any_tile_is_an_error():
    with pytest.raises(InferenceError, match=r'too little memory for 3 frames.*CUDA out of memory.*--clip-length'):
        Restorer(SmallMemory(0), tile=64, tile_overlap=8)(moving_frames(3, 100, 130))


@pytest.mark.parametrize('error', [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_main_memory_is_an_error(error):
    with pytest.raises(InferenceError, match=r'Main memory is too little for 3 frames of 130x100 .*--clip-length'):
        Restorer(SmallMemory(0, error))(moving_frames(3, 100, 130))


def test_output_that_is_not_finite_is_an_error():
    class Broken(Enlarge):
        def forward(self, x):
            return super().forward(x) / 0
    with pytest.raises(InferenceError, match='not finite'):
        Restorer(Broken())(np.zeros((3, 16, 16, 3), np.uint8))


def test_a_tile_smaller_than_the_network_takes_is_an_error():
    with pytest.raises(InferenceError, match=r'--tile 15: this network needs 16 pixels or more'):
        Restorer(Enlarge(), tile=15)


def test_an_unknown_precision_is_an_error():
    with pytest.raises(InferenceError, match=r'--precision int8: expected one of fp32, fp16, bf16'):
        Restorer(Enlarge(), precision='int8')


@pytest.mark.parametrize('network', ['BasicVSRPP', 'ISeeBetter', 'VRT', 'Other'])
@pytest.mark.parametrize(('scale', 'height', 'width'), [(4, 64, 64), (4, 540, 960), (4, 2160, 3840), (1, 1080, 1920)])
def test_default_cuts_are_possible_and_bound_main_memory(network, scale, height, width):
    cut = default_cut(network, scale, height, width)
    assert 0 <= cut.clip_overlap < cut.clip_length and 0 <= cut.tile_overlap < cut.tile
    assert cut.clip_length == 4 or cut.clip_length * 12 * scale**2 * height * width <= 2**32
