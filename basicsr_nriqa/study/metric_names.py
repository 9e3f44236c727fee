"""What metrics are called: in score files in many spellings, in the study's tables as in Fig. 2 of the paper."""
import re

FIG_2 = ('PSNR', 'SSIM', 'LPIPS', 'PieAPP', 'DBCNN', 'NIMA', 'PaQ-2-PiQ', 'HyperIQA', 'MDTVSFA', 'MANIQA', 'CLIP-IQA')
_OTHERS = ('GMSD', 'VSI', 'FSIM', 'NIQE', 'MS-SSIM', 'CW-SSIM', 'NLPD', 'VIF')

# The direction of metrics whose score files do not say it.
LOWER_BETTER = {
    **dict.fromkeys(('lpips', 'lpipsvgg', 'stlpips', 'dists', 'pieapp', 'gmsd', 'mad', 'nlpd', 'niqe', 'ilniqe', 'piqe',
                     'brisque', 'pi', 'mse', 'mae', 'charbonnier'), True),
    **dict.fromkeys(('psnr', 'psnry', 'ssim', 'ssimc', 'msssim', 'cwssim', 'fsim', 'vsi', 'vif', 'dbcnn', 'nima',
                     'paq2piq', 'hyperiqa', 'mdtvsfa', 'maniqa', 'clipiqa', 'musiq', 'topiqnr'), False),
}


def plain_name(name):
    """A metric's name without case and punctuation: CLIP-IQA, clip_iqa and clipiqa are one metric, clipiqa+ another."""
    return re.sub(r'[^a-z0-9+]', '', name.lower())


_SHOWN = {plain_name(name): name for name in (*FIG_2, *_OTHERS)}


def shown_name(metric):
    """What tables call a metric: ``'paq2piq'`` is ``'PaQ-2-PiQ'``, as in Fig. 2; an unknown name stays as it is."""
    return _SHOWN.get(plain_name(metric), metric)
