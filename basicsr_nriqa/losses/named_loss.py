"""The nine losses of the paper's Table I under their own names, each with Table I's weight as default."""
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from basicsr.utils.registry import LOSS_REGISTRY

from basicsr_nriqa.iqa import MetricError
from basicsr_nriqa.losses.iqa_loss import IQALoss


class NamedLoss(IQALoss):
    """An :class:`IQALoss` whose metric follows from its class and, where there are several, a variant.

    Args:
        loss_weight (float | None): What the mean score is multiplied with; its sign must train for better images.
            Default: the metric's weight in Table I.
        variant (str | None): Which of the metric's published weights, a key of ``VARIANTS``. Default: its first.
        **options (Any): All others of :class:`~basicsr_nriqa.losses.iqa_loss.IQALoss` and of the metric.
    """

    OPTIONS = IQALoss.OPTIONS - {'metric'} | {'variant'}
    VARIANTS: Mapping[str, str] = MappingProxyType({})

    def __init__(self, loss_weight: float | None = None, variant: str | None = None, **options: Any) -> None:
        if 'metric' in options:
            raise MetricError(f"{type(self).__name__} has its metric already: leave `metric` out, choose a `variant` "
                              f"({', '.join(self.VARIANTS)}), or use `type: IQALoss`.")
        super().__init__(self.metric_name({'variant': variant}), loss_weight, **options)

    @classmethod
    def metric_name(cls, options: dict[str, Any]) -> str:
        variant = options.get('variant') or next(iter(cls.VARIANTS))
        if not isinstance(variant, str) or variant not in cls.VARIANTS:
            raise MetricError(f"{cls.__name__}: variant must be one of {', '.join(cls.VARIANTS)}, got {variant!r}.")
        return cls.VARIANTS[variant]


@LOSS_REGISTRY.register()
class LPIPSLoss(NamedLoss):
    """LPIPS (Zhang et al. 2018), full-reference, lower is better: +0.05. Variants ``alex`` and ``vgg``."""

    VARIANTS = MappingProxyType({'alex': 'lpips', 'vgg': 'lpips-vgg'})


@LOSS_REGISTRY.register()
class PieAPPLoss(NamedLoss):
    """PieAPP (Prashnani et al. 2018), full-reference, lower is better: +0.00005.

    Some pixels at the right and bottom get no gradient, see :class:`~basicsr_nriqa.iqa.pieapp.PieAPPMetric`.
    """

    VARIANTS = MappingProxyType({'pieapp': 'pieapp'})


@LOSS_REGISTRY.register()
class DBCNNLoss(NamedLoss):
    """DBCNN (Zhang et al. 2018), no-reference, higher is better: -0.005."""

    VARIANTS = MappingProxyType({'koniq': 'dbcnn'})


@LOSS_REGISTRY.register()
class NIMALoss(NamedLoss):
    """NIMA (Talebi and Milanfar 2018), no-reference, higher is better: -0.005.

    Variants ``ava`` (scores 1 to 10), ``koniq``, ``spaq`` (0 to 1) and ``vgg16-ava``. Frames that are not square lose
    their sides unless ``fit`` is ``tiles`` or ``whole``, see :class:`~basicsr_nriqa.iqa.nima.NIMAMetric`.
    """

    VARIANTS = MappingProxyType({'ava': 'nima', 'koniq': 'nima-koniq', 'spaq': 'nima-spaq',
                                 'vgg16-ava': 'nima-vgg16-ava'})


@LOSS_REGISTRY.register()
class PaQ2PiQLoss(NamedLoss):
    """PaQ-2-PiQ (Ying et al. 2020), no-reference, scores 0 to 100, higher is better: -0.00005."""

    VARIANTS = MappingProxyType({'flive': 'paq2piq'})


@LOSS_REGISTRY.register()
class HyperIQALoss(NamedLoss):
    """HyperIQA (Su et al. 2020), no-reference, higher is better: -0.005, on one random crop of each frame and step.

    ``num_crops`` and ``crops``: see :class:`~basicsr_nriqa.iqa.crop_metric.CropMetric`.
    """

    VARIANTS = MappingProxyType({'koniq': 'hyperiqa'})


@LOSS_REGISTRY.register()
class MDTVSFALoss(NamedLoss):
    """MDTVSFA (Li et al. 2021), no-reference, of whole clips, higher is better: -0.005.

    The mapped score; ``score: relative`` for the other. See :class:`~basicsr_nriqa.iqa.mdtvsfa_metric.MDTVSFAMetric`.
    """

    VARIANTS = MappingProxyType({'mixed': 'mdtvsfa'})


@LOSS_REGISTRY.register()
class MANIQALoss(NamedLoss):
    """MANIQA (Yang et al. 2022), no-reference, higher is better: -0.005, on one random crop of each frame and step.

    Variants ``koniq``, ``pipal`` and ``kadid``: the data it was trained on. ``num_crops`` and ``crops``: see
    :class:`~basicsr_nriqa.iqa.crop_metric.CropMetric`.
    """

    VARIANTS = MappingProxyType({'koniq': 'maniqa', 'pipal': 'maniqa-pipal', 'kadid': 'maniqa-kadid'})


@LOSS_REGISTRY.register()
class CLIPIQALoss(NamedLoss):
    """CLIP-IQA (Wang et al. 2023), no-reference, higher is better: -0.005.

    Variants ``clipiqa`` (fixed prompts) and, with learned prompts, ``clipiqa+``, ``rn50_512`` and ``vitL14_512``.
    """

    VARIANTS = MappingProxyType({'clipiqa': 'clipiqa', 'clipiqa+': 'clipiqa+', 'rn50_512': 'clipiqa+_rn50_512',
                                 'vitL14_512': 'clipiqa+_vitL14_512'})
