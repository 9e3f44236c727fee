"""The metrics by name: what is known of each, and how each is built."""
import inspect
from collections.abc import Collection, Iterable
from os import PathLike
from typing import Any

import torch

from basicsr_nriqa.iqa.clipiqa import CLIPIQAMetric
from basicsr_nriqa.iqa.dbcnn import DBCNNMetric
from basicsr_nriqa.iqa.hyperiqa import HyperIQAMetric
from basicsr_nriqa.iqa.interface import MetricError, MetricInfo, QualityMetric, WeightsFile
from basicsr_nriqa.iqa.lpips import LPIPSMetric
from basicsr_nriqa.iqa.maniqa import MANIQAMetric
from basicsr_nriqa.iqa.mdtvsfa_metric import MDTVSFAMetric
from basicsr_nriqa.iqa.nima import NIMAMetric
from basicsr_nriqa.iqa.niqe import NIQEMetric
from basicsr_nriqa.iqa.paq2piq import PaQ2PiQMetric
from basicsr_nriqa.iqa.pieapp import PieAPPMetric
from basicsr_nriqa.iqa.pyiqa_adapter import PyiqaMetric, pyiqa_info, pyiqa_names
from basicsr_nriqa.iqa.tinyiqa import TinyIQAMetric
from basicsr_nriqa.iqa.weights import clip_file, pyiqa_file, random_seed, torchvision_file
from basicsr_nriqa.suggestion import suggest

_PYIQA = 'pyiqa: PolyForm Noncommercial'
_RN50 = clip_file('RN50.pt', 'afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762')
_VIT_L14 = clip_file('ViT-L-14.pt', 'b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836')
_MDTVSFA_HEAD = WeightsFile(
    'MDTVSFA.pt', 'https://github.com/lidq92/MDTVSFA/raw/master/models/MDTVSFA.pt', 'checkpoints',
    'd5dd4fdf69ad4ee0e7f15caca1b5346d30e4d24a67fbbfd2e3fe434cbf5458c7')


def _full_reference(name: str, source: str, score_range: tuple[float, float] = (0, 1), lower_better: bool = False,
                    min_size: int = 16) -> MetricInfo:
    return MetricInfo(name, True, lower_better, score_range, min_size, source, license=_PYIQA)


def _no_reference(name: str, source: str, trained_on: str, files: tuple[WeightsFile, ...], weight: float = -0.005,
                  score_range: tuple[float, float] = (0, 1), min_size: int = 32, **more: Any) -> MetricInfo:
    return MetricInfo(name, False, False, score_range, min_size, source, trained_on, table1_weight=weight, files=files,
                      **{'license': f'{_PYIQA}; weights: the authors\'', **more})


def _nima(name: str, file: str, trained_on: str, score_range: tuple[float, float] = (0, 10)) -> MetricInfo:
    return _no_reference(name, 'NIMA, Talebi and Milanfar 2018', trained_on, (pyiqa_file(file),),
                         score_range=score_range, license='weights trained by pyiqa: PolyForm Noncommercial')


def _maniqa(name: str, file: str, trained_on: str) -> MetricInfo:
    return _no_reference(name, 'MANIQA, Yang et al. 2022 (NTIRE winner)', trained_on, (pyiqa_file(file),),
                         training={'num_crops': 1})


def _clipiqa(name: str, trained_on: str, files: tuple[WeightsFile, ...]) -> MetricInfo:
    return _no_reference(name, 'CLIP-IQA, Wang et al. 2023', trained_on, files)


def _lpips(name: str, heads: str, backbone: str, trained_on: str) -> MetricInfo:
    return MetricInfo(name, True, True, (0, 1), 32, 'LPIPS v0.1, Zhang et al. 2018', trained_on, 'BSD-2-Clause', 0.05,
                      (pyiqa_file(heads), torchvision_file(backbone)))


_ENTRIES: list[tuple[type[QualityMetric], MetricInfo]] = [
    (LPIPSMetric, _lpips('lpips', 'LPIPS_v0.1_alex-df73285e.pth', 'alexnet-owt-7be5be79.pth', 'BAPPS, AlexNet')),
    (LPIPSMetric, _lpips('lpips-vgg', 'LPIPS_v0.1_vgg-a78928a0.pth', 'vgg16-397923af.pth', 'BAPPS, VGG-16')),
    (PieAPPMetric, MetricInfo('pieapp', True, True, (0, 5), 64, 'PieAPP, Prashnani et al. 2018', 'PieAPP', _PYIQA,
                              0.00005, (pyiqa_file('PieAPPv0.1-0937b014.pth'),))),
    (DBCNNMetric, _no_reference('dbcnn', 'DBCNN, Zhang et al. 2018', 'KonIQ-10k',
                                (pyiqa_file('DBCNN_KonIQ10k-2de81c0a.pth'),), license='MIT')),
    (NIMAMetric, _nima('nima', 'NIMA_InceptionV2_ava-b0c77c00.pth', 'AVA')),
    (NIMAMetric, _nima('nima-koniq', 'NIMA_koniq-250367ae.pth', 'KonIQ-10k', (0, 1))),
    (NIMAMetric, _nima('nima-spaq', 'NIMA-spaq-46a7fcb7.pth', 'SPAQ', (0, 1))),
    (NIMAMetric, _nima('nima-vgg16-ava', 'NIMA_VGG16_ava-dc4e8265.pth', 'AVA')),
    (PaQ2PiQMetric, _no_reference('paq2piq', 'PaQ-2-PiQ, Ying et al. 2020', 'FLIVE (PaQ-2-PiQ)',
                                  (pyiqa_file('P2P_RoIPoolModel-fit.10.bs.120-ca69882e.pth'),), -0.00005, (0, 100))),
    (HyperIQAMetric, _no_reference('hyperiqa', 'HyperIQA, Su et al. 2020', 'KonIQ-10k',
                                   (pyiqa_file('HyperIQA-resnet50-koniq10k-c96c41b1.pth'),),
                                   training={'num_crops': 1})),
    (MDTVSFAMetric, _no_reference('mdtvsfa', 'MDTVSFA, Li et al. 2021', 'KoNViD-1k, CVD2014, LIVE-Qualcomm, LIVE-VQC',
                                  (_MDTVSFA_HEAD, torchvision_file('resnet50-0676ba61.pth')), min_size=33,
                                  license='MIT; backbone BSD-3-Clause', clip=True)),
    (MANIQAMetric, _maniqa('maniqa', 'ckpt_koniq10k.pt', 'KonIQ-10k')),
    (MANIQAMetric, _maniqa('maniqa-pipal', 'MANIQA_PIPAL-ae6d356b.pth', 'PIPAL')),
    (MANIQAMetric, _maniqa('maniqa-kadid', 'ckpt_kadid10k.pt', 'KADID-10k')),
    (CLIPIQAMetric, _clipiqa('clipiqa', 'nothing but CLIP itself', (_RN50,))),
    (CLIPIQAMetric, _clipiqa('clipiqa+', 'KonIQ-10k', (pyiqa_file('CLIP-IQA+_learned_prompts-603f3273.pth'), _RN50))),
    (CLIPIQAMetric, _clipiqa('clipiqa+_rn50_512', 'KonIQ-10k, by pyiqa',
                             (pyiqa_file('CLIPIQA+_RN50_512-89f5d940.pth'), _RN50))),
    (CLIPIQAMetric, _clipiqa('clipiqa+_vitL14_512', 'KonIQ-10k, by pyiqa',
                             (pyiqa_file('CLIPIQA+_ViTL14_512-e66488f2.pth'), _VIT_L14))),
    (TinyIQAMetric, MetricInfo('tinyiqa', full_reference=False, lower_better=False, score_range=(0, 1), min_size=32,
                               source='shipped with this plugin, for demos and tests only; no published metric',
                               trained_on='synthetic distortions of eight photographs', license='Apache-2.0')),
    (NIQEMetric, MetricInfo('niqe', False, True, (0, NIQEMetric.worst), 192, 'NIQE, Mittal et al. 2013',
                            'pristine photographs', f'{_PYIQA}; parameters from BasicSR')),
    *((PyiqaMetric, info) for info in (
        _full_reference('psnr', 'peak signal-to-noise ratio, RGB, dB', (0, 60), min_size=1),
        _full_reference('psnry', 'peak signal-to-noise ratio, luma, dB', (0, 60), min_size=1),
        _full_reference('ssim', 'SSIM, Wang et al. 2004, luma'),
        _full_reference('ssimc', 'SSIM, Wang et al. 2004, RGB'),
        _full_reference('ms_ssim', 'MS-SSIM, Wang et al. 2003, luma', min_size=176),
        _full_reference('cw_ssim', 'CW-SSIM, Sampat et al. 2009, luma', min_size=64),
        _full_reference('gmsd', 'GMSD, Xue et al. 2014, luma', lower_better=True),
        _full_reference('vsi', 'VSI, Zhang et al. 2014'),
        _full_reference('fsim', 'FSIMc, Zhang et al. 2011'),
        _full_reference('nlpd', 'NLPD, Laparra et al. 2016, luma', lower_better=True, min_size=64),
        _full_reference('vif', 'VIF, Sheikh and Bovik 2006', min_size=48))),
]
CATALOGUE = {info.name: info for _, info in _ENTRIES}
_CLASSES = {info.name: metric_class for metric_class, info in _ENTRIES}
TABLE_1 = ('lpips', 'pieapp', 'dbcnn', 'nima', 'paq2piq', 'hyperiqa', 'mdtvsfa', 'maniqa', 'clipiqa')


def register_metric(info: MetricInfo, metric_class: type[QualityMetric]) -> None:
    """Make a metric of your own known, so that losses, measurements and options find it by its name.

    Args:
        info (MetricInfo): What it is.
        metric_class (type): A :class:`~basicsr_nriqa.iqa.interface.QualityMetric`; called with ``info`` and, as keyword
            arguments, the options that its signature names.

    Raises:
        MetricError: there is one of this name, or the class is none of a metric.
    """
    if not (isinstance(metric_class, type) and issubclass(metric_class, QualityMetric)):
        raise MetricError(f"metric '{info.name}': expected a subclass of QualityMetric, got {metric_class!r}. Make one "
                          'that gives your network to QualityMetric.__init__(info, network), see docs/extending.md.')
    if info.name in CATALOGUE:
        raise MetricError(f"there is a metric called '{info.name}' already: {_CLASSES[info.name].__name__}. Choose "
                          'another name.')
    CATALOGUE[info.name], _CLASSES[info.name] = info, metric_class


def metric_info(name: str) -> MetricInfo:
    """What is known of a metric, without building it.

    Raises:
        MetricError: no metric of that name here or in pyiqa; suggests the nearest.
    """
    if not isinstance(name, str) or not name:
        raise MetricError(f'metric: expected a name, such as maniqa, got {name!r}. scripts/list_metrics.py lists them.')
    if name in CATALOGUE:
        return CATALOGUE[name]
    if name in pyiqa_names():
        return pyiqa_info(name)
    known = {*CATALOGUE, *pyiqa_names()}
    raise MetricError(f"unknown metric '{name}'{suggest(name, known)}. Known: {', '.join(sorted(CATALOGUE))}, "
                      'and what pyiqa.list_models() lists.')


def class_of_metric(name: str) -> type[QualityMetric]:
    """The class that a metric is built of; its arguments besides ``info`` are the metric's options.

    Raises:
        MetricError: unknown metric.
    """
    return _CLASSES.get(metric_info(name).name, PyiqaMetric)


def metric_options(name: str) -> list[str]:
    """Names of the options that a metric takes besides its name.

    Raises:
        MetricError: unknown metric.
    """
    return [key for key in inspect.signature(class_of_metric(name)).parameters if key != 'info']


def refuse_unknown(what: str, options: Iterable[str], known: Collection[str]) -> None:
    """Raise a MetricError for the first option that is not among the known ones; suggests the nearest."""
    for option in options:
        if option not in known:
            raise MetricError(f"{what} has no option '{option}'{suggest(option, known)}. "
                              f"It takes: {', '.join(known) or 'none'}.")


def check_metric(name: str, **options: Any) -> MetricInfo:
    """Check a metric's name, its options and their values without building anything.

    Returns:
        MetricInfo: What is known of it.

    Raises:
        MetricError: unknown name or option, or a value that cannot be used.
    """
    info = metric_info(name)
    known = metric_options(name)
    refuse_unknown(f"metric '{name}'", options, known)
    if not isinstance(options.get('weights'), (str, PathLike, type(None))):
        raise MetricError(f"metric '{name}': weights must be the path of a file or folder, got {options['weights']!r}.")
    _CLASSES.get(name, PyiqaMetric).check_options(info, **options)
    return info


def create_metric(name: str, **options: Any) -> QualityMetric:
    """Build a metric.

    Args:
        name (str): A name of the catalogue or of pyiqa.
        **options (Any): What the metric takes besides (:func:`metric_options`).

    Returns:
        QualityMetric: Frozen, in eval mode, on the CPU.

    Raises:
        MetricError: unknown name or option, or weights that are not to be had.
    """
    info = check_metric(name, **options)
    metric_class = _CLASSES.get(name, PyiqaMetric)
    if random_seed() is None:
        return metric_class(info, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_seed())
        return metric_class(info, **options)
