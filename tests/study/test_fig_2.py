"""From score files with the paper's numbers the tools print the paper's table, and flag what its text flags."""
import csv
import io
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from score_files import KEYS, printed_table, write_fig_2

from basicsr_nriqa.study.flags import reference_flags, reference_notes
from basicsr_nriqa.study.relative_gain import gain_table
from basicsr_nriqa.study.table_text import console_table, csv_table, markdown_table

REPOSITORY = Path(__file__).resolve().parents[2]
# Section IV: the losses of which the text says that they produce artifacts
WITH_ARTIFACTS = {'NIMA', 'HyperIQA', 'DBCNN', 'MANIQA', 'MDTVSFA', 'LPIPS & NIMA', 'LPIPS & NIMA & CLIP-IQA'}


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    return write_fig_2(tmp_path_factory.mktemp('fig_2') / 'scores')


@pytest.fixture(scope='module')
def table(files):
    return gain_table(files)


def console_rows(text, losses):
    """Cells of the lines that begin with a loss, without the stars of what was optimised."""
    lines = text.splitlines()
    return [[loss, *next(line for line in lines if line.startswith(f'{loss}  ')).removeprefix(loss).replace('*', '')
             .split()] for loss in losses]


def without_judges(header, rows, loss='Loss'):
    """Rows of Fig. 2 from a header and rows of text; the report has one column more, of the metrics without a loss."""
    assert [header[0], *(name.removesuffix('\N{DAGGER}') for name in header[1:-1])] == [loss, *printed_table()[0]]
    assert header[-1] == 'Judges'
    return [row[:-1] for row in rows]


def test_the_console_prints_fig_2(table):
    _, rows = printed_table()
    text = console_table(table, decimals=0)
    header = text.splitlines()[0].split()
    assert without_judges(header, console_rows(text, [row[0] for row in rows])) == rows
    assert [name for name in header if name.endswith('\N{DAGGER}')] == ['PSNR\N{DAGGER}', 'SSIM\N{DAGGER}']
    order = [line.split('  ')[0] for line in text.splitlines()[2:2 + len(rows)]]
    assert order == [row[0] for row in rows]


def test_markdown_prints_fig_2(table):
    _, rows = printed_table()
    lines = [line.strip('| ').replace('*', '').split(' | ') for line in
             markdown_table(table, decimals=0).splitlines()[:2 + len(rows)]]
    assert without_judges(lines[0], lines[2:]) == rows


def test_csv_holds_fig_2_before_rounding(table):
    _, rows = printed_table()
    header, *found = csv.reader(io.StringIO(csv_table(table)))
    assert [[row[0], *(f'{float(text):+.0f}' for text in row[1:])] for row in without_judges(header, found, 'loss')] \
        == rows


def test_the_judges_of_fig_2_are_those_that_no_loss_contained(table):
    assert table.judges == ['psnr', 'ssim']
    _, rows = printed_table()
    printed = {row[0]: (float(row[1]) + float(row[2])) / 2 for row in rows}
    found = dict(zip(table.losses, table.views[None, None].judges_average))
    assert found == pytest.approx(printed, abs=1), 'two numbers that were rounded'


def test_every_model_and_dataset_has_fig_2(table):
    assert set(table.views) == {(model, dataset) for model in (None, *table.models)
                                for dataset in (None, *table.datasets)}
    for view in table.views.values():
        assert view.losses == table.losses
        np.testing.assert_allclose(view.gains, table.gains, atol=0.021)
    assert not table.notes


def test_what_was_optimised_is_marked(table):
    marked = dict(zip(table.losses, table.optimised))
    assert [metric for metric, mark in zip(table.metrics, marked['LPIPS & HyperIQA & PieAPP']) if mark] == \
        ['lpips', 'pieapp', 'hyperiqa']
    assert [metric for metric, mark in zip(table.metrics, marked['LPIPS (with GradNorm)']) if mark] == ['lpips']
    assert table.optimised.any(axis=1).all()


def test_flags_are_those_of_the_paper(table):
    flags = reference_flags(table)
    assert {flag.loss for flag in flags if flag.model is None} == WITH_ARTIFACTS
    assert not reference_notes(table)
    for model in table.models:
        for dataset in table.datasets:
            assert {flag.loss for flag in flags if (flag.model, flag.dataset) == (model, dataset)} == WITH_ARTIFACTS
    assert len(flags) == 10 * len(WITH_ARTIFACTS)


def test_the_script_prints_table_and_flags(files, tmp_path, monkeypatch, capsys):
    _, rows = printed_table()
    monkeypatch.setattr(sys, 'argv', ['relative_gain.py', str(files[0].parent), '-o', str(tmp_path), '--decimals', '0'])
    runpy.run_path(str(REPOSITORY / 'scripts' / 'relative_gain.py'), run_name='__main__')
    text = capsys.readouterr().out
    assert without_judges(text.splitlines()[0].split(), console_rows(text, [row[0] for row in rows])) == rows
    flagged = text.split('Flags of ')[1].split('Written:')[0].splitlines()[1:]
    assert {line.strip().split(': ')[0] for line in flagged if line} == WITH_ARTIFACTS
    assert '| LPIPS & MANIQA | -1 | -0 | **+16** |' in (tmp_path / 'table.md').read_text()


def test_the_names_of_fig_2_are_known():
    from basicsr_nriqa.study.metric_names import FIG_2, shown_name
    assert list(KEYS) == list(FIG_2)
    assert [shown_name(key) for key in KEYS.values()] == list(FIG_2)
    assert [shown_name(name) for name in ('gmsd', 'clip_iqa', 'clipiqa+', 'own_metric')] == \
        ['GMSD', 'CLIP-IQA', 'clipiqa+', 'own_metric']
