"""The gain table as text: console, CSV and Markdown. Metrics have the names of Fig. 2."""
import csv
import io
import re
import unicodedata

import numpy as np

from basicsr_nriqa.study.metric_names import shown_name

CAPTION = ('Relative gain over the baseline in percent; positive is better for every metric. Rows: what was added to '
           'the loss; columns: metrics, averaged over videos, then gains over models and datasets. Framed bold cells: '
           'the loss contained this very metric, and improving what is optimised is no evidence for better quality.')
_INTERVALS = 'In brackets: 95 % intervals, from drawing the videos again and again (bootstrap).'
_ALL = 'all'


def format_gain(gain, decimals=None):
    """A gain with its sign.

    Args:
        gain (float): Percent.
        decimals (int | None): How many; 0 is as in Fig. 2, where a small gain is +0 or -0. None: one decimal below ten
            and none above, so that a column stays narrow, and 0.0 has no sign: +0.3, -4.0, +83.

    Returns:
        str: ``n/a`` for NaN.
    """
    if np.isnan(gain):
        return 'n/a'
    gain = gain + 0.0  # -0.0 is a gain of nothing, which Fig. 2 would print as +0
    if decimals is not None:
        return f'{gain:+.{decimals}f}'
    text = f'{gain:+.1f}' if abs(gain) < 9.95 else f'{gain:+.0f}'
    return '0.0' if text in ('+0.0', '-0.0') else text


def format_interval(low, high, decimals=None):
    """The ends of an interval as :func:`format_gain` prints them: ``[-4.0, +12]``; nothing where there is none."""
    return '' if np.isnan([low, high]).any() else f'[{format_gain(low, decimals)}, {format_gain(high, decimals)}]'


def cells(table, decimals=None, intervals=False):
    """Header and rows of the table as text, without marks.

    Args:
        table (basicsr_nriqa.study.relative_gain.GainTable): The numbers.
        decimals (int | None): See :func:`format_gain`.
        intervals (bool): Put the 95 % interval behind every gain.

    Returns:
        list[list[str]]: Loss, metrics and average, (1 + losses) lines.
    """
    texts = [[format_gain(gain, decimals) for gain in row] for row in np.column_stack([table.gains, table.average])]
    if intervals:
        _, lows, highs = _with_average(table.views[None, None])
        texts = [[f'{text} {format_interval(*ends, decimals)}'.rstrip() for text, *ends in zip(*row)]
                 for row in zip(texts, lows, highs)]
    return [['Loss', *map(shown_name, table.metrics), 'Average'],
            *([loss, *row] for loss, row in zip(table.losses, texts))]


def console_table(table, decimals=None, intervals=False):
    """The table as aligned plain text; a star marks what the row's loss optimised. Arguments: see :func:`cells`."""
    header, *rows = cells(table, decimals, intervals)
    rows = [[row[0], *(text + ('*' if mark else ' ') for text, mark in zip(row[1:], [*marks, False]))]
            for row, marks in zip(rows, table.optimised)]
    header = [header[0], *(name + ' ' for name in header[1:])]
    widths = [max(map(_width, column)) for column in zip(header, *rows)]
    lines = []
    for row in [header, *rows]:
        first, *others = [' ' * (width - _width(text)) for text, width in zip(row, widths)]
        lines.append('  '.join([row[0] + first, *(blanks + text for blanks, text in zip(others, row[1:]))]))
    lines.insert(1, '-' * _width(lines[0]))
    lines.append('Relative gain over the baseline in percent, positive is better. * optimised by this loss.')
    return '\n'.join(line.rstrip() for line in [*lines, *([_INTERVALS] if intervals else []), *table.notes])


def _width(text):
    """Columns of a terminal: two for a wide East Asian character, none for an accent on the one before."""
    return sum(0 if unicodedata.category(character) in ('Mn', 'Me', 'Cf') else
               1 + (unicodedata.east_asian_width(character) in 'WF') for character in text)


def markdown_table(table, decimals=None, intervals=False):
    """The table as Markdown; what the row's loss optimised is bold. Arguments: see :func:`cells`."""
    header, *rows = [[*map(_as_markdown, row)] for row in cells(table, decimals, intervals)]
    for row, marks in zip(rows, table.optimised):
        row[1:-1] = [f'**{text}**' if mark else text for text, mark in zip(row[1:-1], marks)]
    lines = [header, ['---', *['---:'] * (len(header) - 1)], *rows]
    text = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
    caption = CAPTION.replace('Framed bold', 'Bold') + (f' {_INTERVALS}' if intervals else '')
    notes = ''.join(f'\n- {_as_markdown(note)}' for note in table.notes)
    return f'{text}\n\n{caption}\n{notes}\n'.replace('\n\n\n', '\n\n').rstrip() + '\n'


def _as_markdown(text):
    return re.sub(r'([\\`*|<>\[\]])', r'\\\1', ' '.join(text.split()))


def csv_table(table):
    """The table as CSV with the columns of Fig. 2: ``loss``, one per metric, ``Average``; empty where not available."""
    gains = np.column_stack([table.gains, table.average])
    return _csv([['loss', *map(shown_name, table.metrics), 'Average'],
                 *([loss, *map(_number, row)] for loss, row in zip(table.losses, gains))])


def csv_intervals(table):
    """Every gain with its 95 % interval as CSV, one a line, all digits.

    Args:
        table (basicsr_nriqa.study.relative_gain.GainTable): The numbers.

    Returns:
        str: Columns ``loss, model, dataset, metric, gain, low, high``; model and dataset are ``all`` in averages, the
        metric is ``Average`` in the mean over all; empty where not available.
    """
    lines = [['loss', 'model', 'dataset', 'metric', 'gain', 'low', 'high']]
    columns = [*map(shown_name, table.metrics), 'Average']
    for (model, dataset), view in table.views.items():
        for loss, *rows in zip(view.losses, *_with_average(view)):
            lines += [[loss, model or _ALL, dataset or _ALL, metric, *map(_number, gain_and_ends)]
                      for metric, *gain_and_ends in zip(columns, *rows)]
    return _csv(lines)


def _with_average(view):
    """Gains and the low and high ends of their intervals, each (losses, metrics + 1)."""
    return [np.column_stack(pair) for pair in ((view.gains, view.average), (view.low, view.average_low),
                                               (view.high, view.average_high))]


def _number(value):
    return '' if np.isnan(value) else repr(float(value))


def _csv(lines):
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows(lines)
    return text.getvalue()
