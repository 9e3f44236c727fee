import numpy as np
import pyiqa
import pytest
import torch
from basicsr.metrics import calculate_metric

from basicsr_nriqa.data.photographs import load_photograph
from basicsr_nriqa.iqa import CATALOGUE, create_metric
from basicsr_nriqa.metrics import score_frames

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
