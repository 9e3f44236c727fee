"""Quality metrics as training losses, in BasicSR's LOSS_REGISTRY."""
from basicsr_nriqa.losses.iqa_ensemble_loss import IQAEnsembleLoss, metrics_of
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
from basicsr_nriqa.losses.total_variation_loss import TotalVariationLoss
from basicsr_nriqa.losses.vgg_feature_loss import VGGFeatureLoss

__all__ = ['CLIPIQALoss', 'DBCNNLoss', 'HyperIQALoss', 'IQAEnsembleLoss', 'IQALoss', 'IQAPerceptualLoss', 'LPIPSLoss',
           'MANIQALoss', 'MDTVSFALoss', 'NIMALoss', 'PaQ2PiQLoss', 'PieAPPLoss', 'TotalVariationLoss', 'VGGFeatureLoss',
           'metrics_of']
