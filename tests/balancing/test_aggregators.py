"""The balancers that follow TorchJD's aggregators: equal to them where those are exact, right where sizes differ."""
import inspect
import io
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed, multiprocessing
from torchjd import aggregation as torchjd

from basicsr_nriqa.balancing import BALANCERS, Gradients

ARGUMENTS = {'constant': {'weights': [0.5, 2.0, 1.0, 3.0]}}
NEEDS = {'cagrad': ('cvxpy', 'clarabel'), 'nash_mtl': ('cvxpy', 'ecos')}
UNSEEING = ('sum', 'mean', 'constant', 'random')
BY_ELEMENT = ('graddrop', 'trimmed_mean')
DETERMINISTIC = ('sum', 'mean', 'upgrad', 'dualproj', 'mgda', 'aligned_mtl', 'imtl_g', 'config', 'fairgrad', 'cagrad',
                 'krum', 'trimmed_mean')
RANDOM = ('random', 'pcgrad', 'gradvac', 'graddrop')
OTHERS = ('constant', 'nash_mtl', 'pcd')
ALL = (*DETERMINISTIC, *RANDOM, *OTHERS)
GRAMIAN = tuple(name for name in ALL if name not in (*UNSEEING, *BY_ELEMENT))


def _make(name, **options):
    for module in NEEDS.get(name, ()):
        pytest.importorskip(module)
    return BALANCERS[name](**{**ARGUMENTS.get(name, {}), **options})


def _gradients(rows, names='abcdefghij'):
    rows = torch.as_tensor(rows)
    gradients = Gradients(names[:len(rows)], torch.empty(1, rows.shape[1] // 2, 2))
    for name, row in zip(gradients.names, rows):
        gradients.put(name, row)
    return gradients


def _combined(balancer, rows):
    return balancer(_gradients(rows), {}).flatten().double()


def _rows(seed=0, count=4, size=40):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def _conflicting(seed=0, count=4):
    """Gradients with large negative and positive cosines."""
    return _rows(seed, count) + 1.5 * _rows(seed + 100, count, 1)


@pytest.mark.parametrize('name, factor, weighting', [
    ('upgrad', 4, lambda: torchjd.UPGrad()),
    ('dualproj', 4, lambda: torchjd.DualProj()),
    ('mgda', 4, lambda: torchjd.MGDA(1e-7, 20000)),
    ('aligned_mtl', 4, lambda: torchjd.AlignedMTL()),
    ('imtl_g', 4, lambda: torchjd.IMTLG()),
    ('config', 1, lambda: torchjd.ConFIG()),
    ('krum', 4, lambda: torchjd.Krum(0)),
    ('pcgrad', 1, lambda: torchjd.PCGrad()),
    ('gradvac', 1, lambda: torchjd.GradVac()),
    ('pcd', 1, lambda: torchjd.PCD()),
    ('random', 4, lambda: torchjd.Random()),
    ('graddrop', 1, lambda: torchjd.GradDrop()),
    ('trimmed_mean', 4, lambda: torchjd.TrimmedMean(1)),
    ('constant', 1, lambda: torchjd.Constant(torch.tensor(ARGUMENTS['constant']['weights']).double())),
    ('cagrad', 4 / 1.5, lambda: torchjd.CAGrad(0.5)),
])
@pytest.mark.parametrize('seed', [1, 2])
def test_equals_torchjd_on_gradients_of_like_size(name, factor, weighting, seed):
    balancer, rows = _make(name), _conflicting(seed)
    torch.manual_seed(seed)
    ours = _combined(balancer, rows)
    torch.manual_seed(seed)
    # element by element, random numbers are drawn in the type of the rows
    theirs = weighting()(rows if name in BY_ELEMENT else rows.double()).double()
    torch.testing.assert_close(ours, factor * theirs, rtol=2e-3, atol=2e-3 * theirs.norm().item() / 6)
    assert balancer.skipped == 0


def test_fair_shares():
    """(G x)_i = x_i**(-1/alpha) up to a common factor, whatever the sizes; Nash-MTL is alpha = 1."""
    for balancer, alpha in ((_make('fairgrad'), 1), (_make('fairgrad', alpha=3), 3), (_make('nash_mtl'), 1)):
        for sizes in (torch.ones(4), torch.tensor([1, 1e-6, 1e-3, 10])):
            rows = _rows(3) * sizes[:, None]
            progress = rows.double() @ _combined(balancer, rows)
            weights = torch.tensor(list(balancer.weights.values()))
            shares = progress * weights ** (1 / alpha)
            assert balancer.skipped == 0 and weights.sum().item() == pytest.approx(4)
            torch.testing.assert_close(shares / shares.mean(), torch.ones(4).double(), rtol=2e-2, atol=0)


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('scale', [1e-9, 1e3])
def test_follows_the_scale_of_all_gradients(name, scale):
    balancer, other = _make(name), _make(name)
    torch.manual_seed(5)
    one = _combined(balancer, _conflicting())
    torch.manual_seed(5)
    scaled = _combined(other, _conflicting() * scale)
    torch.testing.assert_close(scaled / scale, one, rtol=1e-3, atol=1e-3)
    assert balancer.skipped == other.skipped == 0


@pytest.mark.parametrize('name', ('upgrad', 'dualproj', 'mgda', 'config', 'imtl_g', 'fairgrad', 'nash_mtl'))
def test_no_loss_rises_whatever_the_sizes(name):
    sizes = torch.tensor([1, 1e-6, 1e-3, 1])
    for seed in range(4):
        rows = _conflicting(seed) * sizes[:, None]
        balancer = _make(name)
        combined = _combined(balancer, rows)
        units = rows.double() / rows.double().norm(dim=1, keepdim=True)
        assert (units @ combined).min() >= -1e-3 * combined.norm() and combined.any() and balancer.skipped == 0


@pytest.mark.parametrize('name', ('upgrad', 'dualproj', 'config', 'pcgrad', 'gradvac', 'cagrad', 'pcd'))
def test_a_tiny_gradient_does_not_stop_the_others(name):
    rows = _rows() * torch.tensor([1, 1e-6, 1e-3, 1])[:, None]
    assert _combined(_make(name), rows).norm() > 0.2 * rows.norm()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.floats(-1, 1, width=32), min_size=6, max_size=6), min_size=2, max_size=5),
       st.lists(st.floats(-8, 3), min_size=5, max_size=5))
def test_is_finite_and_leaves_no_conflict(rows, exponents):
    sizes = 10 ** torch.tensor(exponents[:len(rows)], dtype=torch.float64)
    rows = (torch.tensor(rows, dtype=torch.float64) * sizes[:, None]).float().double()
    lengths = rows.norm(dim=1)
    for name in ('upgrad', 'dualproj', 'mgda', 'aligned_mtl', 'imtl_g', 'config', 'pcgrad', 'gradvac', 'pcd'):
        balancer = _make(name)
        combined = _combined(balancer, rows.float())
        assert combined.isfinite().all() and all(weight == weight for weight in balancer.weights.values())
        assert combined.norm() <= 1000.1 * lengths.sum()
        if name in ('upgrad', 'dualproj', 'mgda') and not balancer.skipped:
            # what the solvers' regularisation leaves and single precision loses
            pulls = (lengths * torch.tensor(list(balancer.weights.values())).abs()).sum()
            assert ((rows @ combined) / lengths).min() >= -3e-4 * pulls


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.permutations(range(4)))
def test_order_does_not_matter(seed, order):
    rows = _conflicting(seed)
    for name in DETERMINISTIC:
        if name in ('cagrad', 'fairgrad'):
            continue  # below, once: their solvers are slow
        one, other = _combined(_make(name), rows), _combined(_make(name), rows[list(order)])
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('name', ['cagrad', 'fairgrad', 'nash_mtl'])
def test_order_does_not_matter_to_solvers(name):
    rows = _conflicting(7)
    one, other = _make(name), _make(name)
    torch.testing.assert_close(_combined(one, rows), _combined(other, rows[[2, 0, 3, 1]]), rtol=1e-3, atol=1e-3)
    assert one.weights['c'] == pytest.approx(other.weights['a'], rel=1e-3)


@pytest.mark.parametrize('name', ALL)
def test_equal_gradients_move_as_far_as_the_plain_sum(name):
    row = _rows(count=1)
    combined = _combined(_make(name, **({'weights': {'a': 1, 'b': 1, 'c': 1}} if name == 'constant' else {})),
                         row.repeat(3, 1))
    expected = row[0].double() * (1 if name == 'pcd' else 3)  # as long as the first loss's
    torch.testing.assert_close(combined, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('name', [name for name in ALL if name not in ('krum', 'trimmed_mean', 'constant')])
def test_one_loss_keeps_its_gradient(name):
    row = _rows(count=1)
    torch.testing.assert_close(_combined(_make(name), row), row[0].double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', GRAMIAN)
@pytest.mark.parametrize('value', [0.0, float('nan'), float('inf')])
def test_what_cannot_be_balanced_is_summed_and_counted(name, value):
    balancer, rows = _make(name), _rows()
    rows[1] = value
    combined = _combined(balancer, rows)
    assert balancer.skipped == 1 and set(balancer.weights.values()) == {1.0} and len(balancer.weights) == 4
    if value == 0:
        torch.testing.assert_close(combined, rows.sum(0).double())
    _combined(balancer, _conflicting())
    assert balancer.skipped == 1 and set(balancer.weights.values()) != {1.0}


def test_a_negative_sum_of_weights_is_no_ascent():
    """IMTL-G: the third gradient, short and between the others, needs a large negative weight for equal projections.
    The published division by the sum of the weights would turn all of them round."""
    balancer = _make('imtl_g')
    rows = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0.007, 0.007, 0.0014, 0]])
    assert (rows @ torchjd.IMTLG()(rows.double()).float() < 0).all()
    torch.testing.assert_close(_combined(balancer, rows), rows.sum(0).double())
    assert balancer.skipped == 1


def test_losses_of_equal_gradients_are_no_component_of_their_own():
    """Aligned-MTL shortens all components to the shortest, which must not be single precision's rounding."""
    rows = _rows(count=3, size=3000)[[0, 0, 1, 2]]
    assert _combined(_make('aligned_mtl'), rows).norm() > 0.3 * rows.norm()


def test_preferences_are_weights_where_nothing_conflicts():
    rows = torch.eye(4).repeat(1, 2)
    for name in ('upgrad', 'dualproj', 'aligned_mtl'):
        for preference, expected in (({'b': 2}, [1, 2, 1, 1]), ([3, 0, 1, 1], [3, 0, 1, 1])):
            balancer = _make(name, pref_vector=preference)
            _combined(balancer, rows)
            assert list(balancer.weights.values()) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_priority_is_the_first_losses():
    balancer = _make('pcd', tau={'b': 0.5, 'c': 0})
    _combined(balancer, torch.eye(3).repeat(1, 2))
    assert balancer.weights['a'] > balancer.weights['b'] > balancer.weights['c'] == 0


@pytest.mark.parametrize('name', ['gradvac', 'pcd', 'nash_mtl', 'pcgrad', 'upgrad'])
def test_goes_on_from_its_state(name):
    options = {'update_weights_every': 2} if name == 'nash_mtl' else {}
    straight, before = _make(name, **options), _make(name, **options)
    torch.manual_seed(3)
    expected = [_combined(straight, _conflicting(seed)) for seed in range(5)]
    torch.manual_seed(3)
    for seed in range(3):
        _combined(before, _conflicting(seed))
    stored = io.BytesIO()
    torch.save(before.state_dict(), stored)
    stored.seek(0)
    generator, after = torch.get_rng_state(), _make(name, **options)
    after.load_state_dict(torch.load(stored, weights_only=True))
    assert torch.equal(torch.get_rng_state(), generator) and after.weights == before.weights
    assert all(torch.equal(_combined(after, _conflicting(seed)), expected[seed]) for seed in (3, 4))


def test_a_new_state_can_be_loaded():
    for name in ('gradvac', 'pcd'):
        balancer = _make(name)
        balancer.load_state_dict(_make(name).state_dict())
        assert _combined(balancer, _rows()).isfinite().all()


@pytest.mark.parametrize('name, options, message', [
    ('upgrad', {'pref_vector': 'all'}, r'pref_vector must be \{loss: number\} or a list with a number of 0 or more'),
    ('upgrad', {'pref_vector': [1, -1]}, 'pref_vector must be'),
    ('constant', {'weights': None}, 'weights must be'),
    ('constant', {'weights': {'a': float('nan')}}, 'weights must be'),
    ('aligned_mtl', {'scale_mode': 'max'}, 'scale_mode must be min, median or rmse'),
    ('cagrad', {'c': -1}, 'c must be a number, 0 or more'),
    ('fairgrad', {'alpha': '1'}, 'alpha must be'),
    ('fairgrad', {'max_iters': 0}, 'max_iters must be'),
    ('nash_mtl', {'update_weights_every': 0}, 'update_weights_every must be'),
    ('nash_mtl', {'optim_niter': 1.5}, 'optim_niter must be'),
    ('gradvac', {'beta': 2}, 'beta must be a number from 0 to 1'),
    ('pcd', {'tau': 2}, 'tau must be'),
    ('pcd', {'beta': 1}, 'beta must be'),
    ('krum', {'n_selected': 0}, 'n_selected must be'),
    ('krum', {'n_byzantine': True}, 'n_byzantine must be'),
    ('graddrop', {'leak': [2]}, r'leak must be .* from 0 to 1'),
    ('trimmed_mean', {'trim_number': -1}, 'trim_number must be'),
])
def test_bad_options_are_refused_at_once(name, options, message):
    with pytest.raises(ValueError, match=message):
        _make(name, **options)


@pytest.mark.parametrize('name, options, message', [
    ('upgrad', {'pref_vector': {'aa': 1}}, r"pref_vector: there is no loss 'aa' \(did you mean 'a'\?\); the losses"),
    ('upgrad', {'pref_vector': [1, 1]}, r'pref_vector: expected a number for each of 4 losses \(.*\), got 2'),
    ('upgrad', {'pref_vector': [0, 0, 0, 0]}, 'one number at least must be above 0'),
    ('constant', {'weights': {'a': 1}}, 'weights: give a number for b, c, d too'),
    ('pcd', {'tau': {'a': 0.1}}, "tau: there is no loss 'a'"),
    ('krum', {'n_byzantine': 2}, r'needs 5 losses or more, there are 4 \(a, b, c, d\)'),
    ('trimmed_mean', {'trim_number': 2}, 'needs 5 losses'),
    ('graddrop', {'leak': [0.1]}, 'leak: expected a number for each of .* got 1'),
])
def test_options_that_do_not_fit_the_losses(name, options, message):
    balancer = _make(name, **options)
    with pytest.raises(ValueError, match=message):
        balancer.check('abcd')
    with pytest.raises(ValueError, match=message):
        _combined(balancer, _rows())


def test_all_are_registered_with_named_arguments():
    assert set(ALL) <= set(BALANCERS)
    for name in ALL:
        parameters = inspect.signature(BALANCERS[name]).parameters.values()
        assert all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in parameters)


def test_says_how_to_install_a_solver(monkeypatch):
    monkeypatch.setitem(sys.modules, 'quadprog', None)
    with pytest.raises(ValueError, match=r"needs what is not installed .*'quadprog'.*pip install 'torchjd\[.*mgda"):
        BALANCERS['upgrad']()
    assert BALANCERS['sum']() and BALANCERS['imtl_g']()  # need none of it


def test_element_by_element_in_parts(monkeypatch):
    whole = _combined(_make('trimmed_mean'), _rows())
    monkeypatch.setattr(BALANCERS['trimmed_mean'], 'COLUMNS', 7)
    assert torch.equal(_combined(_make('trimmed_mean'), _rows()), whole)


def _one_of_two_ranks(rank, folder):
    distributed.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    torch.manual_seed(rank)  # as in training; the random ones must agree all the same
    weights = {}
    for name in ('upgrad', 'imtl_g', 'pcgrad', 'random'):
        balancer = BALANCERS[name]()
        balancer(_gradients(2 * _rows(9, 3)[:, 20 * rank:][:, :20]), {})  # this half's mean
        weights[name] = balancer.weights
    torch.save(weights, f'{folder}/{rank}.pth')
    distributed.destroy_process_group()


def test_two_ranks_have_the_weights_of_the_whole_batch(tmp_path):
    # forked: a new interpreter would import everything again
    multiprocessing.start_processes(_one_of_two_ranks, (str(tmp_path),), nprocs=2, start_method='fork')
    first, second = (torch.load(tmp_path / f'{rank}.pth', weights_only=True) for rank in range(2))
    assert first == second
    for name in ('upgrad', 'imtl_g'):
        balancer = BALANCERS[name]()
        _combined(balancer, _rows(9, 3))
        assert first[name] == pytest.approx(balancer.weights, rel=1e-4)
