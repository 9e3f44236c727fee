import copy
import json
import math
import pickle
import runpy

import pytest
import torch
from archs.fill import clip, fill
from torch import nn
from torchvision.models import resnet50
from torchvision.transforms.functional import normalize

from basicsr_nriqa.iqa import MetricError
from basicsr_nriqa.iqa.mdtvsfa import DATASETS, MDTVSFA, MDTVSFAHead, ResNet50Features, temporal_pooling
from basicsr_nriqa.iqa.weights import load_weights

IMAGENET = {'mean': [0.485, 0.456, 0.406], 'std': [0.229, 0.224, 0.225]}
RECORDED = {  # of two clips of 15 frames
    'relative': [0.3931293, 0.3836043], 'mapped': [0.0055070, 0.0055915], 'K': [-0.0307307, -0.0308397],
    'C': [0.0111790, 0.0111726], 'L': [0.0084177, 0.0082958], 'N': [-0.0208356, -0.0208820]}


@pytest.fixture(scope='module')
def network():
    """The metric with random weights; its batch norms have seen noise, without which the features would explode."""
    torch.manual_seed(0)
    network = MDTVSFA().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1
    network(torch.rand(2, 3, 3, 64, 64))
    return network.eval()


@pytest.fixture(scope='module')
def double_network(network):
    return copy.deepcopy(network).double()


@pytest.fixture(scope='module')
def released_head(shared):
    head = MDTVSFAHead().eval().requires_grad_(False)
    path = shared / 'data' / 'MDTVSFA' / 'models' / 'MDTVSFA.pt'
    head.load_state_dict(torch.load(path, map_location='cpu', weights_only=True))
    return head


@pytest.fixture(scope='module')
def released(network, released_head):
    """The metric with random features and the released head."""
    released = MDTVSFA().eval()
    released.features, released.head = network.features, released_head
    return released


def _gradient(network, clips, **options):
    clips = clips.clone().requires_grad_()
    scores = network(clips, **options)
    return scores.detach(), torch.autograd.grad(scores.sum(), clips)[0]


def test_head_equals_the_published_one(shared, released_head):
    recorded = json.loads((shared / 'parity' / 'mdtvsfa_head_7.json').read_text())
    features = 2 * clip(1, 1, 1, 7, 4096)[:, 0, 0]
    published_rule = runpy.run_path(str(shared / 'parity' / 'fill.py'))['clip']
    assert torch.equal(features, 2 * published_rule(1, 1, 1, 7, 4096)[:, 0, 0])
    relative, mapped = released_head(features)
    assert relative.item() == pytest.approx(recorded['relative'], abs=1e-5)
    assert mapped.item() == pytest.approx(recorded['mapped'], abs=1e-5)
    assert released_head.aligned(mapped, 'K').item() == pytest.approx(recorded['aligned_K'], abs=1e-5)


@torch.no_grad()
def test_recorded_head():
    head = fill(MDTVSFAHead())
    relative, mapped = head(3 * clip(2, 15, 1, 1, 4096)[:, :, 0, 0])
    scores = {'relative': relative, 'mapped': mapped, **{name: head.aligned(mapped, name) for name in DATASETS}}
    assert scores.keys() == RECORDED.keys()
    for name, values in RECORDED.items():
        torch.testing.assert_close(scores[name], torch.tensor(values), rtol=1e-4, atol=0)


@torch.no_grad()
def test_memory_is_the_grus():
    head, features = MDTVSFAHead(), torch.randn(3, 9, 128)
    torch.testing.assert_close(head._remember(features), head.feature_aggregation(features)[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_equal_on_the_gpu_in_eval_mode(double_network):
    clips = clip(2, 3, 3, 40, 48).double()
    scores, gradient = _gradient(double_network, clips)
    gpu_scores, gpu_gradient = _gradient(copy.deepcopy(double_network).cuda(), clips.cuda(), chunk=4)
    torch.testing.assert_close(gpu_scores.cpu(), scores)
    assert (gpu_gradient.cpu() - gradient).norm() < 1e-6 * gradient.norm()


def _pooled(quality, tau, beta):
    """The definition, for one clip given as a list."""
    frames = []
    for now in range(len(quality)):
        coming = quality[now:now + tau]
        weights = [math.exp(min(coming) - value) for value in coming]
        softmin = sum(weight * value for weight, value in zip(weights, coming, strict=True)) / sum(weights)
        frames.append(beta * min(quality[max(0, now - tau + 1):now + 1]) + (1 - beta) * softmin)
    return sum(frames) / len(frames)


@pytest.mark.parametrize('options', [{}, {'tau': 1}, {'tau': 5, 'beta': 0.2}], ids=str)
def test_pooling_equals_its_definition(options):
    for t in range(1, 31):
        quality = 2 * torch.randn(2, t, dtype=torch.float64)
        expected = [_pooled(clip, **{'tau': 12, 'beta': 0.5, **options}) for clip in quality.tolist()]
        assert temporal_pooling(quality, **options).tolist() == pytest.approx(expected, rel=1e-12)


def test_pooling_of_one_frame_and_of_equal_frames_is_their_quality():
    quality = torch.randn(4, 1)
    assert torch.equal(temporal_pooling(quality), quality[:, 0])
    torch.testing.assert_close(temporal_pooling(quality.expand(4, 20)), quality[:, 0])


def test_pooling_is_lower_for_longer_clips():
    for t, expected in ((1, 0), (7, -0.70), (30, -1.10), (300, -1.22)):
        assert temporal_pooling(torch.randn(5000, t)).mean().item() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize('t', [1, 4, 15])
def test_pooling_gradient(t):
    assert torch.autograd.gradcheck(temporal_pooling, torch.randn(2, t, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize('size', [1e3, 1e30])
def test_pooling_of_large_qualities(size):
    quality = (size * torch.randn(3, 20)).requires_grad_()
    pooled = temporal_pooling(quality)
    gradient, = torch.autograd.grad(pooled.sum(), quality)
    assert (quality.amin(1) <= pooled).all() and (pooled < quality.mean(1)).all() and gradient.isfinite().all()


def test_features_are_resnet50s():
    resnet, features, seen = resnet50(weights=None).eval(), ResNet50Features().eval(), []
    load_weights(features.network, resnet.state_dict(), 'file', ignore=('fc.',))
    resnet.layer4.register_forward_hook(lambda module, inputs, output: seen.append(output))
    frames = clip(1, 2, 3, 64, 72)[0]
    with torch.no_grad():
        resnet(normalize(frames, **IMAGENET))
        found = features(frames)
    expected = torch.cat([seen[0].mean((2, 3)), seen[0].std((2, 3))], 1)
    assert found.shape == (2, 4096)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    state_dict = resnet.state_dict()
    with pytest.raises(MetricError, match=r'(?s)file: .*Unexpected.*gate'):
        load_weights(features.network, {**state_dict, 'gate': torch.ones(1)}, 'file', ignore=('fc.',))
    del state_dict['layer4.2.conv3.weight']
    with pytest.raises(MetricError, match=r'(?s)Missing.*layer4\.2\.conv3\.weight'):
        load_weights(features.network, state_dict, 'file', ignore=('fc.',))


def test_flat_features_have_no_gradient_from_their_deviation():
    features = ResNet50Features()
    features.network = nn.Identity()
    frames = torch.rand(2, 3, 33, 40)
    frames[0] = 0.5
    frames.requires_grad_()
    described = features(frames)
    normalised = normalize(frames, **IMAGENET)
    torch.testing.assert_close(described[1, 3:], normalised[1].flatten(1).std(1))
    assert (described[0, 3:] < 1e-6).all()
    gradient, = torch.autograd.grad(described[:, 3:].sum(), frames)
    assert not gradient[0].any() and gradient[1].any() and gradient.isfinite().all()


@pytest.mark.parametrize('value', [0, 0.5, 1])
def test_gradient_of_flat_clips_is_finite(network, value):
    score, gradient = _gradient(network, torch.full((1, 2, 3, 40, 48), float(value)))
    assert score.isfinite() and gradient.isfinite().all() and gradient.any()


def test_smallest_frames(network):
    score, gradient = _gradient(network, clip(1, 1, 3, 33, 33))
    assert score.isfinite() and gradient.isfinite().all()
    with pytest.raises(ValueError, match='at least 33 px a side, got 32x40'):
        network(clip(1, 1, 3, 40, 32))


@pytest.mark.parametrize('score', ['mapped', 'relative'])
def test_a_clip_does_not_depend_on_the_batch(network, score):
    clips = clip(2, 3, 3, 40, 48)
    alone = torch.cat([network(one[None], score) for one in clips])
    assert alone[0] != alone[1]
    torch.testing.assert_close(network(clips, score), alone, rtol=0, atol=1e-6)


def test_scores_are_the_heads(network):
    clips = clip(1, 2, 3, 40, 48)
    relative, mapped = network.head(network.features(clips[0])[None])
    assert network(clips) == network(clips, 'mapped') == mapped != relative
    assert network(clips, 'relative') == relative


@pytest.mark.parametrize('chunk', [1, 4, 100])
def test_chunks_change_nothing_but_memory(double_network, chunk):
    network, clips = double_network, clip(2, 3, 3, 40, 48).double()
    scores, gradient = _gradient(network, clips)
    sizes = []
    counting = network.features.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    chunked_scores, chunked_gradient = _gradient(network, clips, chunk=chunk)
    assert sum(sizes) == 2 * 6 and max(sizes) == min(chunk, 6)  # forward, and again in the backward pass
    sizes.clear()
    with torch.no_grad():
        network(clips, chunk=chunk)
    counting.remove()
    assert sum(sizes) == 6
    torch.testing.assert_close(chunked_scores, scores)
    assert (chunked_gradient - gradient).norm() < 1e-8 * gradient.norm()


@pytest.mark.parametrize('name', ['network', 'released'])
def test_gradient_reaches_every_pixel_and_raises_the_score(request, name):
    network, clips = request.getfixturevalue(name), clip(1, 3, 3, 40, 48)
    before, gradient = _gradient(network, clips, score='relative')
    assert gradient.isfinite().all() and (gradient.abs().sum(2) > 0).all()
    step = 1e-3 / gradient.square().sum() * gradient
    rise = network(clips + step, score='relative') - before
    assert rise.item() == pytest.approx(1e-3, rel=0.2)


def test_gradient_in_float64(double_network):
    clips = clip(1, 2, 3, 36, 33).double()
    _, gradient = _gradient(double_network, clips)
    direction = torch.randn_like(clips)
    step = 1e-8 * direction
    slope = (double_network(clips + step) - double_network(clips - step)) / 2e-8
    assert slope.dtype == torch.float64
    assert slope.item() == pytest.approx((gradient * direction).sum().item(), rel=1e-4)


def test_copies_score_alike(network):
    clips = clip(1, 2, 3, 40, 48)
    for copied in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(copied(clips), network(clips))


def test_bad_input(network):
    with pytest.raises(ValueError, match=r'\(n,t,3,h,w\), got \(2, 3, 40, 40\)'):
        network(torch.rand(2, 3, 40, 40))
    with pytest.raises(ValueError, match=r'\(n,t,3,h,w\), got \(1, 2, 1, 40, 40\)'):
        network(torch.rand(1, 2, 1, 40, 40))
    with pytest.raises(ValueError, match="'mapped' or 'relative', got 'K'"):
        network(torch.rand(1, 2, 3, 40, 40), score='K')
    with pytest.raises(ValueError, match="one of K, C, L, N, got 'X'"):
        network.head.aligned(torch.zeros(1), 'X')
