"""IQALoss with random transforms, purification, smoothed gradients and the gradient penalty."""
import pytest
import torch
from basicsr.losses import build_loss
from hypothesis import given, settings
from hypothesis import strategies as st

from basicsr_nriqa.iqa import MetricError, create_metric, random_weights
from basicsr_nriqa.losses import IQALoss, LPIPSLoss
from basicsr_nriqa.losses.image_operations import blur, resize

EVERYTHING = {'transforms': True, 'draws': 2, 'purify': {'blur': 0.5}, 'smooth_gradient': 1, 'gradient_penalty': 0.1}


def _loss(metric='tinyiqa', weight=-0.5, **options):
    return build_loss({'type': 'IQALoss', 'metric': metric, 'loss_weight': weight, **options})


def _value_and_gradient(loss, output, target=None, seed=0):
    torch.manual_seed(seed)
    leaf = output.detach().clone().requires_grad_()
    value = loss(leaf, target)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


@pytest.fixture(scope='module')
def mdtvsfa():
    with random_weights():
        return build_loss({'type': 'MDTVSFALoss', 'loss_weight': -1, **EVERYTHING})


@given(off=st.fixed_dictionaries({}, optional={
    'transforms': st.sampled_from([None, False, {}, {'shift': 0, 'flip': False}, {'jpeg': 0, 'noise': 0.0}]),
    'purify': st.sampled_from([None, [], {}, {'blur': 0}, [{'resize': 1}]]), 'draws': st.just(1),
    'smooth_gradient': st.just(0), 'gradient_penalty': st.just(0)}),
    frames=st.sampled_from(['all', 2]), chunk=st.sampled_from([None, 2]), metric=st.sampled_from(['tinyiqa', 'gmsd']))
@settings(max_examples=25, deadline=None)
def test_what_is_off_is_the_plain_loss_bit_for_bit(off, frames, chunk, metric):
    weight = 0.5 if metric == 'gmsd' else -0.5
    clip, target = torch.rand(2, 1, 3, 3, 32, 36).unbind()
    plain, same = (_loss(metric, weight, frames=frames, chunk=chunk, **more) for more in ({}, off))
    for found, expected in zip(_value_and_gradient(same, clip, target), _value_and_gradient(plain, clip, target)):
        assert torch.equal(found, expected)


@pytest.mark.parametrize('options', [
    {}, {'chunk': 2}, {'frames': 2}, {'frames': 2, 'chunk': 1},
    {'transforms': {'rotate': True, 'blur': 1, 'jpeg': 50}}])
def test_everything_together_follows_the_seed(options):
    clip = torch.rand(1, 3, 3, 48, 40)
    loss = _loss(**{**EVERYTHING, **options})
    first, again, other = (_value_and_gradient(loss, clip, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert first[0] != other[0] and not torch.equal(first[1], other[1])
    assert first[1].isfinite().all() and first[1].any()
    assert (first[1].flatten(2).abs().sum(2) > 0).sum() == (2 if 'frames' in options else 3)


def test_chunks_see_the_same_transformation():
    clip = torch.rand(2, 2, 3, 48, 40)
    expected, found = (_value_and_gradient(_loss(chunk=chunk, **EVERYTHING), clip) for chunk in (None, 3))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_draws_are_averaged():
    clip = torch.rand(1, 2, 3, 40, 48)
    one, three = (_loss(transforms={'colour': 0.3, 'flip': True}, draws=draws) for draws in (1, 3))
    torch.manual_seed(2)
    each = [one(clip).item() for _ in range(3)]
    torch.manual_seed(2)
    assert three(clip).item() == pytest.approx(sum(each) / 3, rel=1e-5)
    assert len(set(each)) == 3


class _Held:
    """A tensor that is kept for a backward pass; knows how much all that are alive hold together."""

    alive = peak = 0

    def __init__(self, tensor):
        self.tensor = tensor
        _Held.alive += tensor.numel()
        _Held.peak = max(_Held.peak, _Held.alive)

    def __del__(self):
        _Held.alive -= self.tensor.numel()


def _memory(loss):
    """The most that is kept during the forward pass, and what is kept after it, in numbers."""
    _Held.alive = _Held.peak = 0
    with torch.autograd.graph.saved_tensors_hooks(_Held, lambda held: held.tensor):
        value = loss(torch.rand(4, 3, 48, 48, requires_grad=True))
    assert value.requires_grad
    return _Held.peak, _Held.alive


def test_draws_take_the_memory_of_one():
    one, kept = _memory(_loss(transforms=True))
    assert kept > 0.9 * one > 20 * 4 * 3 * 48 * 48
    several, kept = _memory(_loss(transforms=True, draws=3, gradient_penalty=0.1))
    assert several < 1.1 * one and kept == 4 * 3 * 48 * 48


def test_target_goes_through_the_same_transformation_and_purification():
    clip = torch.rand(1, 2, 3, 48, 40)
    transforms = {'shift': 3, 'scale': 0.2, 'flip': True, 'rotate': True, 'colour': 0.1, 'blur': 1, 'jpeg': 50}
    options = {'transforms': transforms, 'purify': [{'resize': 0.7}, {'blur': 1}]}
    assert _loss('ssim', -1, **options)(clip, clip).item() == pytest.approx(-1, abs=1e-5)
    assert _loss('ssim', -1, transforms={'noise': 0.1})(clip, clip).item() > -0.999  # of the output alone
    other = torch.rand(1, 2, 3, 48, 40).requires_grad_()
    value, gradient = _value_and_gradient(_loss('ssim', -1, **EVERYTHING), clip, other)
    assert value.isfinite() and gradient.any() and other.grad is None


def test_the_metric_sees_the_purified_output():
    clip, metric = torch.rand(1, 2, 3, 80, 70), create_metric('tinyiqa')
    expected = -0.5 * metric(resize(blur(clip[0], 1.2), 40, 35)).mean()
    torch.testing.assert_close(_loss(purify={'blur': 1.2, 'resize': 0.5})(clip), expected)


def test_smoothing_acts_on_the_final_gradient_whatever_else_is_on():
    clip = torch.rand(1, 3, 3, 48, 40)
    for options in ({}, {'chunk': 2}, {'frames': 2}, {'transforms': True, 'draws': 2, 'gradient_penalty': 0.1}):
        plain, smooth = (_value_and_gradient(_loss(smooth_gradient=sigma, **options), clip) for sigma in (0, 1.5))
        assert torch.equal(plain[0], smooth[0])
        torch.testing.assert_close(smooth[1], blur(plain[1], 1.5), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize('metric, weight', [('tinyiqa', -0.5), ('gmsd', 0.5)])
def test_penalty_is_added_whatever_the_sign_of_the_weight(metric, weight):
    output, target = torch.rand(2, 1, 2, 3, 40, 40).unbind()
    plain, penalised = (_value_and_gradient(_loss(metric, weight, gradient_penalty=factor), output, target)
                        for factor in (0, 0.2))
    added = (penalised[0] - plain[0]).item()
    norm = plain[1].abs().sum().item()  # of the mean over frames, so already their mean norm times |weight|
    assert added == pytest.approx(0.2 * norm, rel=0.5) and added > 0
    loss = _loss(metric, weight, gradient_penalty=0.2)
    with torch.no_grad():
        assert loss(output, target).item() == pytest.approx(penalised[0].item(), rel=1e-5)
    assert loss.deficit(penalised[0]) > _loss(metric, weight).deficit(plain[0]) > 0


def test_clip_metrics(mdtvsfa):
    clip = torch.rand(2, 3, 3, 48, 44)
    first, again = (_value_and_gradient(mdtvsfa, clip, seed=1) for _ in range(2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert first[1].isfinite().all() and (first[1].flatten(2).abs().sum(2) > 0).all()


def test_random_crops_are_the_same_for_both_evaluations_of_the_penalty():
    with random_weights():
        loss = build_loss({'type': 'HyperIQALoss', 'loss_weight': -1})
    image = torch.rand(1, 3, 230, 250)
    for seed in range(2):
        plain, gradient = _value_and_gradient(loss, image, seed=seed)
        loss.gradient_penalty = 1
        torch.manual_seed(seed)
        added = loss(image) - plain  # another crop would add 255 times the difference of scores
        loss.gradient_penalty = 0
        assert added.item() == pytest.approx(gradient.abs().sum().item(), rel=0.15)


def test_half_precision_outputs_and_autocast():
    image = torch.rand(1, 3, 48, 48)
    loss = _loss(**EVERYTHING)
    plain = _value_and_gradient(loss, image.bfloat16().float())
    with torch.autocast('cpu', torch.bfloat16):
        half = _value_and_gradient(loss, image.bfloat16())
    assert half[0].dtype == torch.float32 and half[1].dtype == torch.bfloat16
    torch.testing.assert_close(half[0], plain[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(half[1].float(), plain[1], rtol=1e-2, atol=1e-5)


def test_bad_images_are_named_as_they_were_given():
    loss = _loss(transforms=True, purify={'resize': 0.5})
    with pytest.raises(MetricError, match=r"tinyiqa needs .* 32 px a side, .* the output must have 63; got 80x48"):
        loss(torch.rand(1, 3, 48, 80))
    with pytest.raises(MetricError, match=r'got \(1, 1, 80, 80\)'):
        loss(torch.rand(1, 1, 80, 80))
    with pytest.raises(MetricError, match='NaN or infinity'):
        loss(torch.full((1, 3, 80, 80), torch.nan))
    with pytest.raises(MetricError, match=r'gmsd compares with a reference \(GT\)'):
        _loss('gmsd', 1, transforms=True)(torch.rand(1, 3, 80, 80), torch.rand(1, 3, 40, 80))


def test_the_check_knows_how_large_the_output_must_be():
    options = {'metric': 'tinyiqa', 'loss_weight': -1}
    assert IQALoss.check(options).min_size == 32
    assert IQALoss.check({**options, 'purify': [{'resize': 0.25}]}).min_size == 126
    assert LPIPSLoss.check({**EVERYTHING, 'purify': {'resize': 0.5}}).min_size == 63


@pytest.mark.parametrize('options, words', [
    ({'draws': 0}, 'draws must be a positive whole number, got 0'), ({'draws': True}, 'draws must be'),
    ({'transforms': {'shfit': 1}}, r"did you mean 'shift'"),
    ({'purify': {'jepg': 50}}, r"did you mean 'jpeg'"),
    ({'smooth_gradient': -1}, 'smooth_gradient must be a number from 0 to 64 px, got -1'),
    ({'smooth_gradient': True}, 'smooth_gradient must be'),
    ({'gradient_penalty': -0.1}, 'gradient_penalty must be a number of 0 or more, got -0.1'),
    ({'gradient_penalty': float('inf')}, 'gradient_penalty must be')])
def test_bad_values(options, words):
    for build in (lambda options: _loss(**options), lambda options: LPIPSLoss.check(options)):
        with pytest.raises(MetricError, match=words):
            build(options)


def test_unknown_options_are_named():
    with pytest.raises(MetricError, match=r"no option 'transform' \(did you mean 'transforms'\?\)"):
        IQALoss.check({'metric': 'tinyiqa', 'loss_weight': -1, 'transform': True})


def test_stock_models_take_it_too():
    loss = build_loss({'type': 'IQAPerceptualLoss', 'metric': 'tinyiqa', 'loss_weight': -0.5, **EVERYTHING})
    plain, image = _loss(**EVERYTHING), torch.rand(1, 3, 48, 48)
    torch.manual_seed(7)
    content, style = loss(image, image)
    torch.manual_seed(7)
    assert style is None and content == plain(image)
