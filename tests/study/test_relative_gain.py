import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from score_files import write

from basicsr_nriqa.study.relative_gain import gain_table, relative_gain
from basicsr_nriqa.study.scores import write_scores

REPOSITORY = Path(__file__).resolve().parents[2]

magnitudes = st.floats(0.01, 100)
scores = st.one_of(magnitudes, magnitudes.map(lambda score: -score))


@pytest.mark.parametrize(('baseline', 'tuned', 'lower_better', 'expected'), [
    (30.0, 33.0, False, 10.0),
    (30.0, 27.0, False, -10.0),
    (0.2, 0.15, True, 25.0),
    (0.2, 0.422, True, -111.0),
    (0.36, 0.6588, False, 83.0),
    (-2.0, -1.0, False, 50.0),  # a negative baseline: higher is still better
    (-2.0, -3.0, True, 50.0),
])
def test_equation_1_by_hand(baseline, tuned, lower_better, expected):
    gain = relative_gain(baseline, tuned, lower_better)
    assert isinstance(gain, float)
    assert gain == pytest.approx(expected)


def test_arrays_give_an_array():
    gain = relative_gain([30.0, 0.2], [33.0, 0.15], [False, True])
    np.testing.assert_allclose(gain, [10, 25])
    np.testing.assert_allclose(relative_gain(np.full((2, 1), 4.0), [1.0, 5.0, 4.0], True), [[75, -25, 0]] * 2)


def test_missing_scores_stay_missing():
    assert np.isnan(relative_gain([1.0, np.nan, 1.0], [2.0, 1.0, np.nan], False)).tolist() == [False, True, True]


@pytest.mark.parametrize('baseline', [0, -0.0, [1.0, 0.0]])
def test_a_baseline_of_zero_is_refused(baseline):
    with pytest.raises(ValueError, match='baseline score of 0'):
        relative_gain(baseline, 1.0, False)


@given(scores, scores, st.booleans(), magnitudes)
def test_scale_direction_and_identity(baseline, tuned, lower_better, factor):
    gain = relative_gain(baseline, tuned, lower_better)
    assert relative_gain(factor * baseline, factor * tuned, lower_better) == pytest.approx(gain, rel=1e-6, abs=1e-9)
    assert relative_gain(baseline, tuned, not lower_better) == -gain
    assert relative_gain(-baseline, -tuned, not lower_better) == pytest.approx(gain)
    assert relative_gain(baseline, baseline, lower_better) == 0
    assert (gain > 0) == (tuned != baseline and (tuned < baseline) == lower_better)


def test_metrics_are_averaged_over_videos_before_the_gain_is_taken(tmp_path):
    files = [write(tmp_path, 'baseline', {'a': {'psnr': 10.0}, 'b': {'psnr': 30.0}}),
             write(tmp_path, 'NIMA', {'a': {'psnr': 20.0}, 'b': {'psnr': 30.0}})]
    table = gain_table(files)
    # means 20 and 25; the mean of each video's own gain would be 50
    assert table.gains.tolist() == [[25.0]]
    assert table.baselines == {('VRT', 'REDS'): {'psnr': 20.0}}


def test_gains_are_averaged_over_models_and_datasets_and_rows_are_ordered(tmp_path):
    files = []
    for model, dataset, baseline in [('VRT', 'REDS', 10.0), ('VRT', 'Vimeo', 20.0), ('BasicVSRPP', 'REDS', 40.0)]:
        for loss, factor in [('baseline', 1), ('NIMA', 0.9), ('LPIPS', 1.2), ('DBCNN', 0.9)]:
            factor = 1.5 if (loss, dataset) == ('LPIPS', 'Vimeo') else factor
            files.append(write(tmp_path, loss, {'v': {'psnr': baseline * factor, 'lpips': 0.5}}, model, dataset))
    table = gain_table(reversed(files))
    assert table.losses == ['LPIPS', 'DBCNN', 'NIMA'], 'best first, equal ones by name'
    np.testing.assert_allclose(table.gains, [[30, 0], [-10, 0], [-10, 0]], atol=1e-9)
    np.testing.assert_allclose(table.average, [15, -5, -5], atol=1e-9)
    assert list(table.group_gains) == [('BasicVSRPP', 'REDS'), ('VRT', 'REDS'), ('VRT', 'Vimeo')]
    np.testing.assert_allclose(table.group_gains['VRT', 'Vimeo']['LPIPS'], [50, 0], atol=1e-9)
    assert not table.notes


def test_the_files_direction_comes_before_the_known_one(tmp_path):
    videos = {'v': {'lpips': 0.5, 'own_metric': 4.0}}
    better = {'v': {'lpips': 0.25, 'own_metric': 3.0}}
    files = [write(tmp_path, 'baseline', videos, lower_better={'own_metric': True}), write(tmp_path, 'NIMA', better)]
    assert gain_table(files).gains.tolist() == [[50.0, 25.0]]
    files[1] = write(tmp_path, 'NIMA', better, lower_better={'lpips': False})
    assert gain_table(files).gains.tolist() == [[-50.0, 25.0]]


def test_unknown_and_contradicting_directions_are_named(tmp_path):
    files = [write(tmp_path, loss, {'v': {'own_metric': 4.0}}) for loss in ('baseline', 'NIMA')]
    with pytest.raises(ValueError, match='own_metric is better is unknown'):
        gain_table(files)
    for path, loss, lower in zip(files, ('baseline', 'NIMA'), (True, False)):
        write_scores(path, model='VRT', loss=loss, dataset='REDS', checkpoint=None, videos={'v': {'own_metric': 4.0}},
                     versions={}, lower_better={'own_metric': lower})
    with pytest.raises(ValueError, match=r'VRT_REDS_baseline\.json says that a lower.*VRT_REDS_NIMA\.json'):
        gain_table(files)


def test_optimised_metrics_are_found_under_any_spelling(tmp_path):
    videos = {'v': {'CLIP-IQA': 0.5, 'clipiqa+': 0.5, 'psnr': 30.0}}
    directions = {'clipiqa+': False}
    files = [write(tmp_path, 'baseline', videos, lower_better=directions),
             write(tmp_path, 'CLIP-IQA', videos, optimised=['clipiqa', 'charbonnier'])]
    table = gain_table(files)
    assert dict(zip(table.metrics, *table.optimised.tolist())) == {'clipiqa+': False, 'psnr': False, 'CLIP-IQA': True}


def test_what_was_optimised_is_not_guessed_from_the_label(tmp_path):
    videos = {'v': {'lpips': 0.5, 'psnr': 30.0}}
    files = [write(tmp_path, 'baseline', videos), write(tmp_path, 'LPIPS', videos, optimised=None),
             write(tmp_path, 'NIMA', videos, optimised=[])]
    table = gain_table(files)
    assert not table.optimised.any()
    assert table.notes == ['The score files do not say what these losses optimised: LPIPS. Nothing is marked in their '
                           'rows, and no metric is known to be a judge, one that no loss optimised; a key '
                           "'optimised' in their files would tell."]
    # what any model's file of the loss says holds for the loss
    files += [write(tmp_path, loss, videos, 'BasicVSRPP', optimised=['lpips']) for loss in ('baseline', 'LPIPS')]
    table = gain_table(files)
    assert table.metrics == ['psnr', 'lpips']
    assert dict(zip(table.losses, table.optimised.tolist())) == {'LPIPS': [False, True], 'NIMA': [False, False]}


METRICS = ('lpips', 'PSNR', 'nima', 'gmsd')


def write_optimised(folder, models=('VRT', 'BasicVSRPP'), metrics=METRICS, videos=4, **optimised):
    """Files of a baseline and losses on two data sets; scores depend on nothing but their place in the grid."""
    paths = []
    for model in models:
        for dataset in ('REDS', 'Vimeo'):
            for loss, names in {'baseline': [], **optimised}.items():
                rng = np.random.default_rng([*f'{model} {dataset} {loss}'.encode()])
                scores = {f'{i}': dict(zip(METRICS, 1 + rng.random(len(METRICS)))) for i in range(videos)}
                paths.append(write(folder, loss, {video: {metric: row[metric] for metric in metrics}
                                                  for video, row in scores.items()}, model, dataset, optimised=names))
    return paths


def test_judges_are_what_no_loss_optimised_and_come_first(tmp_path):
    table = gain_table(write_optimised(tmp_path, both=['LPIPS', 'niqe'], one=['n_ima'], pixels=[]))
    assert table.judges == ['PSNR', 'gmsd']
    assert table.metrics == ['PSNR', 'gmsd', 'lpips', 'nima']
    assert table.columns == ['PSNR', 'GMSD', 'LPIPS', 'NIMA', 'Average', 'Judges']
    assert dict(zip(table.losses, table.optimised.tolist())) == {
        'both': [False, False, True, False], 'one': [False, False, False, True], 'pixels': [False] * 4}
    assert list(next(iter(table.baselines.values()))) == table.metrics
    assert not table.notes


@pytest.mark.parametrize('models', [('VRT',), ('VRT', 'BasicVSRPP')])
def test_the_mean_over_judges_is_the_average_of_a_table_that_has_no_other_metric(tmp_path, models):
    table = gain_table(write_optimised(tmp_path / 'all', models, both=['lpips'], one=['nima', 'lpips']))
    alone = gain_table(write_optimised(tmp_path / 'judges', models, ('PSNR', 'gmsd'), both=['lpips'], one=['nima']))
    assert not alone.judges, 'there is nothing to separate'
    assert set(table.views) == set(alone.views) and len(table.views) == 3 * (1 + len(models))
    for place, view in table.views.items():
        same = alone.views[place]
        order = [same.losses.index(loss) for loss in view.losses]
        for found, expected in (('judges_average', 'average'), ('judges_low', 'average_low'),
                                ('judges_high', 'average_high')):
            np.testing.assert_allclose(getattr(view, found), getattr(same, expected)[order])
        assert (view.judges_low < view.judges_high).all() and same.judges_average is None
        gains, low, high = view.with_means()
        assert gains.shape == low.shape == high.shape == (2, 6)
        np.testing.assert_array_equal(gains[:, 4:].T, [view.average, view.judges_average])
        np.testing.assert_array_equal(high[:, 4:].T, [view.average_high, view.judges_high])


@pytest.mark.parametrize('optimised', [
    {'one': [], 'two': ['niqe']}, {'one': ['lpips', 'psnr'], 'two': ['gmsd', 'nima']}, {'one': ['lpips'], 'two': None}])
def test_nothing_is_separated_where_all_or_none_are_judges_or_a_loss_does_not_tell(tmp_path, optimised):
    table = gain_table(write_optimised(tmp_path, **optimised))
    assert table.judges == [] and table.metrics == list(METRICS)
    assert table.columns[-1] == 'Average'
    assert table.views[None, None].with_means()[0].shape == (2, 5)


@pytest.mark.parametrize(('baseline', 'judges'), [(['psnr'], ['gmsd']), ([], ['PSNR', 'gmsd']),
                                                  (None, ['PSNR', 'gmsd'])])
def test_what_a_baseline_optimised_is_no_judge(tmp_path, baseline, judges):
    files = write_optimised(tmp_path, one=['lpips', 'nima'])
    write_optimised(tmp_path, models=('VRT',), one=['lpips', 'nima'], baseline=baseline)
    assert gain_table(files).judges == judges


def test_a_missing_score_of_a_judge_leaves_their_mean_missing(tmp_path):
    rows = {'baseline': [1.0, 1.0, 1.0], 'NIMA': [2.0, float('nan'), 1.0], 'LPIPS': [2.0, 3.0, float('nan')]}
    table = gain_table([write(tmp_path, loss, {'v': dict(zip(('psnr', 'ssim', 'nima'), row))}, optimised=['nima'])
                        for loss, row in rows.items()])
    view = table.views[None, None]
    means = {loss: pair for loss, *pair in zip(view.losses, view.average, view.judges_average)}
    np.testing.assert_array_equal([means['NIMA'], means['LPIPS']], [[np.nan, np.nan], [np.nan, 150.0]])


def test_one_loss_that_optimised_different_things_is_refused(tmp_path):
    videos = {'v': {'lpips': 0.5, 'psnr': 30.0}}
    files = [write(tmp_path, 'baseline', videos, model) for model in ('VRT', 'BasicVSRPP')]
    files += [write(tmp_path, 'mix', videos, 'VRT', optimised=['lpips']),
              write(tmp_path, 'mix', videos, 'BasicVSRPP', optimised=['nima', 'lpips'])]
    with pytest.raises(ValueError, match=r"VRT_REDS_mix\.json and .*BasicVSRPP_REDS_mix\.json are both 'mix', but the "
                                         r"first optimised lpips, the second lpips, nima"):
        gain_table(files)


def test_another_label_can_be_the_baseline(tmp_path):
    files = [write(tmp_path, 'Charbonnier', {'v': {'psnr': 10.0}}), write(tmp_path, 'NIMA', {'v': {'psnr': 11.0}})]
    table = gain_table(files, baseline='Charbonnier')
    assert table.losses == ['NIMA']
    np.testing.assert_allclose(table.gains, [[10]])


def test_a_missing_baseline_is_an_error(tmp_path):
    files = [write(tmp_path, 'baseline', {'v': {'psnr': 10.0}}), write(tmp_path, 'NIMA', {'v': {'psnr': 10.0}}),
             write(tmp_path, 'NIMA', {'v': {'psnr': 10.0}}, dataset='Vimeo')]
    with pytest.raises(ValueError, match=r'no baseline for VRT on Vimeo.*VRT_Vimeo_NIMA\.json'):
        gain_table(files)


def test_two_files_of_one_loss_are_an_error(tmp_path):
    first = write(tmp_path, 'baseline', {'v': {'psnr': 10.0}})
    second = write(tmp_path / 'again', 'baseline', {'v': {'psnr': 10.0}})
    with pytest.raises(ValueError, match=f"{first} and {second} are both 'baseline' of VRT on REDS"):
        gain_table([first, second])


@pytest.mark.parametrize('losses', [[], ['baseline']])
def test_nothing_to_compare_is_an_error(tmp_path, losses):
    with pytest.raises(ValueError, match='nothing to compare'):
        gain_table([write(tmp_path, loss, {'v': {'psnr': 10.0}}) for loss in losses])


@pytest.mark.parametrize(('tuned', 'difference'), [
    ({'a': {'psnr': 1.0}}, 'same videos: only the first has b; only the second has none'),
    ({'a': {'psnr': 1.0}, 'c': {'psnr': 1.0}}, 'same videos: only the first has b; only the second has c'),
    ({'a': {'ssim': 1.0}, 'b': {'ssim': 1.0}}, 'same metrics: only the first has psnr; only the second has ssim'),
])
def test_differing_videos_and_metrics_are_named(tmp_path, tuned, difference):
    files = [write(tmp_path, 'baseline', {'a': {'psnr': 1.0}, 'b': {'psnr': 1.0}}), write(tmp_path, 'NIMA', tuned)]
    with pytest.raises(ValueError, match=rf'VRT_REDS_baseline\.json and .*VRT_REDS_NIMA\.json .*{difference}'):
        gain_table(files)


def test_metrics_that_differ_between_datasets_are_named(tmp_path):
    files = [write(tmp_path, loss, {'v': {metric: 1.0}}, dataset=dataset)
             for dataset, metric in [('REDS', 'psnr'), ('Vimeo', 'ssim')] for loss in ('baseline', 'NIMA')]
    with pytest.raises(ValueError, match=r'VRT_REDS_baseline\.json and .*VRT_Vimeo_baseline\.json .*same metrics'):
        gain_table(files)


def test_models_that_were_tested_on_different_videos_are_named(tmp_path):
    files = [write(tmp_path, loss, {video: {'psnr': 1.0}}, model)
             for model, video in [('VRT', 'a'), ('BasicVSRPP', 'b')] for loss in ('baseline', 'NIMA')]
    with pytest.raises(ValueError, match=r'BasicVSRPP_REDS_baseline\.json and .*VRT_REDS_baseline\.json .*same videos'):
        gain_table(files)


def test_one_metric_under_two_names_is_refused(tmp_path):
    files = [write(tmp_path, loss, {'v': {'clipiqa': 0.5, 'CLIP-IQA': 0.5}}) for loss in ('baseline', 'NIMA')]
    with pytest.raises(ValueError, match=r'VRT_REDS_baseline\.json: clipiqa and CLIP-IQA are names of one metric'):
        gain_table(files)


@pytest.mark.parametrize('scores', [(0.0, 0.0), (0.1, 0.2, -0.3)])
def test_a_baseline_score_of_zero_names_file_metric_and_videos(tmp_path, scores):
    videos = {f'v{index}': {'psnr': 30.0, 'maniqa': score} for index, score in enumerate(scores)}
    files = [write(tmp_path, loss, videos) for loss in ('baseline', 'NIMA')]
    with pytest.raises(ValueError, match=r'VRT_REDS_baseline\.json: the baseline score of maniqa is 0 .*v0, v1'):
        gain_table(files)


def test_a_missing_baseline_score_names_file_metric_and_videos(tmp_path):
    files = [write(tmp_path, loss, {'a': {'psnr': 30.0, 'nima': 5.0}, 'b': {'psnr': float('nan'), 'nima': 5.0}})
             for loss in ('baseline', 'NIMA')]
    with pytest.raises(ValueError, match=r'VRT_REDS_baseline\.json: the baseline score of psnr is missing .*for b,'):
        gain_table(files)


def test_one_checkpoint_under_two_losses_is_refused(tmp_path):
    videos = {'v': {'psnr': 30.0}}
    files = [write(tmp_path, 'baseline', videos, checkpoint_sha256='a' * 64),
             write(tmp_path, 'NIMA', videos, checkpoint_sha256='a' * 64)]
    with pytest.raises(ValueError, match=r"VRT_REDS_baseline\.json is 'baseline' and .*VRT_REDS_NIMA\.json is 'NIMA', "
                                         r'but their checkpoint_sha256 is the same, aaaa'):
        gain_table(files)
    files[1] = write(tmp_path, 'NIMA', videos, checkpoint_sha256='b' * 64)
    assert gain_table(files).gains.tolist() == [[0.0]]
    # on another dataset it is the same model as well
    files += [write(tmp_path, 'baseline', videos, dataset='Vimeo', checkpoint_sha256='a' * 64),
              write(tmp_path, 'DBCNN', videos, dataset='Vimeo', checkpoint_sha256='b' * 64)]
    with pytest.raises(ValueError, match=r"VRT_REDS_NIMA\.json is 'NIMA' and .*VRT_Vimeo_DBCNN\.json is 'DBCNN'"):
        gain_table(files)


def test_one_checkpoint_can_be_scored_on_many_datasets(tmp_path):
    files = [write(tmp_path, loss, {'v': {'psnr': 30.0}}, dataset=dataset, checkpoint_sha256=digit * 64)
             for dataset in ('REDS', 'Vimeo') for loss, digit in (('baseline', 'a'), ('NIMA', 'b'))]
    # and be the baseline of what was trained from it
    files += [write(tmp_path, loss, {'v': {'psnr': 30.0}}, 'VRT after NIMA', checkpoint_sha256=digit * 64)
              for loss, digit in (('baseline', 'b'), ('LPIPS', 'c'))]
    assert gain_table(files).gains.tolist() == [[0.0], [0.0]]


def test_a_file_that_is_named_twice_counts_once(tmp_path, monkeypatch):
    files = [write(tmp_path, loss, {'v': {'psnr': 30.0}}).name for loss in ('baseline', 'NIMA')]
    monkeypatch.chdir(tmp_path)
    assert [*gain_table([*files, f'./{files[1]}']).sources] == [*map(Path, files)]


@pytest.mark.parametrize(('first', 'second', 'field'), [
    ({'versions': {'torch': '2.6.0'}}, {'versions': {'torch': '2.15.0'}}, 'versions.torch: 2.6.0 and 2.15.0'),
    ({'versions': {'weights of lpips': '0123 4567'}}, {'versions': {'weights of lpips': '0123 89ab'}},
     'versions.weights of lpips: 0123 4567 and 0123 89ab'),
    ({'versions': {'torch': '1', 'pyiqa': '1'}}, {'versions': {'torch': '2', 'pyiqa': '2'}},
     r'versions.torch: 1 and 2 \(so do versions.pyiqa\)'),
    ({'checkpoint_sha256': 'a' * 64}, {'checkpoint_sha256': 'b' * 64, 'dataset': 'Vimeo'},
     f'checkpoint_sha256 of NIMA with VRT: {"a" * 16} and {"b" * 16}'),
])
def test_files_of_different_versions_are_refused_or_noted(tmp_path, first, second, field):
    videos = {'v': {'psnr': 30.0}}
    files = [write(tmp_path, 'baseline', videos, versions={}),
             write(tmp_path, 'baseline', videos, dataset='Vimeo', versions={}),
             write(tmp_path, 'NIMA', videos, **{'versions': {}, **first}),
             write(tmp_path, 'NIMA' if 'dataset' in second else 'DBCNN', videos, **{'versions': {}, **second})]
    with pytest.raises(ValueError, match=rf'VRT_REDS_NIMA\.json and .*json differ in {field}.*--mixed-versions'):
        gain_table(files)
    notes = gain_table(files, mixed_versions=True).notes
    assert any(f'differ in {field.split(":")[0]}: ' in note for note in notes)


def test_a_version_that_only_one_file_has_and_the_device_do_not_matter(tmp_path):
    videos = {'v': {'psnr': 30.0}}
    files = [write(tmp_path, 'baseline', videos, versions={'torch': '2.15.0'}, device='cpu'),
             write(tmp_path, 'NIMA', videos, versions={'pyiqa': '0.1.16'}, device='NVIDIA H100')]
    assert not gain_table(files).notes


def test_what_the_reader_has_to_know_is_noted(tmp_path):
    good = {'v': {'psnr': 10.0, 'ssim': 0.5}}
    files = [write(tmp_path, 'baseline', good), write(tmp_path, 'LPIPS', good), write(tmp_path, 'DBCNN', good),
             write(tmp_path, 'baseline', good, dataset='Vimeo'),
             write(tmp_path, 'DBCNN', {'v': {'psnr': 12.0, 'ssim': float('nan')}}, dataset='Vimeo'),
             write(tmp_path, 'LPIPS', good, dataset='Vimeo', versions={'pyiqa': '0.1.13'}),
             write(tmp_path, 'NIMA', {'v': {'psnr': 5.0, 'ssim': 0.5}}, dataset='Vimeo')]
    table = gain_table(files, mixed_versions=True)
    assert table.losses == ['LPIPS', 'NIMA', 'DBCNN'], 'a row without an average is last'
    np.testing.assert_allclose(table.gains, [[0, 0], [-50, 0], [10, np.nan]], atol=1e-9)
    np.testing.assert_allclose(table.average, [0, -25, np.nan], atol=1e-9)
    np.testing.assert_array_equal(table.views[None, None].average, table.average)
    partial, versions, missing = table.notes
    assert partial.startswith('NIMA: scored for 1 of 2') and 'VRT on Vimeo' in partial
    assert 'pyiqa: 0.1.13, 0.1.16' in versions
    assert 'VRT_Vimeo_DBCNN.json' in missing
    assert table.models == ['VRT'] and table.datasets == ['REDS', 'Vimeo']
    assert {place: view.losses for place, view in table.views.items() if place[0]} == {
        ('VRT', None): ['LPIPS', 'NIMA', 'DBCNN'], ('VRT', 'REDS'): ['LPIPS', 'DBCNN'],
        ('VRT', 'Vimeo'): ['LPIPS', 'NIMA', 'DBCNN']}


def test_views_average_what_they_are_of(tmp_path):
    videos = {'a': {'psnr': 10.0, 'lpips': 0.5}, 'b': {'psnr': 30.0, 'lpips': 0.25}}
    files = []
    for number, (model, dataset) in enumerate([('VRT', 'REDS'), ('VRT', 'Vimeo'), ('BasicVSRPP', 'REDS')], 1):
        tuned = {video: {'psnr': scores['psnr'] * (1 + number / 10), 'lpips': scores['lpips']}
                 for video, scores in videos.items()}
        files += [write(tmp_path, loss, scores, model, dataset) for loss, scores in
                  [('baseline', videos), ('NIMA', tuned)]]
    table = gain_table(files)
    expected = {(None, None): 20, ('VRT', None): 15, ('BasicVSRPP', None): 30, (None, 'REDS'): 20, (None, 'Vimeo'): 20,
                ('VRT', 'REDS'): 10, ('VRT', 'Vimeo'): 20, ('BasicVSRPP', 'REDS'): 30}
    assert set(table.views) == set(expected), 'BasicVSRPP was not tested on Vimeo'
    for place, gain in expected.items():
        view = table.views[place]
        np.testing.assert_allclose(view.gains, [[gain, 0]], atol=1e-9)
        np.testing.assert_allclose(view.average, [gain / 2], atol=1e-9)
        # all videos gained the same, so that no draw of them changes it
        np.testing.assert_allclose([view.low, view.high], [[[gain, 0]]] * 2, atol=1e-9)
        np.testing.assert_allclose([view.average_low, view.average_high], [[gain / 2]] * 2, atol=1e-9)
    np.testing.assert_array_equal(table.gains, table.views[None, None].gains)
    np.testing.assert_array_equal(table.average, table.views[None, None].average)


@pytest.fixture(params=['in this process', pytest.param('as a command', marks=pytest.mark.slow)])
def run_script(request, monkeypatch, capsys):
    """Runs the script and returns (exit code, stdout, stderr); a fresh interpreter needs long to import torch."""
    def as_command(*arguments):
        run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
        return run.returncode, run.stdout, run.stderr

    def in_this_process(*arguments):
        monkeypatch.setattr(sys, 'argv', list(arguments))
        try:
            runpy.run_path(arguments[0], run_name='__main__')
        except SystemExit as error:
            # the interpreter prints what sys.exit was given and ends with 1
            printed = capsys.readouterr()
            return 1, printed.out, f'{printed.err}{error.code}\n'
        return 0, *capsys.readouterr()

    run = as_command if request.param == 'as a command' else in_this_process
    return lambda *arguments: run(str(REPOSITORY / 'scripts' / 'relative_gain.py'), *map(str, arguments))


def test_the_script_writes_the_report(tmp_path, run_script):
    scores_folder = tmp_path / 'results' / 'scores'
    write(scores_folder, 'baseline', {'v': {'psnr': 10.0, 'lpips': 0.5}})
    write(scores_folder, 'LPIPS', {'v': {'psnr': 9.0, 'lpips': 0.25}}, optimised=['lpips'])
    code, output, errors = run_script(tmp_path / 'results', '-o', tmp_path / 'report')
    assert code == 0, errors
    line = next(line for line in output.splitlines() if line.startswith('LPIPS'))
    assert line.split() == ['LPIPS', '-10', '+50*', '+20', '-10']
    for name in ('table.csv', 'table.md', 'figure.png', 'report.html'):
        assert str(tmp_path / 'report' / name) in output
        assert (tmp_path / 'report' / name).stat().st_size > 0
    assert (tmp_path / 'report' / 'table.csv').read_text() == \
        'loss,PSNR,LPIPS,Average,Judges\nLPIPS,-10.0,50.0,20.0,-10.0\n'


def test_the_script_prints_intervals_flags_and_what_was_mixed(tmp_path, monkeypatch, capsys):
    videos = {f'{i}': {'psnr': 10.0 + i, 'lpips': 0.5 + 0.01 * i} for i in range(4)}
    worse = {video: {'psnr': scores['psnr'], 'lpips': scores['lpips'] * 1.2} for video, scores in videos.items()}
    write(tmp_path / 'scores', 'baseline', videos, versions={'torch': '2.6'})
    write(tmp_path / 'scores', 'NIMA', worse, versions={'torch': '2.15'})
    arguments = ['relative_gain.py', str(tmp_path), '-o', str(tmp_path / 'report')]
    script = REPOSITORY / 'scripts' / 'relative_gain.py'
    monkeypatch.setattr(sys, 'argv', arguments)
    with pytest.raises(SystemExit, match=r'versions\.torch'):
        runpy.run_path(str(script), run_name='__main__')
    monkeypatch.setattr(sys, 'argv', [*arguments, '--mixed-versions', '--intervals', '--decimals', '1',
                                      '--flag-metric', 'LPIPS', '--flag-worsened', '15'])
    runpy.run_path(str(script), run_name='__main__')
    text = capsys.readouterr().out
    assert 'NIMA  +0.0 [+0.0, +0.0]   -20.0 [-20.0, -20.0]' in text
    assert 'differ in versions.torch: 2.15, 2.6' in text
    assert 'NIMA: LPIPS, which was not optimised, changed by -20.0 %; flagged below -15 %.' in text
    assert '| NIMA | +0.0 \\[+0.0, +0.0\\] | -20.0 \\[' in (tmp_path / 'report' / 'table.md').read_text()


@pytest.mark.parametrize('arguments', [('--decimals', '1.5'), ('--decimals', '-1')])
def test_the_script_refuses_wrong_decimals(monkeypatch, capsys, arguments):
    monkeypatch.setattr(sys, 'argv', ['relative_gain.py', 'scores', '-o', 'report', *arguments])
    with pytest.raises(SystemExit):
        runpy.run_path(str(REPOSITORY / 'scripts' / 'relative_gain.py'), run_name='__main__')
    assert '--decimals' in capsys.readouterr().err


def test_the_script_refuses_bad_input_in_one_line(tmp_path, run_script):
    path = write(tmp_path / 'scores', 'NIMA', {'v': {'psnr': 10.0}})
    code, output, errors = run_script(path, '-o', tmp_path / 'report')
    assert code == 1
    assert errors.count('\n') == 1
    assert 'no baseline for VRT on REDS' in errors
    assert not output
    assert not (tmp_path / 'report').exists()
