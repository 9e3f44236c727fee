"""Metrics that look at 224 x 224 px crops: how many and which."""
from typing import Any, Literal, get_args

from torch import Tensor, nn

from basicsr_nriqa.iqa.interface import MetricError, MetricInfo, QualityMetric
from basicsr_nriqa.iqa.network_tools import random_crops, uniform_crops
from basicsr_nriqa.option_values import is_count

Placement = Literal['random', 'uniform']
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)


class CropMetric(QualityMetric):
    """A metric on crops. Images with a side of 224 px or less are enlarged first, as pyiqa does.

    Args:
        info (MetricInfo): What it is.
        network (nn.Module): Its network.
        num_crops (int | None): Crops of an image; None: as many as published, which is for measuring.
        crops (str | None): ``uniform``: pyiqa's grid, which leaves up to 13 % of the pixels, at the right and bottom,
            without gradient, and takes all published crops unless ``num_crops`` says less; ``random``: drawn for each
            image and call with torch's generator, so that over the steps every pixel is reached. None: random if
            ``num_crops`` is given, else uniform.

    Crops at the same place, all of them on an image of up to 224 px a side, are computed once.

    Raises:
        MetricError: the number is not positive or the placement not known.
    """

    window = 224
    published_crops: int

    def __init__(self, info: MetricInfo, network: nn.Module, num_crops: int | None, crops: Placement | None) -> None:
        self.check_options(info, num_crops, crops)
        super().__init__(info, network)
        self.num_crops = num_crops or self.published_crops
        self.crops = crops or ('random' if num_crops else 'uniform')

    @classmethod
    def check_options(cls, info: MetricInfo, num_crops: int | None = None, crops: Placement | None = None,
                      **_: Any) -> None:
        if num_crops is not None and not is_count(num_crops):
            raise MetricError(f"metric '{info.name}': num_crops must be a positive whole number, got {num_crops!r}.")
        if crops not in (None, *PLACEMENTS):
            raise MetricError(f"metric '{info.name}': crops must be one of {', '.join(PLACEMENTS)}, got {crops!r}.")
        if crops == 'uniform' and num_crops == 1:
            raise MetricError(f"metric '{info.name}': one uniform crop is the top left corner and nothing else; take "
                              'num_crops: 4 or more, or crops: random.')

    def score(self, distorted: Tensor, reference: Tensor | None = None) -> Tensor:
        take = random_crops if self.crops == 'random' else uniform_crops
        return self.score_crops(*take(distorted, self.window, self.num_crops))

    def score_crops(self, crops: Tensor, counts: Tensor) -> Tensor:
        """(n*k,3,224,224) and how often each of the k places counts (k,) -> (n,)."""
        raise NotImplementedError
