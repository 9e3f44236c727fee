"""The gain table as text: console, CSV and Markdown."""
import csv
import io
import re

import numpy as np

CAPTION = ('Relative gain over the baseline in percent; positive is better for every metric. Rows: what was added to '
           'the loss; columns: metrics, averaged over videos, then gains over models and datasets. Framed bold cells: '
           'the loss contained this very metric, and improving what is optimised is no evidence for better quality.')


def format_gain(gain):
    """A gain with its sign, one decimal below ten and none above, so that a column stays narrow: +0.3, -4.0, +83."""
    if np.isnan(gain):
        return 'n/a'
    text = f'{gain:+.1f}' if abs(gain) < 9.95 else f'{gain:+.0f}'
    return '0.0' if text in ('+0.0', '-0.0') else text


def console_table(table):
    """The table as aligned plain text; a star marks what the row's loss optimised."""
    header, *rows = cells(table)
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
                     for row in cells(table)]
    for row, marks in zip(rows, table.optimised):
        row[1:-1] = [f'**{text}**' if mark else text for text, mark in zip(row[1:-1], marks)]
    lines = [header, ['---', *['---:'] * (len(header) - 1)], *rows]
    text = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
    notes = ''.join(f'\n- {note}' for note in table.notes)
    return f'{text}\n\n{CAPTION.replace("Framed bold", "Bold")}\n{notes}\n'.replace('\n\n\n', '\n\n').rstrip() + '\n'


def cells(table):
    """Header and rows of the table as text, without marks."""
    return [['Loss', *table.metrics, 'Average'],
            *([loss, *map(format_gain, gains), format_gain(average)]
              for loss, gains, average in zip(table.losses, table.gains, table.average))]
