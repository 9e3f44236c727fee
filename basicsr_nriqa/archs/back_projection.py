"""The parts of recurrent back-projection networks (Haris et al., Deep Back-Projection Networks for Super-Resolution,
CVPR 2018, and Recurrent Back-Projection Network for Video Super-Resolution, CVPR 2019).

Nearly every convolution is followed by a PReLU. Autograd would keep what goes into the PReLU and, for the next
convolution, what comes out. So a layer here returns its sum before activation, and who takes it applies the layer's
``act`` in one step with the next convolution (:func:`~basicsr_nriqa.archs.activated_conv.activated_conv`), which keeps
the sum alone.
"""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from basicsr_nriqa.archs.activated_conv import activated_conv
from basicsr_nriqa.recompute import recomputed

# scale: kernel size, stride and padding of a step between low and high resolution
KERNELS = {2: (6, 2, 2), 4: (8, 4, 2), 8: (12, 8, 2)}


class Conv(nn.Module):
    """A convolution whose PReLU ``act`` is left to who takes the result; none where ``activated`` is False."""

    def __init__(self, num_in: int, num_out: int, kernel_size: int, stride: int, padding: int,
                 activated: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_out, kernel_size, stride, padding)
        if activated:
            self.act = nn.PReLU()

    def forward(self, x: Tensor, before: nn.PReLU | None = None) -> Tensor:
        """``x`` (n, c, h, w) is the layer before's sum, and ``before`` its activation, None for none."""
        return activated_conv(x, before, self.conv)[1]


class Deconv(nn.Module):
    """A transposed convolution whose PReLU ``act`` is left to who takes the result."""

    def __init__(self, num_in: int, num_out: int, kernel_size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(num_in, num_out, kernel_size, stride, padding)
        self.act = nn.PReLU()

    def forward(self, x: Tensor, before: nn.PReLU | None = None) -> Tensor:
        """``x`` (n, c, h, w) is the layer before's sum, and ``before`` its activation, None for none."""
        return activated_conv(x, before, self.deconv)[1]


class ResidualBlock(nn.Module):
    """act(x + conv2(act(conv1(x)))) with one PReLU in both places, the outer one left to who takes the result."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.PReLU()

    def forward(self, x: Tensor, before: nn.PReLU | None = None) -> Tensor:
        """``x`` (n, c, h, w) is the layer before's sum, and ``before`` its activation, None for none."""
        x, hidden = activated_conv(x, before, self.conv1)
        _, change = activated_conv(hidden, self.act, self.conv2)
        return change.add_(x)


class ResidualBlocks(nn.Sequential):
    """``num_block`` residual blocks and a last layer, whose activation is ``act``."""

    def __init__(self, channels: int, num_block: int, last: Conv | Deconv) -> None:
        super().__init__(*(ResidualBlock(channels) for _ in range(num_block)), last)

    @property
    def last(self) -> Conv | Deconv:
        """The last layer."""
        return self[-1]  # type: ignore[return-value]  # where __init__ puts it; PyTorch knows modules only

    @property
    def act(self) -> nn.PReLU:
        return self.last.act

    def forward(self, x: Tensor, before: nn.PReLU | None = None) -> Tensor:
        return self.last(*self.blocks(x, before))

    def blocks(self, x: Tensor, before: nn.PReLU | None = None) -> tuple[Tensor, nn.PReLU | None]:
        """What goes into the last layer: a sum and its activation."""
        for block in self:
            if isinstance(block, ResidualBlock):
                x, before = block(x, before), block.act
        return x, before


class UpProjection(nn.Module):
    """Features (n, c, h, w) -> (n, c, scale * h, scale * w), corrected by what does not project back onto them."""

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.up_conv1 = Deconv(channels, channels, *KERNELS[scale])
        self.up_conv2 = Conv(channels, channels, *KERNELS[scale])
        self.up_conv3 = Deconv(channels, channels, *KERNELS[scale])

    def forward(self, x: Tensor) -> Tensor:
        first = self.up_conv1(x)
        high, back = activated_conv(first, self.up_conv1.act, self.up_conv2.conv)
        second = self.up_conv3(self.up_conv2.act(back) - x)
        return self.up_conv3.act(second).add_(high)


class DownProjection(nn.Module):
    """Features (n, c, scale * h, scale * w) -> (n, c, h, w), corrected by what does not project back onto them."""

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.down_conv1 = Conv(channels, channels, *KERNELS[scale])
        self.down_conv2 = Deconv(channels, channels, *KERNELS[scale])
        self.down_conv3 = Conv(channels, channels, *KERNELS[scale])

    def forward(self, x: Tensor) -> Tensor:
        first = self.down_conv1.act(self.down_conv1(x))
        back = self.down_conv2(first)
        second = recomputed(lambda back, x: self.down_conv3.conv(self.down_conv2.act(back).sub_(x)), back, x)
        return self.down_conv3.act(second).add_(first)


class BackProjection(nn.Module):
    """DBPN with three stages: features (n, num_in, h, w) -> (n, channels, scale * h, scale * w)."""

    def __init__(self, num_in: int, channels: int, scale: int) -> None:
        super().__init__()
        self.feat1 = Conv(num_in, channels, 1, 1, 0)
        self.up1 = UpProjection(channels, scale)
        self.down1 = DownProjection(channels, scale)
        self.up2 = UpProjection(channels, scale)
        self.down2 = DownProjection(channels, scale)
        self.up3 = UpProjection(channels, scale)
        self.output = Conv(3 * channels, channels, 1, 1, 0, activated=False)

    def forward(self, x: Tensor) -> Tensor:
        # a convolution of all stages side by side is the sum of one for each, which need not be put side by side
        weights = self.output.conv.weight.chunk(3, dim=1)
        high = self.up1(self.feat1.act(self.feat1(x)))
        output = F.conv2d(high, weights[2], self.output.conv.bias)
        for down, up, weight in ((self.down1, self.up2, weights[1]), (self.down2, self.up3, weights[0])):
            high = up(down(high))
            output.add_(F.conv2d(high, weight))
        return output


def init_weights(network: nn.Module) -> None:
    """Normal distributions after He et al. (2015) for all kernels, residual blocks near the identity, biases zero.

    RBPN's authors leave the residual blocks as large as the rest. Fifteen of them for each of six neighbours then make
    the output of an untrained network millions of times too large.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            with torch.no_grad():
                module.conv2.weight.mul_(0.1)


def channels_last(x: Tensor) -> Tensor:
    """``x`` (n, c, h, w) in channels_last format on a CPU, where that is faster; elsewhere as it is."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == 'cpu' else x
