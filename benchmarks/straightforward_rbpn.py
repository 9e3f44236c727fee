"""RBPN written down as the paper describes it, with torch's own modules and nothing else: what ours is compared with.

Its state_dict has the same keys as :class:`basicsr_nriqa.archs.iseebetter_arch.RBPN`, and so are values and gradients.
"""
import torch
from torch import nn

KERNELS = {2: (6, 2, 2), 4: (8, 4, 2), 8: (12, 8, 2)}


class Conv(nn.Module):
    """A convolution and, unless told otherwise, a PReLU with one parameter."""

    def __init__(self, num_in, num_out, kernel_size, stride, padding, activated=True):
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_out, kernel_size, stride, padding)
        if activated:
            self.act = nn.PReLU()

    def forward(self, x):
        x = self.conv(x)
        return self.act(x) if hasattr(self, 'act') else x


class Deconv(nn.Module):
    """A transposed convolution and a PReLU with one parameter."""

    def __init__(self, num_in, num_out, kernel_size, stride, padding):
        super().__init__()
        self.deconv = nn.ConvTranspose2d(num_in, num_out, kernel_size, stride, padding)
        self.act = nn.PReLU()

    def forward(self, x):
        return self.act(self.deconv(x))


class ResidualBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.PReLU()

    def forward(self, x):
        return self.act(self.conv2(self.act(self.conv1(x))) + x)


class UpProjection(nn.Module):
    def __init__(self, channels, scale):
        super().__init__()
        self.up_conv1 = Deconv(channels, channels, *KERNELS[scale])
        self.up_conv2 = Conv(channels, channels, *KERNELS[scale])
        self.up_conv3 = Deconv(channels, channels, *KERNELS[scale])

    def forward(self, x):
        h0 = self.up_conv1(x)
        l0 = self.up_conv2(h0)
        h1 = self.up_conv3(l0 - x)
        return h1 + h0


class DownProjection(nn.Module):
    def __init__(self, channels, scale):
        super().__init__()
        self.down_conv1 = Conv(channels, channels, *KERNELS[scale])
        self.down_conv2 = Deconv(channels, channels, *KERNELS[scale])
        self.down_conv3 = Conv(channels, channels, *KERNELS[scale])

    def forward(self, x):
        l0 = self.down_conv1(x)
        h0 = self.down_conv2(l0)
        l1 = self.down_conv3(h0 - x)
        return l1 + l0


class BackProjection(nn.Module):
    def __init__(self, num_in, channels, scale):
        super().__init__()
        self.feat1 = Conv(num_in, channels, 1, 1, 0)
        self.up1 = UpProjection(channels, scale)
        self.down1 = DownProjection(channels, scale)
        self.up2 = UpProjection(channels, scale)
        self.down2 = DownProjection(channels, scale)
        self.up3 = UpProjection(channels, scale)
        self.output = Conv(3 * channels, channels, 1, 1, 0, activated=False)

    def forward(self, x):
        h1 = self.up1(self.feat1(x))
        h2 = self.up2(self.down1(h1))
        h3 = self.up3(self.down2(h2))
        return self.output(torch.cat((h3, h2, h1), dim=1))


class StraightforwardRBPN(nn.Module):
    """Takes the options of `RBPN` and computes the same."""

    def __init__(self, num_in_ch=3, base_filter=256, num_feat=64, num_stages=3, num_block=5, num_frame=7, scale=4,
                 checkpoint=False):
        super().__init__()
        assert num_stages == 3 and not checkpoint
        self.feat0 = Conv(num_in_ch, base_filter, 3, 1, 1)
        self.feat1 = Conv(2 * num_in_ch + 2, base_filter, 3, 1, 1)
        self.DBPN = BackProjection(base_filter, num_feat, scale)
        self.res_feat1 = nn.Sequential(*(ResidualBlock(base_filter) for _ in range(num_block)),
                                       Deconv(base_filter, num_feat, *KERNELS[scale]))
        self.res_feat2 = nn.Sequential(*(ResidualBlock(num_feat) for _ in range(num_block)),
                                       Conv(num_feat, num_feat, 3, 1, 1))
        self.res_feat3 = nn.Sequential(*(ResidualBlock(num_feat) for _ in range(num_block)),
                                       Conv(num_feat, base_filter, *KERNELS[scale]))
        self.output = Conv((num_frame - 1) * num_feat, num_in_ch, 3, 1, 1, activated=False)

    def forward(self, centre, neighbours, flows):
        feature = self.feat0(centre)
        neighbour_features = [self.feat1(torch.cat((centre, neighbour, flow), dim=1))
                              for neighbour, flow in zip(neighbours, flows)]
        outputs = []
        for neighbour_feature in neighbour_features:
            h0 = self.DBPN(feature)
            h1 = self.res_feat1(neighbour_feature)
            h = h0 + self.res_feat2(h0 - h1)
            outputs.append(h)
            feature = self.res_feat3(h)
        return self.output(torch.cat(outputs, dim=1))
