import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from basicsr_nriqa.inference.tiling import blend_weights, reflected, restore_tiles, windows


@st.composite
def axes(draw):
    length, size = draw(st.integers(1, 90)), draw(st.integers(1, 40))
    return windows(length, size, draw(st.integers(0, size - 1))).scaled(draw(st.sampled_from([1, 4])))


@given(axes())
def test_weights_sum_to_one_and_cover_all(axis):
    total = torch.zeros(axis.length)
    for part, weight in zip(axis.slices(), blend_weights(axis), strict=True):
        assert weight.shape == (axis.size,) and weight.min() >= 0
        total[part] += weight
    torch.testing.assert_close(total, torch.ones(axis.length), rtol=0, atol=1e-6)


@given(axes())
def test_windows_are_in_order_inside_and_whole(axis):
    assert axis.starts == sorted(set(axis.starts))
    assert axis.starts[0] == 0 and axis.starts[-1] + axis.size == axis.length


@given(st.integers(2, 90), st.integers(1, 40), st.data())
def test_neighbours_share_the_overlap(length, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    axis = windows(length, size, overlap)
    assert all(start + axis.size - following >= overlap for start, following in zip(axis.starts, axis.starts[1:]))


def test_a_fade_is_linear_in_the_middle_of_the_overlap_and_not_at_the_ends():
    first, last = blend_weights(windows(16, 10, 4))
    torch.testing.assert_close(first, torch.tensor([1] * 7 + [2 / 3, 1 / 3, 0]))
    torch.testing.assert_close(last, first.flip(0))


@pytest.mark.parametrize('size', [0, 7, 8])
def test_a_window_as_large_as_the_axis_is_alone_with_weight_one(size):
    axis = windows(7, size, 3 if size else 0)
    assert (axis.starts, axis.size) == ([0], 7)
    assert torch.equal(blend_weights(axis)[0], torch.ones(7))


@pytest.mark.parametrize(('length', 'size', 'overlap'), [(0, 1, 0), (9, 4, 4), (9, 4, -1), (9, -1, 0)])
def test_windows_that_cannot_be(length, size, overlap):
    with pytest.raises(ValueError, match='No windows'):
        windows(length, size, overlap)


@pytest.mark.parametrize(('length', 'minimum', 'expected'), [
    (3, 2, [0, 1, 2]), (3, 8, [0, 1, 2, 1, 0, 1, 2, 1]), (1, 4, [0, 0, 0, 0]), (2, 4, [0, 1, 0, 1])])
def test_reflection(length, minimum, expected):
    assert reflected(length, minimum).tolist() == expected


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(12, 30), st.data())
def test_a_local_network_gives_the_untiled_output(h, w, tile, data):
    """Bicubic enlargement looks two pixels around: less than the quarter of the overlap that is left out."""
    def bicubic(frames):
        return F.interpolate(frames, scale_factor=4, mode='bicubic')
    frames = torch.rand(2, 3, h, w, generator=torch.Generator().manual_seed(0))
    output = restore_tiles(bicubic, frames, tile, data.draw(st.integers(8, tile - 3)), 4)
    torch.testing.assert_close(output, bicubic(frames), rtol=0, atol=1e-5)


@pytest.mark.parametrize('tile', [0, 31, 64])
def test_one_tile_gives_the_networks_output_bit_for_bit(tile):
    network = torch.nn.Conv2d(3, 3, 5, padding=2).requires_grad_(False)
    frames = torch.randn(2, 3, 20, 31)
    assert torch.equal(restore_tiles(network, frames, tile, 8 if tile else 0, 1), network(frames))


def test_one_tile_takes_no_memory_beside_the_networks_output():
    output = torch.rand(2, 3, 20, 31)
    assert restore_tiles(lambda frames: output, output, 0, 0, 1).data_ptr() == output.data_ptr()
    half = restore_tiles(lambda frames: output.half(), output, 0, 0, 1)
    assert half.dtype == torch.float32
