"""What must hold of every metric of the catalogue, with random weights where trained ones would have to be fetched."""
import copy
import pickle
from functools import cache

import pytest
import torch
from basicsr.losses import build_loss
from torch import nn

from basicsr_nriqa.data.photographs import load_photograph
from basicsr_nriqa.iqa import CATALOGUE, TABLE_1, MetricError, create_metric, random_weights

# other backbones, and MANIQA, which takes seconds, with the slow tests
SLOW = ('lpips-vgg', 'nima-vgg16-ava', 'maniqa', 'clipiqa+', 'clipiqa+_vitL14_512')
# the same networks with other weights, which test_parity_with_pyiqa.py sees
VARIANTS = ('nima-koniq', 'nima-spaq', 'maniqa-pipal', 'maniqa-kadid', 'clipiqa+_rn50_512')
QUICK = [name for name in CATALOGUE if name not in SLOW + VARIANTS]
EVERY = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
CROPPED = ['hyperiqa', pytest.param('maniqa', marks=pytest.mark.slow)]
# pyiqa rounds the image to 8 bits and lets the gradient straight through, so only long steps see the slope
ROUNDING = ('niqe', 'ssim', 'ssimc', 'ms_ssim', 'cw_ssim', 'gmsd')
BIG = ['lpips', 'pieapp', 'dbcnn', 'nima', 'hyperiqa', 'clipiqa', 'mdtvsfa',
       *(pytest.param(name, marks=pytest.mark.slow) for name in ('maniqa', 'lpips-vgg', 'clipiqa+_vitL14_512'))]


@cache
def built(name, **options):
    with random_weights():
        return create_metric(name, **options)


def build(name, **options):
    """A metric of its own for a test that changes it; building the networks anew would take longer."""
    return copy.deepcopy(built(name, **options))


def _side(name):
    return max(64, CATALOGUE[name].min_size)


@cache
def _photograph():
    return torch.from_numpy(load_photograph('coffee.png').copy()).permute(2, 0, 1)[None].float() / 255


def images(name, count=2, side=None):
    """``count`` noisy pieces of a photograph and the pieces themselves; clips of one frame for clip metrics."""
    side = side or _side(name)
    pieces = torch.cat([_photograph()[..., 40 * i:40 * i + side, 100:100 + side] for i in range(count)])
    noisy = (pieces + 0.05 * torch.randn(pieces.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    return tuple(part.unsqueeze(1) if CATALOGUE[name].clip else part for part in (noisy, pieces))


def score_and_gradient(metric, distorted, reference):
    image = distorted.clone().requires_grad_()
    scores = metric(image, reference)
    gradient, = torch.autograd.grad(scores.sum(), image)
    return scores.detach(), gradient


@pytest.mark.parametrize('name', EVERY)
def test_scores_do_not_depend_on_the_batch_or_its_order(name):
    metric = built(name)
    distorted, reference = images(name)
    with torch.no_grad():
        both = metric(distorted, reference)
        swapped = metric(distorted.flip(0), reference.flip(0)).flip(0)
        each = torch.cat([metric(*pair) for pair in zip(distorted.split(1), reference.split(1))])
    assert both.shape == (2,) and both.dtype == torch.float32 and both.isfinite().all() and both[0] != both[1]
    torch.testing.assert_close(swapped, both, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(each, both, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', EVERY)
def test_gradient_is_that_of_finite_differences(name):
    metric = build(name).double()
    distorted, reference = (part.double() for part in images(name, 1))
    if name in ('vif', 'clipiqa+_vitL14_512'):
        pytest.skip("VIF's filters and the LayerNorm of CLIP are float32 whatever they are given")
    score, gradient = score_and_gradient(metric, distorted, reference)
    assert score.dtype == torch.float64 and gradient.isfinite().all()
    direction = gradient / gradient.norm()
    errors = []
    steps, tolerance = (1e-3, 1e-5, 1e-7), 2e-3  # a step of any one length may cross kinks or drown in rounding
    if name in ROUNDING:
        steps, tolerance = (1, 0.3, 0.1, 0.03), 0.4 if name == 'niqe' else 0.2
    for step in steps:
        with torch.no_grad():
            slope = (metric(distorted + step * direction, reference) - metric(distorted - step * direction, reference))
        errors.append(abs(slope.item() / (2 * step) / gradient.norm().item() - 1))
    assert min(errors) < tolerance, errors


@pytest.mark.parametrize('name', EVERY)
def test_gradient_can_be_taken_again_and_is_the_same(name):
    metric, pair = built(name), images(name, 1)
    first, second = (score_and_gradient(metric, *pair) for _ in range(2))
    assert torch.equal(first[0], second[0])
    torch.testing.assert_close(first[1], second[1], rtol=1e-4, atol=1e-6 * first[1].abs().max().item())


# sides that are seen, of those that are not seen whole; the classes' docstrings say so
SEEN = {'pieapp': lambda side: 64 + (side - 64) // 27 * 27, 'niqe': lambda side: side // 96 * 96,
        'gmsd': lambda side: side // 2 * 2, 'clipiqa+_vitL14_512': lambda side: side // 14 * 14,
        **dict.fromkeys(('clipiqa', 'clipiqa+', 'clipiqa+_rn50_512'), lambda side: side // 32 * 32)}


@pytest.mark.parametrize('name', EVERY)
def test_gradient_reaches_every_pixel_but_the_documented_ones(name):
    side = _side(name) + 37
    gradient = score_and_gradient(built(name), *images(name, 1, side))[1]
    reached = gradient.abs().flatten(0, -3).sum(0) > 0
    seen = SEEN.get(name, lambda side: side)(side)
    margin = 4 if 'clipiqa' in name else 0  # which the overlap of its convolutions reaches
    assert not reached[seen + margin:].any() and not reached[:, seen + margin:].any()
    assert seen == side or not reached[-1].any()
    assert reached[:seen, :seen].float().mean() > (0.97 if name in ('pieapp', 'niqe') else 0.999)


@pytest.mark.parametrize('name', EVERY)
def test_flat_saturated_and_out_of_range_images_have_finite_scores_and_gradients(name):
    metric, (noisy, piece) = built(name), images(name, 1)
    letterbox = noisy.clone()
    letterbox[..., :16, :] = 0
    letterbox[..., -16:, :] = 0
    halves = torch.ones_like(noisy)
    halves[..., :halves.shape[-1] // 2] = 0
    cases = {'flat': torch.full_like(noisy, 0.5), 'black': torch.zeros_like(noisy), 'white': torch.ones_like(noisy),
             'saturated': (noisy > 0.5).float(), 'out of range': 6 * noisy - 3, 'letterbox': letterbox,
             'halves': halves}
    for case, image in cases.items():
        for reference in [piece, image] if CATALOGUE[name].full_reference else [None]:
            score, gradient = score_and_gradient(metric, image, reference)
            assert score.isfinite().all() and gradient.isfinite().all(), case
    score, gradient = score_and_gradient(metric, letterbox, piece)
    assert gradient.any()


@pytest.mark.parametrize('name', EVERY)
def test_nothing_a_model_does_reaches_it(name):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.metric = build(name)

    model = Model()
    distorted, reference = images(name, 1)
    expected = model.metric(distorted, reference)
    model.train().requires_grad_(True)
    model.half().float().to('cpu')
    assert not any(module.training for module in model.metric.network.modules())
    assert set(model.state_dict()) == {'layer.weight', 'layer.bias'} and len(list(model.parameters())) == 2
    assert torch.equal(model.metric(distorted, reference), expected)
    image = distorted.clone().requires_grad_()
    model.metric(image, reference).sum().backward()
    assert image.grad is not None
    assert all(parameter.grad is None for parameter in model.metric.network.parameters())


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_changes_only_the_rounding_of_the_image(name, dtype):
    metric, (distorted, reference) = built(name), images(name, 1)
    rounded, reference = distorted.to(dtype), reference.to(dtype)
    with torch.autocast('cpu', dtype=dtype):
        score, gradient = score_and_gradient(metric, rounded, reference)
    assert score.dtype == torch.float32 and gradient.dtype == dtype and gradient.isfinite().all() and gradient.any()
    assert torch.equal(score, metric(rounded.float(), reference.float()))


@pytest.mark.parametrize('name', EVERY)
def test_copies_and_pickles_score_the_same(name):
    metric, pair = built(name), images(name, 1)
    with torch.no_grad():
        expected = metric(*pair)
        assert torch.equal(copy.deepcopy(metric)(*pair), expected)
        restored = pickle.loads(pickle.dumps(metric))
        assert torch.equal(restored(*pair), expected) and restored.info == metric.info


@pytest.mark.parametrize('name', EVERY)
def test_an_interrupted_call_leaves_nothing_behind(name):
    metric, pair = build(name), images(name, 1)
    expected = metric(*pair)
    calls, stop_at = 0, None

    def count(*_):
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise KeyboardInterrupt

    handles = [module.register_forward_hook(count) for module in metric.network.modules()]
    metric(*(part.flip(-1) for part in pair))
    stops = {max(1, calls // 3), calls}
    for place in stops if calls else ():  # PieAPP and NIQE call functions, no module in which to stop
        calls, stop_at = 0, place
        with pytest.raises(KeyboardInterrupt):
            metric(*(part.flip(-1) for part in pair))
    for handle in handles:
        handle.remove()
    assert torch.equal(metric(*pair), expected)


@pytest.mark.parametrize('name', EVERY)
def test_bad_images_are_refused_with_the_reason(name):
    metric, (distorted, reference) = built(name), images(name, 1)
    side = CATALOGUE[name].min_size
    for bad, message in [
            (distorted[..., :1, :, :], 'Repeat a grey image three times'),
            (torch.cat([distorted, distorted[..., :1, :, :]], -3), 'Leave the alpha channel out'),
            (distorted[0], r'expected \(n,'),
            (distorted.mul(255).byte(), r'floating-point numbers in \[0,1\]'),
            (distorted / 0, 'NaN or infinity')]:
        with pytest.raises(ValueError, match=f'{name.replace("+", ".")}.*{message}'):
            metric(bad, bad)
    if side > 1:
        with pytest.raises(ValueError, match=f'at least {side} px a side'):
            metric(distorted[..., :side - 1], reference[..., :side - 1])
    smallest = [part[..., :side, :side] for part in images(name, 1)]
    assert metric(*smallest).isfinite().all()
    if CATALOGUE[name].full_reference:
        for wrong in (None, reference[..., 1:]):
            with pytest.raises(ValueError, match=r'compares with a reference \(GT\)'):
                metric(distorted, wrong)


@pytest.mark.parametrize('name', CATALOGUE)
def test_sign_logic(name):
    info = CATALOGUE[name]
    right = 0.01 if info.lower_better else -0.01
    kind = {'type': 'IQALoss', 'metric': name}
    with random_weights():
        with pytest.raises(MetricError, match='would train for worse images'):
            build_loss({**kind, 'loss_weight': -right})
        if name not in QUICK:
            return
        loss = build_loss({**kind, 'loss_weight': right})
    distorted, reference = images(name, 1)
    distorted = distorted.unsqueeze(1) if not info.clip else distorted
    reference = reference.unsqueeze(1) if not info.clip else reference
    image = distorted.clone().requires_grad_()
    torch.manual_seed(0)
    before = loss(image, reference)
    before.backward()
    if info.best is not None:
        assert loss.deficit(before) >= -1e-3 or name in TABLE_1  # random weights keep to no range
    for step in (0.3, 0.03, 0.003, 3e-4):
        torch.manual_seed(0)
        with torch.no_grad():
            after = loss(distorted - step * image.grad / image.grad.norm(), reference)
        if after < before:
            break
    assert after < before  # descending improves: a lower score where lower is better, a higher one elsewhere
    assert ((after - before) / right < 0) == info.lower_better


@pytest.mark.parametrize('name', BIG)
def test_recomputing_changes_nothing(name):
    pair = images(name, 2)
    expected = score_and_gradient(built(name), *pair)
    kept, saved = [], []
    for metric, sizes in ((built(name), kept), (built(name, checkpoint=True), saved)):
        weights = {value.untyped_storage().data_ptr() for value in metric.network.state_dict().values()}

        def note(tensor, sizes=sizes, weights=weights):
            sizes.append(tensor.numel() if tensor.untyped_storage().data_ptr() not in weights else 0)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            metric(pair[0].clone().requires_grad_(), pair[1])
    found = score_and_gradient(built(name, checkpoint=True), *pair)
    torch.testing.assert_close(found[0], expected[0])
    if name == 'mdtvsfa':  # one frame at a time; for that the convolutions round otherwise, and ReLUs near zero flip
        assert (found[1] - expected[1]).norm() < 0.02 * expected[1].norm()
    else:
        torch.testing.assert_close(found[1], expected[1], rtol=1e-3, atol=1e-5 * expected[1].abs().max().item())
    assert sum(saved) < 0.8 * sum(kept)


@pytest.mark.parametrize('name', CROPPED)
def test_random_crops_follow_the_seed_and_reach_every_pixel(name):
    metric = built(name, num_crops=1)
    distorted = images(name, 1, side=240)[0]
    reached = torch.zeros(distorted.shape[-2:], dtype=torch.bool)
    places = set()
    for seed in range(8 if name == 'hyperiqa' else 3):
        gradients = []
        for _ in range(2):
            torch.manual_seed(seed)
            gradients.append(score_and_gradient(metric, distorted, None)[1][0].abs().sum(0) > 0)
        assert torch.equal(*gradients)
        rows, columns = (gradients[0].any(axis).nonzero().flatten() for axis in (1, 0))
        places.add((rows[0].item(), columns[0].item()))
        reached |= gradients[0]
    assert len(places) > 1
    if name == 'hyperiqa':
        assert reached.float().mean() > 0.98


@pytest.mark.parametrize('name', CROPPED)
def test_equal_crops_are_computed_once(name):
    metric = built(name)
    seen = []
    score = metric.score_crops
    for shape, places in [((64, 64), 1), ((64, 96), 5)]:
        metric.score_crops = lambda crops, counts: seen.append((len(crops), counts.tolist())) or counts[:1]
        metric.score(torch.rand(1, 3, *shape))
        del metric.score_crops
        assert seen[-1][0] == places and sum(seen[-1][1]) == metric.published_crops
    assert metric.score_crops == score


@pytest.mark.parametrize('fit, columns', [('center', 256), ('tiles', 448), ('whole', 448)])
def test_nima_sees_the_middle_or_all(fit, columns):
    metric = built('nima', fit=fit)
    distorted = torch.rand(1, 3, 128, 224)
    gradient = score_and_gradient(metric, distorted, None)[1]
    seen = (gradient.abs().sum((0, 1, 2)) > 0).sum().item()
    assert abs(seen - columns / 2) <= 4
    square = torch.rand(1, 3, 96, 96)
    torch.testing.assert_close(metric(square), built('nima')(square), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('name, options, message', [
    ('hyperiqa', {'num_crops': 0}, 'num_crops must be a positive whole number'),
    ('hyperiqa', {'crops': 'center'}, 'crops must be one of random, uniform'),
    ('nima-vgg16-ava', {'checkpoint': True}, 'cannot recompute its features'),
    ('nima', {'fit': 'squash'}, 'fit must be one of center, tiles, whole'),
    ('mdtvsfa', {'score': 'raw'}, 'score must be mapped or relative'),
    ('mdtvsfa', {'chunk': 0}, 'chunk must be a positive whole number')])
def test_bad_options_are_refused(name, options, message):
    with random_weights(), pytest.raises(MetricError, match=message):
        create_metric(name, **options)
