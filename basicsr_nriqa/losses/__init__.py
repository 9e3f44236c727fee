"""Quality metrics as training losses, in BasicSR's LOSS_REGISTRY."""
from basicsr_nriqa.losses.iqa_loss import IQALoss, IQAPerceptualLoss, MANIQALoss

__all__ = ['IQALoss', 'IQAPerceptualLoss', 'MANIQALoss']
