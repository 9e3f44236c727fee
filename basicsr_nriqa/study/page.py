"""The report as one HTML page that needs no other file."""
import base64
import html

import numpy as np

from basicsr_nriqa.study.figures import colour, colour_limit, ink, typeset
from basicsr_nriqa.study.table_text import CAPTION

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


def html_page(table, figure):
    """The whole report as one page that needs no other file.

    Args:
        table (basicsr_nriqa.study.relative_gain.GainTable): The numbers.
        figure (bytes): PNG file of :func:`draw_figure`.

    Returns:
        str: HTML; every name that comes from a score file is escaped.
    """
    limit = colour_limit(np.column_stack([table.gains, table.average]))
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


def _html_gains(table, losses, gains, limit):
    lines = []
    for loss, row in zip(losses, gains):
        marks = [*table.optimised[table.losses.index(loss)], False]
        cells = [f'<td>{_escape(loss)}</td>']
        for j, (gain, optimised) in enumerate(zip((*row, row.mean()), marks)):
            paint = colour(gain, limit)
            kinds = ' '.join(['optimised'] * bool(optimised) + ['average'] * (j == len(row)))
            attribute = f' class="{kinds}"' if kinds else ''
            cells.append(f'<td{attribute} style="background:{paint};color:{ink(paint)}">{typeset(gain)}</td>')
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
