"""VRT (Liang et al., VRT: A Video Restoration Transformer, IEEE Transactions on Image Processing, 2024)."""
import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from basicsr_nriqa.archs.described import described
from basicsr_nriqa.archs.parallel_warping import clip_flows, warped_images
from basicsr_nriqa.archs.spynet_arch import SpyNet
from basicsr_nriqa.archs.vrt_blocks import Reshape, Stage, TailGroup

# one for each stage: how much smaller than the input it works, and how its input gets there
SHRINK = (1, 2, 4, 8, 4, 2, 1)
RESHAPE: tuple[Literal['none', 'down', 'up'], ...] = ('none', 'down', 'down', 'down', 'up', 'up', 'up')
MAX_RESIDUE_MAGNITUDE = 10


@ARCH_REGISTRY.register()
class VRT(nn.Module):
    """VRT: super-resolution, or restoration at the input's own size, or interpolation of frames.

    Arguments and state_dict keys are the published ones, and with equal weights so is the output. Unlike the published
    network this one takes frames of any size from 16 pixels a side.

    Args:
        upscale (int): how much larger the output is: 1, 2, 4, 8 or 16. Default: 4.
        in_chans (int): channels of the input, without a noise map. Default: 3.
        out_chans (int): channels of the output; in interpolation those of all new frames together. Default: 3.
        img_size (Sequence[int]): frames, height and width that a checkpoint was trained with. Any other size works too;
            only in interpolation the number of frames is fixed by it. Default: [6, 64, 64].
        window_size (Sequence[int]): frames, rows and columns of an attention window. Default: [6, 8, 8].
        depths (Sequence[int]): blocks of the seven stages and of each group behind them, 1 or more each. Default: 8 in
            the stages, 4 in each of six groups.
        indep_reconsts (Sequence[int]): which of these groups attend within a frame only, counted from 0 with the
            stages. Default: [11, 12].
        embed_dims (Sequence[int]): channels of each stage and group. Default: 120 in the stages, 180 in the groups.
        num_heads (Sequence[int]): attention heads of each stage and group. Default: 6.
        mul_attn_ratio (float): share of a stage's blocks with mutual attention, from 0 to 1. Default: 0.75.
        mlp_ratio (float): channels inside the blocks' MLPs relative to their own. Default: 2.
        qkv_bias (bool): whether queries, keys and values have a bias. Default: True.
        qk_scale (float | None): factor of q k^T. Default: 1 / sqrt(channels of a head).
        drop_path_rate (float): how often the last block is left out in training (stochastic depth), from 0 to below 1;
            it rises to that linearly from 0 at the first. Default: 0.2.
        spynet_path (str | Path | None): checkpoint of SPyNet, a file or a URL. Without one the flow starts at zero
            and is trained from there. Default: none.
        pa_frames (int): frames that parallel warping takes in: 2, 4 or 6; 0 for interpolation. Default: 2.
        deformable_groups (int): groups of channels with offsets of their own in parallel warping; 12 go with
            120 channels. Default: 16.
        nonblind_denoising (bool): whether the input has one more channel, the noise level. Default: False.
        use_checkpoint_attn (bool): recompute attention in the backward pass: less memory, more time. Default: False.
        use_checkpoint_ffn (bool): the same for the blocks' MLPs. Default: False.
        no_checkpoint_attn_blocks (Sequence[int]): stages and groups, counted from 0, whose attention is kept all the
            same. Default: none.
        no_checkpoint_ffn_blocks (Sequence[int]): the same for their MLPs. Default: none.

    Raises:
        ValueError: options outside these or that do not go together, or a checkpoint that does not fit.
        FileNotFoundError: there is no file at ``spynet_path``.
    """

    min_side = 16
    stage1: Stage
    stage2: Stage
    stage3: Stage
    stage4: Stage
    stage5: Stage
    stage6: Stage
    stage7: Stage
    conv_last: nn.Module

    def __init__(self, upscale: int = 4, in_chans: int = 3, out_chans: int = 3, img_size: Sequence[int] = (6, 64, 64),
                 window_size: Sequence[int] = (6, 8, 8),
                 depths: Sequence[int] = (8, 8, 8, 8, 8, 8, 8, 4, 4, 4, 4, 4, 4),
                 indep_reconsts: Sequence[int] = (11, 12),
                 embed_dims: Sequence[int] = (120, 120, 120, 120, 120, 120, 120, 180, 180, 180, 180, 180, 180),
                 num_heads: Sequence[int] = (6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6), mul_attn_ratio: float = 0.75,
                 mlp_ratio: float = 2., qkv_bias: bool = True, qk_scale: float | None = None,
                 drop_path_rate: float = 0.2, spynet_path: str | Path | None = None, pa_frames: int = 2,
                 deformable_groups: int = 16, nonblind_denoising: bool = False, use_checkpoint_attn: bool = False,
                 use_checkpoint_ffn: bool = False, no_checkpoint_attn_blocks: Sequence[int] = (),
                 no_checkpoint_ffn_blocks: Sequence[int] = ()) -> None:
        super().__init__()
        _check(upscale, in_chans, out_chans, img_size, window_size, depths, indep_reconsts, embed_dims, num_heads,
               mul_attn_ratio, mlp_ratio, drop_path_rate, pa_frames, deformable_groups, nonblind_denoising)
        self.scale, self.in_chans, self.out_chans, self.pa_frames = upscale, in_chans, out_chans, pa_frames
        self.nonblind_denoising, self.num_frames = nonblind_denoising, img_size[0]
        self.min_frames = 2 if pa_frames else img_size[0]
        dim = embed_dims[0]

        seen = in_chans * (1 + 2 * 4) if pa_frames else in_chans
        self.conv_first = FrameConv(seen + nonblind_denoising, dim)
        if pa_frames:
            self.spynet = SpyNet(spynet_path, return_levels=(2, 3, 4, 5))

        drop_path = [drop_path_rate * i / max(1, sum(depths) - 1) for i in range(sum(depths))]
        ends = list(accumulate(depths))

        def block_options(i: int) -> dict[str, Any]:
            return {'depth': depths[i], 'num_heads': num_heads[i], 'mlp_ratio': mlp_ratio, 'qkv_bias': qkv_bias,
                    'qk_scale': qk_scale, 'drop_path': drop_path[ends[i] - depths[i]:ends[i]],
                    'checkpoint_attn': use_checkpoint_attn and i not in no_checkpoint_attn_blocks,
                    'checkpoint_ffn': use_checkpoint_ffn and i not in no_checkpoint_ffn_blocks}

        for i, (shrink, reshape) in enumerate(zip(SHRINK, RESHAPE)):
            stage = Stage(embed_dims[i - 1] if i else dim, embed_dims[i], reshape=reshape, window_size=window_size,
                          mul_attn_ratio=mul_attn_ratio, pa_frames=pa_frames, deformable_groups=deformable_groups,
                          max_residue_magnitude=MAX_RESIDUE_MAGNITUDE / shrink, **block_options(i))
            setattr(self, f'stage{i + 1}', stage)
        last = embed_dims[-1]
        tail: list[nn.Module] = [nn.Sequential(Reshape('none'), nn.LayerNorm(embed_dims[6]),
                                               nn.Linear(embed_dims[6], embed_dims[7]))]
        for i in range(len(SHRINK), len(depths)):
            window = (1, *window_size[1:]) if i in indep_reconsts else window_size
            tail.append(TailGroup(embed_dims[i], window_size=window, **block_options(i)))
        self.stage8 = nn.ModuleList(tail)
        self.norm = nn.LayerNorm(last)
        self.conv_after_body = nn.Linear(last, dim)
        self._build_output(dim)
        self.apply(_init_weights)

    def _build_output(self, dim: int) -> None:
        if not self.pa_frames:
            self.linear_fuse = nn.Conv2d(dim * self.num_frames, 64, 1)
            self.conv_last = nn.Conv2d(64, self.out_chans, 7)
        elif self.scale == 1:
            self.conv_last = FrameConv(dim, self.out_chans)
        else:
            self.conv_before_upsample = nn.Sequential(FrameConv(dim, 64), nn.LeakyReLU())
            # the places between hold the published layers without weights
            layers: dict[str, nn.Module] = {}
            for i in range(int(math.log2(self.scale))):
                layers[str(5 * i)] = FrameConv(64, 256)
            layers[str(5 * len(layers))] = FrameConv(64, 64)
            self.upsample = nn.ModuleDict(layers)
            self.conv_last = FrameConv(64, self.out_chans)

    def forward(self, x: Tensor) -> Tensor:
        """Restore a clip.

        Args:
            x (Tensor): frames, shape (n, t, c, h, w), RGB in [0, 1], h and w from 16 up, t from 2 up; with
                ``nonblind_denoising`` the fourth channel is the noise's standard deviation in the same units.

        Returns:
            Tensor: shape (n, t, out_chans, s * h, s * w) for ``upscale`` s; interpolation gives (n, out_chans / 3, 3,
            h, w), the frames between the two in the middle. Not clipped.

        Raises:
            ValueError: another shape, too few or small frames, or no floats.
        """
        self._check_input(x)
        h, w = x.shape[3:]
        if h % 8 or w % 8:
            # the smallest stage works at an eighth of the size
            x = F.pad(x, (0, -w % 8, 0, -h % 8, 0, 0), mode='replicate')
        output = self._restore(x) if self.pa_frames else self._interpolate(x)
        return output[..., :self.scale * h, :self.scale * w]

    def _check_input(self, x: Tensor) -> None:
        channels = self.in_chans + self.nonblind_denoising
        fits = (x.ndim == 5 and x.shape[2] == channels and min(x.shape[3:]) >= self.min_side
                and x.is_floating_point())
        if not fits or x.shape[1] < self.min_frames or (not self.pa_frames and x.shape[1] != self.num_frames):
            frames = f'{self.min_frames} frames or more' if self.pa_frames else f'{self.num_frames} frames'
            noise_level = ' and the noise level as the last channel' if self.nonblind_denoising else ''
            raise ValueError(f'VRT: expected clips of shape (n, t, {channels}, h, w) with {frames}, h and w of '
                             f'{self.min_side} pixels or more, and floats in [0, 1]{noise_level}; got {described(x)}.')

    def _restore(self, x: Tensor) -> Tensor:
        x, noise_level = x.split((self.in_chans, x.shape[2] - self.in_chans), dim=2)
        flows = clip_flows(self.spynet, x, self.pa_frames // 2)
        following, previous = warped_images(x, flows[0][0])
        features = self._body(torch.cat((x, following, previous, noise_level), dim=2), flows)
        output = [self._reconstruct(frame) for frame in features.unbind(1)]
        base = x.flatten(0, 1)
        if self.scale > 1:
            base = F.interpolate(base, scale_factor=self.scale, mode='bilinear', align_corners=False)
        return torch.stack(output, dim=1) + base.unflatten(0, x.shape[:2])

    def _interpolate(self, x: Tensor) -> Tensor:
        mean = x.mean((1, 3, 4), keepdim=True)
        features = self._body(x - mean, [None] * 4)
        features = features.movedim(4, 2).flatten(1, 2)
        features = F.leaky_relu(self.linear_fuse(features), 0.2)
        output = self.conv_last(F.pad(features, (3, 3, 3, 3), mode='reflect'))
        return output.unflatten(1, (-1, x.shape[2])) + mean

    def _body(self, x: Tensor, flows: Sequence[Sequence[Tensor] | None]) -> Tensor:
        """Images (n, t, c, h, w), what surrounds them, and flows at four sizes -> features (n, t, h, w, dim)."""
        first = self.conv_first(x.flatten(0, 1)).movedim(1, 3).unflatten(0, x.shape[:2])
        x1 = self.stage1(first, flows[0])
        x2 = self.stage2(x1, flows[1])
        x3 = self.stage3(x2, flows[2])
        x4 = self.stage4(x3, flows[3])
        y = self.stage5(x4, flows[2])
        y = self.stage6(y + x3, flows[1])
        y = self.stage7(y + x2, flows[0]) + x1
        for group in self.stage8:
            y = group(y)
        return self.conv_after_body(self.norm(y)) + first

    def _reconstruct(self, features: Tensor) -> Tensor:
        """One frame: features (n, h, w, dim) -> (n, out_chans, s * h, s * w)."""
        y = features.movedim(3, 1)
        if not y.is_cuda:
            y = y.contiguous()  # on CPUs the weights' gradient takes up to five times as long in channels-last layout
        if self.scale == 1:
            return self.conv_last(y)
        y = F.leaky_relu(self.conv_before_upsample[0](y), 0.01, inplace=True)
        *steps, last = self.upsample.values()
        for conv in steps:
            y = F.leaky_relu(F.pixel_shuffle(conv(y), 2), 0.1, inplace=True)
        return self.conv_last(last(y))


class FrameConv(nn.Conv3d):
    """A published (1, 3, 3) convolution of clips, applied to images (n, c, h, w), for which libraries are faster."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, (1, 3, 3), padding=(0, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return F.conv2d(images, self.weight.squeeze(2), self.bias, padding=1)


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _check(upscale: int, in_chans: int, out_chans: int, img_size: Sequence[int], window_size: Sequence[int],
           depths: Sequence[int], indep_reconsts: Sequence[int], embed_dims: Sequence[int], num_heads: Sequence[int],
           mul_attn_ratio: float, mlp_ratio: float, drop_path_rate: float, pa_frames: int, deformable_groups: int,
           nonblind_denoising: bool) -> None:
    """Raise one ValueError with all that does not go together."""
    problems: list[str] = []
    stages = len(SHRINK)

    def expect(condition: bool, problem: str) -> None:
        if not condition:
            problems.append(problem)

    expect(upscale in (1, 2, 4, 8, 16), f'upscale must be 1, 2, 4, 8 or 16, got {upscale}')
    expect(pa_frames in (0, 2, 4, 6), f'pa_frames must be 0, 2, 4 or 6, got {pa_frames}')
    expect(len(window_size) == len(img_size) == 3 and min(*window_size, *img_size) > 0,
           f'window_size and img_size are (frames, rows, columns), each from 1 up, got {window_size} and {img_size}')
    expect(0 <= mul_attn_ratio <= 1, f'mul_attn_ratio is a share from 0 to 1, got {mul_attn_ratio}')
    expect(mlp_ratio > 0, f'mlp_ratio must be above 0, got {mlp_ratio}')
    expect(0 <= drop_path_rate < 1, f'drop_path_rate must be from 0 to below 1, got {drop_path_rate}')
    expect(len(depths) == len(embed_dims) == len(num_heads) > stages and min(*depths, *embed_dims, *num_heads) > 0,
           f'depths, embed_dims and num_heads must have one number from 1 up for each of the {stages} stages and at '
           f'least one group behind, got {depths}, {embed_dims} and {num_heads}')
    expect(all(stages <= i < len(depths) for i in indep_reconsts),
           f'indep_reconsts are groups behind the stages, {stages} to {len(depths) - 1}, got {indep_reconsts}')
    # mutual attention, in the stages only, adds sines and cosines of two axes
    odd = [(dim, heads) for i, (dim, heads) in enumerate(zip(embed_dims, num_heads))
           if heads > 0 and (dim % heads or (i < stages and dim % 4))]
    expect(not odd, f'embed_dims must be multiples of num_heads, and in the {stages} stages of 4, got (channels, '
                    f'heads) {odd}')
    expect(list(embed_dims[:3]) == list(embed_dims[4:7][::-1]),
           f'stages of one size are added, so the first {stages} embed_dims must read the same backwards, '
           f'got {embed_dims}')
    if pa_frames:
        expect(in_chans == out_chans == 3, f'in_chans and out_chans must be 3, RGB, got {in_chans} and {out_chans}')
        steps = max(pa_frames // 2, 1)
        expect(deformable_groups > 0 and deformable_groups % steps == 0
               and not any(steps * dim % deformable_groups for dim in embed_dims[:stages]),
               'deformable_groups must be a multiple of pa_frames / 2 and divide pa_frames / 2 times the embed_dims of '
               f'each of the {stages} stages, got {deformable_groups}')
    else:
        expect(upscale == 1 and not nonblind_denoising and out_chans % 3 == 0,
               'interpolation (pa_frames 0) needs upscale 1, nonblind_denoising false, and out_chans 3 for each new '
               f'frame; got {upscale}, {nonblind_denoising} and {out_chans}')
    if problems:
        raise ValueError(f'VRT: {"; ".join(problems)}.')
