import pytest
import torch
import torchvision

from basicsr_nriqa.archs.deform_align import FlowGuidedDeformAlign, deform_conv2d
from basicsr_nriqa.archs.warp import flow_warp


@pytest.mark.parametrize(('channels', 'deformable_groups', 'groups'), [(8, 4, 1), (12, 12, 3), (6, 2, 2)])
def test_equals_torchvision_in_value_and_gradient(channels, deformable_groups, groups):
    torch.manual_seed(0)
    tensors = {'x': torch.randn(2, channels, 7, 9),
               'offset': 3 * torch.randn(2, 18 * deformable_groups, 7, 9),
               'mask': torch.rand(2, 9 * deformable_groups, 7, 9),
               'weight': torch.randn(6, channels // groups, 3, 3),
               'bias': torch.randn(6)}
    tensors = {name: tensor.double().requires_grad_() for name, tensor in tensors.items()}
    output = deform_conv2d(**tensors)
    expected = torchvision.ops.deform_conv2d(tensors['x'], tensors['offset'], tensors['weight'], tensors['bias'],
                                             padding=1, mask=tensors['mask'])
    torch.testing.assert_close(output, expected)
    direction = torch.randn_like(output)
    torch.testing.assert_close(torch.autograd.grad(output, tensors.values(), direction),
                               torch.autograd.grad(expected, tensors.values(), direction))


def test_untrained_alignment_follows_each_frames_flow():
    """Before training the offsets are the flows alone and every mask is one half: a convolution of warped frames."""
    torch.manual_seed(0)
    align = FlowGuidedDeformAlign(4, 5, condition_channels=3, num_frames=3, deformable_groups=6)
    frames = torch.zeros(2, 12, 16, 17)
    frames[..., 5:11, 5:12] = torch.rand(2, 12, 6, 7)  # far from the border, where the order of the two steps matters
    shifts = torch.tensor([[2., -1.], [0., 3.], [-2., 1.]])
    flows = shifts.flatten().view(1, 6, 1, 1).expand(2, 6, 16, 17)
    warped = torch.cat([flow_warp(frame, flow) for frame, flow in zip(frames.split(4, 1), flows.split(2, 1))], dim=1)
    expected = torch.nn.functional.conv2d(warped / 2, align.weight, align.bias, padding=1)
    aligned = align(frames.split(4, 1), [torch.rand(2, 3, 16, 17)], flows)
    torch.testing.assert_close(aligned, expected, rtol=1e-4, atol=1e-5)


def test_learned_offsets_stay_within_their_magnitude():
    torch.manual_seed(0)
    align = FlowGuidedDeformAlign(1, 1, condition_channels=1, num_frames=1, deformable_groups=1,
                                  max_residue_magnitude=2)
    torch.nn.init.constant_(align.conv_offset[-1].bias, 100)  # every offset and mask as large as can be
    frames = torch.zeros(1, 1, 20, 20)
    frames[..., 12, 12] = 1
    output = align([frames], [torch.zeros(1, 1, 20, 20)], torch.zeros(1, 2, 20, 20)) - align.bias
    expected = torch.zeros(1, 1, 20, 20)
    expected[..., 9:12, 9:12] = align.weight.detach().flip(2, 3)  # two pixels up and left of where the taps are
    torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)


def test_half_precision_stays_close():
    torch.manual_seed(0)
    align = FlowGuidedDeformAlign(8, 8, condition_channels=4)
    frames, condition, flows = torch.rand(1, 16, 12, 12), torch.rand(1, 4, 12, 12), torch.randn(1, 4, 12, 12)
    expected = align(frames.split(8, 1), [condition], flows)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = align(frames.split(8, 1), [condition], flows)
    torch.testing.assert_close(mixed.float(), expected, rtol=0.05, atol=0.02)
    pure = align.bfloat16()(frames.bfloat16().split(8, 1), [condition.bfloat16()], flows.bfloat16())
    assert pure.dtype == torch.bfloat16
    torch.testing.assert_close(pure.float(), expected, rtol=0.05, atol=0.02)


@pytest.mark.parametrize('groups', [12, 1, 0])
def test_channels_that_do_not_divide_are_an_error(groups):
    with pytest.raises(ValueError, match=f'multiple of the 2 frames .* divide their 16 channels; got {groups}'):
        FlowGuidedDeformAlign(8, 8, condition_channels=4, num_frames=2, deformable_groups=groups)
