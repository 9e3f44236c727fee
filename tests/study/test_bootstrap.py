import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from score_files import write

from basicsr_nriqa.study.bootstrap import draw_weights, interval, resampled_gains
from basicsr_nriqa.study.relative_gain import gain_table

seeds = st.integers(0, 2**32 - 1)


def intervals(baseline, tuned, lower_better=(False,), dataset='REDS', **options):
    weights = draw_weights(dataset, len(baseline), **options)
    return interval(resampled_gains(weights, np.asarray(baseline), np.asarray(tuned), list(lower_better)))


def test_a_draw_counts_whole_videos():
    weights = draw_weights('REDS', 7, resamples=50)
    assert weights.shape == (50, 7)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights * 7, (weights * 7).round(), atol=1e-12)
    assert np.abs(draw_weights('REDS', 7, resamples=20000).mean(axis=0) - 1 / 7).max() < 0.005


def test_draws_depend_on_dataset_and_seed_alone():
    first = draw_weights('REDS', 7, resamples=5)
    assert (first == draw_weights('REDS', 7, resamples=5)).all()
    assert (first != draw_weights('Vimeo', 7, resamples=5)).any()
    assert (first != draw_weights('REDS', 7, resamples=5, seed=1)).any()


def test_every_draw_is_equation_1_on_the_drawn_videos():
    rng = np.random.default_rng(0)
    baseline, tuned = 1 + rng.random((5, 3)), 1 + rng.random((5, 3))
    weights = draw_weights('REDS', 5, resamples=20)
    found = resampled_gains(weights, baseline, tuned, [False, True, False])
    for row, gains in zip(weights, found):
        drawn = np.repeat(np.arange(5), (row * 5).round().astype(int))
        before, after = baseline[drawn].mean(axis=0), tuned[drawn].mean(axis=0)
        np.testing.assert_allclose(gains, 100 * np.array([1, -1, 1]) * (after - before) / before)


def test_the_ends_leave_the_same_share_of_the_samples_on_both_sides():
    samples = np.random.default_rng(0).permutation(1001).reshape(-1, 1) * [1, -2]
    np.testing.assert_allclose(interval(samples), [[25, -1950], [975, -50]])
    np.testing.assert_allclose(interval(samples, level=0.5), [[250, -1500], [750, -500]])


@given(seeds, st.integers(2, 12), st.integers(1, 4))
@settings(deadline=None, max_examples=30)
def test_equal_scores_have_an_interval_of_zero_width_at_zero(seed, videos, metrics):
    scores = np.random.default_rng(seed).normal(3, 0.5, (videos, metrics))
    low, high = intervals(scores, scores, [False] * metrics, resamples=50)
    assert (low == 0).all() and (high == 0).all()


@given(seeds, st.integers(2, 12), st.floats(0.1, 3))
@settings(deadline=None, max_examples=30)
def test_a_gain_that_all_videos_share_is_certain(seed, videos, factor):
    scores = np.random.default_rng(seed).uniform(1, 2, (videos, 2))
    low, high = intervals(scores, factor * scores, [False, True], resamples=50)
    np.testing.assert_allclose([low, high], [[100 * (factor - 1), 100 * (1 - factor)]] * 2, atol=1e-9)


def test_the_interval_holds_the_true_gain_about_as_often_as_it_says():
    """40 videos of very different level, a gain of 10 % with noise on every video."""
    rng = np.random.default_rng(1)
    held = []
    for study in range(300):
        baseline = rng.lognormal(0, 0.5, (40, 1))
        low, high = intervals(baseline, baseline * rng.normal(1.1, 0.2, (40, 1)), dataset=str(study), resamples=400)
        held.append(low[0] <= 10 <= high[0])
    assert 0.88 < np.mean(held) < 0.98


def test_pairing_is_narrower_than_the_spread_of_the_videos():
    rng = np.random.default_rng(2)
    baseline = rng.lognormal(0, 1, (30, 1))
    low, high = intervals(baseline, baseline * rng.normal(1.1, 0.01, (30, 1)))
    assert high - low < 1.5


def test_more_videos_make_it_narrower():
    rng = np.random.default_rng(3)
    widths = []
    for videos in (10, 90):
        baseline = 1 + rng.random((videos, 50))
        low, high = intervals(baseline, baseline * rng.normal(1, 0.1, baseline.shape), [False] * 50)
        widths.append((high - low).mean())
    assert widths[0] / widths[1] == pytest.approx(3, rel=0.15)


@pytest.mark.parametrize(('baseline', 'tuned'), [
    ([[1.0]], [[2.0]]),  # a single video
    ([[1.0], [2.0]], [[np.nan], [2.0]]),
    ([[0.0], [1.0]], [[1.0], [1.0]]),  # a draw of the first video alone is relative to nothing
    ([[-1.0], [3.0]], [[1.0], [1.0]]),
])
def test_no_interval_where_there_is_none(baseline, tuned):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        low, high = intervals(baseline, tuned)
    assert np.isnan([low, high]).all()


def write_grid(folder, seed=0, order=1, models=('VRT', 'BasicVSRPP'), datasets=('REDS', 'Vimeo')):
    """Scores of two losses on five videos a dataset; a dataset's scores do not depend on what else is written."""
    paths = []
    for model in models:
        for dataset in datasets:
            rng = np.random.default_rng([seed, *model.encode(), *dataset.encode()])
            for loss in ('baseline', 'NIMA', 'LPIPS'):
                scores = {f'{i}': {'psnr': 30 + rng.random(), 'lpips': 0.2 + 0.1 * rng.random()} for i in range(5)}
                paths.append(write(folder, loss, dict([*scores.items()][::order]), model, dataset))
    return paths


@given(seeds)
@settings(deadline=None, max_examples=5)
def test_the_order_of_the_videos_changes_nothing(tmp_path_factory, seed):
    tables = [gain_table(write_grid(tmp_path_factory.mktemp('grid'), seed, order)) for order in (1, -1)]
    for place, view in tables[0].views.items():
        for name, values in vars(view).items():
            np.testing.assert_array_equal(values, getattr(tables[1].views[place], name))


def test_a_part_of_a_study_has_the_same_intervals(tmp_path):
    whole = gain_table(write_grid(tmp_path / 'whole'))
    part = gain_table(write_grid(tmp_path / 'part', models=('VRT',), datasets=('Vimeo',)))
    row = [part.losses.index(loss) for loss in whole.views['VRT', 'Vimeo'].losses]
    np.testing.assert_array_equal(whole.views['VRT', 'Vimeo'].low, part.views[None, None].low[row])
    np.testing.assert_array_equal(whole.views['VRT', 'Vimeo'].average_high, part.views[None, None].average_high[row])


def test_all_views_are_what_a_slow_computation_gives(tmp_path):
    """Three models on three datasets with gaps: averages over what is there, and every draw from the drawn videos."""
    rng = np.random.default_rng(3)
    counts, lower_better = {'REDS': 4, 'Vimeo': 6, 'phones': 3}, {'psnr': False, 'lpips': True, 'brisque': True}
    gaps = {('A', 'REDS', 'x'), ('B', 'Vimeo', 'x'), ('C', 'phones', 'y'), ('C', 'REDS', 'z'), ('C', 'Vimeo', 'z')}
    gaps |= {(model, 'phones', 'z') for model in 'ABC'}
    scores = {(model, dataset, loss): np.array([30, 0.2, -20]) * rng.uniform(0.9, 1.1, (videos, 3))
              for model in 'ABC' for dataset, videos in counts.items() for loss in ('baseline', *'xyz')
              if (model, dataset, loss) not in gaps}
    table = gain_table([write(tmp_path, loss, {f'{i}': dict(zip(lower_better, row)) for i, row in enumerate(rows)},
                              model, dataset, lower_better=lower_better)
                        for (model, dataset, loss), rows in scores.items()], resamples=60, seed=7)
    draws = {dataset: [np.repeat(np.arange(videos), (row * videos).round().astype(int))
                       for row in draw_weights(dataset, videos, 60, 7)] for dataset, videos in counts.items()}

    def gains(group, loss, drawn):
        before, after = (scores[(*group, name)][drawn].mean(axis=0) for name in ('baseline', loss))
        return [100 * (b - a if lower else a - b) / abs(b)
                for a, b, lower in zip(after, before, lower_better.values())]

    assert len(table.views) == 16
    for (model, dataset), view in table.views.items():
        for row, loss in enumerate(view.losses):
            groups = [(m, d) for m, d, name in scores if name == loss and model in (None, m) and dataset in (None, d)]
            expected = np.mean([gains(group, loss, slice(None)) for group in groups], axis=0)
            samples = np.mean([[gains(group, loss, drawn) for drawn in draws[group[1]]] for group in groups], axis=0)
            np.testing.assert_allclose([*view.gains[row], view.average[row]], [*expected, expected.mean()])
            samples = np.column_stack([samples, samples.mean(axis=1)])
            np.testing.assert_allclose([*view.low[row], view.average_low[row]], np.quantile(samples, 0.025, axis=0))
            np.testing.assert_allclose([*view.high[row], view.average_high[row]], np.quantile(samples, 0.975, axis=0))


def test_intervals_surround_the_gains_and_averages_are_narrower(tmp_path):
    table = gain_table(write_grid(tmp_path))
    for view in table.views.values():
        assert (view.low < view.gains).all() and (view.gains < view.high).all()
        assert (view.average_low < view.average).all() and (view.average < view.average_high).all()
    widths = {place: (view.high - view.low).mean() for place, view in table.views.items()}
    assert widths[None, None] < widths[None, 'REDS'] < widths['VRT', 'REDS']


def test_models_share_the_draws_of_a_dataset_and_datasets_do_not(tmp_path):
    rng = np.random.default_rng(0)
    videos = {loss: {f'{i}': {'psnr': 30 + rng.random()} for i in range(20)} for loss in ('baseline', 'NIMA')}
    table = gain_table([write(tmp_path, loss, scores, model, dataset) for loss, scores in videos.items()
                        for model in ('VRT', 'BasicVSRPP') for dataset in ('REDS', 'Vimeo')])
    widths = {place: (view.high - view.low).item() for place, view in table.views.items()}
    assert widths[None, 'REDS'] == pytest.approx(widths['VRT', 'REDS']), 'equal models, and no more videos'
    assert widths[None, None] == pytest.approx(widths['VRT', None])
    assert widths['VRT', 'REDS'] / widths['VRT', None] == pytest.approx(2**0.5, rel=0.1), 'twice as many videos'


def test_one_dataset_of_a_single_video_leaves_its_averages_without_interval(tmp_path):
    paths = write_grid(tmp_path, datasets=('REDS',), models=('VRT',))
    paths += [write(tmp_path, loss, {'v': {'psnr': 30.0, 'lpips': 0.25}}, dataset='phones')
              for loss in ('baseline', 'NIMA', 'LPIPS')]
    table = gain_table(paths)
    assert np.isfinite(table.views['VRT', 'REDS'].low).all()
    assert np.isnan(table.views[None, None].low).all() and np.isnan(table.views[None, 'phones'].average_high).all()
