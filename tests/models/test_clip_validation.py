import hashlib

import cv2
import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_metric
from basicsr.models.base_model import BaseModel
from basicsr.utils import tensor2img

from basicsr_nriqa.data.clip_store import ClipStore
from basicsr_nriqa.data.frame_sequence import FrameSequence
from basicsr_nriqa.metrics.iqa_metric import score_frames
from basicsr_nriqa.models.clip_validation import ClipValidation
from basicsr_nriqa.study.scores import read_scores

METRICS = {'psnr': {'type': 'calculate_psnr', 'crop_border': 2, 'better': 'higher'},
           'gmsd': {'type': 'calculate_iqa', 'metric': 'gmsd', 'better': 'lower', 'batch': 2},
           'ssim': {'type': 'calculate_iqa', 'metric': 'ssim', 'crop_border': 2},
           'tinyiqa': {'type': 'calculate_iqa', 'metric': 'tinyiqa'}}


class Judge(ClipValidation):
    """Without the networks of a model."""

    def __init__(self):
        self.device = torch.device('cpu')


class CountingStore(ClipStore):
    """Notes which frames are read."""

    def __init__(self, root):
        super().__init__(root, 'disk')
        self.read = []

    def image(self, key):
        self.read.append(key)
        return super().image(key)


@pytest.fixture
def clip(tmp_path):
    """Five frames of output and their GT."""
    rng = np.random.default_rng(0)
    for number in range(5):
        photo = cv2.resize(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8), (48, 48), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(tmp_path / f'im{number}.png'), photo)
    gt = FrameSequence(CountingStore(tmp_path), [f'im{number}' for number in range(5)], lambda key, size: None)
    whole = gt[:]
    gt.store.read.clear()
    result = (whole + 0.1 * torch.randn(whole.shape)).clamp(0, 1).mul(255).round() / 255
    return result, gt, whole


def test_scores_are_means_over_the_frames(clip):
    result, gt, whole = clip
    scores = Judge()._scores(METRICS, result, gt)
    assert list(scores) == list(METRICS)
    psnr = [calculate_metric({'img': tensor2img(one), 'img2': tensor2img(two)}, METRICS['psnr'])
            for one, two in zip(result, whole)]
    assert scores['psnr'] == pytest.approx(np.mean(psnr), abs=1e-12)
    for name, options in (('gmsd', {}), ('ssim', {'crop_border': 2}), ('tinyiqa', {})):
        frames = [score_frames(one[None], two[None], name, **options).item() for one, two in zip(result, whole)]
        assert scores[name] == pytest.approx(np.mean(frames), abs=1e-6)


def test_gt_is_read_once_however_many_metrics_compare_with_it(clip):
    result, gt, _ = clip
    Judge()._scores(METRICS, result, gt)
    assert gt.store.read == gt.keys


def test_gt_is_not_read_for_metrics_without_reference(clip):
    result, gt, _ = clip
    Judge()._scores({'tinyiqa': METRICS['tinyiqa']}, result, gt)
    assert gt.store.read == []
    assert set(Judge()._scores({'tinyiqa': METRICS['tinyiqa']}, result, None)) == {'tinyiqa'}


def test_a_metric_of_clips_sees_the_whole_clip(clip, monkeypatch):
    from basicsr_nriqa.iqa import random_weights
    result, gt, _ = clip
    metric = {'type': 'calculate_iqa', 'metric': 'mdtvsfa'}
    monkeypatch.setattr('basicsr_nriqa.metrics.iqa_metric._built', {})
    with random_weights():
        scores = Judge()._scores({'psnr': METRICS['psnr'], 'mdtvsfa': metric}, result, gt)
        assert scores['mdtvsfa'] == score_frames(result, None, 'mdtvsfa').item()
        assert scores['mdtvsfa'] != pytest.approx(score_frames(result[:1], None, 'mdtvsfa').item(), abs=1e-7)


@pytest.fixture
def report(tmp_path):
    """Writes the score file of a model after a test, or in training; returns its content."""
    def write(trained_with, is_train=False):
        checkpoint = tmp_path / 'net_g_4.pth'
        checkpoint.write_bytes(b'weights')
        model = BaseModel.__new__(type('Reporter', (ClipValidation, BaseModel), {}))
        model.device, model.is_train, model.trained_with = torch.device('cpu'), is_train, trained_with
        model.opt = {'val': {'metrics': METRICS}, 'network_g': {'type': 'VRT'},
                     'path': {'experiments_root': str(tmp_path), 'results_root': str(tmp_path),
                              'pretrain_network_g': str(checkpoint)}}
        model._report('REDS', METRICS, {'000': dict.fromkeys(METRICS, 0.5)}, 4, None)
        return read_scores(tmp_path / 'scores' / ('REDS_4.json' if is_train else 'REDS.json'))
    return write


def test_the_score_file_says_what_was_tested_and_with_what(report):
    scores = report({'loss': 'gmsd', 'optimised': ['gmsd', 'lpips'], 'iteration': 4})
    assert (scores['model'], scores['loss'], scores['dataset']) == ('VRT', 'gmsd', 'REDS')
    assert scores['videos'] == {'000': dict.fromkeys(METRICS, 0.5)}
    assert scores['lower_better'] == {'psnr': False, 'gmsd': True, 'ssim': False, 'tinyiqa': False}
    assert scores['optimised'] == ['gmsd']
    assert scores['checkpoint'].endswith('net_g_4.pth')
    assert scores['checkpoint_sha256'] == hashlib.sha256(b'weights').hexdigest()
    assert scores['device'] == 'cpu' and {'python', 'torch', 'pyiqa'} < set(scores['versions'])


def test_a_loss_is_optimised_under_the_framework_s_name_of_its_metric_too(report, monkeypatch):
    monkeypatch.setitem(METRICS, 'SSIM', {'type': 'calculate_ssim', 'crop_border': 0})
    assert report({'loss': 'ssim', 'optimised': ['ssim'], 'iteration': 4})['optimised'] == ['ssim', 'SSIM']


def test_what_a_foreign_checkpoint_was_trained_with_is_not_known(report):
    assert report({'loss': 'published', 'optimised': []})['optimised'] is None
    assert report({'loss': 'baseline', 'optimised': [], 'iteration': 4})['optimised'] == []


def test_in_training_the_weights_are_those_of_no_file(report):
    scores = report({'loss': 'gmsd', 'optimised': ['gmsd']}, is_train=True)
    assert scores['checkpoint'] is None and scores['checkpoint_sha256'] is None and scores['optimised'] == ['gmsd']
