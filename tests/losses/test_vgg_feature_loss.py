import hashlib

import pytest
import torch
from basicsr.losses import build_loss
from torch.nn import functional as F

from basicsr_nriqa.iqa import MetricError, random_weights
from basicsr_nriqa.iqa.weights import FOLDER_VARIABLE
from basicsr_nriqa.losses import VGGFeatureLoss, vgg_feature_loss

CHANNELS = (64, 64, 'pool', 128, 128, 'pool', 256, 256, 256, 'pool', 512, 512, 512, 'pool', 512, 512, 512, 'pool')


def _loss(seed=0, **options):
    with random_weights(seed):
        return build_loss({'type': 'VGGFeatureLoss', **options})


@pytest.fixture(scope='module')
def loss():
    return _loss(loss_weight=1)


def _features(state, images):
    """VGG-16 up to its last pooling, written out."""
    index = 0
    for layer in CHANNELS:
        if layer == 'pool':
            images, index = F.max_pool2d(images, 2), index + 1
        else:
            assert state[f'{index}.weight'].shape[0] == layer
            images = F.conv2d(images, state[f'{index}.weight'], state[f'{index}.bias'], padding=1).relu()
            index += 2
    return images


def test_value_is_the_mean_squared_difference_of_features(loss):
    frames, target = torch.rand(2, 2, 3, 2, 3, 40, 33).flatten(1, 2).unbind()
    state = loss.metric.network[1].state_dict()
    for one, other in ((frames, target), (frames[:, 0], target[:, 0])):
        expected = F.mse_loss(*(_features(state, clip.reshape(-1, 3, 40, 33)) for clip in (one, other)))
        torch.testing.assert_close(loss(one, other), expected, rtol=1e-4, atol=1e-7)
    assert loss(frames, frames).item() == 0
    assert _loss()(frames, target).item() == pytest.approx(0.006 * loss(frames, target).item(), rel=1e-5)


def test_normalisation_is_off_unless_asked_for(loss):
    image, target = torch.rand(2, 1, 3, 32, 32)
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    normalised = _loss(loss_weight=1, normalize=True)(image, target)
    torch.testing.assert_close(normalised, loss((image - mean) / std, (target - mean) / std), rtol=1e-4, atol=1e-7)
    assert normalised > loss(image, target)


def test_gradient_goes_to_the_output_alone_also_in_chunks(loss):
    output, target = torch.rand(2, 1, 3, 3, 32, 32).requires_grad_().unbind()
    whole, unwanted = torch.autograd.grad(loss(output, target), (output, target), allow_unused=True)
    assert whole.any() and unwanted is None
    parts, = torch.autograd.grad(_loss(loss_weight=1, chunk=2)(output, target), output)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-8)


def test_stays_frozen_and_in_float32(loss):
    loss.train().requires_grad_()
    assert not list(loss.parameters()) and not loss.state_dict() and not loss.metric.network.training
    with torch.autocast('cpu', torch.bfloat16):
        image = torch.rand(1, 3, 32, 32)
        assert loss(image, image / 2).dtype == torch.float32


def test_weights_are_torchvisions_file_and_missing_ones_are_an_error(tmp_path, monkeypatch, loss):
    file, = vgg_feature_loss.INFO.files
    assert file.name == 'vgg16-397923af.pth' and file.url.endswith('/vgg16-397923af.pth')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    with pytest.raises(MetricError, match=r'no such file or folder'):
        VGGFeatureLoss(weights=str(tmp_path / 'none.pth'))
    state = {f'features.{name}': value for name, value in loss.metric.network[1].state_dict().items()}
    torch.save({**state, 'classifier.0.weight': torch.zeros(2)}, tmp_path / 'own.pth')
    image, target = torch.rand(2, 1, 3, 32, 32)
    loaded = VGGFeatureLoss(1, weights=str(tmp_path / 'own.pth'))
    torch.testing.assert_close(loaded(image, target), loss(image, target))
    (tmp_path / file.name).write_bytes(b'x')
    digest = hashlib.sha256(b'x').hexdigest()[:8]
    with pytest.raises(MetricError, match=f'its sha256 starts with {digest}, expected 397923af'):
        VGGFeatureLoss(weights=str(tmp_path))


@pytest.mark.parametrize('options, message', [
    ({'normalize': 'yes'}, 'normalize must be true or false'),
    ({'loss_weight': -1}, 'would train for worse images'),
    ({'chunk': 0}, 'chunk must be a positive number'),
    ({'norm': True}, "'norm'"),
])
def test_bad_options(options, message):
    with pytest.raises(MetricError, match=message):
        VGGFeatureLoss.check(options)
    assert VGGFeatureLoss.check({'type': 'VGGFeatureLoss', 'loss_weight': 0.1}).min_size == 32


def test_too_small_frames_and_no_target_are_named(loss):
    with pytest.raises(MetricError, match='vgg16: images must be at least 32 px a side'):
        loss(torch.rand(1, 3, 31, 40), torch.rand(1, 3, 31, 40))
    with pytest.raises(MetricError, match='vgg16 compares with a reference'):
        loss(torch.rand(1, 3, 32, 40))
