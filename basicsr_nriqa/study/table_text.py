"""The gain table as text: console, CSV and Markdown. Metrics have the names of Fig. 2."""
import csv
import io
import re
import unicodedata
from itertools import zip_longest

import numpy as np

CAPTION = ('Relative gain over the baseline in percent; positive is better for every metric. Rows: what was added to '
           'the loss; columns: metrics, averaged over videos, then gains over models and datasets. Framed bold cells: '
           'the loss contained this very metric, and improving what is optimised is no evidence for better quality.')
JUDGE = '\N{DAGGER}'  # behind the heading of a judge
_JUDGES = (f'{JUDGE} A judge: a metric that no loss of this table contained. The column Judges is the mean of their '
           'gains.')
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
        list[list[str]]: Loss and the columns of the table, (1 + losses) lines.
    """
    gains, lows, highs = table.views[None, None].with_means()
    texts = [[format_gain(gain, decimals) for gain in row] for row in gains]
    if intervals:
        texts = [[f'{text} {format_interval(*ends, decimals)}'.rstrip() for text, *ends in zip(*row)]
                 for row in zip(texts, lows, highs)]
    return [['Loss', *table.columns], *([loss, *row] for loss, row in zip(table.losses, texts))]


def caption(table):
    """What rows, columns and marks of a figure or printed table mean; judges have a dagger behind their names."""
    return f'{CAPTION} {_JUDGES}' if table.judges else CAPTION


def console_table(table, decimals=None, intervals=False):
    """The table as aligned plain text; a star marks what the row's loss optimised, a dagger the metrics that none did.

    Arguments: see :func:`cells`.
    """
    header, *rows = cells(table, decimals, intervals)
    rows = [[row[0], *(text + ('*' if mark else ' ') for text, mark in zip_longest(row[1:], marks))]
            for row, marks in zip(rows, table.optimised)]
    header = [header[0], *(name + (JUDGE if i < len(table.judges) else ' ') for i, name in enumerate(header[1:]))]
    widths = [max(map(_width, column)) for column in zip(header, *rows)]
    lines = []
    for row in [header, *rows]:
        first, *others = [' ' * (width - _width(text)) for text, width in zip(row, widths)]
        lines.append('  '.join([row[0] + first, *(blanks + text for blanks, text in zip(others, row[1:]))]))
    lines.insert(1, '-' * _width(lines[0]))
    lines.append('Relative gain over the baseline in percent, positive is better. * optimised by this loss.')
    lines += [_JUDGES] * bool(table.judges) + [_INTERVALS] * bool(intervals)
    return '\n'.join(line.rstrip() for line in [*lines, *table.notes])


def _width(text):
    """Columns of a terminal: two for a wide East Asian character, none for an accent on the one before."""
    return sum(0 if unicodedata.category(character) in ('Mn', 'Me', 'Cf') else
               1 + (unicodedata.east_asian_width(character) in 'WF') for character in text)


def markdown_table(table, decimals=None, intervals=False):
    """The table as Markdown; what the row's loss optimised is bold, a dagger marks the metrics that none optimised.

    Arguments: see :func:`cells`.
    """
    header, *rows = [[*map(_as_markdown, row)] for row in cells(table, decimals, intervals)]
    for row, marks in zip(rows, table.optimised):
        row[1:] = [f'**{text}**' if mark else text for text, mark in zip_longest(row[1:], marks)]
    for i, _ in enumerate(table.judges, 1):
        header[i] += JUDGE
    lines = [header, ['---', *['---:'] * (len(header) - 1)], *rows]
    text = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
    explained = caption(table).replace('Framed bold', 'Bold') + (f' {_INTERVALS}' if intervals else '')
    notes = ''.join(f'\n- {_as_markdown(note)}' for note in table.notes)
    return f'{text}\n\n{explained}\n{notes}\n'.replace('\n\n\n', '\n\n').rstrip() + '\n'


def _as_markdown(text):
    return re.sub(r'([\\`*|<>\[\]])', r'\\\1', ' '.join(text.split()))


def csv_table(table):
    """The table as CSV with the columns of Fig. 2: ``loss``, one per metric, ``Average``; empty where not available.

    If there are judges, their metrics come first, and a column ``Judges`` after ``Average`` has their mean.
    """
    gains, _, _ = table.views[None, None].with_means()
    return _csv([['loss', *table.columns], *([loss, *map(_number, row)] for loss, row in zip(table.losses, gains))])


def csv_intervals(table):
    """Every gain with its 95 % interval as CSV, one a line, all digits.

    Args:
        table (basicsr_nriqa.study.relative_gain.GainTable): The numbers.

    Returns:
        str: Columns ``loss, model, dataset, metric, gain, low, high, judge``; model and dataset are ``all`` in
        averages, the metric is ``Average`` in the mean over all and ``Judges`` in that over the judges; judge is
        ``yes`` for the metrics that are judges, else empty; numbers are empty where not available.
    """
    lines = [['loss', 'model', 'dataset', 'metric', 'gain', 'low', 'high', 'judge']]
    judge = ['yes' if metric in table.judges else '' for metric in table.metrics]
    for (model, dataset), view in table.views.items():
        for loss, *rows in zip(view.losses, *view.with_means()):
            lines += [[loss, model or _ALL, dataset or _ALL, metric, *map(_number, gain_and_ends), mark]
                      for mark, metric, *gain_and_ends in zip_longest(judge, table.columns, *rows, fillvalue='')]
    return _csv(lines)


def _number(value):
    return '' if np.isnan(value) else repr(float(value))


def _csv(lines):
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows(lines)
    return text.getvalue()
