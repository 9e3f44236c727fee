"""NIQE (Mittal, Soundararajan and Bovik, "Making a 'Completely Blind' Image Quality Analyzer", IEEE SPL 2013)."""
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from basicsr_nriqa.iqa.interface import MetricInfo, QualityMetric


class NIQEMetric(QualityMetric):
    """pyiqa's differentiable NIQE with the pristine model that BasicSR carries, so that nothing is downloaded.

    Whole blocks of 96 x 96 px are used; pixels at the right and bottom beyond them get no gradient. Flat blocks have no
    statistics and get none either; an image of which too little is left (a black frame) scores 100, the worst of the
    nominal range.

    Args:
        info (MetricInfo): ``niqe``.
    """

    worst = 100  # of the nominal range

    def __init__(self, info: MetricInfo) -> None:
        import basicsr.metrics
        with np.load(Path(basicsr.metrics.__file__).with_name('niqe_pris_params.npz')) as model:
            pristine = model['mu_pris_param'].ravel(), model['cov_pris_param']
        super().__init__(info)
        self.pristine = tuple(torch.from_numpy(part) for part in pristine)  # float64 whatever the metric is moved to

    def score(self, distorted: Tensor, reference: Tensor | None = None) -> Tensor:
        from pyiqa.archs.niqe_arch import calculate_niqe
        worst = distorted.sum((1, 2, 3)) * 0 + self.worst
        seen = distorted
        if seen.requires_grad:
            seen = distorted.view_as(distorted)
            seen.register_hook(lambda gradient: gradient.nan_to_num(0, 0, 0))
        try:
            scores = calculate_niqe(seen, mu_pris_param=self.pristine[0], cov_pris_param=self.pristine[1])
        except torch.linalg.LinAlgError:  # of one image at least
            return worst if len(seen) == 1 else torch.cat([self.score(image) for image in distorted.split(1)])
        return torch.where(scores.isfinite(), scores, worst)
