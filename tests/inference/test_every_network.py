"""Each network restores a folder of frames: whole as in one call, and in overlapping clips and tiles."""
import numpy as np
import pytest
import torch
from videos import moving_frames, read_folder, write_folder

from basicsr_nriqa.archs.basicvsrpp_arch import BasicVSRPP
from basicsr_nriqa.archs.iseebetter_arch import ISeeBetter
from basicsr_nriqa.archs.vrt_arch import VRT
from basicsr_nriqa.inference import restore_video

VRT_OPTIONS = {'window_size': (2, 4, 4), 'depths': (2,) * 8, 'indep_reconsts': (), 'embed_dims': (8,) * 8,
               'num_heads': (2,) * 8, 'deformable_groups': 4}
BUILD = {
    'BasicVSRPP': lambda: BasicVSRPP(mid_channels=8, num_blocks=1),
    'BasicVSRPP at full size': lambda: BasicVSRPP(mid_channels=8, num_blocks=1, is_low_res_input=False),
    'ISeeBetter': lambda: ISeeBetter(base_filter=8, num_feat=8, num_block=1, num_frame=3),
    'VRT': lambda: VRT(**VRT_OPTIONS),
    'VRT for denoising': lambda: VRT(**VRT_OPTIONS, upscale=1, nonblind_denoising=True)}


@pytest.mark.parametrize('name', [  # all of them together are slow
    pytest.param(name, marks=[pytest.mark.slow] * (' ' in name)) for name in BUILD])
def test_restores_whole_and_in_pieces(name, tmp_path):
    torch.manual_seed(0)
    network = BUILD[name]().eval()
    torch.save({'params': network.state_dict()}, tmp_path / 'net.pth')
    side = network.min_side + 8
    frames = moving_frames(4, side, side + 4)
    source = write_folder(tmp_path / 'in', frames)
    noise_level = 10 if 'denoising' in name else None
    for cut, folder in (({'clip_length': 0, 'tile': 0}, 'whole'),
                        ({'clip_length': 3, 'clip_overlap': 1, 'tile': network.min_side, 'tile_overlap': 4}, 'pieces')):
        restore_video(source, tmp_path / folder, tmp_path / 'net.pth', noise_level=noise_level, progress=False, **cut)
    whole, pieces = read_folder(tmp_path / 'whole'), read_folder(tmp_path / 'pieces')

    clip = torch.from_numpy(frames).permute(0, 3, 1, 2)[None] / 255
    if noise_level:
        clip = torch.cat((clip, torch.full_like(clip[:, :, :1], noise_level / 255)), dim=2)
    with torch.inference_mode():
        expected = network(clip)[0].clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    assert list(whole) == list(pieces) == [f'im{number}.png' for number in range(1, 5)]
    assert np.array_equal(np.stack(list(whole.values())), expected)
    # untrained networks stay near the enlarged input, so pieces differ little from the whole
    difference = np.abs(np.stack(list(pieces.values())).astype(int) - expected)
    assert difference.mean() < 8 and difference.any()
