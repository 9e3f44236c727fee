"""TinyIQA: a no-reference image-quality metric small enough to ship with its weights.

It exists so that demos and tests need no network. It is no substitute for the published metrics: it was trained on
eight photographs and on synthetic distortions only (`tinyiqa_training.py`), never on the opinion of a person.

A fixed bank of small derivative filters looks at the luma at three scales; how strong, how peaked and how periodic
their responses are, and the statistics of the locally normalised luma (Mittal et al., "No-reference image quality
assessment in the spatial domain", IEEE TIP 2012), make a vector per image. A small perceptron, the only part that is
trained, turns the vector into the score. Eight photographs are too few to learn the filters as well.
"""
import hashlib
import io
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from basicsr_nriqa.iqa.interface import MetricInfo, QualityMetric

WEIGHTS_PATH = Path(__file__).with_name('weights') / 'tinyiqa.pth'
WEIGHTS_SHA256 = '37e477a6778fdcaae28e4e533d00e1172dace220ed6a6e5fc61daeced5d08ad5'
SMALLEST_SIDE = 32
SCALES = 3
_SOFT = 0.05  # rounds the tip of |x|, in units of 1/16: finite gradients on flat images
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))
_LAGS = (range(2, 10), range(2, 5))  # of the autocorrelation, at the first two scales: patterns repeat
_FLAT = (1.5, 4, 12)  # grey levels of deviation below which a place counts as flat


def _filters() -> Tensor:
    """Nine derivative filters, (9, 1, 3, 3): four first and two second differences, two checkers, a Laplacian."""
    bank = torch.zeros(9, 1, 3, 3)
    for index, (row, column) in enumerate(((1, 0), (0, 1), (0, 0), (0, 2))):
        bank[index, 0, row, column], bank[index, 0, 1, 1] = -1, 1
    bank[4, 0, 1] = bank[5, 0, :, 1] = torch.tensor([-0.5, 1, -0.5])
    bank[6, 0] = torch.tensor([[-1.0, 2, -1], [2, -4, 2], [-1, 2, -1]]) / 4
    bank[7, 0] = (9 * (torch.arange(9) == 4).float() - 1).view(3, 3) / 8
    bank[8, 0, :2, :2] = torch.tensor([[1.0, -1], [-1, 1]]) / 2
    return 16 * bank


def _magnitude(x: Tensor) -> Tensor:
    return torch.sqrt(x * x + _SOFT**2)


def _pad(x: Tensor, amount: int) -> Tensor:
    return F.pad(x, [amount] * 4, mode='replicate')


def _halve(x: Tensor) -> Tensor:
    """Average 2 x 2 pixels; an odd last row or column counts in full, where plain pooling would drop it."""
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3))


class TinyIQA(nn.Module):
    """Convolutional statistics and a small perceptron; see the module's docstring.

    Smooth everywhere, the same in train and eval mode, and the score of an image does not depend on the batch.

    Args:
        hidden (int): Width of the perceptron's two hidden layers.
        members (int): Perceptrons whose log-odds are averaged.
    """

    num_features = 175
    filters: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, hidden: int = 24, members: int = 3) -> None:
        super().__init__()
        self.register_buffer('filters', _filters(), persistent=False)
        self.register_buffer('mean', torch.zeros(self.num_features))
        self.register_buffer('std', torch.ones(self.num_features))
        self.members = nn.ModuleList(
            nn.Sequential(nn.Linear(self.num_features, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
                          nn.Linear(hidden, 1)) for _ in range(members))

    def forward(self, distorted: Tensor) -> Tensor:
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
        return self.log_odds(self.statistics(distorted)).sigmoid()

    def log_odds(self, statistics: Tensor) -> Tensor:
        """(..., num_features) -> (...,): the average of the members, each seeing standardised, bounded statistics."""
        bounded = 3 * torch.tanh((statistics - self.mean) / self.std / 3)
        return sum(member(bounded) for member in self.members)[..., 0] / len(self.members)

    def statistics(self, image: Tensor) -> Tensor:
        """(n, 3, h, w) in [0, 1] -> (n, num_features)."""
        luma = (image * image.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        chroma = torch.cat([image[:, 2:] - luma, image[:, :1] - luma], 1)
        found = []
        for scale in range(SCALES):
            if scale:
                luma, chroma = _halve(luma), _halve(chroma)
            responses = F.conv2d(_pad(luma, 1), self.filters)
            strength = _magnitude(responses)
            found += self._strength_and_shape(responses, strength)
            if scale < len(_LAGS):
                found.append(self._chroma_strength(chroma))
            found += self._normalised_luma(luma)
            if scale < len(_LAGS):
                found += [value for axis, index in ((3, 0), (2, 1))
                          for value in self._periodicity(strength[:, index:index + 1], axis, _LAGS[scale])]
            if scale == 0:
                found += self._blocking(luma) + self._blocking(luma.transpose(2, 3))
        return torch.cat(found, 1)

    @staticmethod
    def _strength_and_shape(responses: Tensor, strength: Tensor) -> list[Tensor]:
        """Of each filter: the mean response, how heavy the tails and how sharp the peak of its distribution are."""
        mean = torch.log(_mean(strength))
        tails = torch.log(_mean(responses * responses) + _SOFT**2) - 2 * mean
        peak = 2 * torch.log(_mean(torch.sqrt(strength))) - mean
        return [mean, tails, peak]

    def _chroma_strength(self, chroma: Tensor) -> Tensor:
        laplacian = F.conv2d(_pad(chroma, 1), self.filters[7:8].expand(2, -1, -1, -1), groups=2)
        return torch.log(_mean(_magnitude(laplacian)))

    @staticmethod
    def _normalised_luma(luma: Tensor) -> list[Tensor]:
        """Moments and neighbour products of (luma - local mean) / local deviation, and how much is flat."""
        centred = luma - F.avg_pool2d(_pad(luma, 3), 7, 1)
        deviation = torch.sqrt(F.avg_pool2d(_pad(centred * centred, 3), 7, 1) + (1 / 255)**2)
        z = centred / (deviation + 2 / 255)
        found = [_mean(z * z), _mean(torch.sqrt(z * z + 1e-3)), torch.log(_mean(z**4) + 0.1)]
        h, w = z.shape[2:]
        for down, right in _NEIGHBOURS:
            here = z[:, :, :h - down, max(-right, 0):w - max(right, 0)]
            there = z[:, :, down:, max(right, 0):w + min(right, 0)]
            product = here * there
            found += [_mean(product), _mean(torch.sqrt(product * product + 1e-3))]
        found += [_mean(torch.exp(-(deviation * 255 / level)**2 / 2)) for level in _FLAT]
        logarithm = torch.log(deviation)
        return [*found, _mean(logarithm), torch.sqrt(logarithm.var((2, 3)) + 1e-4)]

    @staticmethod
    def _periodicity(strength: Tensor, axis: int, lags: range) -> list[Tensor]:
        """Autocorrelation of a filter's log response: dots, grids and checkers repeat, photographs do not."""
        logarithm = torch.log(strength)
        centred = logarithm - logarithm.mean((2, 3), keepdim=True)
        energy, length = _mean(centred * centred) + 1e-3, centred.shape[axis]
        return [_mean(centred.narrow(axis, lag, length - lag) * centred.narrow(axis, 0, length - lag)) / energy
                for lag in lags]

    @staticmethod
    def _blocking(luma: Tensor) -> list[Tensor]:
        """How much one of the eight columns in a block of JPEG stands out, by first and third differences."""
        found = []
        first = luma[..., 1:] - luma[..., :-1]
        third = first[..., 2:] - 2 * first[..., 1:-1] + first[..., :-2]
        for difference in (first, third):
            blocks = difference.shape[3] // 8
            columns = _magnitude(16 * difference[..., :8 * blocks]).unflatten(3, (blocks, 8))
            phases = torch.log(columns.mean((1, 2, 3)))
            phases = phases - phases.mean(1, keepdim=True)
            found += [torch.logsumexp(8 * phases, 1, keepdim=True) / 8,
                      torch.sqrt(phases.var(1, keepdim=True) + 1e-5)]
        return found


def load_tinyiqa() -> TinyIQA:
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


class TinyIQAMetric(QualityMetric):
    """tinyiqa as a metric and loss, with the weights shipped in the package.

    Args:
        info (MetricInfo): ``tinyiqa``.
    """

    def __init__(self, info: MetricInfo) -> None:
        super().__init__(info, load_tinyiqa())
