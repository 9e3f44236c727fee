import io
import math
from functools import partial

import pytest
import torch
from basicsr.utils import get_root_logger
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed, multiprocessing

from basicsr_nriqa.balancing import FixedBalancer, Gradients, gradnorm

GradNormBalancer = partial(gradnorm.GradNormBalancer, every=1)


def _of(tensors, scale=1.0):
    gradients = Gradients(tensors, next(iter(tensors.values())), scale)
    for name, tensor in tensors.items():
        gradients.put(name, tensor)
    return gradients


def _gradients(**norms):
    """Gradients of these norms, each in one direction of its own."""
    directions = torch.eye(len(norms)).view(-1, 1, len(norms))
    return _of({name: norm * direction for (name, norm), direction in zip(norms.items(), directions)})


def _step(balancer, gradients, values):
    combined = balancer(gradients, values)
    balancer.step()
    return combined


def _run(balancer, norms, values, calls):
    for _ in range(calls):
        _step(balancer, _gradients(**norms), values)
    return balancer.weights


def _shares(weights, norms):
    pulls = {name: weights[name] * norms[name] for name in norms}
    return {name: pull / sum(pulls.values()) for name, pull in pulls.items()}


def test_combines_with_weight_one_during_warmup():
    balancer = GradNormBalancer(warmup=3)
    for _ in range(4):  # the fourth moves the weights, after its own combination
        gradients = {'a': torch.rand(2, 3, 4, 4), 'b': 9 * torch.rand(2, 3, 4, 4)}
        expected = gradients['a'] + gradients['b']
        torch.testing.assert_close(_step(balancer, _of(gradients), {'a': 1.0, 'b': torch.tensor(5.0)}), expected)
    assert balancer.weights['a'] > 1 > balancer.weights['b']
    gradients = {'b': torch.full((2, 3), 4.0), 'a': torch.tensor(1.0).expand(2, 3)}  # order and layout do not matter
    expected = torch.full((2, 3), balancer.weights['a'] + 4 * balancer.weights['b'])
    torch.testing.assert_close(balancer(_of(gradients), {'a': 1.0, 'b': 5.0}), expected)


def test_slow_loss_gets_more_weight():
    """|x| falls to a fifth while |y| + 10 hardly falls, though both gradients are as long."""
    balancer, point = GradNormBalancer(warmup=1), torch.tensor([1.0, 1.0])
    slow = [1.0]
    for _ in range(40):
        x, y = point.clone().requires_grad_(), point.clone().requires_grad_()
        losses = {'fast': x[0].abs(), 'slow': y[1].abs() + 10}
        gradients = {'fast': torch.autograd.grad(losses['fast'], x)[0],
                     'slow': torch.autograd.grad(losses['slow'], y)[0]}
        point -= 0.02 * _step(balancer, _of(gradients), {name: loss.detach() for name, loss in losses.items()})
        slow.append(balancer.weights['slow'])
    assert slow == sorted(slow) and slow[-1] > 1.2 > 0.8 > balancer.weights['fast']


@pytest.mark.parametrize('alpha', [0.5, 1.5])
def test_pulls_follow_the_inverse_training_rates(alpha):
    balancer, norms = GradNormBalancer(alpha, warmup=1), {'a': 1.0, 'b': 3.0, 'c': 0.5}
    _run(balancer, norms, {'a': 1.0, 'b': 2.0, 'c': 3.0}, 1)
    shares = _shares(_run(balancer, norms, {'c': 2.4, 'b': 1.0, 'a': 0.9}, 400), norms)
    targets = {'a': 0.9**alpha, 'b': 0.5**alpha, 'c': 0.8**alpha}
    for name, target in targets.items():
        assert shares[name] == pytest.approx(target / sum(targets.values()), rel=1e-6)


def test_without_restoring_force_norms_are_equalised():
    norms = {'a': 1.0, 'b': 20.0, 'c': 0.5, 'd': 2.0}
    weights = _run(GradNormBalancer(alpha=0, warmup=1), norms, dict.fromkeys(norms, 1.0), 600)
    assert list(_shares(weights, norms).values()) == pytest.approx([0.25] * 4, rel=1e-6)


def test_one_call_moves_a_weight_ratio_by_at_most_twice_lr():
    balancer = GradNormBalancer(alpha=0, lr=0.1, warmup=1)
    weights = _run(balancer, {'a': 1.0, 'b': 1000.0}, {'a': 1.0, 'b': 1.0}, 2)
    assert math.exp(0.1) < weights['a'] / weights['b'] <= math.exp(0.2)


def test_others_are_balanced_while_the_floor_holds_one():
    norms = {'huge': 1e5, 'a': 1.0, 'b': 2.0}
    weights = _run(GradNormBalancer(alpha=0, warmup=1), norms, dict.fromkeys(norms, 1.0), 4000)
    assert weights['huge'] == pytest.approx(0.01)
    assert weights['a'] == pytest.approx(2 * weights['b'], rel=1e-3)


@pytest.mark.parametrize('factor', [1e-3, 7.0, 1e3, 1e6])
def test_scale_of_a_loss_does_not_matter(factor):
    """Beyond a ratio of (2 - floor)/floor of the norms, the floor is what stops the larger one."""
    def pulls(factor):
        balancer, norms = GradNormBalancer(warmup=1), {'a': 1.0, 'b': 2.0 * factor}
        _run(balancer, norms, {'a': 5.0, 'b': 4.0 * factor}, 1)
        weights = _run(balancer, norms, {'a': 3.0, 'b': 3.0 * factor}, 1000)
        return weights, _shares(weights, norms)['a']
    weights, share = pulls(factor)
    if min(weights.values()) > 0.01:
        assert share == pytest.approx(pulls(1.0)[1], rel=1e-5) and share < 0.49
    else:
        assert factor >= 100 or factor <= 0.01
        smaller = 'a' if factor > 1 else 'b'
        assert weights[smaller] == pytest.approx(1.99)


_POSITIVE = st.floats(1e-12, 1e12)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 10), st.floats(0, 5), st.floats(1e-3, 1), st.floats(1e-4, 1), st.floats(1, 20))
def test_weights_stay_in_range_and_sum_to_the_count(data, count, alpha, lr, floor, cap):
    balancer = GradNormBalancer(alpha, lr, floor, cap, warmup=1)
    names = [f'loss{index}' for index in range(count)]
    lists = st.lists(_POSITIVE, min_size=count, max_size=count)
    for _ in range(data.draw(st.integers(2, 6))):
        norms, values = data.draw(lists), data.draw(lists)
        _run(balancer, dict(zip(names, norms)), dict(zip(names, values)), 4)
        weights = balancer.weights.values()
        assert sum(weights) == pytest.approx(count, rel=1e-9)
        assert all(floor <= weight <= cap for weight in weights)
    assert balancer.skipped == 0 and (count > 1 or balancer.weights == {'loss0': 1.0})


@pytest.mark.parametrize('norm, value', [(float('nan'), 1.0), (float('inf'), 1.0), (0.0, 1.0), (5.0, float('nan')),
                                         (5.0, float('inf')), (5.0, 0.0), (5.0, -1.0)])
def test_unusable_steps_are_skipped_and_counted(norm, value):
    balancer = GradNormBalancer(warmup=2)
    before = dict(_run(balancer, {'a': 1.0, 'b': 5.0}, {'a': 1.0, 'b': 1.0}, 10))
    combined = _step(balancer, _gradients(a=1.0, b=norm), {'a': 1.0, 'b': value})
    assert balancer.weights == before and balancer.skipped == 1 and balancer.state_dict()['skipped'] == 1
    if norm == 5:
        torch.testing.assert_close(combined, torch.tensor([[before['a'], 5 * before['b']]]))
    assert _run(balancer, {'a': 1.0, 'b': 5.0}, {'a': 1.0, 'b': 1.0}, 1) != before and balancer.skipped == 1


def test_start_is_the_median_of_the_first_usable_values():
    balancer, norms = GradNormBalancer(alpha=1, warmup=3), {'a': 1.0, 'b': 1.0}
    for value in (2.0, float('nan'), 1000.0, -1.0, 4.0):
        assert _run(balancer, norms, {'a': 1.0, 'b': value}, 1) == {'a': 1, 'b': 1}
    assert balancer.skipped == 2
    assert _shares(_run(balancer, norms, {'a': 1.0, 'b': 2.0}, 200), norms)['b'] == pytest.approx(1 / 3)


def test_half_precision_norms_do_not_overflow():
    balancer = GradNormBalancer(alpha=0, warmup=1)
    for _ in range(2):
        _step(balancer, _of({'a': torch.full((100,), 3e4, dtype=torch.half), 'b': torch.ones(100, dtype=torch.half)}),
              {'a': 1.0, 'b': 1.0})
    assert balancer.skipped == 0 and balancer.weights['b'] > 1


@pytest.mark.parametrize('calls', [1, 4, 30])
def test_resumed_run_has_the_same_numbers(calls):
    generator = torch.Generator().manual_seed(0)
    steps = [(torch.rand(3, generator=generator).tolist(), torch.rand(3, generator=generator).tolist())
             for _ in range(40)]

    def go(balancer, steps):
        for norms, values in steps:
            _step(balancer, _gradients(**dict(zip('abc', norms))), dict(zip('abc', values)))
        return balancer
    whole = go(GradNormBalancer(warmup=7, freeze_after=35), steps)
    file = io.BytesIO()
    torch.save(go(GradNormBalancer(warmup=7, freeze_after=35), steps[:calls]).state_dict(), file)
    file.seek(0)
    resumed = GradNormBalancer(warmup=7, freeze_after=35)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert go(resumed, steps[calls:]).state_dict() == whole.state_dict()
    assert min(whole.weights.values()) < 0.95


def test_freezes():
    balancer, norms, values = GradNormBalancer(warmup=2, freeze_after=5), {'a': 1.0, 'b': 9.0}, {'a': 1.0, 'b': 1.0}
    seen = [dict(_run(balancer, norms, values, 1))['a'] for _ in range(8)]
    assert seen[1] < seen[2] < seen[3] < seen[4] == seen[5] == seen[7]


@pytest.mark.parametrize('option, value, expected', [
    ('alpha', -1, '0 or more'), ('alpha', float('nan'), '0 or more'), ('lr', 0, 'above 0, at most 1'),
    ('lr', '1e-3', 'a number'), ('floor', 0, 'above 0'), ('floor', 1.5, 'at most 1'), ('cap', 0.5, '1 or more'),
    ('cap', float('inf'), '1 or more'), ('warmup', 0, '1 or more'), ('warmup', 2.5, 'whole number'),
    ('every', 0, '1 or more'),
    ('freeze_after', 20, r'above warmup \(20\)'), ('freeze_after', 99.5, 'whole number')])
def test_bad_options_are_named(option, value, expected):
    with pytest.raises(ValueError, match=f'gradnorm: {option} must be .*{expected}.*, got {value!r}'):
        gradnorm.GradNormBalancer(**{option: value})


def test_losses_cannot_change():
    balancer = GradNormBalancer()
    _run(balancer, {'a': 1.0, 'b': 1.0}, {'a': 1.0, 'b': 1.0}, 1)
    resumed = GradNormBalancer()
    resumed.load_state_dict(balancer.state_dict())
    for one in (balancer, resumed):
        with pytest.raises(ValueError, match='expected gradients of the losses a, b, got a, c'):
            one(_gradients(a=1.0, c=1.0), {'a': 1.0, 'c': 1.0})


def test_published_rule_is_the_closed_form():
    """One step of 0.1 by hand: G = (1, 3), mean 2; ratios (0.5, 1) over their mean 0.75; targets (1.089, 3.079)."""
    balancer = GradNormBalancer(alpha=1.5, lr=0.1, warmup=1, floor=0.01, rule='published')
    norms = {'a': 1.0, 'b': 3.0}
    _run(balancer, norms, {'a': 2.0, 'b': 4.0}, 1)
    targets = 2 * (0.5 / 0.75)**1.5, 2 * (1 / 0.75)**1.5
    assert 1 < targets[0] < 1.1 and 3 < targets[1] < 3.1  # both pulls lie below: both weights rise, by lr * norm
    moved = 1 + 0.1 * 1.0, 1 + 0.1 * 3.0
    weights = _run(balancer, norms, {'a': 1.0, 'b': 4.0}, 1)
    assert weights == pytest.approx({'a': 2 * moved[0] / sum(moved), 'b': 2 * moved[1] / sum(moved)})
    # a has fallen no further than b now, and pulls less than the mean: up; b pulls more: down
    before = dict(weights)
    moved = before['a'] + 0.1, before['b'] - 0.3
    weights = _run(balancer, norms, {'a': 1.0, 'b': 2.0}, 1)
    assert weights == pytest.approx({'a': 2 * moved[0] / sum(moved), 'b': 2 * moved[1] / sum(moved)})


def test_log_rule_is_its_closed_form():
    balancer, norms = GradNormBalancer(alpha=1.5, lr=0.05, warmup=1), {'a': 1.0, 'b': 3.0}
    _run(balancer, norms, {'a': 2.0, 'b': 4.0}, 1)
    weights = _run(balancer, norms, {'a': 1.0, 'b': 4.0}, 1)
    # the shares are (1/4, 3/4), their targets in the ratio 0.5^1.5 : 1
    targets = 0.5**1.5 / (1 + 0.5**1.5), 1 / (1 + 0.5**1.5)
    steps = math.log(targets[0] * 4), math.log(targets[1] * 4 / 3)
    longest = max(map(abs, steps))
    moved = [math.exp(0.05 * step / longest) if longest > 0.05 else math.exp(step) for step in steps]
    assert weights == pytest.approx({'a': 2 * moved[0] / sum(moved), 'b': 2 * moved[1] / sum(moved)})


@pytest.mark.parametrize('at_layer', [False, True])
def test_parts_of_a_batch_are_the_batch(at_layer):
    """Two halves, whose rows are halved, give the weights of the whole."""
    generator = torch.Generator().manual_seed(3)
    whole, parts = GradNormBalancer(warmup=1), GradNormBalancer(warmup=1)
    factors = torch.tensor([1.0, 5.0, 0.1])[:, None]
    for _ in range(5):
        rows, values = factors * torch.randn(2, 3, 8, generator=generator), torch.rand(2, 3, generator=generator)
        layer = torch.randn(2, 3, 4, generator=generator)  # at a layer the halves lie on top of each other
        gradients = _of(dict(zip('abc', rows.transpose(0, 1).flatten(1) / 2)))
        gradients.at_layer = layer.mean(0) if at_layer else None
        _step(whole, gradients, dict(zip('abc', values.mean(0))))
        for half, half_layer, half_values in zip(rows, layer, values):
            gradients = _of(dict(zip('abc', half)), scale=0.5)
            gradients.at_layer = half_layer / 2 if at_layer else None
            parts(gradients, dict(zip('abc', half_values)))
        parts.step()
    assert parts.weights == pytest.approx(whole.weights, rel=1e-5) and min(whole.weights.values()) < 0.97


def test_measures_every_so_many_iterations():
    balancer, norms, values = gradnorm.GradNormBalancer(warmup=1, every=3), {'a': 1.0, 'b': 5.0}, {'a': 1.0, 'b': 1.0}
    seen, measuring = [], []
    for _ in range(10):
        measuring.append(balancer.measures)
        seen.append(dict(_run(balancer, norms, values, 1))['b'])
    assert measuring == [True, False, False] * 3 + [True]
    assert seen[:3] == [1.0] * 3 and seen[3] == seen[4] == seen[5] > seen[6] == seen[8] > seen[9]


def test_a_loss_that_gives_no_start_is_named(caplog, monkeypatch):
    monkeypatch.setattr(get_root_logger(), 'propagate', True)
    balancer = GradNormBalancer(warmup=2)
    _run(balancer, {'a': 1.0, 'b': 5.0}, {'a': 1.0, 'b': -0.5}, 50)
    assert 'the weights are still 1 after 20 iterations: b had no positive' in caplog.text
    assert balancer.weights == {'a': 1.0, 'b': 1.0}


def test_a_discarded_step_leaves_no_trace():
    balancer, norms, values = GradNormBalancer(warmup=1), {'a': 1.0, 'b': 5.0}, {'a': 1.0, 'b': 1.0}
    _run(balancer, norms, values, 3)
    before = balancer.state_dict()
    balancer(_gradients(a=float('nan'), b=1e9), {'a': 7.0, 'b': float('nan')})
    balancer.discard()
    assert balancer.state_dict() == before
    assert _run(balancer, norms, values, 1)['b'] < before['weights']['b']


_NAMES = 'abcdefghij'


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 10), st.sampled_from(['log', 'published']), st.randoms(use_true_random=False))
def test_order_of_the_losses_does_not_matter(count, rule, random):
    steps = [[(10**random.uniform(-6, 6), random.uniform(0.1, 10)) for _ in range(count)] for _ in range(4)]
    order = random.sample(range(count), count)
    balancers = GradNormBalancer(warmup=1, rule=rule), GradNormBalancer(warmup=1, rule=rule)
    for losses in steps:
        for balancer, indices in zip(balancers, (range(count), order)):
            _run(balancer, {_NAMES[i]: losses[i][0] for i in indices}, {_NAMES[i]: losses[i][1] for i in indices}, 1)
    assert balancers[1].weights == pytest.approx(balancers[0].weights, rel=1e-6)
    assert sum(balancers[0].weights.values()) == pytest.approx(count)


def _training_rates(balancer, steps=400):
    """How far, relative to their first values, two quadratics of one weight vector fall whose scales differ 1000 times.

    Returns:
        tuple[float]: loss / first loss of each.
    """
    generator = torch.Generator().manual_seed(1)
    one, other = torch.randn(2, 2, generator=generator), torch.randn(2, 2, generator=generator)
    point = torch.zeros(8)
    targets = torch.cat([one.flatten(), torch.zeros(4)]), torch.cat([torch.zeros(4), other.flatten()])
    masks = torch.cat([torch.ones(4), torch.zeros(4)]), torch.cat([torch.zeros(4), torch.ones(4)])
    scales, ratios = (100.0, 0.1), []
    for _ in range(steps):
        gradients, values = {}, {}
        for name, target, mask, scale in zip('ab', targets, masks, scales):
            leaf = point.clone().requires_grad_()
            value = scale * ((leaf - target) * mask).square().sum()
            gradients[name], values[name] = torch.autograd.grad(value, leaf)[0], value.detach()
        ratios = ratios or list(values.values())
        step = _step(balancer, _of(gradients), values)
        point -= 1e-3 * step / max(1.0, step.norm().item())
    return tuple((values[name] / first).item() for name, first in zip('ab', ratios))


def test_losses_of_very_different_scale_train_at_one_rate_where_fixed_weights_do_not():
    """Fixed weights train the large loss alone; the restoring force brings the rates together, alpha says how near."""
    def gap(balancer):
        large, small = _training_rates(balancer)
        assert large < 0.95
        return small - large
    gaps = [gap(GradNormBalancer(alpha, lr=0.2, floor=1e-4, warmup=1)) for alpha in (0, 1.5, 4, 8)]
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] < 0.06
    assert gap(FixedBalancer()) > 4 * gaps[1]


def _on_one_rank(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    balancer = GradNormBalancer(alpha=1, warmup=1)
    norms = ({'a': 1.0, 'b': 3.0}, {'a': 5.0, 'b': 0.0})[rank]
    _run(balancer, norms, {'a': 1.0, 'b': 1.0}, 1)
    _run(balancer, norms, ({'a': 1.0, 'b': 1.5}, {'a': 2.0, 'b': 1.5})[rank], 200)
    torch.save(balancer.state_dict(), f'{folder}/{rank}.pth')
    distributed.destroy_process_group()


@pytest.mark.slow
def test_ranks_agree(tmp_path):
    multiprocessing.spawn(_on_one_rank, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f'{rank}.pth', weights_only=True) for rank in range(2))
    assert first == second and first['skipped'] == 0
    a, b = 26**0.5, 3.0  # the whole batch's gradients are those of the ranks end to end
    assert first['weights'] == pytest.approx({'a': 2 * b / (a + b), 'b': 2 * a / (a + b)})
