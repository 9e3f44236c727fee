import copy

import pytest
import torch
from basicsr.losses import build_loss

from basicsr_nriqa.iqa import MetricError, create_metric, random_weights


def _loss(metric='tinyiqa', weight=-0.01, **options):
    return build_loss({'type': 'IQALoss', 'metric': metric, 'loss_weight': weight, **options})


def test_value_is_weight_times_mean_score():
    frames = torch.rand(2, 3, 3, 48, 40)
    scores = create_metric('tinyiqa')(frames.flatten(0, 1))
    assert _loss(weight=-0.5)(frames).item() == pytest.approx(-0.5 * scores.mean().item(), rel=1e-5)
    assert _loss(weight=-0.5)(frames[:, 0]).item() == pytest.approx(-0.5 * scores[::3].mean().item(), rel=1e-5)


def test_full_reference_uses_the_target_without_a_graph():
    output, target = torch.rand(1, 2, 3, 32, 32, requires_grad=True), torch.rand(1, 2, 3, 32, 32, requires_grad=True)
    value = _loss('gmsd', 0.1)(output, target)
    value.backward()
    assert target.grad is None and output.grad.abs().sum() > 0
    equal = _loss('ssim', -1)(target.detach(), target.detach())
    assert equal.item() == pytest.approx(-1, abs=1e-5)
    with pytest.raises(ValueError, match='gmsd compares with a reference'):
        _loss('gmsd', 0.1)(output)


@pytest.mark.parametrize('metric, weight', [('tinyiqa', 0.1), ('ssim', 0.1), ('gmsd', -0.1)])
def test_wrong_signs_are_refused(metric, weight):
    with pytest.raises(MetricError, match='would train for worse images'):
        _loss(metric, weight)
    assert _loss(metric, weight, allow_worsening=True).loss_weight == weight


@pytest.mark.parametrize('metric', ['tinyiqa', 'ssim', 'gmsd', 'pieapp'])
@pytest.mark.parametrize('weight', [-0.5, 0.5])
def test_distance_from_the_least_value_is_positive_whatever_the_loss_trains_for(metric, weight):
    with random_weights():
        loss = _loss(metric, weight, allow_worsening=True)
    low, high = loss.metric.info.score_range
    values = [torch.tensor(weight * score) for score in (low, high, (3 * low + high) / 4)]
    distances = [loss.deficit(value).item() for value in values]
    assert distances == pytest.approx([0.5 * (high - low) * part for part in
                                       ((0, 1, 0.25) if weight > 0 else (1, 0, 0.75))])


@pytest.mark.parametrize('value', ['no', 1, None, []])
def test_worsening_is_allowed_by_true_alone(value):
    with pytest.raises(MetricError, match='allow_worsening must be true or false'):
        _loss('ssim', 0.1, allow_worsening=value)


def test_descending_raises_the_score():
    torch.manual_seed(1)
    image = torch.rand(1, 3, 48, 48).mul(0.2).add(0.4).requires_grad_()
    loss = _loss(weight=-1)
    before = loss(image).item()
    optimizer = torch.optim.Adam([image], 0.01)
    for _ in range(10):
        optimizer.zero_grad()
        loss(image).backward()
        optimizer.step()
    assert loss(image).item() < before


def test_stays_frozen_and_in_eval_mode():
    loss = copy.deepcopy(_loss()).to(torch.float32).train()
    assert not any(module.training for module in loss.metric.network.modules())
    assert not loss.state_dict() and not list(loss.parameters())
    loss.requires_grad_(True)
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    loss(image).backward()
    assert image.grad is not None


def test_runs_in_float32_under_autocast():
    image = torch.rand(1, 3, 48, 48, requires_grad=True)
    plain = _loss()(image)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = _loss()(image.bfloat16().float())
        half = _loss()(image.bfloat16())
    assert mixed.dtype == half.dtype == torch.float32
    assert half.item() == mixed.item() == pytest.approx(plain.item(), rel=2e-2)


def test_random_frames_follow_torchs_seed():
    clip = torch.rand(1, 6, 3, 32, 32)
    loss = _loss(weight=-1, frames=1)
    each = -create_metric('tinyiqa')(clip[0])
    seen = {round(loss(clip).item(), 6) for _ in range(30)}
    assert len(seen) > 2 and all(min(abs(each - value)) < 1e-5 for value in seen)
    torch.manual_seed(5)
    first = loss(clip)
    torch.manual_seed(5)
    assert first == loss(clip)
    with pytest.raises(MetricError, match='frames'):
        _loss(frames=0)


def test_bad_input():
    with pytest.raises(MetricError, match=r"unknown metric 'tinyqia' .did you mean 'tinyiqa'"):
        _loss('tinyqia')
    with pytest.raises(MetricError, match="metric 'tinyiqa' has no option 'crops'"):
        _loss(crops=3)
    with pytest.raises(MetricError, match='no weight in Table I'):
        build_loss({'type': 'IQALoss', 'metric': 'tinyiqa'})
    with pytest.raises(ValueError, match=r'\(n,3,h,w\) or \(n,t,3,h,w\), got \(3, 32, 32\)'):
        _loss()(torch.rand(3, 32, 32))
    with pytest.raises(ValueError, match='at least 32 px a side, got 20x64'):
        _loss()(torch.rand(1, 3, 64, 20))


@pytest.mark.parametrize('metric, weight, reason', [
    ('entropy', -1, 'cannot be differentiated|gradient is zero'), ('piqe', 1, 'gradient is zero|differentiated'),
    ('mad', 1, 'gradient is not finite')])
def test_metrics_without_a_gradient_are_refused(metric, weight, reason):
    with pytest.raises(MetricError, match=f'cannot be a loss: .*({reason})'):
        _loss(metric, weight)


def test_perceptual_form_for_stock_models():
    loss = build_loss({'type': 'IQAPerceptualLoss', 'metric': 'tinyiqa', 'loss_weight': -0.01})
    image = torch.rand(1, 3, 32, 32)
    content, style = loss(image, image)
    assert style is None and content == _loss()(image)
