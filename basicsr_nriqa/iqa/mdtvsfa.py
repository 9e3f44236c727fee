"""MDTVSFA, a no-reference metric of whole clips.

Li, Jiang and Jiang, "Unified Quality Assessment of In-the-Wild Videos with Mixed Datasets Training", IJCV 2021.
ResNet-50 describes each frame, a GRU gives each frame a quality that remembers the frames before it, and a temporal
pooling in which bad moments weigh most makes one score per clip. Every step can be differentiated, so a score has a
gradient at every pixel of every frame. The networks are meant for eval mode.
"""
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet50

from basicsr_nriqa.iqa.network_tools import Normalize, Recomputed

SMALLEST_SIDE = 33  # gives a feature map of 2 x 2; one position has no standard deviation
DATASETS = {'K': 'KoNViD-1k', 'C': 'CVD2014', 'L': 'LIVE-Qualcomm', 'N': 'LIVE-VQC'}


class ResNet50Features(nn.Module):
    """What ResNet-50 sees in a frame: how strong each feature of its last stage is, and how much that varies.

    Starts with random weights; the released head belongs to torchvision's ``IMAGENET1K_V1`` weights.
    """

    size = 4096

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential()
        for name, module in resnet50(weights=None).named_children():
            if name not in ('avgpool', 'fc'):
                self.network.add_module(name, module)
        self.normalize = Normalize()

    def forward(self, frames: Tensor) -> Tensor:
        """Describe frames.

        Args:
            frames (Tensor): (m, 3, h, w), RGB, nominally in [0, 1], at least 33 px a side.

        Returns:
            Tensor: (m, 4096): spatial mean, then spatial standard deviation (unbiased) of 2048 features. The gradient
                of a deviation of zero is zero.

        Raises:
            ValueError: A side is shorter than 33 px.
        """
        if min(frames.shape[-2:]) < SMALLEST_SIDE:
            height, width = frames.shape[-2:]
            raise ValueError(f'MDTVSFA: frames must be at least {SMALLEST_SIDE} px a side, got {width}x{height}.')
        features = self.network(self.normalize(frames))
        # no sqrt(var): torch.std knows that its gradient is zero where the features are flat, sqrt gives NaN
        return torch.cat([features.mean((2, 3)), features.std((2, 3))], 1)


def temporal_pooling(quality: Tensor, tau: int = 12, beta: float = 0.5) -> Tensor:
    """Pool the quality of frames as people do, who remember a bad moment.

    Each frame counts as ``beta`` times the worst of the last ``tau`` frames plus ``1 - beta`` times the mean of the
    next ``tau`` frames, weighted by the softmax of their negative quality. Both include the frame itself, and take
    what there is at the ends of the clip. A single frame keeps its quality.

    Scores of clips of different length cannot be compared, and nothing corrects that: the more frames, the more of
    them share the worst moments, so the longer of two equally good clips pools lower. Independent standard normal
    qualities, for example, pool to 0 for 1 frame, -0.70 for 7, -1.10 for 30 and -1.22 for 300 on average.

    Args:
        quality (Tensor): (n, t), t >= 1; on no particular scale, higher is better.
        tau (int): Length of the memory in frames.
        beta (float): Weight of the worst frame, in [0, 1].

    Returns:
        Tensor: (n,), on the scale of ``quality``.
    """
    worst = F.pad(quality, (tau - 1, 0), value=torch.inf).unfold(1, tau, 1).amin(2)
    weight = F.pad(-quality, (0, tau - 1), value=-torch.inf).unfold(1, tau, 1).softmax(2)
    ahead = (weight * F.pad(quality, (0, tau - 1)).unfold(1, tau, 1)).sum(2)
    return (beta * worst + (1 - beta) * ahead).mean(1)


class MDTVSFAHead(nn.Module):
    """From the features of frames to the score of a clip; has the keys of the released weights.

    The GRU starts with an empty memory, so the first frames are judged without a past: with `temporal_pooling` the
    second reason not to compare clips of different length.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dimemsion_reduction = nn.Linear(ResNet50Features.size, 128)  # spelled as in the released file
        self.feature_aggregation = nn.GRU(128, 32, batch_first=True)
        self.regression = nn.Linear(32, 1)
        self.nlm = nn.Sequential(nn.Linear(1, 1), nn.Sigmoid(), nn.Linear(1, 1))
        self.lm = nn.ModuleDict({dataset: nn.Linear(1, 1) for dataset in DATASETS})

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Score clips.

        Args:
            features (Tensor): (n, t, 4096), of t >= 1 frames.

        Returns:
            tuple[Tensor, Tensor]: ``relative`` and ``mapped`` score, each (n,) and higher is better. Relative is in
                (0, 1); mapped, the score that the authors' demo prints, is a function of it that with the released
                weights rises from 0.15 to 0.85.
        """
        quality = self.regression(self._remember(self.dimemsion_reduction(features)))[..., 0]
        relative = temporal_pooling(quality).sigmoid()
        return relative, self.nlm(relative[:, None])[:, 0]

    def _remember(self, features: Tensor) -> Tensor:
        """What ``feature_aggregation(features)[0]`` gives; cuDNN's GRU has no backward pass in eval mode."""
        gru = self.feature_aggregation
        weights = gru.all_weights[0]  # of its one layer
        memory, memories = features.new_zeros(len(features), gru.hidden_size), []
        for frame in features.unbind(1):
            memory = torch.gru_cell(frame, memory, *weights)
            memories.append(memory)
        return torch.stack(memories, 1)

    def aligned(self, mapped: Tensor, dataset: str) -> Tensor:
        """Put mapped scores on the scale of the opinions in one of the data sets that the head was trained on.

        Args:
            mapped (Tensor): (n,).
            dataset (str): K (KoNViD-1k), C (CVD2014), L (LIVE-Qualcomm) or N (LIVE-VQC).

        Returns:
            Tensor: (n,).

        Raises:
            ValueError: The data set is another.
        """
        if dataset not in self.lm:
            raise ValueError(f'MDTVSFA: dataset must be one of {", ".join(DATASETS)}, got {dataset!r}.')
        return self.lm[dataset](mapped[:, None])[:, 0]


class MDTVSFA(nn.Module):
    """The metric: ``features`` of all frames, then the ``head``."""

    def __init__(self) -> None:
        super().__init__()
        self.features = ResNet50Features()
        self.head = MDTVSFAHead()

    def forward(self, clips: Tensor, score: Literal['mapped', 'relative'] = 'mapped',
                chunk: int | None = None) -> Tensor:
        """Score clips.

        Args:
            clips (Tensor): (n, t, 3, h, w), RGB, nominally in [0, 1], t >= 1, at least 33 px a side.
            score (str): ``mapped`` or ``relative``, see `MDTVSFAHead.forward`.
            chunk (int | None): Frames that go through ResNet-50 at once; None: all. The backward pass computes each
                chunk again, so the memory is one chunk's for the time of one more forward pass.

        Returns:
            Tensor: (n,), higher is better; only clips of equal length compare, see `temporal_pooling`.

        Raises:
            ValueError: Wrong shape, too small frames or an unknown score.
        """
        if clips.ndim != 5 or clips.shape[2] != 3:
            raise ValueError(f'MDTVSFA: clips must be (n,t,3,h,w), got {tuple(clips.shape)}.')
        if score not in ('mapped', 'relative'):
            raise ValueError(f"MDTVSFA: score must be 'mapped' or 'relative', got {score!r}.")
        frames = clips.flatten(0, 1)
        if chunk is None:
            features = self.features(frames)
        else:
            recomputed = Recomputed(self.features)
            features = torch.cat([recomputed(part) for part in frames.split(chunk)])
        relative, mapped = self.head(features.unflatten(0, clips.shape[:2]))
        return mapped if score == 'mapped' else relative
