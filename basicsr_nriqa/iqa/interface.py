"""What a quality metric is to the rest of the plugin."""
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


class MetricError(ValueError):
    """A metric is unknown, its weights are missing, or it cannot be used as asked; the message says what to do."""


@dataclass(frozen=True)
class WeightsFile:
    """A published file with trained weights.

    Attributes:
        name (str): File name.
        url (str): Where it is published.
        home (str): The folder below torch's hub directory into which it is downloaded: ``pyiqa``, ``checkpoints``
            (torchvision's) or ``clip``.
        sha256 (str): The digest, or the digits of its beginning that are published; empty where none are.
    """

    name: str
    url: str
    home: str
    sha256: str = ''


@dataclass(frozen=True)
class MetricInfo:
    """What is known of a metric without building it.

    Attributes:
        name (str): The name in options files.
        full_reference (bool): Compares with a reference; else judges the distorted image alone.
        lower_better (bool): Direction.
        score_range (tuple[float, float] | None): Nominal range; None where pyiqa does not say.
        min_size (int): Smallest side of an image, in pixels.
        source (str): Where the metric was published, or what it is.
        trained_on (str): The data that this variant's weights come from; empty where nothing was trained.
        license (str): Terms of code and weights.
        table1_weight (float | None): ``loss_weight`` in Table I of the paper, with its sign.
        files (tuple[WeightsFile, ...]): Files with trained weights, the metric's own first, then backbones.
        training (dict): Options that a loss uses unless told otherwise; a measurement uses the metric's own defaults.
        clip (bool): Scores whole clips (n,t,3,h,w) rather than single frames.
        unlisted (bool): Not in our catalogue: built as pyiqa builds it, and nothing more is known of it.
    """

    name: str
    full_reference: bool
    lower_better: bool
    score_range: tuple[float, float] | None
    min_size: int
    source: str
    trained_on: str = ''
    license: str = ''
    table1_weight: float | None = None
    files: tuple[WeightsFile, ...] = ()
    training: dict[str, Any] = field(default_factory=dict, hash=False)
    clip: bool = False
    unlisted: bool = False

    @property
    def best(self) -> float | None:
        """The best score of the nominal range; None where the range is not known."""
        return None if self.score_range is None else self.score_range[0 if self.lower_better else 1]


class QualityMetric(nn.Module):
    """A frozen metric that scores images or clips.

    The network of the metric is hidden from torch's module tree: whatever happens to a model that holds the metric,
    the network stays in eval mode and frozen, and it is in nobody's ``state_dict``, optimiser or DDP bucket. It
    follows ``.to(device)``. It computes in float32 also under autocast or after ``.half()``, because several metrics
    give NaN in half precision; ``.double()`` is followed.

    Args:
        info (MetricInfo): What it is.
        network (nn.Module | None): What :meth:`score` uses, if it uses one.

    Attributes:
        info (MetricInfo): What it is.
        mends (bool): Whether it replaces scores and gradients that are not finite.
    """

    mends: bool = False

    def __init__(self, info: MetricInfo, network: nn.Module | None = None) -> None:
        super().__init__()
        self.info = info
        network = nn.Identity() if network is None else network
        self._hidden = (network.eval().requires_grad_(False),)
        self._like = torch.empty(0)  # device and dtype of the network

    @property
    def network(self) -> nn.Module:
        return self._hidden[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> 'QualityMetric':
        like = fn(self._like)
        dtype = like.dtype if like.dtype in (torch.float32, torch.float64) else self._like.dtype
        self._like = self._like.to(like.device, dtype)
        self.network.to(like.device, dtype)
        return super()._apply(fn, recurse)

    def forward(self, distorted: Tensor, reference: Tensor | None = None) -> Tensor:
        """Score images, or clips where ``info.clip``.

        Args:
            distorted (Tensor): (n,3,h,w), or (n,t,3,h,w) for clip metrics, RGB, nominally in [0,1].
            reference (Tensor | None): The same shape; needed by full-reference metrics, ignored by the others.

        Returns:
            Tensor: (n,) raw scores, float32.

        Raises:
            MetricError: wrong shape, too small an image, no reference where one is needed, or values that are
                not finite.
        """
        self._check(distorted, reference)
        inputs = [distorted.to(self._like.dtype)]
        if self.info.full_reference and reference is not None:
            inputs.append(reference.detach().to(self._like.dtype))
        with torch.autocast(distorted.device.type, enabled=False):
            scores = self.score(*inputs)
        return scores.reshape(distorted.shape[0]).to(self._like.dtype)

    def _check(self, distorted: Tensor, reference: Tensor | None) -> None:
        name, shape = self.info.name, tuple(distorted.shape)
        wanted = '(n,t,3,h,w)' if self.info.clip else '(n,3,h,w)'
        if distorted.ndim != len(wanted[1:-1].split(',')) or shape[-3] != 3:
            hint = {1: ' Repeat a grey image three times.', 4: ' Leave the alpha channel out.'}
            raise MetricError(f'{name}: expected {wanted}, RGB, got {shape}.'
                              f'{hint.get(shape[-3], "") if len(shape) > 2 else ""}')
        if not distorted.is_floating_point():
            raise MetricError(f'{name}: images must be floating-point numbers in [0,1], got {distorted.dtype}. '
                              'Divide 8-bit values by 255.')
        if min(shape[-2:]) < self.info.min_size:
            raise MetricError(f'{name}: images must be at least {self.info.min_size} px a side, got '
                              f'{shape[-1]}x{shape[-2]}. Use larger crops (gt_size), or another metric.')
        if self.info.full_reference and (reference is None or reference.shape != distorted.shape):
            given = 'none' if reference is None else str(tuple(reference.shape))
            raise MetricError(f'{name} compares with a reference (GT) of shape {shape}; got {given}. Give the GT, or '
                              'choose a no-reference metric.')
        if not len(distorted):
            raise MetricError(f'{name}: there is no image to score: expected {wanted}, n 1 or more, got {shape}.')
        total = distorted.detach().sum(dtype=torch.float32)  # finite if all are, and cheaper to see than for each
        if self.info.full_reference and reference is not None:
            total = total + reference.detach().sum(dtype=torch.float32)
        if not total.isfinite():
            raise MetricError(f'{name}: the images hold NaN or infinity: the network that made them has diverged, or '
                              'the data are damaged. A training goes on from an earlier checkpoint with a lower '
                              'learning rate.')

    @classmethod
    def check_options(cls, info: MetricInfo, **options: Any) -> None:
        """Check the values of options without building anything; subclasses that have such options override this.

        Args:
            info (MetricInfo): The metric.
            **options (Any): Those that are given, some of what the constructor takes.

        Raises:
            MetricError: a value that cannot be used.
        """

    def score(self, distorted: Tensor, reference: Tensor | None = None) -> Tensor:
        """The metric itself on checked input; subclasses override this."""
        return self.network(distorted) if reference is None else self.network(distorted, reference)
