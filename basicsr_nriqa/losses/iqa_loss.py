"""Quality metrics as training losses (Kashkarov et al., "Can No-Reference Quality-Assessment Methods Serve as
Perceptual Losses for Super-Resolution?", Sec. II and Table I)."""
import math
from dataclasses import replace
from typing import Any, Literal

import torch
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor, nn

from basicsr_nriqa.iqa import (
    MetricError,
    MetricInfo,
    QualityMetric,
    check_metric,
    create_metric,
    metric_info,
    metric_options,
    refuse_unknown,
)
from basicsr_nriqa.losses.gradient_smoothing import smooth_gradient
from basicsr_nriqa.losses.mean_score import Scores, mean_score
from basicsr_nriqa.losses.option_values import check_number
from basicsr_nriqa.losses.purifier import Operations, Purifier
from basicsr_nriqa.losses.random_transforms import RandomTransforms
from basicsr_nriqa.option_values import is_count, is_number


@LOSS_REGISTRY.register()
class IQALoss(nn.Module):
    """``loss_weight`` times the mean raw score of any quality metric.

    The score is neither negated nor rescaled: as in Table I of the paper, a metric of which more is better takes a
    negative weight, one of which less is better a positive one. The wrong sign would train for worse images and is
    refused. The metric is frozen and in eval mode whatever happens to the loss, in no state_dict and no optimiser, and
    runs in float32 also under autocast.

    Args:
        metric (str): A metric of the catalogue (``tinyiqa``, ``maniqa``, ``ssim``, ...) or any of pyiqa.
        loss_weight (float | None): Factor of the mean score, with its sign. Default: the metric's weight in Table I,
            where it has one.
        allow_worsening (bool): Accept a sign that trains for worse images. Default: False.
        frames (str | int): Frames of a clip that are scored: ``all``, or so many drawn anew at each call with torch's
            generator; clip metrics take that many consecutive ones. Default: all.
        chunk (int | None): Frames that go through the metric at once. Each chunk's gradient is computed at once and
            its graph freed, so memory is that of one chunk, at no cost in time beyond smaller batches. (A clip metric
            recomputes each chunk in the backward pass.) No second derivatives. Default: all at once.
        transforms (bool | dict | None): The metric sees the frames, and the target, under a random transformation that
            is drawn anew at each call: true, or strengths as of
            :class:`~basicsr_nriqa.losses.random_transforms.RandomTransforms`. Default: none.
        draws (int): The loss is the mean over so many draws of the transformation and of what the metric draws, in the
            memory of one; of the same frames. Default: 1.
        purify (dict | Sequence[dict] | False | None): What is done to frames, and target, after that, see
            :class:`~basicsr_nriqa.losses.purifier.Purifier`. Default: nothing.
        smooth_gradient (float): Standard deviation in px of a Gaussian that low-passes the gradient which the loss
            gives at each frame of the output. Default: 0, as it is.
        gradient_penalty (float): So many times ``|loss_weight|`` times the mean L1 norm of the gradient of a score at
            the output (a clip metric's score: of its clip) is added, see
            :mod:`~basicsr_nriqa.losses.gradient_penalty`. Default: 0.
        **options (Any): Options of the metric, such as ``num_crops`` of MANIQA. What is not given is as the catalogue
            has it for training (``MetricInfo.training``): MANIQA and HyperIQA score one random crop of a frame and
            step.

    Raises:
        MetricError: the metric is unknown, its weights are missing, the sign is wrong, or it has no usable gradient.
    """

    OPTIONS = frozenset({'metric', 'loss_weight', 'allow_worsening', 'frames', 'chunk', 'transforms', 'draws', 'purify',
                         'smooth_gradient', 'gradient_penalty'})
    transforms, draws, purify = RandomTransforms(), 1, Purifier()
    smooth_gradient: float = 0
    gradient_penalty: float = 0
    metric: QualityMetric
    frames: Literal['all'] | int

    def __init__(self, metric: str, loss_weight: float | None = None, allow_worsening: bool = False,
                 frames: Literal['all'] | int = 'all', chunk: int | None = None,
                 transforms: bool | dict[str, float | bool] | None = None, draws: int = 1, purify: Operations = None,
                 smooth_gradient: float = 0, gradient_penalty: float = 0, **options: Any) -> None:
        super().__init__()
        info = metric_info(metric)
        self.loss_weight = _checked_weight(info, loss_weight, allow_worsening)
        _check_counts(frames, chunk, draws)
        _check_strengths(smooth_gradient, gradient_penalty)
        self.frames, self.chunk, self.draws = frames, chunk, draws
        self.transforms, self.purify = RandomTransforms(transforms), Purifier(purify)
        self.smooth_gradient, self.gradient_penalty = smooth_gradient, gradient_penalty
        if info.clip and chunk is not None:
            options['chunk'] = chunk
        self.metric = create_metric(metric, **self._complete(info, options))
        if info.unlisted:
            _check_gradient(self.metric)

    @classmethod
    def metric_name(cls, options: dict[str, Any]) -> str:
        """The metric that these options of the loss ask for."""
        return options.get('metric', '')

    @classmethod
    def check(cls, options: dict[str, Any]) -> MetricInfo:
        """Check the options of a loss before anything is built.

        Args:
            options (dict): As in an option file, with or without ``type``.

        Returns:
            MetricInfo: Of the metric that they ask for; ``min_size`` is that of the output, before ``purify``.

        Raises:
            MetricError: unknown metric or option, a value that cannot be used, or a weight that is missing or has the
                wrong sign.
        """
        info = metric_info(cls.metric_name(options))
        refuse_unknown(f"{cls.__name__} with metric '{info.name}'", [option for option in options if option != 'type'],
                       sorted({*cls.OPTIONS, *metric_options(info.name)}))
        _checked_weight(info, options.get('loss_weight'), options.get('allow_worsening', False))
        _check_counts(options.get('frames', 'all'), options.get('chunk'), options.get('draws', 1))
        _check_strengths(options.get('smooth_gradient', 0), options.get('gradient_penalty', 0))
        RandomTransforms(options.get('transforms'))
        purify = Purifier(options.get('purify'))
        given = {option: value for option, value in options.items() if option not in {*cls.OPTIONS, 'type'}}
        info = check_metric(info.name, **cls._complete(info, given))
        return replace(info, min_size=purify.smallest(info.min_size))

    @staticmethod
    def _complete(info: MetricInfo, options: dict[str, Any]) -> dict[str, Any]:
        """Options of the metric with the catalogue's for training; a uniform grid is the published one."""
        return dict(options) if options.get('crops') == 'uniform' else {**info.training, **options}

    def forward(self, output: Tensor, target: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            output (Tensor): (n,3,h,w) or (n,t,3,h,w), RGB, nominally in [0,1]; gradients flow to it.
            target (Tensor | None): GT of the same shape; only full-reference metrics use it.

        Returns:
            Tensor: Scalar, ``loss_weight`` * mean score.

        Raises:
            MetricError: wrong shape, too small frames, no target for a full-reference metric, NaN in the output.
        """
        output, target = self._scored(output, target)
        output = smooth_gradient(output, self.smooth_gradient)
        chunk = None if self.metric.info.clip else self.chunk
        penalty = math.copysign(self.gradient_penalty, self.loss_weight)
        with torch.autocast(output.device.type, enabled=False):
            score = mean_score(lambda: self._draw(*output.shape[-2:]), output, target, self.draws, chunk, penalty)
        return self.loss_weight * score

    def _scored(self, output: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The frames that are scored, of the output and of the target, as the metric takes them."""
        name = type(self).__name__
        if not isinstance(output, Tensor) or output.ndim not in (4, 5):
            given = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise MetricError(f'{name} takes a tensor (n,3,h,w) or (n,t,3,h,w), got {given}.')
        if not self.metric.info.full_reference:
            target = None
        if target is not None and target.shape != output.shape:
            raise MetricError(f'{name}: {self.metric.info.name} compares with a reference (GT) of the shape of the '
                              f'output, {tuple(output.shape)}, got {tuple(target.shape)}. See that the network '
                              'enlarges by as much as GT is larger than LR.')
        are_clips = output.ndim == 5
        chosen = self._choose(output.shape[1] if are_clips else 1, output.device)

        def frames(images: Tensor) -> Tensor:
            clips = images if are_clips else images.unsqueeze(1)
            clips = clips if chosen is None else clips[:, chosen]
            return clips if self.metric.info.clip else clips.flatten(0, 1)

        output = frames(output)
        target = None if target is None else frames(target)
        if self.transforms or self.purify:
            self._check_images(output, target)
        return _precise(output), None if target is None else _precise(target.detach())

    def _draw(self, height: int, width: int) -> Scores:
        """A function of frames and target that gives their scores under one transformation."""
        transform = self.transforms.draw(height, width, self.purify.smallest(self.metric.info.min_size))

        def scores(frames: Tensor, target: Tensor | None) -> Tensor:
            seen = self.purify(transform(frames))
            reference = None if target is None else self.purify(transform(target, noisy=False))
            return self.metric(seen, reference)
        return scores

    def _check_images(self, output: Tensor, target: Tensor | None) -> None:
        """What the metric would refuse, while sizes are still those that the user knows."""
        self.metric._check(output, target)
        needed, smallest = self.metric.info.min_size, self.purify.smallest(self.metric.info.min_size)
        if min(output.shape[-2:]) < smallest:
            raise MetricError(f'{self.metric.info.name} needs images of at least {needed} px a side, so that with the '
                              f"option purify's resize the output must have {smallest}; got {output.shape[-1]}x"
                              f'{output.shape[-2]}. Use larger crops (gt_size) or resize less.')

    def deficit(self, value: Tensor) -> Tensor:
        """How far a value of this loss is from the least it can be, for balancers; positive inside the nominal range.

        Args:
            value (Tensor): What the loss returned.

        Returns:
            Tensor: ``value`` less ``loss_weight`` times the best score of the metric's nominal range, or the worst if
            the loss trains for that (``allow_worsening``).
        """
        ends = self.metric.info.score_range
        return value if ends is None else value - min(self.loss_weight * score for score in ends)

    def _choose(self, count: int, device: torch.device) -> slice | Tensor | None:
        if self.frames == 'all' or self.frames >= count:
            return None
        if self.metric.info.clip:
            start = int(torch.randint(count - self.frames + 1, ()))
            return slice(start, start + self.frames)
        return torch.randperm(count)[:self.frames].sort().values.to(device)


def _precise(images: Tensor) -> Tensor:
    """In float32 at least: operations on images and what a gradient is added up in should not be coarser."""
    return images.float() if images.dtype in (torch.float16, torch.bfloat16) else images


def _check_counts(frames: object, chunk: object, draws: object) -> None:
    if frames != 'all' and not is_count(frames):
        raise MetricError(f"IQALoss: frames must be 'all' or a positive whole number, got {frames!r}.")
    if chunk is not None and not is_count(chunk):
        raise MetricError(f'IQALoss: chunk must be a positive number of frames, got {chunk!r}.')
    if not is_count(draws):
        raise MetricError(f'IQALoss: draws must be a positive whole number, got {draws!r}.')


def _check_strengths(smooth_gradient: object, gradient_penalty: object) -> None:
    check_number('smooth_gradient', smooth_gradient, 0, 64, ' px')
    check_number('gradient_penalty', gradient_penalty)


def _checked_weight(info: MetricInfo, weight: float | None, allow_worsening: object) -> float:
    if weight is None:
        weight = info.table1_weight
    if weight is None:
        sign, better = _sign(info)
        raise MetricError(f"IQALoss: metric '{info.name}' has no weight in Table I of the paper; give `loss_weight`, a "
                          f'{sign} number because {better} is better.')
    if not is_number(weight):
        raise MetricError(f'IQALoss: loss_weight must be a number, got {weight!r}.')
    if not isinstance(allow_worsening, bool):
        raise MetricError(f'IQALoss: allow_worsening must be true or false, got {allow_worsening!r}.')
    worsens = weight < 0 if info.lower_better else weight > 0
    if worsens and not allow_worsening:
        sign, better = _sign(info)
        raise MetricError(f"IQALoss: loss_weight {weight} would train for worse images: of '{info.name}' {better} is "
                          f'better, so its weight must be {sign}. Set `allow_worsening: true` if you mean it.')
    return weight


def _sign(info: MetricInfo) -> tuple[str, str]:
    """The sign of a weight that trains for better images, and the direction of the metric."""
    return ('positive', 'lower') if info.lower_better else ('negative', 'higher')


def _check_gradient(metric: QualityMetric) -> None:
    """Some metrics of pyiqa silently have no gradient (piqe), others give NaN (mad)."""
    generator = torch.Generator().manual_seed(0)
    side = max(metric.info.min_size, 224)
    image = torch.rand(1, 3, side, side, generator=generator).requires_grad_()
    reference = (image.detach() + 0.05 * torch.rand(image.shape, generator=generator)).clamp(0, 1)
    mends, metric.mends = metric.mends, False  # or the metric's own gradient would not be seen
    try:
        gradient, = torch.autograd.grad(metric(image, reference).sum(), image, allow_unused=True)
    except RuntimeError as error:
        raise _unusable(metric, f'it cannot be differentiated ({error})') from None
    finally:
        metric.mends = mends
    if gradient is not None and not gradient.isfinite().all():
        raise _unusable(metric, 'its gradient is not finite')
    if gradient is None or not gradient.any():
        raise _unusable(metric, 'its gradient is zero')


def _unusable(metric: QualityMetric, reason: str) -> MetricError:
    return MetricError(f"IQALoss: metric '{metric.info.name}' cannot be a loss: {reason}. "
                       'It can still be measured with calculate_iqa.')


@LOSS_REGISTRY.register()
class IQAPerceptualLoss(IQALoss):
    """:class:`IQALoss` for ``perceptual_opt`` of BasicSR's own models, which expect a content and a style loss."""

    def forward(  # type: ignore[override]  # two losses are what BasicSR's models unpack
            self, output: Tensor, target: Tensor | None = None) -> tuple[Tensor, None]:
        """As :meth:`IQALoss.forward`, but returns ``(loss, None)``."""
        return super().forward(output, target), None
