"""Quality metrics as training losses (Kashkarov et al., "Can No-Reference Quality-Assessment Methods Serve as
Perceptual Losses for Super-Resolution?", Sec. II and Table I)."""
from types import MappingProxyType

import torch
from basicsr.utils.registry import LOSS_REGISTRY
from torch import nn

from basicsr_nriqa.iqa import CATALOGUE, MetricError, create_metric


@LOSS_REGISTRY.register()
class IQALoss(nn.Module):
    """``loss_weight`` times the mean raw score of any quality metric.

    The score is not turned round: as in Table I of the paper, a metric of which more is better takes a negative
    weight, one of which less is better a positive one. The wrong sign would train for worse images and is refused.
    The metric is frozen and in eval mode whatever happens to the loss, and runs in float32 also under autocast.

    Args:
        metric (str): A metric of the catalogue (``tinyiqa``, ``maniqa``, ``ssim``, ...) or any of pyiqa.
        loss_weight (float | None): Default: the metric's weight in Table I, where it has one.
        allow_worsening (bool): Accept a sign that trains for worse images. Default: False.
        frames (str | int): Frames of a clip that are scored: ``all``, or so many drawn anew at each call with torch's
            generator. Default: all.
        options: Options of the metric, such as ``num_crops`` of MANIQA.

    Raises:
        MetricError: the metric is unknown, its weights are missing, the sign is wrong, or it has no usable gradient.
    """

    def __init__(self, metric, loss_weight=None, allow_worsening=False, frames='all', **options):
        super().__init__()
        self.metric = create_metric(metric, **options)
        info = self.metric.info
        self.loss_weight = _checked_weight(info, loss_weight, allow_worsening)
        if frames != 'all' and not (isinstance(frames, int) and frames > 0):
            raise MetricError(f"IQALoss: frames must be 'all' or a positive number, got {frames!r}.")
        self.frames = frames
        if info.name not in CATALOGUE:
            _check_gradient(self.metric)

    @staticmethod
    def metric_name(options):
        """The metric that these options of the loss ask for; for checks before anything is built."""
        return options.get('metric')

    def forward(self, output, target=None):
        """Compute the loss.

        Args:
            output (Tensor): (n,3,h,w) or (n,t,3,h,w), RGB, nominally in [0,1]; gradients flow to it.
            target (Tensor | None): GT of the same shape; only full-reference metrics use it.

        Returns:
            Tensor: Scalar, ``loss_weight`` * mean score.
        """
        if output.ndim not in (4, 5):
            raise ValueError(f'IQALoss takes (n,3,h,w) or (n,t,3,h,w), got {tuple(output.shape)}.')
        if output.ndim == 5:
            chosen = self._choose(output.shape[1], output.device)
            output = output[:, chosen].flatten(0, 1)
            target = target if target is None else target[:, chosen].flatten(0, 1)
        return self.loss_weight * self.metric(output, target).mean()

    def _choose(self, count, device):
        if self.frames == 'all' or self.frames >= count:
            return slice(None)
        return torch.randperm(count)[:self.frames].sort().values.to(device)


def _checked_weight(info, weight, allow_worsening):
    if weight is None:
        weight = info.table1_weight
    if weight is None:
        raise MetricError(f"IQALoss: metric '{info.name}' has no weight in Table I of the paper; give `loss_weight`.")
    worsens = weight < 0 if info.lower_better else weight > 0
    if worsens and not allow_worsening:
        better, sign = ('lower', 'positive') if info.lower_better else ('higher', 'negative')
        raise MetricError(f"IQALoss: loss_weight {weight} would train for worse images: of '{info.name}' {better} is "
                          f'better, so its weight must be {sign}. Set `allow_worsening: true` if you mean it.')
    return weight


def _check_gradient(metric):
    """Some metrics of pyiqa silently have no gradient (piqe), others give NaN (mad)."""
    generator = torch.Generator().manual_seed(0)
    side = max(metric.info.min_size, 224)
    image = torch.rand(1, 3, side, side, generator=generator).requires_grad_()
    reference = (image.detach() + 0.05 * torch.rand(image.shape, generator=generator)).clamp(0, 1)
    try:
        gradient, = torch.autograd.grad(metric(image, reference).sum(), image, allow_unused=True)
    except RuntimeError as error:
        raise _unusable(metric, f'it cannot be differentiated ({error})') from None
    if gradient is None or not gradient.any():
        raise _unusable(metric, 'its gradient is zero')
    if not gradient.isfinite().all():
        raise _unusable(metric, 'its gradient is not finite')


def _unusable(metric, reason):
    return MetricError(f"IQALoss: metric '{metric.info.name}' cannot be a loss: {reason}. "
                       'It can still be measured with calculate_iqa.')


@LOSS_REGISTRY.register()
class MANIQALoss(IQALoss):
    """MANIQA with Table I's weight, -0.005, on one random crop of each frame and step.

    Args:
        variant (str): ``koniq`` (default), ``pipal`` or ``kadid``: the data the metric was trained on.
        num_crops (int | None): Random 224 x 224 crops of each frame; None: pyiqa's 20 uniform ones. Default: 1.
        loss_weight, allow_worsening, frames, weights: As in :class:`IQALoss`.
    """

    VARIANTS = MappingProxyType({'koniq': 'maniqa', 'pipal': 'maniqa-pipal', 'kadid': 'maniqa-kadid'})

    def __init__(self, loss_weight=-0.005, variant='koniq', num_crops=1, weights=None, frames='all',
                 allow_worsening=False):
        super().__init__(self.metric_name({'variant': variant}), loss_weight, allow_worsening, frames,
                         num_crops=num_crops, weights=weights)

    @classmethod
    def metric_name(cls, options):
        variant = options.get('variant', 'koniq')
        if variant not in cls.VARIANTS:
            raise MetricError(f"MANIQALoss: variant must be one of {', '.join(cls.VARIANTS)}, got '{variant}'.")
        return cls.VARIANTS[variant]


@LOSS_REGISTRY.register()
class IQAPerceptualLoss(IQALoss):
    """:class:`IQALoss` for ``perceptual_opt`` of BasicSR's own models, which expect a content and a style loss."""

    def forward(self, output, target=None):
        """As :meth:`IQALoss.forward`, but returns ``(loss, None)``."""
        return super().forward(output, target), None
