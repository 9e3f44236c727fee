import io
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed, multiprocessing

from basicsr_nriqa.balancing.gradnorm import GradNormBalancer


def _gradients(**norms):
    """Gradients of these norms, each in one direction of its own."""
    directions = torch.eye(len(norms)).view(-1, 1, len(norms))
    return {name: norm * direction for (name, norm), direction in zip(norms.items(), directions)}


def _run(balancer, norms, values, calls):
    for _ in range(calls):
        balancer(_gradients(**norms), values)
    return balancer.weights


def _shares(weights, norms):
    pulls = {name: weights[name] * norms[name] for name in norms}
    return {name: pull / sum(pulls.values()) for name, pull in pulls.items()}


def test_combines_with_weight_one_during_warmup():
    balancer = GradNormBalancer(warmup=3)
    for _ in range(3):
        gradients = {'a': torch.rand(2, 3, 4, 4), 'b': torch.rand(2, 3, 4, 4)}
        expected = gradients['a'] + gradients['b']
        assert torch.equal(balancer(gradients, {'a': 1.0, 'b': torch.tensor(5.0)}), expected)
    gradients = {'b': torch.full((2, 3), 4.0), 'a': torch.tensor(1.0).expand(2, 3)}  # order and layout do not matter
    combined = balancer(gradients, {'a': 1.0, 'b': 5.0})
    assert balancer.weights['a'] > 1 > balancer.weights['b']
    torch.testing.assert_close(combined, torch.full((2, 3), balancer.weights['a'] + 4 * balancer.weights['b']))


def test_slow_loss_gets_more_weight():
    """|x| falls to a fifth while |y| + 10 hardly falls, though both gradients are as long."""
    balancer, point = GradNormBalancer(warmup=1), torch.tensor([1.0, 1.0])
    slow = [1.0]
    for _ in range(40):
        x, y = point.clone().requires_grad_(), point.clone().requires_grad_()
        losses = {'fast': x[0].abs(), 'slow': y[1].abs() + 10}
        gradients = {'fast': torch.autograd.grad(losses['fast'], x)[0],
                     'slow': torch.autograd.grad(losses['slow'], y)[0]}
        point -= 0.02 * balancer(gradients, {name: loss.detach() for name, loss in losses.items()})
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
    combined = balancer(_gradients(a=1.0, b=norm), {'a': 1.0, 'b': value})
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
        balancer({'a': torch.full((100,), 3e4, dtype=torch.half), 'b': torch.ones(100, dtype=torch.half)},
                 {'a': 1.0, 'b': 1.0})
    assert balancer.skipped == 0 and balancer.weights['b'] > 1


@pytest.mark.parametrize('calls', [1, 4, 30])
def test_resumed_run_has_the_same_numbers(calls):
    generator = torch.Generator().manual_seed(0)
    steps = [(torch.rand(3, generator=generator).tolist(), torch.rand(3, generator=generator).tolist())
             for _ in range(40)]

    def go(balancer, steps):
        for norms, values in steps:
            balancer(_gradients(**dict(zip('abc', norms))), dict(zip('abc', values)))
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
    ('freeze_after', 20, r'above warmup \(20\)'), ('freeze_after', 99.5, 'whole number')])
def test_bad_options_are_named(option, value, expected):
    with pytest.raises(ValueError, match=f'gradnorm: {option} must be .*{expected}.*, got {value!r}'):
        GradNormBalancer(**{option: value})


def test_losses_cannot_change():
    balancer = GradNormBalancer()
    with pytest.raises(ValueError, match='one or more'):
        balancer({}, {})
    _run(balancer, {'a': 1.0, 'b': 1.0}, {'a': 1.0, 'b': 1.0}, 1)
    resumed = GradNormBalancer()
    resumed.load_state_dict(balancer.state_dict())
    for one in (balancer, resumed):
        with pytest.raises(ValueError, match='expected gradients of the losses a, b, got a, c'):
            one(_gradients(a=1.0, c=1.0), {'a': 1.0, 'c': 1.0})
        with pytest.raises(ValueError, match='expected values of the losses a, b, got a'):
            one(_gradients(a=1.0, b=1.0), {'a': 1.0})


def _on_one_rank(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    balancer = GradNormBalancer(alpha=1, warmup=1)
    norms = ({'a': 1.0, 'b': 3.0}, {'a': 5.0, 'b': 0.0})[rank]  # on the average 3 and 1.5
    _run(balancer, norms, {'a': 1.0, 'b': 1.0}, 1)
    _run(balancer, norms, ({'a': 1.0, 'b': 1.5}, {'a': 2.0, 'b': 1.5})[rank], 200)
    torch.save(balancer.state_dict(), f'{folder}/{rank}.pth')
    distributed.destroy_process_group()


@pytest.mark.slow
def test_ranks_agree(tmp_path):
    multiprocessing.spawn(_on_one_rank, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f'{rank}.pth', weights_only=True) for rank in range(2))
    assert first == second and first['skipped'] == 0
    assert first['weights'] == pytest.approx({'a': 2 / 3, 'b': 4 / 3})
