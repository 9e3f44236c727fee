import hashlib
import sys

import pytest
import torch

from basicsr_nriqa.iqa import random_weights
from basicsr_nriqa.iqa.weights import FOLDER_VARIABLE
from basicsr_nriqa.models.provenance import _weights, checkpoint_digest, device_name, score_versions

PSNR = {'type': 'calculate_psnr', 'crop_border': 0}


@pytest.fixture(autouse=True)
def _fresh():
    _weights.cache_clear()


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_python_and_packages_are_named():
    versions = score_versions({'psnr': PSNR, 'tinyiqa': {'type': 'calculate_iqa', 'metric': 'tinyiqa'}})
    assert versions['python'] == f'{sys.version_info.major}.{sys.version_info.minor}'
    assert versions['torch'].startswith(torch.__version__[:3])
    assert {'basicsr-nriqa', 'basicsr', 'pyiqa', 'numpy'} < set(versions)
    assert not [name for name in versions if name.startswith('weights')], 'theirs come with the packages'


def test_weights_are_known_by_their_digests(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    own, backbone = tmp_path / 'mine.pt', tmp_path / 'resnet50-0676ba61.pth'
    own.write_bytes(b'head')
    metrics = {'quality': {'type': 'calculate_iqa', 'metric': 'mdtvsfa', 'weights': str(own)}, 'psnr': PSNR}
    assert score_versions(metrics)['weights of quality'] == digest(own)[:12], 'the backbone is not here'
    _weights.cache_clear()
    (tmp_path / 'ckpt_koniq10k.pt').write_bytes(b'maniqa')
    metrics['maniqa'] = {'type': 'calculate_iqa', 'metric': 'maniqa'}
    versions = score_versions(metrics)
    assert versions['weights of maniqa'] == digest(tmp_path / 'ckpt_koniq10k.pt')[:12]
    own.write_bytes(b'replaced after it was loaded')
    backbone.write_bytes(b'damaged')
    assert score_versions(metrics) == versions, 'what was loaded counts'


def test_the_options_of_metrics_are_named():
    niqe = {'type': 'calculate_iqa', 'metric': 'niqe', 'better': 'lower', 'batch': 4, 'crop_border': 2}
    versions = score_versions({'psnr': PSNR, 'niqe': niqe})
    assert versions['metric of psnr'] == 'crop_border 0, type calculate_psnr'
    assert versions['metric of niqe'] == 'crop_border 2, metric niqe, type calculate_iqa'


def test_random_weights_are_said_to_be_random():
    metrics = {'maniqa': {'type': 'calculate_iqa', 'metric': 'maniqa'},
               'ssim': {'type': 'calculate_iqa', 'metric': 'ssim'}}
    with random_weights(3):
        versions = score_versions(metrics)
    assert versions['weights of maniqa'] == 'random, seed 3'
    assert 'weights of ssim' not in versions


def test_a_checkpoint_is_known_by_its_digest(tmp_path):
    path = tmp_path / 'net_g_latest.pth'
    path.write_bytes(b'weights')
    assert checkpoint_digest(str(path)) == digest(path)
    assert checkpoint_digest(None) is None
    path.unlink()
    assert checkpoint_digest(str(path)) is None


def test_the_device_has_a_name():
    assert device_name(torch.device('cpu')) == 'cpu'
