import csv
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basicsr_nriqa.study.relative_gain import gain_table, relative_gain
from basicsr_nriqa.study.scores import write_scores

REPOSITORY = Path(__file__).resolve().parents[2]
FIG_2 = REPOSITORY.parent / 'shared' / 'paper' / 'fig2_relative_gain.csv'

magnitudes = st.floats(0.01, 100)
scores = st.one_of(magnitudes, magnitudes.map(lambda score: -score))


def write(folder, loss, videos, model='VRT', dataset='REDS', **changes):
    """A score file for `{video: {metric: score}}`; returns its path."""
    path = folder / f'{model}_{dataset}_{loss}.json'.replace(' ', '')
    write_scores(path, **{'model': model, 'loss': loss, 'dataset': dataset, 'checkpoint': None, 'videos': videos,
                          'versions': {'pyiqa': '0.1.16'}, **changes})
    return path


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


@pytest.mark.skipif(not FIG_2.is_file(), reason='the numbers of Fig. 2 are not beside the repository')
def test_fig_2_can_be_rebuilt_from_scores(tmp_path):
    """Score files made so that their gains are the printed ones give the printed order and averages."""
    with FIG_2.open(newline='') as file:
        header, *rows = csv.reader(file)
    metrics, losses = header[1:-1], [row[0] for row in rows]
    printed = np.array([row[1:] for row in rows], dtype=float)
    lower_better = {metric: metric in ('LPIPS', 'PieAPP') for metric in metrics}
    files = [write(tmp_path, 'baseline', {'v': dict.fromkeys(metrics, 2.0)}, lower_better=lower_better)]
    for loss, gains in zip(losses, printed):
        tuned = {metric: 2 + (-1 if lower_better[metric] else 1) * gain / 50 for metric, gain in zip(metrics, gains)}
        files.append(write(tmp_path, loss, {'v': tuned}))

    table = gain_table(sorted(files))
    assert table.losses == losses
    assert table.metrics == metrics
    np.testing.assert_allclose(table.gains, printed[:, :-1], atol=1e-9)
    # both the cells and the averages were rounded for print
    np.testing.assert_allclose(table.average, printed[:, -1], atol=1)


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
    assert gain_table(files).optimised.tolist() == [[True, False, False]]


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


def test_a_baseline_score_of_zero_names_file_and_metric(tmp_path):
    files = [write(tmp_path, loss, {'v': {'maniqa': 0.0}}) for loss in ('baseline', 'NIMA')]
    with pytest.raises(ValueError, match=r'VRT_REDS_baseline\.json: the baseline score of maniqa is 0'):
        gain_table(files)


def test_what_the_reader_has_to_know_is_noted(tmp_path):
    good = {'v': {'psnr': 10.0, 'ssim': 0.5}}
    files = [write(tmp_path, 'baseline', good), write(tmp_path, 'LPIPS', good), write(tmp_path, 'DBCNN', good),
             write(tmp_path, 'baseline', good, dataset='Vimeo'),
             write(tmp_path, 'DBCNN', {'v': {'psnr': 12.0, 'ssim': float('nan')}}, dataset='Vimeo'),
             write(tmp_path, 'LPIPS', good, dataset='Vimeo', versions={'pyiqa': '0.1.13'}),
             write(tmp_path, 'NIMA', {'v': {'psnr': 5.0, 'ssim': 0.5}}, dataset='Vimeo')]
    table = gain_table(files)
    assert table.losses == ['LPIPS', 'NIMA', 'DBCNN'], 'a row without an average is last'
    np.testing.assert_allclose(table.gains, [[0, 0], [-50, 0], [10, np.nan]], atol=1e-9)
    partial, versions, missing = table.notes
    assert partial.startswith('NIMA: scored for 1 of 2') and 'VRT on Vimeo' in partial
    assert 'pyiqa: 0.1.13, 0.1.16' in versions
    assert 'VRT_Vimeo_DBCNN.json' in missing


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
    assert line.split() == ['LPIPS', '-10', '+50*', '+20']
    for name in ('table.csv', 'table.md', 'figure.png', 'report.html'):
        assert str(tmp_path / 'report' / name) in output
        assert (tmp_path / 'report' / name).stat().st_size > 0
    assert (tmp_path / 'report' / 'table.csv').read_text() == 'loss,psnr,lpips,Average\nLPIPS,-10.0,50.0,20.0\n'


def test_the_script_refuses_bad_input_in_one_line(tmp_path, run_script):
    path = write(tmp_path / 'scores', 'NIMA', {'v': {'psnr': 10.0}})
    code, output, errors = run_script(path, '-o', tmp_path / 'report')
    assert code == 1
    assert errors.count('\n') == 1
    assert 'no baseline for VRT on REDS' in errors
    assert not output
    assert not (tmp_path / 'report').exists()
