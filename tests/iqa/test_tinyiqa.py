import pytest
import torch

from basicsr_nriqa.data.photographs import load_photograph
from basicsr_nriqa.iqa import tinyiqa
from basicsr_nriqa.iqa.distortions import DISTORTIONS
from basicsr_nriqa.iqa.tinyiqa import TinyIQA, load_tinyiqa
from basicsr_nriqa.iqa.tinyiqa_training import held_out_correlations, to_tensor, train, weights_file


@pytest.fixture(scope='module')
def network():
    return load_tinyiqa()


@pytest.fixture(scope='module')
def photograph():
    return to_tensor([load_photograph('chelsea.png')[60:189, 100:220]])


def test_held_out_photographs(network):
    correlations = held_out_correlations(network)
    assert set(correlations) == set(DISTORTIONS) >= {'blur', 'noise', 'jpeg', 'upscaling', 'ringing', 'banding', 'dots'}
    assert min(correlations.values()) >= 0.9, correlations


def test_small_file_and_fixed_scores(network):
    assert tinyiqa.WEIGHTS_PATH.stat().st_size < 2**20
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing='ij')
    image = 0.5 + 0.3 * torch.stack([torch.sin(0.2 * x * (c + 1) + 0.1 * y) * torch.cos(0.15 * y) for c in range(3)])
    torch.testing.assert_close(network(image[None]), torch.tensor([0.031209]), atol=2e-4, rtol=0)


@pytest.mark.parametrize('image', [
    torch.zeros(1, 3, 32, 40), torch.ones(1, 3, 33, 47), torch.full((1, 3, 32, 32), 0.5),
    torch.rand(1, 3, 37, 32) * 4 - 2, (torch.rand(1, 3, 64, 64) > 0.5).float(), torch.full((1, 3, 32, 32), -100.0)],
    ids=['black', 'white', 'grey', 'out of range', 'saturated', 'far out of range'])
def test_gradients_are_finite(network, image):
    image = image.clone().requires_grad_()
    score = network(image)
    score.sum().backward()
    assert 0 <= score.item() <= 1 and image.grad.isfinite().all()


def test_gradient_reaches_every_pixel(network, photograph):
    image = photograph.clone().requires_grad_()
    network(image).sum().backward()
    assert (image.grad.abs().sum(1) > 0).all()


def test_depends_on_the_image_alone(network, photograph):
    batch = torch.cat([photograph, torch.rand_like(photograph)])
    assert network(batch)[0].item() == pytest.approx(network(photograph).item(), abs=1e-5)
    trained = network.train()(photograph)
    assert trained == network.eval()(photograph)


def test_bad_input(network):
    with pytest.raises(ValueError, match='expected at least 32 px a side'):
        network(torch.rand(1, 3, 31, 64))
    with pytest.raises(ValueError, match=r'expected \(n, 3, h, w\)'):
        network(torch.rand(1, 1, 64, 64))


def test_damaged_weights_are_refused(monkeypatch, tmp_path):
    damaged = tmp_path / 'tinyiqa.pth'
    monkeypatch.setattr(tinyiqa, 'WEIGHTS_PATH', damaged)
    with pytest.raises(FileNotFoundError, match='weights of tinyiqa are missing'):
        load_tinyiqa()
    damaged.write_bytes(b'not the released file')
    with pytest.raises(ValueError, match='sha256'):
        load_tinyiqa()


def test_training_is_reproducible_and_learns():
    networks = [train(series=44, adversaries=2, seed=1, steps=60) for _ in range(2)]
    assert weights_file(networks[0]) == weights_file(networks[1])
    correlations = held_out_correlations(networks[0], crop=64, distortions={'noise': DISTORTIONS['noise']})
    assert correlations['noise'] > 0.5
    assert not TinyIQA().state_dict().keys() ^ networks[0].state_dict().keys()
