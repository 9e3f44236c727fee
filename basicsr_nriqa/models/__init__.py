"""Models (training step, validation, checkpoints) in BasicSR's MODEL_REGISTRY."""
from basicsr_nriqa.models.video_iqa_model import VideoIQAModel

__all__ = ['VideoIQAModel']
