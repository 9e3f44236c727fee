"""BasicVSR++ (Chan et al., BasicVSR++: Improving Video Super-Resolution with Enhanced Propagation and Alignment,
CVPR 2022)."""
from collections.abc import Sequence
from pathlib import Path

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from basicsr_nriqa.archs.deform_align import FlowGuidedDeformAlign
from basicsr_nriqa.archs.described import described
from basicsr_nriqa.archs.spynet_arch import SpyNet
from basicsr_nriqa.archs.warp import flow_warp
from basicsr_nriqa.recompute import recomputed

BRANCHES = ('backward_1', 'forward_1', 'backward_2', 'forward_2')
MIN_SIDE = 16


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), (n, c, h, w) -> (n, c, h, w); starts near the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight)
            with torch.no_grad():
                conv.weight.mul_(0.1)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(x), inplace=True)).add_(x)


class ResidualBlocks(nn.Module):
    """A convolution to ``out_channels``, LeakyReLU, then ``num_blocks`` residual blocks."""

    def __init__(self, in_channels: int, out_channels: int, num_blocks: int) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.LeakyReLU(0.1, inplace=True),
                                  nn.Sequential(*(ResidualBlock(out_channels) for _ in range(num_blocks))))

    def forward(self, *parts: Tensor) -> Tensor:
        """Features (n, c, h, w), side by side on channels to ``in_channels``."""
        first, activation, blocks = self.main
        x = recomputed(lambda *parts: first(torch.cat(parts, dim=1)), *parts, enabled=len(parts) > 1)
        return blocks(activation(x))


@ARCH_REGISTRY.register()
class BasicVSRPP(nn.Module):
    """BasicVSR++: x4 video super-resolution, or restoration at the input's own size.

    Arguments and state_dict keys are those of BasicSR's ``BasicVSRPlusPlus``, and with equal weights so is the output.
    Unlike it, the network is the same on CPU and GPU, takes any frame size from 16 pixels a side and any number of
    frames from one, and keeps no state between calls.

    Args:
        mid_channels (int): feature channels, a multiple of 8. Default: 64.
        num_blocks (int): residual blocks in each of the four propagation branches, 0 or more. Default: 7.
        max_residue_magnitude (float): the largest offset that alignment adds to the flow, in pixels, 0 or more.
            Default: 10.
        is_low_res_input (bool): True for x4 super-resolution. False for input that has the output's size already; the
            network then works on features of a quarter of it. Default: True.
        spynet_path (str | Path | None): checkpoint of SPyNet, a file or a URL. Without one the flow starts at zero
            and is trained from there. Default: none.
        cpu_cache_length (int): clips of more frames keep their features in main memory, which saves GPU memory and
            takes longer. The output is the same. Default: 100.
        checkpoint (bool): keep only each frame's features and compute the rest again in the backward pass: less memory,
            more time. The gradients are the same. Default: False.

    Raises:
        ValueError: an option outside these, or the checkpoint does not fit.
        FileNotFoundError: there is no file at ``spynet_path``.
    """

    min_frames = 1

    def __init__(self, mid_channels: int = 64, num_blocks: int = 7, max_residue_magnitude: float = 10,
                 is_low_res_input: bool = True, spynet_path: str | Path | None = None, cpu_cache_length: int = 100,
                 checkpoint: bool = False) -> None:
        super().__init__()
        if mid_channels < 8 or mid_channels % 8:
            raise ValueError(f'BasicVSRPP: mid_channels must be a multiple of 8, since alignment splits twice as many '
                             f'channels into 16 groups; got {mid_channels}.')
        if num_blocks < 0 or not max_residue_magnitude >= 0:
            raise ValueError('BasicVSRPP: num_blocks and max_residue_magnitude must be 0 or more, '
                             f'got {num_blocks} and {max_residue_magnitude}.')
        self.is_low_res_input = is_low_res_input
        self.scale = 4 if is_low_res_input else 1
        self.min_side = MIN_SIDE if is_low_res_input else 4 * MIN_SIDE
        self.cpu_cache_length = cpu_cache_length
        self.checkpoint = checkpoint
        self.spynet = SpyNet(spynet_path)
        if is_low_res_input:
            self.feat_extract: nn.Module = ResidualBlocks(3, mid_channels, 5)
        else:
            self.feat_extract = nn.Sequential(
                nn.Conv2d(3, mid_channels, 3, stride=2, padding=1), nn.LeakyReLU(0.1, inplace=True),
                nn.Conv2d(mid_channels, mid_channels, 3, stride=2, padding=1), nn.LeakyReLU(0.1, inplace=True),
                ResidualBlocks(mid_channels, mid_channels, 5))
        # the condition: the frame's features, those of two frames warped to it, and their flows
        self.deform_align = nn.ModuleDict({
            branch: FlowGuidedDeformAlign(mid_channels, mid_channels, condition_channels=3 * mid_channels + 4,
                                          num_frames=2, deformable_groups=16,
                                          max_residue_magnitude=max_residue_magnitude)
            for branch in BRANCHES})
        self.backbone = nn.ModuleDict({
            branch: ResidualBlocks((2 + i) * mid_channels, mid_channels, num_blocks)
            for i, branch in enumerate(BRANCHES)})
        self.reconstruction = ResidualBlocks(5 * mid_channels, mid_channels, 5)
        self.upconv1 = nn.Conv2d(mid_channels, 4 * mid_channels, 3, padding=1)
        self.upconv2 = nn.Conv2d(mid_channels, 4 * 64, 3, padding=1)
        self.conv_hr = nn.Conv2d(64, 64, 3, padding=1)
        self.conv_last = nn.Conv2d(64, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Restore a clip.

        Args:
            x (Tensor): frames, shape (n, t, 3, h, w), RGB in [0, 1]; h and w from 16 up (from 64 up where
                ``is_low_res_input`` is False).

        Returns:
            Tensor: shape (n, t, 3, 4h, 4w), or (n, t, 3, h, w) where ``is_low_res_input`` is False; not clipped.

        Raises:
            ValueError: another shape, too small a frame, or no floats.
        """
        if (x.ndim != 5 or x.shape[1] < 1 or x.shape[2] != 3 or min(x.shape[3:]) < self.min_side
                or not x.is_floating_point()):
            raise ValueError(f'BasicVSRPP: expected clips of shape (n, t, 3, h, w) with at least one frame, h and w of '
                             f'{self.min_side} pixels or more, and floats in [0, 1]; got {described(x)}.')
        n, t, _, h, w = x.shape
        caching = t > self.cpu_cache_length
        keep_on = torch.device('cpu') if caching else x.device
        at_once = 2 * n * (1 if caching else t)  # images, or pairs of them: both directions of every step

        # time goes first, so that each frame of a batch is one contiguous block
        images = x.transpose(0, 1).flatten(0, 1)
        low_res = images
        if not self.is_low_res_input:
            images = F.pad(images, (0, -w % 4, 0, -h % 4), mode='replicate')
            low_res = F.interpolate(images, scale_factor=0.25, mode='bicubic')

        parts = [recomputed(self.feat_extract, part, enabled=self.checkpoint).to(keep_on)
                 for part in images.split(at_once)]
        features: list[Sequence[Tensor]] = [(frame,) for part in parts for frame in part.split(n)]
        backward_flows, forward_flows = self._flows(low_res.unflatten(0, (t, n)), at_once)
        for branch in BRANCHES:
            if branch.startswith('backward'):
                states = self._propagate(branch, features[::-1], backward_flows, keep_on)[::-1]
            else:
                states = self._propagate(branch, features, forward_flows, keep_on)
            features = [(*known, state) for known, state in zip(features, states)]

        outputs = [recomputed(self._reconstruct, image, *known, enabled=self.checkpoint).to(keep_on)
                   for known, image in zip(features, images.split(n))]
        output = torch.stack(outputs, dim=1).to(x.device)
        return output if self.is_low_res_input else output[..., :h, :w]

    def _flows(self, images: Tensor, at_once: int) -> Sequence[Sequence[Tensor]]:
        """First- and second-order flows of both directions, from images (t, n, 3, h, w).

        Each direction has a list of t - 1 tensors (n, 4, h, w), one for each step in the order in which a branch goes
        through the frames: the flow to the frame before, then to the one before that (zero in the first step).
        """
        t, n = images.shape[:2]
        if t == 1:
            return [], []
        travel = torch.stack((images.flip(0), images))
        current, previous = travel[:, 1:].flatten(0, 2), travel[:, :-1].flatten(0, 2)
        first = [self.spynet(ref, supp) for ref, supp in zip(current.split(at_once), previous.split(at_once))]
        first = torch.cat(first).unflatten(0, (2, t - 1, n))
        onward = flow_warp(first[:, :-1].flatten(0, 2), first[:, 1:].flatten(0, 2)).unflatten(0, (2, t - 2, n))
        second = torch.cat((torch.zeros_like(first[:, :1]), first[:, 1:] + onward), dim=1)
        return [direction.unbind() for direction in torch.cat((first, second), dim=3)]

    def _propagate(self, branch: str, features: Sequence[Sequence[Tensor]], flows: Sequence[Tensor],
                   keep_on: torch.device) -> list[Tensor]:
        """One branch's states (n, c, h, w), from what is known of each frame, both in the branch's own order."""
        device = self.conv_last.weight.device
        zeros = torch.zeros_like(features[0][0], device=device)
        state, before = zeros, zeros
        states: list[Tensor] = []
        for i, known in enumerate(features):
            known = [feature.to(device) for feature in known]
            state, before = recomputed(self._step, branch, state, before, flows[i - 1] if i else None, *known,
                                       enabled=self.checkpoint), state
            states.append(state.to(keep_on))
        return states

    def _step(self, branch: str, state: Tensor, before: Tensor, flows: Tensor | None, *known: Tensor) -> Tensor:
        """A branch's next state from its last two, zeros in the beginning, where there are no flows either."""
        aligned = state if flows is None else self._align(branch, known[0], state, before, flows)
        return aligned + self.backbone[branch](*known, aligned)

    def _align(self, branch: str, current: Tensor, state: Tensor, before: Tensor, flows: Tensor) -> Tensor:
        """The last two states (n, c, h, w), aligned to the current frame with their flows (n, 4, h, w)."""
        warped_state, warped_before = (flow_warp(*pair) for pair in zip((state, before), flows.chunk(2, dim=1)))
        return self.deform_align[branch]((state, before), (warped_state, current, warped_before, flows), flows)

    def _reconstruct(self, image: Tensor, *known: Tensor) -> Tensor:
        """One output frame from the features of all branches and the input frame."""
        x = self.upconv1(self.reconstruction(*(feature.to(image.device) for feature in known)))
        # features of the output's size are the largest of all, and cost little
        x = recomputed(self._upscale, x)
        base = F.interpolate(image, scale_factor=4, mode='bilinear') if self.is_low_res_input else image
        return x + base

    def _upscale(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(F.pixel_shuffle(x, 2), 0.1, inplace=True)
        x = F.leaky_relu(F.pixel_shuffle(self.upconv2(x), 2), 0.1, inplace=True)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.1, inplace=True))
