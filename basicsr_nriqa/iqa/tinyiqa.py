"""TinyIQA: a no-reference image-quality metric small enough to ship with its weights.

It exists so that demos and tests need no network. It is no substitute for the published metrics: it was trained on
eight photographs and on synthetic distortions only (`tinyiqa_training.py`), never on the opinion of a person.
"""
import hashlib
import io
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

WEIGHTS_PATH = Path(__file__).with_name('weights') / 'tinyiqa.pth'
WEIGHTS_SHA256 = ''
SMALLEST_SIDE = 32
CEPS = 1e-3
EPS = 1e-3


class TinyIQA(nn.Module):
    """A fully convolutional network that estimates the quality of every 8 x 8 px cell; the score is their mean.

    Four scales see the image: filters of 5 x 5 px at full resolution and of 3 x 3 at 1/2, 1/4 and 1/8. Between scales
    the features are averaged, never skipped over, so the gradient reaches every pixel with about the same weight and
    has no pattern of its own. Every cell is judged on the mean response of all scales. The activations are smooth and
    nothing depends on the batch or the mode: no batch normalisation, no dropout.

    Args:
        channels (tuple[int]): Number of filters at each scale, finest first.
        hidden (int): Number of features between the scales' responses and the quality of a cell.
    """

    def __init__(self, channels=(16, 32, 48, 64), hidden=48):
        super().__init__()
        sizes = (5, *[3] * (len(channels) - 1))
        self.scales = nn.ModuleList(
            nn.Conv2d(num_in, num_out, size, padding=size // 2, padding_mode='replicate')
            for num_in, num_out, size in zip((3, *channels), channels, sizes))
        self.head = nn.Sequential(nn.Conv2d(sum(channels), hidden, 1), nn.SiLU(), nn.Conv2d(hidden, 1, 1))

    def quality_logits(self, distorted):
        """Map (n, 3, h, w) in [0, 1] to the log-odds of the quality of its cells, (n, 1, ceil(h/8), ceil(w/8))."""
        detail = distorted - _local_mean(distorted)
        contrast = _local_mean((detail**2).mean(1, keepdim=True))
        features, energies = detail / (contrast + CEPS).sqrt(), None
        for index, convolution in enumerate(self.scales):
            if index:
                features, energies = _halve(features), _halve(energies)
            features = convolution(features)
            energies = features**2 if energies is None else torch.cat([energies, features**2], 1)
            features = F.silu(features)
        return self.head((energies + EPS).log())

    def forward(self, distorted):
        """Score images.

        Args:
            distorted (Tensor): (n, 3, h, w), RGB, [0, 1], at least 32 px a side. Values outside the range are
                accepted, as a network under training produces them, and keep their gradient.

        Returns:
            Tensor: (n,), in (0, 1), higher is better.

        Raises:
            ValueError: The shape is not (n, 3, h, w), or a side is shorter than 32 px.
        """
        if distorted.dim() != 4 or distorted.shape[1] != 3:
            raise ValueError(f'TinyIQA: the input has the shape {tuple(distorted.shape)}, expected (n, 3, h, w): RGB. '
                             'Repeat a grey channel three times; merge the frames of a clip into n.')
        if min(distorted.shape[2:]) < SMALLEST_SIDE:
            h, w = distorted.shape[2:]
            raise ValueError(f'TinyIQA: the input is {h} x {w} px (h x w), expected at least {SMALLEST_SIDE} px a '
                             'side. Give it larger images or crops.')
        return self.quality_logits(distorted).sigmoid().mean((1, 2, 3))


def _local_mean(image):
    """Average over 7 x 7 px, one direction after the other."""
    padded = F.pad(image, (3, 3, 3, 3), mode='replicate')
    return F.avg_pool2d(F.avg_pool2d(padded, (7, 1), stride=1), (1, 7), stride=1)


def _halve(features):
    """Average 2 x 2 positions; an odd last row or column counts in full, where plain pooling would drop it."""
    return F.avg_pool2d(features, 2, ceil_mode=True, count_include_pad=False)


def load_tinyiqa():
    """Build the metric with the weights shipped in the package.

    Returns:
        TinyIQA: On the CPU, in eval mode, with parameters that take no gradient.

    Raises:
        FileNotFoundError: The package was installed without its weights.
        ValueError: The weights file is not the one that this version was released with.
    """
    if not WEIGHTS_PATH.is_file():
        raise FileNotFoundError(f'{WEIGHTS_PATH}: the weights of tinyiqa are missing. Install basicsr-nriqa again, or '
                                'train them: python scripts/train_tinyiqa.py --help')
    content = WEIGHTS_PATH.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise ValueError(f'{WEIGHTS_PATH}: sha256 is {digest}, expected {WEIGHTS_SHA256}. The file is damaged or not '
                         'the released one: install basicsr-nriqa again; after retraining, set WEIGHTS_SHA256.')
    network = TinyIQA()
    network.load_state_dict(torch.load(io.BytesIO(content), map_location='cpu', weights_only=True)['params'])
    return network.eval().requires_grad_(False)
