"""SRGAN's discriminator (Ledig et al., Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial
Network, CVPR 2017), with global average pooling as in iSeeBetter."""
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from basicsr_nriqa.archs.described import described

MIN_SIDE = 16
# output channels and stride of the 3x3 convolutions after the first
LAYERS = ((64, 2), (128, 1), (128, 2), (256, 1), (256, 2), (512, 1), (512, 2))


@ARCH_REGISTRY.register()
class SRGANDiscriminator(nn.Module):
    """How likely images are real. State_dict keys are the published ones, and with equal weights so is the output."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        num_in = 64
        for num_out, stride in LAYERS:
            layers += [nn.Conv2d(num_in, num_out, 3, stride, padding=1), nn.BatchNorm2d(num_out),
                       nn.LeakyReLU(0.2, inplace=True)]
            num_in = num_out
        self.net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Conv2d(num_in, 1024, 1),
                                 nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(1024, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Probability that each image is real.

        Args:
            x (Tensor): images, shape (n, 3, h, w), RGB in [0, 1], h and w from 16 up. Frames of clips are images: fold
                them into the batch.

        Returns:
            Tensor: shape (n,), in (0, 1).

        Raises:
            ValueError: another shape, too small an image, or no floats.
        """
        return self.logits(x).sigmoid()

    def logits(self, x: Tensor) -> Tensor:
        """What :meth:`forward` takes the sigmoid of: for losses that stay exact where the sigmoid is 0 or 1.

        Args:
            x (Tensor): images, as for :meth:`forward`.

        Returns:
            Tensor: shape (n,).

        Raises:
            ValueError: another shape, too small an image, or no floats.
        """
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < MIN_SIDE or not x.is_floating_point():
            raise ValueError(f'SRGANDiscriminator: expected images of shape (n, 3, h, w) with h and w of {MIN_SIDE} '
                             f'pixels or more and floats in [0, 1]; got {described(x)}. Fold the frames of clips into '
                             'the batch: x.flatten(0, 1).')
        return self.net(x).flatten()
