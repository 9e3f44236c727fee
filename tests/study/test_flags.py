import numpy as np
import pytest
from score_files import write

from basicsr_nriqa.study.flags import ReferenceRule, reference_flags, reference_notes
from basicsr_nriqa.study.relative_gain import gain_table


def table_of(folder, changes, metric='lpips', optimised=(), models=('VRT',)):
    """A table of one loss per item of `{label: change of a lower-is-better metric in percent for each video}`."""
    paths = []
    for model in models:
        for loss, percent in {'baseline': [0] * len(next(iter(changes.values()))), **changes}.items():
            videos = {f'{i}': {'psnr': 30.0, metric: 0.5 * (1 + value / 100)} for i, value in enumerate(percent)}
            paths.append(write(folder, loss, videos, model, optimised=[metric] if loss in optimised else [],
                               lower_better={metric: True, 'psnr': False}))
    return gain_table(paths)


@pytest.mark.parametrize(('worse', 'optimised', 'flagged'), [
    (26.1, False, True), (25.9, False, False), (-30, False, False), (0, False, False),
    (-4.9, True, True), (-5.1, True, False), (10, True, True),
])
def test_the_thresholds(tmp_path, worse, optimised, flagged):
    table = table_of(tmp_path, {'A': [worse] * 3}, optimised=['A'] if optimised else [])
    assert [flag.loss for flag in reference_flags(table)] == ['A'] * flagged
    assert not reference_notes(table)


def test_the_reason_has_value_interval_and_threshold(tmp_path):
    table = table_of(tmp_path, {'sure': [30, 40, 50] * 3, 'unsure': [0, 60, 30] * 3, 'anchored': [1, -1, 2] * 3},
                     optimised=['anchored'])
    reasons = {flag.loss: flag.reason for flag in reference_flags(table)}
    row = table.losses.index('sure')
    view = table.views[None, None]
    assert reasons['sure'] == (
        'LPIPS, which was not optimised, changed by -40.0 %; flagged below -26 %. The whole 95 % interval '
        f'[{view.low[row, 1]:+.1f}, {view.high[row, 1]:+.1f}] is below.')
    assert reasons['unsure'].startswith('LPIPS, which was not optimised, changed by -30.0 %; flagged below -26 %. The ')
    assert reasons['unsure'].endswith('reaches beyond the threshold: other videos might not be flagged.')
    assert reasons['anchored'].startswith('LPIPS gained only -0.7 % although it was optimised; flagged below +5 %.')


def test_a_single_video_is_flagged_without_interval(tmp_path):
    flag, = reference_flags(table_of(tmp_path, {'A': [50]}))
    assert flag.reason.endswith('There is no interval to tell how sure that is.')
    assert (flag.rule, flag.loss, flag.model, flag.dataset) == ('reference', 'A', None, None)


def test_models_and_datasets_are_flagged_one_by_one(tmp_path):
    paths = []
    for model, percent in (('VRT', 60), ('BasicVSRPP', 0)):
        for loss, value in (('baseline', 0), ('A', percent)):
            paths.append(write(tmp_path, loss, {f'{i}': {'lpips': 1 + value / 100} for i in range(2)}, model))
    places = [(flag.model, flag.dataset) for flag in reference_flags(gain_table(paths))]
    assert places == [(None, None), ('VRT', 'REDS')], '30 % on average, 60 % and 0 % in the two'


def test_a_dataset_without_some_losses_has_the_flags_of_its_own(tmp_path):
    paths = []
    for dataset, losses in (('REDS', {'A': 0, 'B': -10}), ('Vimeo', {'B': -10})):
        for loss, percent in {'baseline': 0, **losses}.items():
            paths.append(write(tmp_path, loss, {f'{i}': {'lpips': 1 - percent / 100} for i in range(2)},
                               dataset=dataset, optimised=['lpips'] if loss == 'B' else []))
    table = gain_table(paths)
    assert table.losses == ['A', 'B'] and table.views['VRT', 'Vimeo'].losses == ['B']
    found = [(flag.loss, flag.dataset) for flag in reference_flags(table)]
    assert found == [('B', None), ('B', 'REDS'), ('B', 'Vimeo')]


def test_another_metric_and_other_thresholds(tmp_path):
    table = table_of(tmp_path, {'A': [15] * 2, 'B': [5] * 2}, metric='gmsd')
    assert not reference_flags(table)
    assert reference_notes(table) == ['The reference rule could not be applied: no score file has LPIPS.']
    rule = ReferenceRule('GMSD', worsened=10)
    assert [flag.loss for flag in reference_flags(table, rule)] == ['A']
    assert not reference_notes(table, rule)
    flag, = [flag for flag in reference_flags(table, ReferenceRule('GMSD', worsened=0.0)) if flag.loss == 'B']
    assert 'flagged below +0 %' in flag.reason


def test_a_missing_score_is_not_flagged_but_said(tmp_path):
    table = table_of(tmp_path, {'A': [np.nan, 1], 'B': [50, 50]})
    assert [flag.loss for flag in reference_flags(table)] == ['B']
    assert reference_notes(table) == ['The reference rule could not be applied to A: their LPIPS is missing.']


@pytest.mark.parametrize(('changes', 'named'), [({'worsened': -26}, 'worsened'), ({'worsened': '26'}, 'worsened'),
                                                ({'hardly_improved': float('nan')}, 'hardly_improved'),
                                                ({'hardly_improved': True}, 'hardly_improved')])
def test_wrong_thresholds_are_named(changes, named):
    with pytest.raises(ValueError, match=f'reference rule: {named} should be'):
        ReferenceRule(**changes)
