"""Our metrics against pyiqa's own with the same random weights, which reach ours through files as published ones do."""
import sys

import pytest
import torch
from conftest import ROOT

from basicsr_nriqa.iqa import CATALOGUE, MetricError, create_metric

sys.path.insert(0, str(ROOT / 'benchmarks'))
from naive_pyiqa import naive_metric, published_states, same_weights, unverified

QUICK = ('lpips', 'pieapp', 'dbcnn', 'nima', 'paq2piq', 'hyperiqa', 'clipiqa', 'clipiqa+')
SLOW = ('lpips-vgg', 'nima-koniq', 'nima-spaq', 'nima-vgg16-ava', 'maniqa', 'maniqa-pipal', 'maniqa-kadid',
        'clipiqa+_rn50_512', 'clipiqa+_vitL14_512')
NAMES = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def _passes(naive, ours, size):
    distorted = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    inputs = [distorted, distorted.flip(3).roll(3, 2)][:1 + ours.info.full_reference]
    naive.loss_reduction = 'none'
    found = []
    for metric in (naive, ours):
        image = distorted.clone().requires_grad_()
        scores = metric(image, *inputs[1:]).flatten()
        found.append((scores.detach(), torch.autograd.grad(scores.sum(), image)[0].flatten()))
    return found


@pytest.mark.parametrize('name', NAMES)
def test_values_and_gradients_are_pyiqas(name):
    naive = naive_metric(name)
    ours = same_weights(name, naive)
    if name.startswith('maniqa'):
        naive.net.test_sample = 1  # at this size all 20 are at the same place, and would take minutes and 20 GB
        naive_batch = naive.net.forward
        naive.net.forward = lambda images: torch.cat([naive_batch(image) for image in images.split(1)])
    if name == 'hyperiqa':
        naive.net.num_crop = 1
    (theirs, their_gradient), (scores, gradient) = _passes(naive, ours, (72, 72) if name != 'pieapp' else (96, 120))
    torch.testing.assert_close(scores, theirs, rtol=1e-4, atol=1e-6)
    assert torch.nn.functional.cosine_similarity(gradient, their_gradient, dim=0) > 0.999


@pytest.mark.slow
@pytest.mark.parametrize('name, crops, size', [('hyperiqa', 25, (240, 232)), ('maniqa', 4, (240, 232))])
def test_different_crops_are_pyiqas(name, crops, size):
    """pyiqa's whole grid of crops, and for MANIQA, of which 20 crops take 20 GB, the grid of four."""
    naive = naive_metric(name)
    ours = same_weights(name, naive, num_crops=crops, crops='uniform')
    naive.net.num_crop = naive.net.test_sample = crops
    image = torch.rand(1, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), naive.net(image).flatten(), rtol=1e-4, atol=1e-6)


def test_random_weights_give_the_scores_of_pyiqas_constructors():
    """What the benchmarks lean on: the two sides draw the same weights only through files, not through the seed."""
    naive = naive_metric('paq2piq')
    ours = same_weights('paq2piq', naive)
    other = same_weights('paq2piq', naive_metric('paq2piq', seed=1))
    image = torch.rand(1, 3, 64, 64)
    assert ours(image) == pytest.approx(naive.net(image).item(), rel=1e-4)
    assert other(image) != pytest.approx(ours(image).item(), rel=1e-3)


@pytest.mark.parametrize('name', ['lpips', 'paq2piq', 'clipiqa+_rn50_512'])
def test_both_formats_of_the_files_are_read(name, tmp_path):
    naive = naive_metric(name)
    states = published_states(naive, name)
    image = torch.rand(1, 3, 64, 64)
    scores = []
    for wrap in (lambda state: state.get('params', state), lambda state: {'params': state.get('params', state)},
                 lambda state: {f'module.{key}': value for key, value in state.get('params', state).items()}):
        for file, state in zip(CATALOGUE[name].files, states):
            torch.save(wrap(state), tmp_path / file.name)
        with unverified():
            metric = create_metric(name, weights=str(tmp_path))
        scores.append(metric(image, image.flip(3)).item())
    assert scores[0] == scores[1] == scores[2]
    torch.save({'params': {'head.0.weight': torch.zeros(1)}}, tmp_path / CATALOGUE[name].files[0].name)
    with unverified(), pytest.raises(MetricError, match=CATALOGUE[name].files[0].name.replace('+', '.')):
        create_metric(name, weights=str(tmp_path))
