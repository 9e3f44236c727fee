import sys

import numpy as np
import pyiqa
import pytest
import torch
from basicsr.metrics import calculate_metric
from conftest import ROOT

from basicsr_nriqa.data.photographs import load_photograph
from basicsr_nriqa.iqa import CATALOGUE, MetricError, create_metric, random_weights
from basicsr_nriqa.metrics import calculate_iqa, score_frames

sys.path.insert(0, str(ROOT / 'benchmarks'))
from naive_pyiqa import naive_metric, published_states, unverified

WEIGHT_FREE = ['psnr', 'psnry', 'ssim', 'ssimc', 'ms_ssim', 'cw_ssim', 'gmsd', 'vsi', 'fsim', 'nlpd', 'vif']


@pytest.fixture(scope='module')
def pair():
    """A photograph and a noisy copy, (192,208,3) uint8 BGR."""
    image = load_photograph('coffee.png')[100:292, 200:408, ::-1].copy()
    noise = np.random.default_rng(0).normal(0, 12, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), image


def _tensor(image):
    return torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize('name', WEIGHT_FREE)
def test_equals_pyiqas_own_inference(name, pair):
    distorted, reference = pair
    ours = calculate_metric({'img': distorted, 'img2': reference},
                            {'type': 'calculate_iqa', 'metric': name, 'better': 'higher'})
    theirs = pyiqa.create_metric(name, device='cpu')(_tensor(distorted), _tensor(reference)).item()
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert isinstance(ours, float)


@pytest.mark.parametrize('name', [*WEIGHT_FREE, 'tinyiqa'])
def test_direction_range_and_gradient(name, pair):
    distorted, reference = (_tensor(image) for image in pair)
    metric, info = create_metric(name), CATALOGUE[name]
    image = distorted.clone().requires_grad_()
    worse = metric(image, reference)
    better = metric(0.9 * reference + 0.1 * distorted, reference)
    assert (better < worse) == info.lower_better
    gradient, = torch.autograd.grad(worse.sum(), image)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0
    low, high = info.score_range
    assert low - 1e-3 <= worse.item() <= high * 1.001


@pytest.mark.parametrize('name', [*WEIGHT_FREE, 'tinyiqa'])
def test_smallest_size(name):
    metric, side = create_metric(name), CATALOGUE[name].min_size
    image = torch.rand(2, 3, side, side)
    scores = metric(image, image.flip(-1))
    assert scores.shape == (2,) and scores.isfinite().all()
    if side > 1:
        with pytest.raises(ValueError, match=f'{name}: images must be at least {side} px'):
            metric(image[..., 1:], image[..., 1:])


def test_the_batched_path_gives_the_same_numbers(pair):
    frames = torch.cat([_tensor(image) for image in pair] * 2)
    reference = _tensor(pair[1]).expand_as(frames)
    for name in ('tinyiqa', 'gmsd'):
        one = [calculate_metric({'img': image, 'img2': pair[1]},
                                {'type': 'calculate_iqa', 'metric': name, 'crop_border': 4}) for image in pair]
        batched = score_frames(frames, reference, name, crop_border=4, batch=3)
        np.testing.assert_allclose(batched.numpy(), one * 2, rtol=1e-5)


def test_no_reference_metrics_ignore_the_reference(pair):
    with_reference = calculate_metric({'img': pair[0], 'img2': pair[1]}, {'type': 'calculate_iqa', 'metric': 'tinyiqa'})
    assert with_reference == calculate_metric({'img': pair[0]}, {'type': 'calculate_iqa', 'metric': 'tinyiqa'})


def test_no_graph_is_built_and_networks_are_kept(pair):
    from basicsr_nriqa.metrics.iqa_metric import cached_metric
    first = cached_metric('tinyiqa', torch.device('cpu'))
    assert cached_metric('tinyiqa', torch.device('cpu')) is first
    frames = _tensor(pair[0]).requires_grad_()
    assert not score_frames(frames, None, 'tinyiqa').requires_grad


@pytest.mark.parametrize('name', ['paq2piq', 'hyperiqa'])
def test_deep_metrics_measure_as_pyiqa_does(name, pair, tmp_path):
    """Frame by frame, in batches and by pyiqa, with the same random weights."""
    naive = naive_metric(name)
    naive.net.num_crop = 1  # at this size all 25 are the same
    for file, state in zip(CATALOGUE[name].files, published_states(naive, name)):
        torch.save(state, tmp_path / file.name)
    frames = torch.cat([_tensor(image) for image in pair])[..., :72, :72]
    with unverified(), torch.no_grad():
        expected = [naive.net(frame).item() for frame in frames.split(1)]
        options = {'type': 'calculate_iqa', 'metric': name, 'weights': str(tmp_path)}
        each = [calculate_metric({'img': np.ascontiguousarray(image[:72, :72])}, options) for image in pair]
        batched = score_frames(frames, None, name, batch=2, weights=str(tmp_path))
    np.testing.assert_allclose(each, expected, rtol=1e-4)
    np.testing.assert_allclose(batched.numpy(), expected, rtol=1e-4)


def test_clip_metrics_give_one_score_a_clip():
    frames = torch.rand(3, 3, 40, 40)
    with random_weights():
        score = score_frames(frames, None, 'mdtvsfa', score='relative')
        network = create_metric('mdtvsfa', score='relative')
    assert score.shape == (1,) and score.item() == pytest.approx(network(frames.unsqueeze(0)).item(), rel=1e-5)


def test_bad_images_and_options():
    image = np.zeros((64, 64, 3), np.uint8)
    for bad in (image[..., 0], np.zeros((64, 64, 4), np.uint8), image / 255.):
        with pytest.raises(ValueError, match=r'tinyiqa: img: expected \(h,w,3\) uint8, BGR'):
            calculate_metric({'img': bad}, {'type': 'calculate_iqa', 'metric': 'tinyiqa'})
    with pytest.raises(ValueError, match='ssim compares with a reference'):
        calculate_metric({'img': image}, {'type': 'calculate_iqa', 'metric': 'ssim'})
    with pytest.raises(MetricError, match=r"no option 'batches'.*'batch'"):
        calculate_iqa.check({'metric': 'tinyiqa', 'batches': 2})
    with pytest.raises(MetricError, match=r'img: expected an array .* that it can read, got NoneType'):
        calculate_iqa(None, metric='tinyiqa')  # cv2.imread of a file that is not there
    with pytest.raises(MetricError, match='metric: expected a name, such as maniqa'):
        calculate_iqa(image)


@pytest.mark.parametrize('options, words', [
    ({'crop_border': -4}, 'crop_border must be a whole number of px, 0 or more, got -4'),
    ({'crop_border': '4'}, "crop_border must be .* got '4'"), ({'crop_border': True}, 'crop_border .* got True'),
    ({'batch': 0}, 'batch must be a whole number of frames, 1 or more, got 0'),
    ({'device': 'gpu'}, "device must be one that PyTorch can use here, such as cpu or cuda:0, got 'gpu'")])
def test_options_are_checked_before_anything_is_built(options, words):
    with pytest.raises(MetricError, match=words):
        calculate_iqa.check({'metric': 'tinyiqa', **options})


def test_a_border_must_leave_something():
    frames = torch.rand(2, 3, 40, 64)
    assert score_frames(frames, None, 'tinyiqa', crop_border=4).shape == (2,)
    with pytest.raises(MetricError, match='crop_border 20 leaves nothing of 64x40 px'):
        score_frames(frames, None, 'tinyiqa', crop_border=20)
