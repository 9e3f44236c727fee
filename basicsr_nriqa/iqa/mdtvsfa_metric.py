"""MDTVSFA behind the interface of metrics: weights, options, chunks."""
from typing import Any, Literal

import torch
from torch import Tensor

from basicsr_nriqa.iqa.interface import MetricError, MetricInfo, QualityMetric
from basicsr_nriqa.iqa.mdtvsfa import MDTVSFA
from basicsr_nriqa.iqa.network_tools import speed_up
from basicsr_nriqa.iqa.weights import find_weights, load_state, load_weights, random_seed
from basicsr_nriqa.option_values import is_count

_FRAMES_MEASURED_AT_ONCE = 16


class MDTVSFAMetric(QualityMetric):
    """MDTVSFA (Li, Jiang and Jiang, IJCV 2021) as a metric and loss of whole clips.

    Scores of clips of different length cannot be compared, and nothing corrects that: the running minimum of the
    pooling pulls longer clips down, while the memory of the GRU, which starts empty, moves the first frames. A still
    image is scored as a clip of one frame, in which neither has begun.

    Args:
        info (MetricInfo): ``mdtvsfa``.
        score (str): ``mapped``, the score that the authors report, or ``relative``, in (0,1).
        weights (str | None): File with the released head, or a folder that holds it and ResNet-50.
        chunk (int | None): Frames that go through ResNet-50 at once. For a loss each chunk is computed a second time
            in the backward pass, so that memory is one chunk's. Default: all frames.
        checkpoint (bool): The same as ``chunk: 1``.

    Raises:
        MetricError: an option is not usable, or weights are missing.
    """

    def __init__(self, info: MetricInfo, score: Literal['mapped', 'relative'] = 'mapped', weights: str | None = None,
                 chunk: int | None = None, checkpoint: bool = False) -> None:
        self.check_options(info, score, chunk)
        network = MDTVSFA()
        if random_seed() is None:
            head, backbone = find_weights(info, weights)
            load_weights(network.head, load_state(head), head)
            load_weights(network.features.network, load_state(backbone), backbone, ignore=('fc.',))
        speed_up(network)
        super().__init__(info, network)
        self.output = score
        self.chunk = chunk or (1 if checkpoint else None)

    @classmethod
    def check_options(cls, info: MetricInfo, score: str = 'mapped', chunk: int | None = None, **_: Any) -> None:
        if score not in ('mapped', 'relative'):
            raise MetricError(f"metric '{info.name}': score must be mapped or relative, got {score!r}.")
        if chunk is not None and not is_count(chunk):
            raise MetricError(f"metric '{info.name}': chunk must be a positive whole number, got {chunk!r}.")

    def score(self, distorted: Tensor, reference: Tensor | None = None) -> Tensor:
        chunk = self.chunk
        if chunk is None and not torch.is_grad_enabled():
            chunk = _FRAMES_MEASURED_AT_ONCE
        return self.network(distorted, self.output, chunk)
