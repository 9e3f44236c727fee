"""What a quality metric is to the rest of the plugin."""
from dataclasses import dataclass

import torch
from torch import nn


class MetricError(ValueError):
    """A metric is unknown, its weights are missing, or it cannot be used as asked; the message says what to do."""


@dataclass(frozen=True)
class MetricInfo:
    """What is known of a metric without building it.

    Attributes:
        name (str): The name in options files.
        full_reference (bool): Compares with a reference; else judges the distorted image alone.
        lower_better (bool): Direction.
        score_range (str): Nominal range, for people.
        min_size (int): Smallest side of an image, in pixels.
        source (str): Where the metric was published, or what it is.
        table1_weight (float | None): ``loss_weight`` in Table I of the paper, with its sign.
        weights_file (str | None): File with trained weights; None where none are needed or they ship with the plugin.
        weights_license (str | None): What the weights may be used for.
        options (tuple): Options that the metric takes besides its name.
    """

    name: str
    full_reference: bool
    lower_better: bool
    score_range: str
    min_size: int
    source: str
    table1_weight: float | None = None
    weights_file: str | None = None
    weights_license: str | None = None
    options: tuple = ()


class QualityMetric(nn.Module):
    """A frozen metric that scores images.

    It always stays in eval mode and its weights never ask for gradients; gradients go to the images. It runs in
    float32 also under autocast, because several metrics give NaN in half precision.

    Args:
        info (MetricInfo): What it is.
        network (nn.Module): ``(distorted)`` or ``(distorted, reference)`` -> scores.
    """

    def __init__(self, info, network):
        super().__init__()
        self.info = info
        self.network = network
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode=True):
        """Does nothing: dropout, drifting statistics and random crops would make the score another metric's."""
        return self

    def forward(self, distorted, reference=None):
        """Score images.

        Args:
            distorted (Tensor): (n,3,h,w) RGB, nominally in [0,1].
            reference (Tensor | None): The same shape; needed by full-reference metrics, ignored by the others.

        Returns:
            Tensor: (n,) raw scores, float32.

        Raises:
            ValueError: wrong shape, too small an image, or no reference where one is needed.
        """
        if distorted.ndim != 4 or distorted.shape[1] != 3:
            raise ValueError(f'{self.info.name}: images must be (n,3,h,w), got {tuple(distorted.shape)}.')
        if min(distorted.shape[-2:]) < self.info.min_size:
            height, width = distorted.shape[-2:]
            raise ValueError(f'{self.info.name}: images must be at least {self.info.min_size} px a side, got '
                             f'{width}x{height}. Use larger crops (gt_size), or another metric.')
        inputs = [distorted.float()]
        if self.info.full_reference:
            if reference is None or reference.shape != distorted.shape:
                given = 'none' if reference is None else str(tuple(reference.shape))
                raise ValueError(f'{self.info.name} compares with a reference of shape {tuple(distorted.shape)}; '
                                 f'got {given}.')
            inputs.append(reference.detach().float())
        with torch.autocast(distorted.device.type, enabled=False):
            scores = self.score(*inputs)
        return scores.reshape(distorted.shape[0])

    def score(self, distorted, reference=None):
        """The metric itself on checked float32 input; subclasses override this."""
        return self.network(distorted) if reference is None else self.network(distorted, reference)
