import base64
import hashlib
import html.parser
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from report_parts import GAINS, HOSTILE, LOSSES, make_parts, make_scene, make_table

from basicsr_nriqa.study.flags import Flag
from basicsr_nriqa.study.heat_map import about
from basicsr_nriqa.study.markup import embedded_json
from basicsr_nriqa.study.page import html_page
from basicsr_nriqa.study.report import write_report


class Page(html.parser.HTMLParser):
    """Collects tables by caption, scripts and attributes, and checks that every element is closed in order."""

    VOID = ('meta', 'img', 'br', 'input')

    def __init__(self, text):
        super().__init__()
        self.open, self.tables, self.elements, self.scripts, self.text = [], {}, [], [], ''
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        self.elements.append((tag, dict(attributes)))
        if tag == 'table':
            self.rows, self.caption = [], ''
        elif tag == 'tr':
            self.rows.append([])
        elif tag in ('td', 'th'):
            self.rows[-1].append('')
        elif tag == 'script':
            self.scripts.append('')

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == 'table':
            self.tables[self.caption] = self.rows

    def handle_data(self, data):
        if 'script' in self.open:
            self.scripts[-1] += data
            return
        self.text += data
        if 'caption' in self.open:
            self.caption += data
        elif {'td', 'th'} & set(self.open):
            self.rows[-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope='module')
def page():
    return Page(html_page(make_table(), **make_parts()))


def test_page_of_scores_alone_is_whole():
    page = Page(html_page(make_table()))
    assert [attributes['id'] for attributes in page.all('section')] == ['gains', 'loss', 'warnings', 'baselines',
                                                                         'sources']
    assert page.tables['Relative gain in percent: average over 2 models and 2 datasets'][1][1:5] == ['+3.2', '+18',
                                                                                                     '0.0', '+7.1']
    assert 'No loss has a warning.' in page.text


def test_page_has_a_table_for_each_model_and_dataset(page):
    prefix = 'Relative gain in percent: '
    tables = {caption.removeprefix(prefix): rows for caption, rows in page.tables.items() if caption.startswith(prefix)}
    assert set(tables) == {'average over 2 models and 2 datasets', 'VRT, average over 2 datasets',
                           'iSeeBetter, average over 2 datasets', 'RE<DS>, average over 2 models',
                           'Vimeo, average over 2 models', 'VRT, RE<DS>', 'VRT, Vimeo', 'iSeeBetter, RE<DS>',
                           'iSeeBetter, Vimeo'}
    first = tables['average over 2 models and 2 datasets']
    assert first[0] == ['Loss', 'PSNR', 'LPIPS', 'NIMA', 'Average', 'Warnings']
    assert first[2][0].removesuffix(' ⚑') == LOSSES[1]
    assert first[2][1:5] == ['0.0', '−111', '+4.0', '−36']
    assert [row[2] for row in tables['iSeeBetter, Vimeo'][1:]] == ['+29', '−100'], 'one loss was not tested there'


def test_a_single_model_and_dataset_make_one_table():
    page = Page(html_page(make_table(models=['VRT'], datasets=['REDS'])))
    assert 'Relative gain in percent: VRT, REDS' in page.tables
    assert len([attributes for attributes in page.all('div') if attributes.get('class') == 'view']) == 1
    assert {attributes['id'] for attributes in page.all('select')} == {'theme', 'choose-decimals', 'choose-loss'}


def test_cells_carry_number_interval_and_marks(page):
    cells = [attributes for attributes in page.all('td') if 'title' in attributes][:12]
    assert (cells[1]['data-gain'], cells[1]['data-low'], cells[1]['data-high']) == ('18', '17', '19')
    assert cells[1]['title'] == ('LPIPS & NIMA, LPIPS: +18.0 %, 95 % interval +17.0 % to +19.0 %; the loss contained '
                                 'this metric')
    assert cells[1]['data-texts'] == '+18|+18' and cells[0]['data-texts'] == '+3.2|+3'
    assert 'optimised' in cells[1]['class'] and 'optimised' not in cells[0]['class']
    assert cells[10]['title'].endswith('NIMA: not available')
    assert not {'data-gain', 'data-low', 'data-high'} & set(cells[10])


def test_judges_are_a_group_of_columns_with_a_mean_of_their_own():
    page = Page(html_page(make_table(judges=['psnr'])))
    groups, header, first, *_ = page.tables['Relative gain in percent: average over 2 models and 2 datasets']
    assert groups == ['', 'Judges, never optimised', 'Optimised by some loss', 'Means', '']
    assert header == ['Loss', 'PSNR', 'LPIPS', 'NIMA', 'Average', 'Judges', 'Warnings']
    assert first[1:6] == ['+3.2', '+18', '0.0', '+7.1', '+3.2']
    titles = [attributes for attributes in page.all('th') if attributes['scope'] == 'colgroup'][:3]
    assert [attributes['colspan'] for attributes in titles] == ['1', '2', '2']
    # the groups of which they are the titles
    assert [attributes['span'] for attributes in page.all('colgroup')][:5] == ['1', '1', '2', '2', '1']
    cells = [attributes for attributes in page.all('td') if 'title' in attributes][:5]
    assert cells[0]['title'] == ('LPIPS & NIMA, PSNR: +3.2 %, 95 % interval +2.2 % to +4.2 %; a judge: no loss '
                                 'contained this metric')
    assert cells[4]['title'] == 'LPIPS & NIMA, Judges: +3.2 %, 95 % interval +3.0 % to +3.5 %'
    assert [cell['class'].split()[1:] for cell in cells] == [[], ['apart', 'optimised'], ['optimised'],
                                                             ['apart', 'average'], ['average']]
    assert 'Judges are metrics that no loss' in page.text and 'Judges: metrics that no loss' in page.text
    last = page.tables['Relative gain in percent: iSeeBetter, Vimeo']
    assert [row[5] for row in last[2:]] == ['+14', '+11'], 'of each model and dataset'


def test_without_judges_nothing_is_said_of_them(page):
    assert 'judge' not in page.text.lower() and not page.all('colgroup')


def test_decimals_are_offered_and_shown_at_first():
    page = Page(html_page(make_table(), decimals=2))
    cell = next(attributes for attributes in page.all('td') if 'data-texts' in attributes)
    assert cell['data-texts'] == '+3.20|+3.2|+3'
    assert next(iter(page.tables.values()))[1][1] == '+3.20'


@pytest.mark.parametrize(('flag', 'shown'), [
    (Flag('reference', 'x', ''), {(None, None)}),
    (Flag('reference', 'x', '', 'VRT', 'REDS'), {('VRT', None), (None, 'REDS'), ('VRT', 'REDS')}),
    (Flag('gaming', 'x', '', 'VRT', 'REDS'), {(None, None), ('VRT', None), (None, 'REDS'), ('VRT', 'REDS')})])
def test_warnings_stand_in_the_tables_they_are_about(flag, shown):
    views = {(model, dataset) for model in (None, 'VRT', 'iSeeBetter') for dataset in (None, 'REDS', 'Vimeo')}
    assert {view for view in views if about(flag, *view)} == shown


def test_warnings_stand_in_their_rows_and_in_their_section(page):
    rows = page.tables['Relative gain in percent: average over 2 models and 2 datasets'][1:]
    assert rows[0][5] == 'none'
    assert rows[1][5].startswith('2 warnings') and f'LPIPS is worse by 111 % {HOSTILE}.' in rows[1][5]
    assert 'VRT, RE<DS>: a peak at 4 px.' in rows[1][5]
    assert rows[2][0] == 'HyperIQA ⚑'
    assert 'VRT, Vimeo: LPIPS is worse by 101 %.' in page.text


def test_every_name_is_escaped(page):
    """Whatever a file says is text: the page has its own elements only."""
    assert 'b' not in {tag for tag, _ in page.elements} and 'i' not in {tag for tag, _ in page.elements}
    for part in (LOSSES[1], f'name: {HOSTILE}', 'VRT, <i>NIMA</i>', f'iter 3 {HOSTILE}', 'options/<b>.yml',
                 f'Study {HOSTILE}', 'net_g_"5".pth', 'Something & more.'):
        assert part in page.text
    assert len(page.all('script')) == 3


def test_data_for_the_charts_is_the_same_after_all_escapes(page):
    data = json.loads(page.scripts[0])
    first = data['curves'][0]
    assert [series['name'] for series in first['Loss values']] == ['pix', HOSTILE]
    assert first['Weights of the losses'][0]['y'][3] is None, 'NaN'
    assert first['Gradient norms'][0] == {'name': 'pix', 'x': [*range(0, 100, 10)], 'y': [*range(1, 100, 10)]}
    assert np.shape(data['spectra'][0]['map']) == (64, 33)
    assert data['spectra'][0]['peaks'] == [[0.25, 0.125, 38.2], [0.5, 0.25, 7.0]] and data['spectra'][1]['peaks'] == []
    raw = embedded_json({'a': HOSTILE})
    assert raw.isascii() and not set('<>&') & set(raw)
    assert json.loads(raw) == {'a': HOSTILE}


def test_nothing_is_fetched_and_no_other_script_may_run(page):
    policy = next(attributes['content'] for attributes in page.all('meta') if 'http-equiv' in attributes)
    rules = {name: values for name, *values in (rule.split() for rule in policy.split(';'))}
    assert rules['default-src'] == ["'none'"]
    assert rules['img-src'] == ['data:']
    assert rules['script-src'] == [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
                                   for text in page.scripts[1:]]
    for tag, attributes in page.elements:
        assert tag not in ('link', 'iframe', 'object', 'base', 'form')
        assert not [name for name in attributes if name.startswith('on')]
        for name in ('src', 'href'):
            assert attributes.get(name, '#').startswith(('#', 'data:image/webp;base64,'))


def test_pictures_are_stored_once_and_without_loss(page):
    images = [attributes for attributes in page.all('img') if 'src' in attributes]
    scenes = [make_scene(), make_scene()]
    expected = [(label, image) for scene in scenes for label, image in scene.images.items()]
    assert len(images) == len(expected) == 8
    for attributes, (label, image) in zip(images, expected):
        data = base64.b64decode(attributes['src'].removeprefix('data:image/webp;base64,'))
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data)).convert('RGB')), image)
        assert attributes['data-label'] == label
        assert label in attributes['alt']


def test_checks_and_curves_have_their_numbers_in_tables(page):
    peaks = page.tables['Strongest peaks in the spectrum of the difference to the baseline']
    assert peaks[1] == ['38.2 times', '0.250', '0.125', '3.58', '1.3']
    assert 'How to read these checks' in page.text
    kept = page.tables['The optimised score after changes that hardly alter the picture']
    assert [row[1:] for row in kept[1:]] == [['nothing', '0.5', '0.6', '0.1', ''],
                                             ['JPEG of quality 90', '0.49', '0.5', '0.01', '10 %'],
                                             ['a shift by 1 px', '0.5', '0.6', '0.1', 'n/a']]
    assert 'There are no peaks' in page.text and 'No score was checked' in page.text
    assert kept[1][0] == 'NIMA ↑'
    curves = page.tables[f'Curves of VRT, {LOSSES[1]}']
    assert ['pix', 'Gradient norms', '0 to 90', '1', '91', '1', '91'] in curves
    assert page.tables['Scores of the baseline models'][1] == ['VRT', 'RE<DS>', *['27.12'] * 3]


def test_report_is_written_and_deterministic(tmp_path):
    first, second = (write_report(make_table(), tmp_path / name, **make_parts()) for name in 'ab')
    names = ['table.csv', 'intervals.csv', 'table.md', 'figure.png', 'figure.pdf', 'figure1_1.png', 'figure1_1.pdf',
             'figure1_2.png', 'figure1_2.pdf', 'figure3.png', 'figure3.pdf', 'report.html']
    assert sorted(path.name for path in first) == sorted(names)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert sorted((tmp_path / 'a').iterdir()) == sorted(first), 'nothing else is left there'

    (tmp_path / 'a' / 'figure1_mine.png').touch()
    fewer = write_report(make_table(), tmp_path / 'a', decimals=0, intervals=True)
    assert {path.name for path in fewer} == {'table.csv', 'intervals.csv', 'table.md', 'figure.png', 'figure.pdf',
                                             'report.html'}
    assert {path.name for path in (tmp_path / 'a').iterdir()} == {path.name for path in fewer} | {'figure1_mine.png'}
    assert r'| LPIPS & NIMA | +3 \[+2, +4\] |' in (tmp_path / 'a' / 'table.md').read_text()


def test_colours_do_not_say_more_than_the_numbers():
    """Each gain has a sign, and the strength of its colour does not exceed what the scale says."""
    page = Page(html_page(make_table()))
    cells = [attributes for attributes in page.all('td') if 'data-gain' in attributes]
    limit = np.percentile(np.abs([gain for row in GAINS for gain in (*row, np.mean(row)) if np.isfinite(gain)]), 90)
    limit = np.clip(limit, 5, 30)
    for cell in cells:
        gain, strength = float(cell['data-gain']), int(re.search(r'--strength:(\d+)%', cell['style'])[1])
        assert strength == pytest.approx(100 * min(1, abs(gain) / limit), abs=0.6)
        assert ('good' in cell['class'].split()) == (gain > 0)
