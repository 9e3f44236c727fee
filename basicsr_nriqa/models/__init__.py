"""Models (training step, validation, checkpoints) in BasicSR's MODEL_REGISTRY."""
from basicsr_nriqa.models.gradnorm_model import GradNormModel
from basicsr_nriqa.models.iseebetter_model import ISeeBetterModel
from basicsr_nriqa.models.video_iqa_model import VideoIQAModel

__all__ = ['GradNormModel', 'ISeeBetterModel', 'VideoIQAModel']
