"""Quality metrics as training losses, in BasicSR's LOSS_REGISTRY."""
from basicsr_nriqa.losses.iqa_loss import IQALoss, IQAPerceptualLoss
from basicsr_nriqa.losses.named_loss import (
    CLIPIQALoss,
    DBCNNLoss,
    HyperIQALoss,
    LPIPSLoss,
    MANIQALoss,
    MDTVSFALoss,
    NIMALoss,
    PaQ2PiQLoss,
    PieAPPLoss,
)

__all__ = ['CLIPIQALoss', 'DBCNNLoss', 'HyperIQALoss', 'IQALoss', 'IQAPerceptualLoss', 'LPIPSLoss', 'MANIQALoss',
           'MDTVSFALoss', 'NIMALoss', 'PaQ2PiQLoss', 'PieAPPLoss']
