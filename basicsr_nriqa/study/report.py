"""The study's results for people: a table in several forms, the figure in the form of the paper's Fig. 2, one page."""
import base64
import csv
import html
import io
import re
import textwrap
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath

from basicsr_nriqa.files import write_atomically

CAPTION = ('Relative gain over the baseline in percent; positive is better for every metric. Rows: what was added to '
           'the loss; columns: metrics, averaged over videos, then gains over models and datasets. Framed bold cells: '
           'the loss contained this very metric, and improving what is optimised is no evidence for better quality.')

_COLOURS = LinearSegmentedColormap.from_list('gain', ['#c0392b', '#f0a59b', '#fafafa', '#9fd3a8', '#1e8449'])
_DPI = 150
_ROW, _SMALLEST_COLUMN = 0.34, 0.62  # inches
_GAP = 0.1  # columns, before the average
_FONT, _CAPTION_FONT = 9, 8  # points

_STYLE = '''
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 76em; margin: 2em auto; padding: 0 1.5em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums }
th, td { padding: .3em .7em; text-align: right; border: 1px solid #e4e4e4 }
th { background: #f5f5f5; font-weight: 600 } th:first-child, td:first-child, .text th, .text td { text-align: left }
th, td { white-space: nowrap } .text td { white-space: normal }
.text td:nth-child(1), .text td:nth-child(6) { overflow-wrap: anywhere; min-width: 12em }
.optimised { font-weight: bold; outline: 2px solid #222; outline-offset: -2px } .average { border-left: 3px solid #999 }
.scroll { overflow-x: auto } img { max-width: 100% } p, li { max-width: 60em }
'''


def write_report(table, folder):
    """Write all forms of a gain table.

    Args:
        table (basicsr_nriqa.study.relative_gain.GainTable): The numbers.
        folder (str | Path): Where to; made if missing, files of earlier reports are replaced.

    Returns:
        list[Path]: ``table.csv`` (all digits, no marks), ``table.md``, ``figure.png`` and ``report.html``.
    """
    folder = Path(folder)
    figure = draw_figure(table)
    contents = {'table.csv': csv_table(table), 'table.md': markdown_table(table), 'figure.png': figure,
                'report.html': html_page(table, figure)}
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return [folder / name for name in contents]


def format_gain(gain):
    """A gain with its sign, one decimal below ten and none above, so that a column stays narrow: +0.3, -4.0, +83."""
    if np.isnan(gain):
        return 'n/a'
    text = f'{gain:+.1f}' if abs(gain) < 9.95 else f'{gain:+.0f}'
    return '0.0' if text in ('+0.0', '-0.0') else text


def console_table(table):
    """The table as aligned plain text; a star marks what the row's loss optimised."""
    header, *rows = _cells(table)
    rows = [[row[0], *(text + ('*' if mark else ' ') for text, mark in zip(row[1:], [*marks, False]))]
            for row, marks in zip(rows, table.optimised)]
    header = [header[0], *(name + ' ' for name in header[1:])]
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    lines = ['  '.join([row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:]))])
             for row in [header, *rows]]
    lines.insert(1, '-' * len(lines[0]))
    lines.append('Relative gain over the baseline in percent, positive is better. * optimised by this loss.')
    return '\n'.join(line.rstrip() for line in [*lines, *table.notes])


def csv_table(table):
    """The table as CSV with the columns of Fig. 2: ``loss``, one per metric, ``Average``; empty where not available."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['loss', *table.metrics, 'Average'])
    for loss, gains, average in zip(table.losses, table.gains, table.average):
        writer.writerow([loss, *('' if np.isnan(gain) else repr(float(gain)) for gain in (*gains, average))])
    return text.getvalue()


def markdown_table(table):
    """The table as Markdown; what the row's loss optimised is bold."""
    header, *rows = [[re.sub(r'([\\`*|<>\[\]])', r'\\\1', ' '.join(text.split())) for text in row]
                     for row in _cells(table)]
    for row, marks in zip(rows, table.optimised):
        row[1:-1] = [f'**{text}**' if mark else text for text, mark in zip(row[1:-1], marks)]
    lines = [header, ['---', *['---:'] * (len(header) - 1)], *rows]
    text = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
    notes = ''.join(f'\n- {note}' for note in table.notes)
    return f'{text}\n\n{CAPTION.replace("Framed bold", "Bold")}\n{notes}\n'.replace('\n\n\n', '\n\n').rstrip() + '\n'


def draw_figure(table):
    """Draw the matrix of Fig. 2: rows are losses, columns are metrics and their average, colours are gains.

    The colours are centred at zero and saturate at the 90th percentile of the absolute gains, held between 5 and 30 %,
    so that one extreme gain does not wash out the others.

    Args:
        table (basicsr_nriqa.study.relative_gain.GainTable): The numbers.

    Returns:
        bytes: A PNG file; the same for the same table.
    """
    header, *texts = [[text.replace('$', r'\$') for text in row] for row in _cells(table)]
    gains = np.column_stack([table.gains, table.average])
    limit = _colour_limit(gains)
    row_count, column_count = gains.shape

    left = max(_inches(text) for text in [header[0], *(row[0] for row in texts)]) + 0.3
    widest = max(map(_inches, header[1:])) + 0.14
    column = min(max(widest, _SMALLEST_COLUMN), 0.95)
    slanted = widest > column
    top = 0.75 * widest + 0.15 if slanted else 0.35
    matrix_width = column * (column_count + _GAP)
    width = left + matrix_width + (0.75 * widest if slanted else 0.15)
    width = max(width, 4.5)  # room for the caption
    caption = textwrap.fill(CAPTION, int((width - 0.3) * 72 / _CAPTION_FONT * 1.95))
    bottom = 0.75 + 0.16 * (caption.count('\n') + 1)
    height = top + _ROW * row_count + bottom

    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor='white')
    FigureCanvasAgg(figure)
    # one unit of x is a column and one unit of y is a row; the labels are drawn outside of the axes
    axes = figure.add_axes((left / width, bottom / height, matrix_width / width, _ROW * row_count / height))
    axes.set(xlim=(0, column_count + _GAP), ylim=(row_count, 0))
    axes.axis('off')
    x = np.arange(column_count) + _GAP * (np.arange(column_count) == column_count - 1)
    for i, row in enumerate(texts):
        axes.text(-0.1 / column, i + 0.5, row[0], ha='right', va='center', fontsize=_FONT)
        for j, gain in enumerate(gains[i]):
            optimised = j < len(table.metrics) and table.optimised[i, j]
            colour = _colour(gain, limit)
            axes.add_patch(Rectangle((x[j], i), 1, 1, facecolor=colour, edgecolor='white', linewidth=1))
            if optimised:
                axes.add_patch(Rectangle((x[j] + 0.05, i + 0.09), 0.9, 0.82, fill=False, edgecolor='#111111',
                                         linewidth=1.6, zorder=3))
            bold = optimised or j == column_count - 1
            axes.text(x[j] + 0.5, i + 0.52, _typeset(gain), ha='center', va='center',
                      fontsize=_FONT, color=_ink(colour), fontweight='bold' if bold else 'normal')
    for j, text in enumerate(header[1:]):
        place = {'ha': 'left', 'rotation': 45, 'rotation_mode': 'anchor'} if slanted else {'ha': 'center'}
        axes.text(x[j] + 0.5, -0.25, text, va='bottom', fontsize=_FONT, clip_on=False,
                  fontweight='bold' if j == column_count - 1 else 'normal', **place)
    axes.text(-0.1 / column, -0.25, header[0], ha='right', va='bottom', fontsize=_FONT, fontweight='bold')
    _draw_colour_bar(figure, limit, (left / width, (bottom - 0.3) / height,
                                     min(matrix_width, 3) / width, 0.12 / height))
    figure.text(0.15 / width, (bottom - 0.66) / height, caption, va='top', fontsize=_CAPTION_FONT, color='#444444')
    png = io.BytesIO()
    figure.savefig(png, format='png', metadata={'Software': None})
    return png.getvalue()


def html_page(table, figure):
    """The whole report as one page that needs no other file.

    Args:
        table (basicsr_nriqa.study.relative_gain.GainTable): The numbers.
        figure (bytes): PNG file of :func:`draw_figure`.

    Returns:
        str: HTML; every name that comes from a score file is escaped.
    """
    limit = _colour_limit(np.column_stack([table.gains, table.average]))
    parts = ['<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Relative gain</title>',
             f'<style>{_STYLE}</style>\n</head>\n<body>\n<h1>Relative gain of losses over the baseline</h1>',
             f'<p>{_escape(CAPTION)}</p>', _html_gains(table, table.losses, table.gains, limit)]
    if table.notes:
        parts.append(f'<ul>{"".join(f"<li>{_escape(note)}</li>" for note in table.notes)}</ul>')
    image = base64.b64encode(figure).decode()
    parts.append(f'<h2>Figure</h2>\n<p><img alt="Matrix of relative gains" src="data:image/png;base64,{image}"></p>')
    if table.baselines:
        parts.append('<h2>Scores of the baseline</h2>\n<p>Mean over videos; ↑ higher is better, ↓ lower is better.</p>')
        arrows = ['↓' if table.lower_better[metric] else '↑' for metric in table.metrics]
        header = ['Model', 'Dataset', *(f'{metric} {arrow}' for metric, arrow in zip(table.metrics, arrows))]
        parts.append(_html_table(header, [[model, dataset, *(f'{means[metric]:.4g}' for metric in table.metrics)]
                                          for (model, dataset), means in table.baselines.items()]))
    if len(table.group_gains) > 1:
        parts.append('<h2>Each model and dataset</h2>')
        for (model, dataset), rows in table.group_gains.items():
            losses = [loss for loss in table.losses if loss in rows]
            if losses:
                parts.append(f'<h3>{_escape(model)}, {_escape(dataset)}</h3>')
                parts.append(_html_gains(table, losses, np.stack([rows[loss] for loss in losses]), limit))
    if table.sources:
        rows = [[str(path), scores['model'], scores['loss'], scores['dataset'], str(len(scores['videos'])),
                 scores['checkpoint'] or 'none',
                 ', '.join(f'{package} {version}' for package, version in scores['versions'].items())]
                for path, scores in table.sources.items()]
        header = ['Score file', 'Model', 'Loss', 'Dataset', 'Videos', 'Checkpoint', 'Versions']
        parts.append(f'<h2>Score files</h2>\n{_html_table(header, rows, "text")}')
    return '\n'.join([*parts, '</body>\n</html>\n'])


def _cells(table):
    """Header and rows of the table as text, without marks."""
    return [['Loss', *table.metrics, 'Average'],
            *([loss, *map(format_gain, gains), format_gain(average)]
              for loss, gains, average in zip(table.losses, table.gains, table.average))]


def _typeset(gain):
    return format_gain(gain).replace('-', '\N{MINUS SIGN}')


def _colour_limit(gains):
    finite = np.abs(gains[np.isfinite(gains)])
    return float(np.clip(np.percentile(finite, 90), 5, 30)) if finite.size else 5.0


def _colour(gain, limit):
    if np.isnan(gain):
        return '#e0e0e0'
    return to_hex(_COLOURS(Normalize(-limit, limit)(gain)))


def _ink(colour):
    """Black or white, whichever is readable on this colour."""
    return '#111111' if np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) > 0.5 else '#ffffff'


def _inches(text):
    return TextPath((0, 0), text, size=_FONT).get_extents().width / 72


def _draw_colour_bar(figure, limit, place):
    axes = figure.add_axes(place)
    axes.imshow(np.linspace(-1, 1, 256)[None], aspect='auto', cmap=_COLOURS, extent=(-limit, limit, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([-limit, 0, limit], [f'≤ \N{MINUS SIGN}{limit:.0f} %', '0', f'≥ +{limit:.0f} %'],
                    fontsize=_CAPTION_FONT - 1)
    axes.tick_params(length=2)
    for spine in axes.spines.values():
        spine.set_linewidth(0.4)


def _html_gains(table, losses, gains, limit):
    lines = []
    for loss, row in zip(losses, gains):
        marks = [*table.optimised[table.losses.index(loss)], False]
        cells = [f'<td>{_escape(loss)}</td>']
        for j, (gain, optimised) in enumerate(zip((*row, row.mean()), marks)):
            colour = _colour(gain, limit)
            kinds = ' '.join(['optimised'] * bool(optimised) + ['average'] * (j == len(row)))
            attribute = f' class="{kinds}"' if kinds else ''
            cells.append(f'<td{attribute} style="background:{colour};color:{_ink(colour)}">{_typeset(gain)}</td>')
        lines.append(f'<tr>{"".join(cells)}</tr>')
    return _html_frame(['Loss', *table.metrics, 'Average'], lines)


def _html_table(header, rows, kind=''):
    lines = [f'<tr>{"".join(f"<td>{_escape(text)}</td>" for text in row)}</tr>' for row in rows]
    return _html_frame(header, lines, kind)


def _html_frame(header, lines, kind=''):
    head = ''.join(f'<th>{_escape(text)}</th>' for text in header)
    body = '\n'.join(lines)
    return f'<div class="scroll"><table class="{kind}">\n<tr>{head}</tr>\n{body}\n</table></div>'


def _escape(text):
    return html.escape(str(text))
