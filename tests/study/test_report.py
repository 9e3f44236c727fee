import base64
import csv
import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

from basicsr_nriqa.study.figures import draw_figure
from basicsr_nriqa.study.page import html_page
from basicsr_nriqa.study.relative_gain import GainTable
from basicsr_nriqa.study.report import write_report
from basicsr_nriqa.study.table_text import console_table, csv_table, format_gain, markdown_table

LOSSES = ['LPIPS & NIMA', 'a|b <script>$x$', 'HyperIQA']
GAINS = ((3.2, 18.0, -0.01), (0.0, -111.0, 4.0), (-12.0, -80.0, np.nan))


def make_table(gains=GAINS, metrics=('psnr', 'lpips', 'nima')):
    metrics, gains = list(metrics), np.array(gains)
    optimised = np.zeros(gains.shape, dtype=bool)
    optimised[0, 1:] = True
    group = ('VRT', 'RE<DS>')
    scores = {'model': group[0], 'loss': LOSSES[0], 'dataset': group[1], 'checkpoint': 'net_g_"5".pth',
              'videos': {'000': {}}, 'versions': {'pyiqa': '0.1.16'}}
    return GainTable(losses=LOSSES[:len(gains)], metrics=metrics, gains=gains, optimised=optimised,
                     lower_better={metric: metric == 'lpips' for metric in metrics},
                     baselines={group: dict.fromkeys(metrics, 27.123456)},
                     group_gains={group: dict(zip(LOSSES, gains)), ('VRT', 'Vimeo'): dict(zip(LOSSES, gains))},
                     sources={'results/scores/vrt.json': scores}, notes=['Something & more.'])


def pixels(png):
    image = Image.open(io.BytesIO(png))
    assert image.format == 'PNG'
    return np.asarray(image.convert('RGB')).astype(int)


class Page(html.parser.HTMLParser):
    """Collects the rows of all tables, and checks that every element is closed in order."""

    VOID = ('meta', 'img', 'br')

    def __init__(self, text):
        super().__init__()
        self.open, self.tables, self.attributes = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        self.attributes.append((tag, dict(attributes)))
        if tag == 'table':
            self.tables.append([])
        elif tag == 'tr':
            self.tables[-1].append([])
        elif tag in ('td', 'th'):
            self.tables[-1][-1].append('')

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ('td', 'th'):
            self.tables[-1][-1][-1] += data


@pytest.mark.parametrize(('gain', 'text'), [(83.4, '+83'), (-111.2, '-111'), (3.25, '+3.2'), (-0.3, '-0.3'), (0, '0.0'),
                                            (-0.04, '0.0'), (9.96, '+10'), (-9.94, '-9.9'), (np.nan, 'n/a')])
def test_gains_are_printed_with_a_sign(gain, text):
    assert format_gain(gain) == text


def test_console_table_is_aligned_and_marks_what_was_optimised():
    lines = console_table(make_table()).splitlines()
    assert lines[0].split() == ['Loss', 'psnr', 'lpips', 'nima', 'Average']
    assert lines[2].split() == ['LPIPS', '&', 'NIMA', '+3.2', '+18*', '0.0*', '+7.1']
    assert lines[4].split()[-3:] == ['-80', 'n/a', 'n/a']
    column = lines[0].index('lpips') + len('lpips')
    assert [line[:column].split()[-1] for line in lines[2:5]] == ['+18', '-111', '-80']
    assert lines[-1] == 'Something & more.'


def test_csv_has_the_columns_of_fig_2_and_all_digits():
    header, *rows = csv.reader(io.StringIO(csv_table(make_table())))
    assert header == ['loss', 'psnr', 'lpips', 'nima', 'Average']
    assert [row[0] for row in rows] == LOSSES
    assert [float(text) for text in rows[0][1:]] == [3.2, 18.0, -0.01, (3.2 + 18.0 - 0.01) / 3]
    assert rows[2][3:] == ['', '']


def test_markdown_is_one_table_with_bold_marks():
    lines = markdown_table(make_table()).splitlines()
    assert lines[0] == '| Loss | psnr | lpips | nima | Average |'
    assert lines[2] == '| LPIPS & NIMA | +3.2 | **+18** | **0.0** | +7.1 |'
    # a name must not open a column or an element
    assert lines[3].startswith(r'| a\|b \<script\>$x$ | 0.0 |')
    assert {len(re.split(r'(?<!\\)\|', line)) for line in lines[:5]} == {7}
    assert lines[-1] == '- Something & more.'


def test_figure_shows_the_signs_of_the_gains():
    image = pixels(draw_figure(make_table()))
    green = (image[..., 1] - image[..., 0] > 20).sum()
    red = (image[..., 0] - image[..., 1] > 20).sum()
    flipped = pixels(draw_figure(make_table([[-3.2, -18.0, 0.01], [0.0, 111.0, -4.0], [12.0, 80.0, np.nan]])))
    assert image.shape == flipped.shape
    assert (flipped[..., 1] - flipped[..., 0] > 20).sum() > green > 1000
    assert red > (flipped[..., 0] - flipped[..., 1] > 20).sum() > 1000
    assert (image[[0, -1]] == 255).all() and (image[:, [0, -1]] == 255).all(), 'something touches the border'


def test_figure_frames_what_was_optimised():
    table = make_table()
    framed = pixels(draw_figure(table))
    table.optimised[:] = False
    plain = pixels(draw_figure(table))
    assert (framed.sum(axis=2) < 100).sum() > (plain.sum(axis=2) < 100).sum() + 1000


def test_figure_grows_with_the_table():
    small = pixels(draw_figure(make_table([[1.0, 2.0, 3.0]])))
    tall = pixels(draw_figure(make_table([[1.0, 2.0, 3.0]] * 3)))
    wide = pixels(draw_figure(make_table([[1.0] * 11] * 3, [f'metric {i}' for i in range(11)])))
    # 0.34 inches a row at 150 dpi; the longest label is in both
    assert tall.shape[0] - small.shape[0] == pytest.approx(2 * 0.34 * 150, abs=2)
    assert wide.shape[1] > tall.shape[1] + 7 * 0.62 * 150


def test_one_extreme_gain_does_not_wash_out_the_others():
    gains = np.full((3, 10), 4.0)
    metrics = [f'm{i}' for i in range(10)]
    quiet = pixels(draw_figure(make_table(gains, metrics)))
    gains[2, 9] = 830.0
    extreme = pixels(draw_figure(make_table(gains, metrics)))
    # the upper rows do not change; the average of the last row does
    half = quiet.shape[0] // 3
    assert (quiet[:half] == extreme[:half]).all()
    assert (quiet != extreme).any()


def test_figure_accepts_long_names_and_a_table_without_numbers():
    long = pixels(draw_figure(make_table(metrics=('clipiqa+_vitL14_512', 'qualiclip+-clive', 'psnr'))))
    assert long.shape[0] > pixels(draw_figure(make_table())).shape[0], 'slanted labels need height'
    assert (long[0] == 255).all() and (long[:, -1] == 255).all(), 'a label is cut'
    assert pixels(draw_figure(make_table([[np.nan] * 3]))).std() > 10


def test_page_is_whole_escaped_and_self_contained():
    table = make_table()
    figure = draw_figure(table)
    text = html_page(table, figure)
    page = Page(text)
    gains, baseline, first_group, _, files = page.tables
    assert gains[0] == ['Loss', 'psnr', 'lpips', 'nima', 'Average']
    assert gains[2] == [LOSSES[1], '0.0', '−111', '+4.0', '−36']
    assert gains[1:] == first_group[1:]
    assert baseline == [['Model', 'Dataset', 'psnr ↑', 'lpips ↓', 'nima ↑'], ['VRT', 'RE<DS>', *['27.12'] * 3]]
    assert files[1] == ['results/scores/vrt.json', 'VRT', LOSSES[0], 'RE<DS>', '1', 'net_g_"5".pth', 'pyiqa 0.1.16']
    assert not any(tag == 'script' for tag, _ in page.attributes)
    sources = [attributes['src'] for tag, attributes in page.attributes if tag == 'img']
    assert [base64.b64decode(source.removeprefix('data:image/png;base64,')) for source in sources] == [figure]
    assert 'http' not in text
    marked = [attributes for tag, attributes in page.attributes if 'optimised' in attributes.get('class', '')]
    assert len(marked) == 6, 'two cells in the table and in those of the two groups'


def test_report_is_written_and_deterministic(tmp_path):
    first, second = (write_report(make_table(), tmp_path / name) for name in 'ab')
    assert [path.name for path in first] == ['table.csv', 'table.md', 'figure.png', 'report.html']
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert sorted((tmp_path / 'a').iterdir()) == sorted(first), 'nothing else is left there'
