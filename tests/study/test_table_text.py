import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest

from basicsr_nriqa.study.relative_gain import GainTable, View
from basicsr_nriqa.study.table_text import (
    caption,
    cells,
    console_table,
    csv_intervals,
    csv_table,
    format_gain,
    format_interval,
    markdown_table,
)

LOSSES = ['LPIPS & NIMA', 'a|b <script>$x$', 'HyperIQA']
GAINS = np.array([[3.2, 18.0, -0.01], [0.0, -111.0, 4.0], [-12.0, -80.0, np.nan]])


@pytest.fixture
def table():
    optimised = np.zeros(GAINS.shape, dtype=bool)
    optimised[0, 1:] = True
    average = GAINS.mean(axis=1)
    view = View(LOSSES, GAINS, GAINS - 1, GAINS + 1, average, average - 0.5, average + 0.5)
    last = [part[2:] for part in (GAINS, GAINS - 1, GAINS * np.nan, average, average - 1, average + 1)]
    return GainTable(losses=LOSSES, metrics=['psnr', 'lpips', 'paq2piq'], gains=GAINS, optimised=optimised,
                     notes=['Something & more.'],
                     views={(None, None): view, ('VRT', 'REDS'): View(LOSSES[2:], *last)})


@pytest.fixture
def judged(table):
    """The same with PSNR as the only metric that no loss optimised."""
    psnr = GAINS[:, 0]
    views = {place: replace(view, judges_average=psnr[-len(view.losses):], judges_low=psnr[-len(view.losses):] - 2,
                            judges_high=psnr[-len(view.losses):] + 2) for place, view in table.views.items()}
    return replace(table, judges=['psnr'], views=views)


@pytest.mark.parametrize(('gain', 'decimals', 'text'), [
    (83.4, None, '+83'), (-111.2, None, '-111'), (3.25, None, '+3.2'), (-0.3, None, '-0.3'), (0, None, '0.0'),
    (-0.04, None, '0.0'), (9.96, None, '+10'), (-9.94, None, '-9.9'), (np.nan, None, 'n/a'),
    (-111.2, 0, '-111'), (0.4, 0, '+0'), (-0.4, 0, '-0'), (0.0, 0, '+0'), (-0.0, 0, '+0'), (3.26, 1, '+3.3'),
    (83.4, 2, '+83.40'), (np.nan, 0, 'n/a')])
def test_gains_are_printed_with_a_sign(gain, decimals, text):
    assert format_gain(gain, decimals) == text


def test_intervals_are_printed_as_gains():
    assert format_interval(-4.0, 12.3) == '[-4.0, +12]'
    assert format_interval(-4.0, 12.3, 0) == '[-4, +12]'
    assert format_interval(np.nan, 1.0) == ''


def test_console_table_is_aligned_and_marks_what_was_optimised(table):
    lines = console_table(table).splitlines()
    assert lines[0].split() == ['Loss', 'PSNR', 'LPIPS', 'PaQ-2-PiQ', 'Average']
    assert lines[2].split() == ['LPIPS', '&', 'NIMA', '+3.2', '+18*', '0.0*', '+7.1']
    assert lines[4].split()[-3:] == ['-80', 'n/a', 'n/a']
    column = lines[0].index('LPIPS') + len('LPIPS')
    assert [line[:column].split()[-1] for line in lines[2:5]] == ['+18', '-111', '-80']
    assert lines[-1] == 'Something & more.'


@pytest.mark.parametrize(('name', 'columns'), [('\N{CJK UNIFIED IDEOGRAPH-6771}' * 9, 18),
                                               ('e\N{COMBINING ACUTE ACCENT}', 1)])
def test_names_of_any_script_leave_the_columns_aligned(table, name, columns):
    first, second, *_ = console_table(replace(table, losses=[name, *LOSSES[1:]])).splitlines()[2:]
    assert first.index('+3.2') - len(name) + columns == second.index('0.0') + len('0.0') - len('+3.2')


def test_intervals_stand_behind_the_gains(table):
    header, first, _, last = cells(table, decimals=1, intervals=True)
    assert header == cells(table)[0]
    assert first == ['LPIPS & NIMA', '+3.2 [+2.2, +4.2]', '+18.0 [+17.0, +19.0]', '-0.0 [-1.0, +1.0]',
                     '+7.1 [+6.6, +7.6]']
    assert last[3:] == ['n/a', 'n/a']
    assert 'In brackets: 95 % intervals' in console_table(table, intervals=True)
    assert 'In brackets: 95 % intervals' in markdown_table(table, intervals=True)
    assert 'In brackets' not in console_table(table) + markdown_table(table)


def test_csv_has_the_columns_of_fig_2_and_all_digits(table):
    header, *rows = csv.reader(io.StringIO(csv_table(table)))
    assert header == ['loss', 'PSNR', 'LPIPS', 'PaQ-2-PiQ', 'Average']
    assert [row[0] for row in rows] == LOSSES
    assert [float(text) for text in rows[0][1:]] == [3.2, 18.0, -0.01, (3.2 + 18.0 - 0.01) / 3]
    assert rows[2][3:] == ['', '']


def test_csv_of_intervals_has_every_gain_of_every_view(table):
    rows = list(csv.DictReader(io.StringIO(csv_intervals(table))))
    assert len(rows) == (3 + 1) * 4
    assert rows[0] == {'loss': 'LPIPS & NIMA', 'model': 'all', 'dataset': 'all', 'metric': 'PSNR', 'gain': '3.2',
                       'low': '2.2', 'high': '4.2', 'judge': ''}
    assert rows[7]['metric'] == 'Average' and float(rows[7]['low']) == GAINS[1].mean() - 0.5
    assert list(rows[12].values()) == ['HyperIQA', 'VRT', 'REDS', 'PSNR', '-12.0', '-13.0', '', '']


def test_judges_are_marked_and_their_mean_is_the_last_column(judged):
    lines = console_table(judged).splitlines()
    assert lines[0].split() == ['Loss', 'PSNR†', 'LPIPS', 'PaQ-2-PiQ', 'Average', 'Judges']
    assert lines[2].split() == ['LPIPS', '&', 'NIMA', '+3.2', '+18*', '0.0*', '+7.1', '+3.2']
    assert lines[4].split()[-2:] == ['n/a', '-12'], 'the missing score is none of theirs'
    assert lines[0].index('Judges') + len('Judges') == len(lines[2])
    lines = markdown_table(judged).splitlines()
    assert lines[0] == '| Loss | PSNR† | LPIPS | PaQ-2-PiQ | Average | Judges |'
    assert lines[2] == '| LPIPS & NIMA | +3.2 | **+18** | **0.0** | +7.1 | +3.2 |'
    assert cells(judged, intervals=True)[1][-1] == '+3.2 [+1.2, +5.2]'


def test_judges_are_explained_where_there_are_some(table, judged):
    explanation = '† A judge: a metric that no loss of this table contained.'
    for text in (console_table, markdown_table, caption):
        assert explanation in text(judged)
        assert not re.search('judge|†', text(table), re.IGNORECASE)


def test_csv_has_the_mean_over_the_judges_last_and_says_which_they_are(judged):
    header, *rows = csv.reader(io.StringIO(csv_table(judged)))
    assert header == ['loss', 'PSNR', 'LPIPS', 'PaQ-2-PiQ', 'Average', 'Judges']
    assert [float(row[-1]) for row in rows] == [3.2, 0.0, -12.0]
    rows = list(csv.DictReader(io.StringIO(csv_intervals(judged))))
    assert len(rows) == (3 + 1) * 5
    assert {row['metric'] for row in rows if row['judge'] == 'yes'} == {'PSNR'}
    assert list(rows[4].values()) == ['LPIPS & NIMA', 'all', 'all', 'Judges', '3.2', '1.2000000000000002', '5.2', '']
    assert list(rows[-1].values())[:5] == ['HyperIQA', 'VRT', 'REDS', 'Judges', '-12.0']


def test_markdown_is_one_table_with_bold_marks(table):
    lines = markdown_table(table).splitlines()
    assert lines[0] == '| Loss | PSNR | LPIPS | PaQ-2-PiQ | Average |'
    assert lines[2] == '| LPIPS & NIMA | +3.2 | **+18** | **0.0** | +7.1 |'
    # a name must not open a column or an element
    assert lines[3].startswith(r'| a\|b \<script\>$x$ | 0.0 |')
    assert {len(re.split(r'(?<!\\)\|', line)) for line in lines[:5]} == {7}
    assert lines[-1] == '- Something & more.'
    notes = markdown_table(replace(table, notes=[f'{LOSSES[1]}: *some*.'])).splitlines()[-1]
    assert notes == r'- a\|b \<script\>$x$: \*some\*.'
