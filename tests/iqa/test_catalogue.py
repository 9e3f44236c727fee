import csv
import importlib

import pytest
import torch
from basicsr.losses import build_loss
from pyiqa.default_model_configs import DEFAULT_CONFIGS
from torch import nn

from basicsr_nriqa.iqa import (
    CATALOGUE,
    TABLE_1,
    MetricError,
    MetricInfo,
    QualityMetric,
    catalogue,
    create_metric,
    metric_info,
    metric_options,
    register_metric,
)
from basicsr_nriqa.iqa.clipiqa import load_clip
from basicsr_nriqa.iqa.pyiqa_adapter import pyiqa_info
from basicsr_nriqa.iqa.weights import sha256

PAPER = {'lpips': 0.05, 'pieapp': 0.00005, 'dbcnn': -0.005, 'nima': -0.005, 'paq2piq': -0.00005, 'hyperiqa': -0.005,
         'mdtvsfa': -0.005, 'maniqa': -0.005, 'clipiqa': -0.005}
# where pyiqa has the addresses of its files: module and key
ADDRESSES = {
    'lpips': ('lpips', '0.1_alex'), 'lpips-vgg': ('lpips', '0.1_vgg'), 'pieapp': ('pieapp', 'url'),
    'dbcnn': ('dbcnn', 'koniq'), 'nima': ('nima', 'inception_resnet_v2-ava'),
    'nima-koniq': ('nima', 'inception_resnet_v2-koniq'), 'nima-spaq': ('nima', 'inception_resnet_v2-spaq'),
    'nima-vgg16-ava': ('nima', 'vgg16-ava'), 'paq2piq': ('paq2piq', 'url'), 'hyperiqa': ('hypernet', 'resnet50-koniq'),
    'maniqa': ('maniqa', 'koniq'), 'maniqa-pipal': ('maniqa', 'pipal'), 'maniqa-kadid': ('maniqa', 'kadid'),
    'clipiqa+': ('clipiqa', 'clipiqa+'), 'clipiqa+_rn50_512': ('clipiqa', 'clipiqa+_rn50_512'),
    'clipiqa+_vitL14_512': ('clipiqa', 'clipiqa+_vitL14_512')}
WITH_FILES = {name for name, info in CATALOGUE.items() if info.files}


@pytest.mark.parametrize('name', CATALOGUE)
def test_entries_are_sensible(name):
    info = metric_info(name)
    assert info is CATALOGUE[name] and info.name == name
    assert info.source and info.license
    assert bool(info.trained_on) >= bool(info.files)
    low, high = info.score_range
    assert low < high and info.best == (low if info.lower_better else high)
    assert 1 <= info.min_size <= 192
    assert set(info.training) <= set(metric_options(name)) and 'info' not in metric_options(name)
    assert ('weights' in metric_options(name)) == bool(info.files)
    for file in info.files:
        assert file.url.startswith('https://') and file.home in ('pyiqa', 'checkpoints', 'clip')
        assert set(file.sha256) <= set('0123456789abcdef')
    if info.table1_weight:
        assert (info.table1_weight > 0) == info.lower_better


@pytest.mark.parametrize('name', [name for name in CATALOGUE if name in DEFAULT_CONFIGS])
def test_agrees_with_pyiqa(name):
    ours, theirs = metric_info(name), pyiqa_info(name)
    assert ours.lower_better == bool(DEFAULT_CONFIGS[name].get('lower_better'))
    assert ours.full_reference == (DEFAULT_CONFIGS[name]['metric_mode'] == 'FR')
    if name != 'psnr':  # which pyiqa lets end at 40 dB, and psnry at 60
        assert ours.score_range == theirs.score_range


def test_what_pyiqa_does_not_have():
    assert CATALOGUE.keys() - DEFAULT_CONFIGS.keys() == {'mdtvsfa', 'tinyiqa'}
    assert [name for name, info in CATALOGUE.items() if info.clip] == ['mdtvsfa']


def test_weights_of_the_paper():
    assert {name: metric_info(name).table1_weight for name in TABLE_1} == PAPER
    assert {name for name, info in CATALOGUE.items() if info.table1_weight is not None} == WITH_FILES
    for name in WITH_FILES:
        family = name.split('-')[0].split('+')[0]
        assert CATALOGUE[name].table1_weight == PAPER[family]


def test_weights_of_the_recorded_table(shared):
    with open(shared / 'paper' / 'table1_loss_weights.csv', newline='') as file:
        rows = {row['pyiqa_name']: row for row in csv.DictReader(file) if row['pyiqa_name']}
    assert rows.keys() == set(TABLE_1)
    for name, row in rows.items():
        info = metric_info(name)
        assert (info.table1_weight, info.full_reference) == (float(row['loss_weight']), row['type'] == 'FR')


def test_files_are_pyiqas():
    assert ADDRESSES.keys() | {'mdtvsfa', 'clipiqa'} == WITH_FILES
    for name, (module, key) in ADDRESSES.items():
        urls = importlib.import_module(f'pyiqa.archs.{module}_arch').default_model_urls
        file = metric_info(name).files[0]
        assert file.url == urls[key]
        assert file.sha256 == '' or f'-{file.sha256}.' in file.name
    assert {name for name in ADDRESSES if not metric_info(name).files[0].sha256} == {'maniqa', 'maniqa-kadid'}


def test_backbones_are_torchvisions_and_openais():
    from clip.clip import _MODELS
    from torchvision.models import AlexNet_Weights, ResNet50_Weights, VGG16_Weights
    for name, weights in (('lpips', AlexNet_Weights), ('lpips-vgg', VGG16_Weights), ('mdtvsfa', ResNet50_Weights)):
        assert metric_info(name).files[-1].url == weights.IMAGENET1K_V1.url
    for name in ('clipiqa', 'clipiqa+', 'clipiqa+_rn50_512', 'clipiqa+_vitL14_512'):
        clip = metric_info(name).files[-1]
        assert clip.url == _MODELS['ViT-L/14' if 'vitL14' in name else 'RN50']
        assert len(clip.sha256) == 64 and f'/{clip.sha256}/' in clip.url


def test_mdtvsfas_released_head(shared):
    head = metric_info('mdtvsfa').files[0]
    assert sha256(shared / 'data' / 'MDTVSFA' / 'models' / head.name) == head.sha256


def test_unknown_names():
    with pytest.raises(MetricError, match=r"unknown metric 'hyperiq' .did you mean 'hyperiqa'.*Known: .*\blpips\b"):
        metric_info('hyperiq')
    with pytest.raises(MetricError, match=r"unknown metric 'MANIQA' .did you mean 'maniqa'"):
        metric_info('MANIQA')
    with pytest.raises(MetricError, match="unknown metric 'fid_of_nothing'"):
        create_metric('fid_of_nothing')
    with pytest.raises(MetricError, match=r"'nima' has no option 'fits' .did you mean 'fit'.*takes: fit, weights"):
        create_metric('nima', fits='tiles')
    for name in ('psnr', 'tinyiqa', 'entropy'):
        with pytest.raises(MetricError, match=f"'{name}' has no option 'weights'. It takes: none"):
            create_metric(name, weights='x')


class _Redness(QualityMetric):
    def __init__(self, info, gain=1.0):
        super().__init__(info)
        self.gain = gain

    def score(self, distorted, reference=None):
        return self.gain * distorted[:, 0].mean((1, 2))


def test_a_metric_of_ones_own_is_found_by_its_name(monkeypatch):
    monkeypatch.setattr(catalogue, 'CATALOGUE', dict(CATALOGUE))
    monkeypatch.setattr(catalogue, '_CLASSES', dict(catalogue._CLASSES))
    info = MetricInfo('redness', False, False, (0, 1), 1, 'this test')
    register_metric(info, _Redness)
    assert metric_info('redness') is info and metric_options('redness') == ['gain']
    assert create_metric('redness', gain=0.5)(torch.ones(2, 3, 4, 4)).tolist() == [0.5, 0.5]
    loss = build_loss({'type': 'IQALoss', 'metric': 'redness', 'loss_weight': -2})
    assert loss(torch.ones(1, 3, 4, 4)).item() == -2
    with pytest.raises(MetricError, match="there is a metric called 'redness' already: _Redness"):
        register_metric(info, _Redness)
    with pytest.raises(MetricError, match=r"'redness': expected a subclass of QualityMetric, got .*Identity"):
        register_metric(info, nn.Identity)


@pytest.mark.filterwarnings('ignore:.torch.jit:FutureWarning')
def test_clip_archives_hold_code_and_must_be_the_published_ones(tmp_path):
    path, module = tmp_path / 'RN50.pt', nn.Linear(2, 2)
    torch.jit.script(module).save(str(path))
    with pytest.raises(MetricError, match=f'{path}: its sha256 starts with .*expected afeb0e10f9e5a86d'):
        load_clip(path, metric_info('clipiqa').files[0].sha256)
    assert torch.equal(load_clip(path, sha256(path))['weight'], module.weight)
    torch.save(module.state_dict(), path)
    assert torch.equal(load_clip(path, '0' * 64)['weight'], module.weight)
    torch.save(module, path)
    with pytest.raises(MetricError, match=f'{path}: cannot be read as plain weights'):
        load_clip(path, '0' * 64)
