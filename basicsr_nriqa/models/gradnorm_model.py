"""Training with GradNorm, which the paper tried (Sec. II.B), as one model_type."""
from basicsr.utils.registry import MODEL_REGISTRY

from basicsr_nriqa.models.video_iqa_model import VideoIQAModel


@MODEL_REGISTRY.register()
class GradNormModel(VideoIQAModel):
    """:class:`VideoIQAModel` with ``balance_opt: {type: gradnorm}``, alpha 1.5, where nothing else is given."""

    DEFAULT_BALANCER = 'gradnorm'
