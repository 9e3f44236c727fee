"""The metrics by name: what is known of each, and how each is built."""
from basicsr_nriqa.iqa.interface import MetricError, MetricInfo, QualityMetric
from basicsr_nriqa.iqa.pyiqa_adapter import MANIQAMetric, PyiqaMetric, pyiqa_info, pyiqa_names
from basicsr_nriqa.iqa.tinyiqa import load_tinyiqa
from basicsr_nriqa.suggestion import suggest


def _full_reference(name, source, score_range='0-1', lower_better=False, min_size=16):
    return MetricInfo(name, True, lower_better, score_range, min_size, source)


def _maniqa(name, file, trained_on):
    return MetricInfo(
        name, full_reference=False, lower_better=False, score_range='0-1', min_size=32,
        source=f'MANIQA, Yang et al. 2022 (NTIRE winner), trained on {trained_on}', table1_weight=-0.005,
        weights_file=file, weights_license='PolyForm Noncommercial (pyiqa)', options=('num_crops', 'weights'))


CATALOGUE = {info.name: info for info in (
    MetricInfo('tinyiqa', full_reference=False, lower_better=False, score_range='0-1', min_size=32,
               source='small network shipped with this plugin, for demos and tests only; no published metric'),
    _maniqa('maniqa', 'ckpt_koniq10k.pt', 'KonIQ-10k'),
    _maniqa('maniqa-pipal', 'MANIQA_PIPAL-ae6d356b.pth', 'PIPAL'),
    _maniqa('maniqa-kadid', 'ckpt_kadid10k.pt', 'KADID-10k'),
    _full_reference('psnr', 'peak signal-to-noise ratio, RGB', '0-60 dB', min_size=1),
    _full_reference('psnry', 'peak signal-to-noise ratio, luma', '0-60 dB', min_size=1),
    _full_reference('ssim', 'SSIM, Wang et al. 2004, luma'),
    _full_reference('ssimc', 'SSIM, Wang et al. 2004, RGB'),
    _full_reference('ms_ssim', 'MS-SSIM, Wang et al. 2003, luma', min_size=176),
    _full_reference('cw_ssim', 'CW-SSIM, Sampat et al. 2009, luma', min_size=64),
    _full_reference('gmsd', 'GMSD, Xue et al. 2014, luma', lower_better=True),
    _full_reference('vsi', 'VSI, Zhang et al. 2014'),
    _full_reference('fsim', 'FSIMc, Zhang et al. 2011'),
    _full_reference('nlpd', 'NLPD, Laparra et al. 2016, luma', lower_better=True, min_size=64),
    _full_reference('vif', 'VIF, Sheikh and Bovik 2006', min_size=48),
)}


def metric_info(name):
    """What is known of a metric, without building it.

    Raises:
        MetricError: no metric of that name here or in pyiqa; suggests the nearest.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    if name in pyiqa_names():
        return pyiqa_info(name)
    known = {*CATALOGUE, *pyiqa_names()}
    raise MetricError(f"unknown metric '{name}'{suggest(name, known)}. Known: {', '.join(sorted(known))}.")


def create_metric(name, **options):
    """Build a metric.

    Args:
        name (str): A name of the catalogue or of pyiqa.
        options: What the metric takes besides (``MetricInfo.options``).

    Returns:
        QualityMetric: Frozen, in eval mode, on the CPU.

    Raises:
        MetricError: unknown name or option, or weights that are not to be had.
    """
    info = metric_info(name)
    for option in options:
        if option not in info.options:
            raise MetricError(f"metric '{name}' has no option '{option}'{suggest(option, info.options)}. "
                              f"It takes: {', '.join(info.options) or 'none'}.")
    if name == 'tinyiqa':
        return QualityMetric(info, load_tinyiqa())
    if name.startswith('maniqa'):
        return MANIQAMetric(info, **options)
    return PyiqaMetric(info)
