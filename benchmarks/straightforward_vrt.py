"""A plain VRT to compare the fast one with: values, gradients, time and memory (Liang et al., VRT: A Video Restoration
Transformer, 2022). It loads the published checkpoints' names."""
import torch
import torchvision
from straightforward_vrt_blocks import BlockGroup, GatedMLP
from torch import nn
from torch.nn import functional as F

from basicsr_nriqa.archs.spynet_arch import SpyNet
from basicsr_nriqa.archs.warp import flow_warp

SCALES = (1, 2, 4, 8, 4, 2, 1)
RESHAPES = ('none', 'down', 'down', 'down', 'up', 'up', 'up')


class Permute(nn.Module):
    """A permutation of dimensions as a layer."""

    def __init__(self, *order):
        super().__init__()
        self.order = order

    def forward(self, x):
        return x.permute(self.order)


class SpaceToChannel(nn.Module):
    """(n, c, t, h, w) to (n, t, h / 2, w / 2, 4c), channels ordered by column, row, channel."""

    def forward(self, x):
        n, c, t, h, w = x.shape
        x = x.reshape(n, c, t, h // 2, 2, w // 2, 2).permute(0, 2, 3, 5, 6, 4, 1)
        return x.reshape(n, t, h // 2, w // 2, 4 * c)


class ChannelToSpace(nn.Module):
    """(n, 4c, t, h, w) to (n, t, 2h, 2w, c), the reverse of SpaceToChannel."""

    def forward(self, x):
        n, c, t, h, w = x.shape
        x = x.reshape(n, 2, 2, c // 4, t, h, w).permute(0, 4, 5, 2, 6, 1, 3)
        return x.reshape(n, t, 2 * h, 2 * w, c // 4)


def make_reshape(kind, in_dim, dim):
    """Layers from (n, in_dim, t, h, w) to (n, dim, t, h, w), or to half or twice the rows and columns."""
    back = Permute(0, 4, 1, 2, 3)
    if kind == 'none':
        return nn.Sequential(Permute(0, 2, 3, 4, 1), nn.LayerNorm(dim), back)
    rearrange, width = (SpaceToChannel(), 4 * in_dim) if kind == 'down' else (ChannelToSpace(), in_dim // 4)
    return nn.Sequential(rearrange, nn.LayerNorm(width), nn.Linear(width, dim), back)


class DeformAlign(nn.Module):
    """Deformable convolution guided by flow; neighbours lie side by side on channels (paper, section 3.3)."""

    def __init__(self, dim, num_frames, deformable_groups, max_residue_magnitude):
        super().__init__()
        self.max_residue_magnitude = max_residue_magnitude
        self.weight = nn.Parameter(torch.empty(dim, dim, 3, 3))
        self.bias = nn.Parameter(torch.zeros(dim))
        nn.init.kaiming_uniform_(self.weight, a=5 ** 0.5)
        self.conv_offset = nn.Sequential(
            nn.Conv2d((num_frames + 1) * dim + 2 * num_frames, dim, 3, padding=1), nn.LeakyReLU(0.1),
            nn.Conv2d(dim, dim, 3, padding=1), nn.LeakyReLU(0.1),
            nn.Conv2d(dim, dim, 3, padding=1), nn.LeakyReLU(0.1),
            nn.Conv2d(dim, 27 * deformable_groups, 3, padding=1))
        nn.init.zeros_(self.conv_offset[-1].weight)
        nn.init.zeros_(self.conv_offset[-1].bias)

    def forward(self, current, neighbours, flows):
        """current (n, dim, h, w); neighbours as long a list of such frames as flows is of (n, 2, h, w)."""
        warped = [flow_warp(frame, flow) for frame, flow in zip(neighbours, flows)]
        vertical, horizontal, mask = self.conv_offset(torch.cat((*warped, current, *flows), dim=1)).chunk(3, dim=1)
        offset = self.max_residue_magnitude * torch.tanh(torch.cat((vertical, horizontal), dim=1))
        offset = torch.cat([part + flow.flip(1).repeat(1, part.shape[1] // 2, 1, 1)
                            for part, flow in zip(offset.chunk(len(flows), dim=1), flows)], dim=1)
        # the operator wants one type, and positions need more bits than half precision has
        precise = torch.promote_types(current.dtype, torch.float32)
        tensors = (torch.cat(neighbours, dim=1), offset, self.weight, self.bias)
        return torchvision.ops.deform_conv2d(*(tensor.to(precise) for tensor in tensors), padding=1,
                                             mask=mask.sigmoid().to(precise)).to(current.dtype)


class Stage(nn.Module):
    """Reshape, attention groups and parallel warping. On (n, c, t, h, w)."""

    def __init__(self, in_dim, dim, reshape, depth, num_heads, window, mul_attn_ratio, mlp_ratio, qkv_bias, qk_scale,
                 drop_path, pa_frames, deformable_groups, max_residue_magnitude):
        super().__init__()
        self.num_neighbours = pa_frames // 2
        num_mutual = int(depth * mul_attn_ratio)
        options = {'mlp_ratio': mlp_ratio, 'qkv_bias': qkv_bias, 'qk_scale': qk_scale}
        self.reshape = make_reshape(reshape, in_dim, dim)
        self.residual_group1 = BlockGroup(dim, num_mutual, num_heads, (2, *window[1:]), mutual=True,
                                          drop_path=drop_path[:num_mutual], **options)
        self.linear1 = nn.Linear(dim, dim)
        self.residual_group2 = BlockGroup(dim, depth - num_mutual, num_heads, window, mutual=False,
                                          drop_path=drop_path[num_mutual:], **options)
        self.linear2 = nn.Linear(dim, dim)
        if pa_frames:
            self.pa_deform = DeformAlign(dim, self.num_neighbours, deformable_groups, max_residue_magnitude)
            self.pa_fuse = GatedMLP(3 * dim, 3 * dim, dim)

    def forward(self, x, backward_flows, forward_flows):
        """The flows of this stage's scale: flows[step - 1][frame] (n, 2, h, w), see StraightforwardVRT._flows."""
        x = self.reshape(x)
        x = linear(self.linear1, self.residual_group1(x)) + x
        x = linear(self.linear2, self.residual_group2(x)) + x
        if self.num_neighbours:
            from_next = self._aligned(x, backward_flows, 1)
            from_previous = self._aligned(x, forward_flows, -1)
            x = linear(self.pa_fuse, torch.cat((x, from_next, from_previous), dim=1))
        return x

    def _aligned(self, x, flows, direction):
        """Each frame's neighbours in one direction, nearest first, aligned to it; zeros where there is none."""
        t = x.shape[2]
        zero_flow = torch.zeros_like(x[:, :2, 0])
        result = []
        for index in range(t):
            frames, frame_flows = [], []
            for step in range(1, self.num_neighbours + 1):
                place = index + direction * step
                exists = 0 <= place < t
                frames.append(x[:, :, place] if exists else torch.zeros_like(x[:, :, 0]))
                # flows are counted by the earlier of the two frames
                frame_flows.append(flows[step - 1][min(index, place)] if exists else zero_flow)
            has_neighbour = 0 <= index + direction < t
            result.append(self.pa_deform(x[:, :, index], frames, frame_flows) if has_neighbour else
                          torch.zeros_like(x[:, :, 0]))
        return torch.stack(result, dim=2)


class TailStage(nn.Module):
    """Self attention, Linear and skip. On (n, dim, t, h, w)."""

    def __init__(self, dim, **options):
        super().__init__()
        self.residual_group = BlockGroup(dim, mutual=False, **options)
        self.linear = nn.Linear(dim, dim)

    def forward(self, x):
        return x + linear(self.linear, self.residual_group(x))


def linear(layer, x):
    """A layer for the last dimension, applied to the channels of (n, c, t, h, w)."""
    return layer(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


def conv(num_in, num_out):
    """3x3 convolution of each frame of (n, c, t, h, w)."""
    return nn.Conv3d(num_in, num_out, (1, 3, 3), padding=(0, 1, 1))


class StraightforwardVRT(nn.Module):
    """VRT with the published arguments, names of weights and outputs; nothing is done to save time or memory.

    Args:
        upscale (int): 4 or 1.
        in_chans (int): image channels, 3 where flows are estimated.
        out_chans (int): channels of the output; for interpolation 3 times the number of frames.
        img_size (tuple[int]): frames, rows and columns; only the number of frames matters, for interpolation.
        window_size (tuple[int]): frames, rows and columns of an attention window.
        depths, embed_dims, num_heads (list[int]): attention blocks, channels and heads of the 7 stages and of each
            tail stage.
        indep_reconsts (list[int]): which of the stages, from 7 up, look at each frame alone.
        mul_attn_ratio (float): part of a stage's blocks that have mutual attention.
        mlp_ratio (float): hidden channels of an MLP, as a multiple of the block's channels.
        qkv_bias (bool): biases in the attention's projections.
        qk_scale (float, optional): instead of 1 / sqrt(channels of a head).
        drop_path_rate (float): the last block's probability of being left out in training, rising from 0.
        spynet_path (str, optional): checkpoint of the flow network, which gives zero flow without one.
        pa_frames (int): neighbours aligned to each frame: 2, 4 or 6; 0 is the network for interpolation.
        deformable_groups (int): groups of the alignment's offsets.
        nonblind_denoising (bool): the last channel of the input is the noise level.
        checkpointing: `use_checkpoint_attn` and the like change nothing here.

    Raises:
        ValueError: an upscale, a pa_frames or lengths of lists that are not possible.
    """

    def __init__(self, upscale=4, in_chans=3, out_chans=3, img_size=(6, 64, 64), window_size=(6, 8, 8),
                 depths=(8,) * 7 + (4,) * 6, indep_reconsts=(11, 12), embed_dims=(120,) * 7 + (180,) * 6,
                 num_heads=(6,) * 13, mul_attn_ratio=0.75, mlp_ratio=2, qkv_bias=True, qk_scale=None,
                 drop_path_rate=0.2, spynet_path=None, pa_frames=2, deformable_groups=16, nonblind_denoising=False,
                 use_checkpoint_attn=False, use_checkpoint_ffn=False, no_checkpoint_attn_blocks=(),
                 no_checkpoint_ffn_blocks=()):
        super().__init__()
        if upscale not in (1, 4) or pa_frames not in (0, 2, 4, 6) or (pa_frames == 0 and upscale != 1):
            raise ValueError(f'StraightforwardVRT: upscale must be 1 or 4 and pa_frames 2, 4 or 6, or upscale 1 and '
                             f'pa_frames 0; got upscale {upscale} and pa_frames {pa_frames}.')
        if not 8 <= len(depths) == len(embed_dims) == len(num_heads):
            raise ValueError(f'StraightforwardVRT: depths, embed_dims and num_heads must have one length, at least '
                             f'8, got {len(depths)}, {len(embed_dims)} and {len(num_heads)}.')
        self.upscale = upscale
        self.in_chans = in_chans
        self.pa_frames = pa_frames
        self.nonblind_denoising = nonblind_denoising
        self.num_frames = img_size[0]
        self.window_size = tuple(window_size)
        num_images = 9 if pa_frames else 1  # four pixels of each of the two neighbours
        self.conv_first = conv(num_images * in_chans + nonblind_denoising, embed_dims[0])
        if pa_frames:
            self.spynet = SpyNet(spynet_path, return_levels=(2, 3, 4, 5))

        options = {'mlp_ratio': mlp_ratio, 'qkv_bias': qkv_bias, 'qk_scale': qk_scale}
        drop_paths, num_blocks = [], sum(depths)
        for depth in depths:
            first = sum(map(len, drop_paths))
            drop_paths.append([drop_path_rate * block / (num_blocks - 1) for block in range(first, first + depth)])
        for index, (scale, reshape) in enumerate(zip(SCALES, RESHAPES)):
            self.add_module(f'stage{index + 1}', Stage(
                embed_dims[max(index - 1, 0)], embed_dims[index], reshape, depths[index], num_heads[index],
                self.window_size, mul_attn_ratio, drop_path=drop_paths[index], pa_frames=pa_frames,
                deformable_groups=deformable_groups, max_residue_magnitude=10 / scale, **options))
        to_tail = nn.Sequential(Permute(0, 2, 3, 4, 1), nn.LayerNorm(embed_dims[6]),
                                nn.Linear(embed_dims[6], embed_dims[7]), Permute(0, 4, 1, 2, 3))
        self.stage8 = nn.ModuleList([to_tail])
        for index in range(7, len(depths)):
            window = (1, *self.window_size[1:]) if index in indep_reconsts else self.window_size
            self.stage8.append(TailStage(embed_dims[index], depth=depths[index], num_heads=num_heads[index],
                                         window=window, drop_path=drop_paths[index], **options))
        self.norm = nn.LayerNorm(embed_dims[-1])
        self.conv_after_body = nn.Linear(embed_dims[-1], embed_dims[0])

        if not pa_frames:
            self.linear_fuse = nn.Conv2d(embed_dims[0] * self.num_frames, 64, 1)
            self.conv_last = nn.Conv2d(64, out_chans, 7)
        elif upscale == 1:
            self.conv_last = conv(embed_dims[0], out_chans)
        else:
            self.conv_before_upsample = nn.Sequential(conv(embed_dims[0], 64), nn.LeakyReLU(0.01))
            swap = Permute(0, 2, 1, 3, 4)
            self.upsample = nn.Sequential(
                conv(64, 256), swap, nn.PixelShuffle(2), swap, nn.LeakyReLU(0.1),
                conv(64, 256), swap, nn.PixelShuffle(2), swap, nn.LeakyReLU(0.1), conv(64, 64))
            self.conv_last = conv(64, out_chans)

    def forward(self, x):
        """Restore a clip, or, with pa_frames 0, give the frame or frames between its own.

        Args:
            x (Tensor): shape (n, t, c, h, w), RGB in [0, 1], with nonblind_denoising one channel of noise level more;
                h and w multiples of 8 and from 8 windows up, t from 2 up; for interpolation t is img_size's.

        Returns:
            Tensor: shape (n, t, out_chans, upscale * h, upscale * w); for interpolation (n, out_chans / 3, 3, h, w).

        Raises:
            ValueError: a clip of another shape.
        """
        self._check(x)
        x, noise = x.split((self.in_chans, x.shape[2] - self.in_chans), dim=2)
        return self._restored(x, noise) if self.pa_frames else self._interpolated(x, noise)

    def _check(self, x):
        channels = self.in_chans + self.nonblind_denoising
        least = [8 * side for side in self.window_size[1:]]
        if (x.ndim != 5 or x.shape[1] < 2 or x.shape[2] != channels or x.shape[3] % 8 or x.shape[4] % 8
                or x.shape[3] < least[0] or x.shape[4] < least[1]):
            raise ValueError(f'StraightforwardVRT: the clip must have shape (n, t, {channels}, h, w) with t from 2 up, '
                             f'h and w multiples of 8 from {least} up; got {tuple(x.shape)}. Pad it.')
        if not self.pa_frames and x.shape[1] != self.num_frames:
            raise ValueError(f'StraightforwardVRT: interpolation takes clips of img_size[0] = {self.num_frames} '
                             f'frames, got {x.shape[1]}.')

    def _restored(self, x, noise):
        backward_flows, forward_flows = self._flows(x)
        none = torch.zeros_like(x[:, :1]).repeat(1, 1, 4, 1, 1)
        # flows[scale][step - 1][frame]: the finest ones, one step
        from_next = torch.stack([flow_warp(x[:, i + 1], flow, mode='nearest4')
                                 for i, flow in enumerate(backward_flows[0][0])], dim=1)
        from_previous = torch.stack([flow_warp(x[:, i], flow, mode='nearest4')
                                     for i, flow in enumerate(forward_flows[0][0])], dim=1)
        images = (x, torch.cat((from_next, none), dim=1), torch.cat((none, from_previous), dim=1), noise)
        x_first = self.conv_first(torch.cat(images, dim=2).transpose(1, 2))
        features = x_first + self._body(x_first, backward_flows, forward_flows)
        if self.upscale == 1:
            return x + self.conv_last(features).transpose(1, 2)
        features = self.conv_last(self.upsample(self.conv_before_upsample(features))).transpose(1, 2)
        return features + F.interpolate(x, size=features.shape[2:], mode='trilinear', align_corners=False)

    def _interpolated(self, x, noise):
        mean = x.mean(dim=(1, 3, 4), keepdim=True)
        x_first = self.conv_first(torch.cat((x - mean, noise), dim=2).transpose(1, 2))
        features = x_first + self._body(x_first, [None] * 4, [None] * 4)
        # frames side by side on channels
        features = F.leaky_relu(self.linear_fuse(features.transpose(1, 2).flatten(1, 2)), 0.2)
        output = self.conv_last(F.pad(features, (3, 3, 3, 3), mode='reflect'))
        return output.unflatten(1, (-1, self.in_chans)) + mean

    def _body(self, x, backward_flows, forward_flows):
        def flows(scale):
            return backward_flows[scale], forward_flows[scale]

        x1 = self.stage1(x, *flows(0))
        x2 = self.stage2(x1, *flows(1))
        x3 = self.stage3(x2, *flows(2))
        x4 = self.stage4(x3, *flows(3))
        x = self.stage5(x4, *flows(2))
        x = self.stage6(x + x3, *flows(1))
        x = self.stage7(x + x2, *flows(0))
        x = x + x1
        for layer in self.stage8:
            x = layer(x)
        return linear(self.conv_after_body, linear(self.norm, x))

    def _flows(self, x):
        """Backward flows (from later frames) and forward flows (from earlier ones).

        Returns:
            tuple[list, list]: ``flows[scale][step - 1][i]``, shape (n, 2, h / 2**scale, w / 2**scale): backward from
            frame i + step to frame i, forward from frame i to frame i + step.
        """
        n, t = x.shape[:2]
        earlier, later = x[:, :-1].flatten(0, 1), x[:, 1:].flatten(0, 1)
        backward_flows, forward_flows = [], []
        for backward, forward in zip(self.spynet(earlier, later), self.spynet(later, earlier)):
            backward = list(backward.unflatten(0, (n, t - 1)).unbind(1))
            forward = list(forward.unflatten(0, (n, t - 1)).unbind(1))
            backward_steps, forward_steps = [backward], [forward]
            for step in range(2, self.pa_frames // 2 + 1):
                # from frame i to i + 1 ... i + step - 1 and one step further
                backward_steps.append([backward_steps[-1][i] + flow_warp(backward[i + step - 1], backward_steps[-1][i])
                                       for i in range(t - step)])
                # from frame i + step to i + 1 and one step further
                forward_steps.append([forward_steps[-1][i + 1] + flow_warp(forward[i], forward_steps[-1][i + 1])
                                      for i in range(t - step)])
            backward_flows.append(backward_steps)
            forward_flows.append(forward_steps)
        return backward_flows, forward_flows
