"""Anchored combination: in every unit no anchor rises, the rest is as near and as short as asked."""
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from torch import distributed, multiprocessing

from basicsr_nriqa.balancing import BALANCERS, Gradients
from basicsr_nriqa.balancing.anchored import Units, cone_multipliers

SHAPE = (2, 3, 3, 10, 14)
UNITS = ('clip', 'frame', 4)
ROUNDING = 2.0 ** -23  # single precision, in which a result is returned


def _gradients(rows, scale=1.0):
    gradients = Gradients(rows, next(iter(rows.values())), scale)
    for name, row in rows.items():
        gradients.put(name, row)
    return gradients


def _combined(rows, scale=1.0, **options):
    return BALANCERS['anchored'](**options)(_gradients(rows, scale), {})


def _images(seed, shape=SHAPE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _conflicting(seed, shape=SHAPE, anchors=1):
    """Some anchors, and two losses that mostly go against their sum."""
    rows = {name: _images(seed + number, shape) for number, name in enumerate(('pix', 'lpips', 'gmsd')[:anchors])}
    against = -sum(rows.values())
    return {**rows, 'maniqa': 0.6 * against + _images(seed + 10, shape), 'nima': 0.7 * _images(seed + 20, shape)}


def _by_unit(image, per):
    """(units, elements), by plain slicing."""
    image = image.double()
    if per == 'clip':
        return list(image.flatten(1))
    frames = image.flatten(0, -4)
    if per == 'frame':
        return list(frames.flatten(1))
    return [frame[:, top:top + per, left:left + per].flatten() for frame in frames
            for top in range(0, frame.shape[1], per) for left in range(0, frame.shape[2], per)]


def _names(rows):
    return [name for name in rows if name in ('pix', 'lpips', 'gmsd')]


def _nearest(gradient, anchors):
    """The projection by its definition: g plus the point of the anchors' cone that is nearest to -g."""
    matrix = torch.stack(anchors, 1)
    return gradient + matrix @ torch.as_tensor(nnls(matrix.numpy(), -gradient.numpy())[0])


@pytest.mark.parametrize('per', UNITS)
@pytest.mark.parametrize('anchors', [1, 2, 3])
@pytest.mark.parametrize('shape', [SHAPE, (3, 3, 10, 14)])
def test_is_the_nearest_gradient_that_raises_no_anchor(per, anchors, shape):
    rows = _conflicting(anchors, shape, anchors)
    names, conflicts = _names(rows), 0
    combined = _by_unit(_combined(rows, anchors=names, per=per, trust=None), per)
    parts = {name: _by_unit(row, per) for name, row in rows.items()}
    assert len(combined) == len(parts['pix'])
    for index, result in enumerate(combined):
        pulls = [parts[name][index] for name in names]
        given = parts['maniqa'][index] + parts['nima'][index]
        conflicts += any(given @ pull < 0 for pull in pulls)
        expected = sum(pulls) + _nearest(given, pulls)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-6 * float(given.norm()))
        for pull in pulls:
            allowed = ROUNDING * (result.norm() + sum(pulls).norm()) * pull.norm()
            assert (result - sum(pulls)) @ pull >= -allowed
    assert conflicts > 0.9 * len(combined)


@pytest.mark.parametrize('per', UNITS)
@pytest.mark.parametrize('project', [True, False])
def test_is_no_longer_than_trusted(per, project):
    rows = _conflicting(3, anchors=2)
    for trust in (0.01, 0.3, 1.0):
        combined = _combined(rows, anchors=['pix', 'lpips'], per=per, trust=trust, project=project)
        anchors = rows['pix'] + rows['lpips']
        free = _combined(rows, anchors=['pix', 'lpips'], per=per, trust=None, project=project) - anchors
        shortened = 0
        for total, rest, whole in zip(*(_by_unit(image, per) for image in (anchors, combined - anchors, free))):
            assert rest.norm() <= trust * total.norm() + 2 * ROUNDING * (total.norm() + rest.norm())
            shortened += whole.norm() > trust * total.norm()
            expected = whole * min(1, trust * float(total.norm() / whole.norm()))
            torch.testing.assert_close(rest, expected, rtol=0, atol=1e-5)
        assert trust == 1 or shortened


def test_a_trust_of_one_turns_the_step_by_45_degrees_at_most():
    rows = _conflicting(4, anchors=2)
    rows['maniqa'] *= 1e3
    total = rows['pix'] + rows['lpips']
    for per in UNITS:
        combined = _combined(rows, anchors=['pix', 'lpips'], per=per)
        for step, anchor in zip(_by_unit(combined, per), _by_unit(total, per)):
            assert step @ anchor >= (math.sqrt(0.5) - 1e-6) * step.norm() * anchor.norm()


@pytest.mark.parametrize('per', UNITS)
def test_where_nothing_conflicts_it_is_the_plain_sum(per):
    rows = _conflicting(5)
    rows['maniqa'] = 0.2 * rows['pix'] + 0.02 * _images(9)
    rows['nima'] *= 0.01
    balancer = BALANCERS['anchored'](per=per)
    torch.testing.assert_close(balancer(_gradients(rows), {}), sum(rows.values()), rtol=0, atol=1e-6)
    assert balancer.weights == pytest.approx({'pix': 1, 'maniqa': 1, 'nima': 1})
    conflicting = _conflicting(6)
    off = _combined(conflicting, per=per, project=False, trust=None)
    torch.testing.assert_close(off, sum(conflicting.values()), rtol=0, atol=1e-6)


@pytest.mark.parametrize('per', UNITS)
def test_is_idempotent_and_never_longer(per):
    rows = _conflicting(7, anchors=3)
    names = _names(rows)
    options = {'anchors': names, 'per': per, 'trust': None}
    total = sum(rows[name].double() for name in names)
    rest = (_combined(rows, **options) - total).float()
    given = rows['maniqa'] + rows['nima']
    for one, other in zip(_by_unit(rest, per), _by_unit(given, per)):
        assert one.norm() <= other.norm() * (1 + 1e-6)
    again = _combined({**{name: rows[name] for name in names}, 'maniqa': rest, 'nima': torch.zeros(SHAPE)}, **options)
    torch.testing.assert_close(again, (total + rest).float(), rtol=0, atol=2e-6)


@pytest.mark.parametrize('scale', [1e-20, 1e-9, 1e9])
def test_scale_does_not_matter(scale):
    rows = _conflicting(8, anchors=2)
    for per in UNITS:
        expected = _combined(rows, anchors=['pix', 'lpips'], per=per)
        scaled = _combined({name: scale * row for name, row in rows.items()}, anchors=['pix', 'lpips'], per=per)
        torch.testing.assert_close(scaled / scale, expected, rtol=1e-5, atol=1e-5)


def test_a_tiny_loss_is_no_danger_and_a_tiny_anchor_counts():
    rows = _conflicting(9)
    small = _combined({**rows, 'maniqa': 1e-9 * rows['maniqa'], 'nima': 1e-9 * rows['nima']}, per='clip')
    torch.testing.assert_close(small, rows['pix'], rtol=1e-6, atol=1e-7)
    tiny = {**rows, 'pix': 1e-9 * rows['pix']}
    rest = _combined(tiny, trust=None)
    for one, anchor in zip(_by_unit(rest, 'clip'), _by_unit(rows['pix'], 'clip')):
        assert one @ anchor >= -ROUNDING * one.norm() * anchor.norm()
    torch.testing.assert_close(_combined(tiny).norm(), 1e-9 * rows['pix'].norm() * math.sqrt(2), rtol=1e-4, atol=0)


@pytest.mark.parametrize('per', UNITS)
def test_units_do_not_know_of_each_other(per):
    """Noise in one unit changes that unit alone, to the bit."""
    rows = _conflicting(10)
    changed = {name: row.clone() for name, row in rows.items()}
    place = {'clip': (1,), 'frame': (1, 2), 4: (1, 2, slice(None), slice(4, 8), slice(12, 14))}[per]
    for seed, row in enumerate(changed.values()):
        row[place] = _images(seed + 90)[place]
    before, after = _combined(rows, per=per), _combined(changed, per=per)
    moved = before != after
    assert moved[place].all() and moved.sum() == moved[place].numel()


def test_frames_of_images_are_clips():
    rows = _conflicting(11, (4, 3, 8, 8))
    assert torch.equal(_combined(rows, per='frame'), _combined(rows, per='clip'))
    clips = {name: row[:, None] for name, row in rows.items()}
    assert torch.equal(_combined(clips, per='clip')[:, 0], _combined(rows, per='frame'))
    assert torch.equal(_combined(rows, per=8), _combined(rows, per='frame'))
    assert torch.equal(_combined(rows, per=100), _combined(rows, per='frame')), 'a square larger than the frame'


@pytest.mark.parametrize('per', UNITS)
def test_parts_of_a_batch_give_the_whole(per):
    rows = _conflicting(12, (4, 3, 3, 10, 14))
    balancer, whole = BALANCERS['anchored'](per=per), BALANCERS['anchored'](per=per)
    expected = whole(_gradients(rows), {})
    parts = [balancer(_gradients({name: row[part:part + 2] for name, row in rows.items()}, 0.5), {}) for part in (0, 2)]
    torch.testing.assert_close(torch.cat(parts), expected / 2, rtol=1e-6, atol=1e-7)
    assert balancer.weights == pytest.approx(whole.weights, rel=1e-6)
    balancer.step()
    balancer(_gradients({name: row[:2] for name, row in rows.items()}), {})
    alone = BALANCERS['anchored'](per=per)
    alone(_gradients({name: row[:2] for name, row in rows.items()}), {})
    assert balancer.weights == alone.weights != whole.weights, 'the weights are those of one step'


def test_weights_are_the_share_that_is_left():
    pix, other = torch.zeros(2, 1, 3, 2, 2), torch.zeros(2, 1, 3, 2, 2)
    pix[:, :, 0], other[0, :, 0], other[:, :, 1] = 1, -1, 1  # of the first clip half conflicts, of the second nothing
    balancer = BALANCERS['anchored'](trust=None)
    combined = balancer(_gradients({'pix': pix, 'nima': other}), {})
    assert balancer.weights == {'pix': 1, 'nima': pytest.approx(2 / 3)}
    assert torch.equal(combined[0], combined[1]) and combined[0, 0, :2].eq(1).all()
    balancer.step()
    balancer(_gradients({'pix': pix, 'nima': torch.zeros_like(pix)}), {})
    assert balancer.weights == {'pix': 1, 'nima': 0}
    fresh = BALANCERS['anchored']()
    fresh.load_state_dict(balancer.state_dict())
    assert fresh.weights == balancer.weights and fresh.skipped == 0


def test_anchors_that_are_zero_parallel_or_opposite():
    pix, other = _images(1), _images(2)
    one = _combined({'pix': pix, 'nima': other}, trust=None) - pix
    for second in (torch.zeros_like(pix), pix, 3 * pix, 1e-9 * pix):
        both = _combined({'pix': pix, 'gmsd': second, 'nima': other}, anchors=['pix', 'gmsd'], trust=None)
        torch.testing.assert_close(both - pix - second, one, rtol=0, atol=2e-6)
    against = {'pix': pix, 'gmsd': -pix, 'nima': other}
    for rest, anchor in zip(*(_by_unit(image, 'clip') for image in (
            _combined(against, anchors=['pix', 'gmsd'], trust=None), pix))):
        assert abs(rest @ anchor) <= ROUNDING * rest.norm() * anchor.norm()
    assert not _combined(against, anchors=['pix', 'gmsd']).any(), 'the anchors cancel: nothing is trusted'
    nothing = {'pix': torch.zeros_like(pix), 'nima': other}
    assert torch.equal(_combined(nothing, trust=None), other) and not _combined(nothing).any()
    zeros = torch.zeros_like(pix)
    assert torch.equal(_combined({'pix': zeros, 'nima': zeros}), zeros)
    assert _combined({'pix': pix, 'nima': -pix}, trust=None).sub(pix).abs().max() < 1e-6


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 5), st.integers(2, 7), st.integers(0, 10 ** 6), st.sampled_from([0, 1, 2]), st.booleans())
def test_the_cone_is_that_of_non_negative_least_squares(anchors, size, seed, copies, lattice):
    """Also with more anchors than dimensions, with repeated ones and with those on a lattice, often dependent."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(20, anchors, size, generator=generator, dtype=torch.float64)
    rows = rows.round() if lattice else rows
    rows[:, :copies] = 2 * rows[:, -1:]
    given = torch.randn(20, size, generator=generator, dtype=torch.float64)
    multipliers = cone_multipliers(rows @ rows.mT, (rows @ given[..., None])[..., 0])
    nearest = given + (multipliers[:, None] @ rows)[:, 0]
    assert (multipliers >= 0).all()
    for point, one, matrix in zip(nearest, given, rows):
        torch.testing.assert_close(point, _nearest(one, list(matrix)), rtol=0, atol=1e-8)


@pytest.mark.parametrize('angle', [1e-2, 1e-4, 1e-5, 1e-6, 1e-7, 1e-14])
@pytest.mark.parametrize('sign', [1, -1])
def test_nearly_dependent_anchors_are_no_pole(angle, sign):
    """Nearly parallel ones, and nearly opposite ones, which leave next to no room."""
    directions = torch.randn(4, 1000, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    one, two, three, given = torch.nn.functional.normalize(directions, dim=2)
    rows = torch.stack([one, sign * one + angle * two, one + angle * three], 1).float().double()
    multipliers = cone_multipliers(rows @ rows.mT, (rows @ given[..., None])[..., 0])
    nearest = given + (multipliers[:, None] @ rows)[:, 0]
    assert ((rows @ nearest[..., None])[..., 0] / rows.norm(dim=2)).min() > -1e-5
    # a projection onto a cone is at a right angle to what it takes away
    assert (nearest * (nearest - given)).sum(1).abs().max() < 1e-5


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 3), st.sampled_from([1, 4]), st.integers(1, 9), st.integers(1, 9), st.integers(1, 11))
def test_units_partition_an_output(batch, frames, height, width, side):
    shape = (batch, frames, 3, height, width)
    image = torch.arange(1.0, 1 + math.prod(shape)).view(shape)
    for per in ('clip', 'frame', side):
        units = Units(shape, per)
        split = units.split(image[None])[0]
        assert torch.equal(units.join(split), image)
        expected = [part @ part for part in _by_unit(image, per)]
        torch.testing.assert_close(units.inner(split.double(), split.double()).flatten(), torch.stack(expected))


@pytest.mark.parametrize('per', UNITS)
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('name', ['pix', 'lpips', 'nima'])
def test_what_is_not_finite_is_not_hidden(per, value, name):
    for trust in (None, 0.5):
        rows = _conflicting(13, anchors=2)
        rows[name][0, 1, 2, 3, 4] = value
        balancer = BALANCERS['anchored'](anchors=['pix', 'lpips'], per=per, trust=trust)
        assert not balancer(_gradients(rows), {}).isfinite().all()
        balancer.discard()
        finite = balancer(_gradients(_conflicting(13, anchors=2)), {})
        assert finite.isfinite().all() and all(math.isfinite(weight) for weight in balancer.weights.values())


def test_follows_the_type_of_the_output():
    rows = {name: row.double() for name, row in _conflicting(14).items()}
    assert _combined(rows).dtype == torch.float64
    half = Gradients(rows, torch.empty(SHAPE, dtype=torch.bfloat16))
    for name, row in rows.items():
        half.put(name, row)
    assert BALANCERS['anchored']()(half, {}).dtype == torch.float32


@pytest.mark.parametrize('options, message', [
    ({'anchors': 'pix'}, r"anchors must be a list of 1 to 6 different losses, such as \[pix\], got 'pix'"),
    ({'anchors': []}, 'anchors must be'),
    ({'anchors': ['pix', 'pix']}, 'anchors must be'),
    ({'anchors': [1]}, 'anchors must be'),
    ({'anchors': [*'abcdefg']}, 'anchors must be'),
    ({'per': 'block'}, "per must be clip, frame or a whole number of px, 1 or more, got 'block'"),
    ({'per': 0}, 'per must be'),
    ({'per': 8.0}, 'per must be'),
    ({'per': True}, 'per must be'),
    ({'project': 'no'}, 'project must be true or false'),
    ({'trust': 0}, 'trust must be a number above 0, or null for no limit, got 0'),
    ({'trust': -1}, 'trust must be'),
    ({'trust': float('inf')}, 'trust must be'),
    ({'trust': True}, 'trust must be'),
])
def test_bad_options_are_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        BALANCERS['anchored'](**options)


@pytest.mark.parametrize('anchors, losses, message', [
    (['pxi'], ['pix', 'nima'], r"there is no loss 'pxi' \(did you mean 'pix'\?\); the losses are pix, nima"),
    (['pix'], ['lpips', 'nima'], r"there is no loss 'pix'; the losses are lpips, nima\. Name those"),
    (['pix', 'nima'], ['pix', 'nima'], 'all losses are anchors'),
    (['pix'], ['pix'], 'nothing to balance with the one loss'),
])
def test_anchors_that_do_not_fit_the_losses(anchors, losses, message):
    balancer = BALANCERS['anchored'](anchors=anchors)
    with pytest.raises(ValueError, match=message):
        balancer.check(losses)
    with pytest.raises(ValueError, match=message):
        balancer(_gradients({name: _images(1) for name in losses}), {})


def _one_of_two_ranks(rank, folder):
    distributed.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    found = {}
    for per in UNITS:
        balancer = BALANCERS['anchored'](per=per)
        half = {name: row[2 * rank:2 * rank + 2] for name, row in _conflicting(15, (4, 3, 3, 10, 14)).items()}
        found[per] = balancer(_gradients(half), {}), balancer.weights
    torch.save(found, f'{folder}/{rank}.pth')
    distributed.destroy_process_group()


def test_two_ranks_give_the_whole_batch(tmp_path):
    # forked: a new interpreter would import everything again
    multiprocessing.start_processes(_one_of_two_ranks, (str(tmp_path),), nprocs=2, start_method='fork')
    first, second = (torch.load(tmp_path / f'{rank}.pth', weights_only=True) for rank in range(2))
    for per in UNITS:
        balancer = BALANCERS['anchored'](per=per)
        whole = balancer(_gradients(_conflicting(15, (4, 3, 3, 10, 14))), {})
        torch.testing.assert_close(torch.cat([first[per][0], second[per][0]]), whole, rtol=1e-6, atol=1e-7)
        assert first[per][1] == second[per][1] == pytest.approx(balancer.weights, rel=1e-9)
