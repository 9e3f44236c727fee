import pytest
import torch

from basicsr_nriqa.archs.warp import flow_warp


def test_whole_pixel_flow_shifts_and_leaves_zeros_outside():
    x = torch.rand(2, 3, 6, 7)
    flow = torch.zeros(2, 2, 6, 7)
    flow[:, 0], flow[:, 1] = 2, -1  # take the value two columns to the right, one row up
    expected = torch.zeros_like(x)
    expected[:, :, 1:, :-2] = x[:, :, :-1, 2:]
    torch.testing.assert_close(flow_warp(x, flow), expected)


def test_half_pixel_flow_averages_and_border_repeats_the_edge():
    x = torch.rand(1, 1, 4, 5)
    flow = torch.zeros(1, 2, 4, 5)
    flow[:, 0] = 0.5
    expected = torch.cat(((x[..., :-1] + x[..., 1:]) / 2, x[..., -1:]), dim=3)
    torch.testing.assert_close(flow_warp(x, flow, padding_mode='border'), expected)


def test_nearest4_takes_the_pixels_around_each_position():
    torch.manual_seed(0)
    x, flow = torch.rand(1, 2, 9, 8), 2 * torch.randn(1, 2, 9, 8)
    rows, columns = torch.meshgrid(torch.arange(9), torch.arange(8), indexing='ij')
    column, row = columns + flow[0, 0], rows + flow[0, 1]
    expected = []
    for across in (column.floor(), column.ceil()):
        for down in (row.floor(), row.ceil()):
            inside = (across >= 0) & (across < 8) & (down >= 0) & (down < 9)
            pixels = x[0][:, down.long().clamp(0, 8), across.long().clamp(0, 7)]
            expected.append(torch.where(inside, pixels, 0))
    torch.testing.assert_close(flow_warp(x, flow, mode='nearest4')[0], torch.cat(expected))


def test_half_precision_keeps_positions_exact():
    x = torch.rand(1, 1, 4, 400).bfloat16()
    torch.testing.assert_close(flow_warp(x, torch.zeros(1, 2, 4, 400).bfloat16()), x, rtol=0, atol=1e-2)


@pytest.mark.parametrize('shape', [(1, 2, 4, 5), (2, 4, 4, 5), (2, 4, 5, 2)])
def test_flow_of_another_shape_is_an_error(shape):
    with pytest.raises(ValueError, match='flow must have shape'):
        flow_warp(torch.rand(2, 3, 4, 5), torch.zeros(shape))
