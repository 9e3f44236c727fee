"""The matrix of gains as a figure for papers, in the form of the paper's Fig. 2."""
import io
import textwrap

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath

from basicsr_nriqa.study.table_text import JUDGE, caption, cells, format_gain

_COLOURS = LinearSegmentedColormap.from_list('gain', ['#c0392b', '#f0a59b', '#fafafa', '#9fd3a8', '#1e8449'])
_DPI = 150
_ROW, _SMALLEST_COLUMN = 0.34, 0.62  # inches
_GAP = 0.1  # columns, between judges, other metrics and averages
_FONT, _CAPTION_FONT = 9, 8  # points


def draw_figure(table, file_format='png', decimals=None):
    """Draw the matrix of Fig. 2: rows are losses, columns are metrics and their average, colours are gains.

    Judges, the metrics that no loss optimised, stand apart with a dagger behind their names; their mean is the last
    column.

    The colours are centred at zero and saturate at the 90th percentile of the absolute gains, held between 5 and 30 %,
    so that one extreme gain does not wash out the others.

    Args:
        table (basicsr_nriqa.study.relative_gain.GainTable): The numbers.
        file_format (str): ``'png'``, or ``'pdf'`` with its fonts embedded.
        decimals (int | None): See :func:`basicsr_nriqa.study.table_text.format_gain`.

    Returns:
        bytes: The file; the same for the same table.
    """
    header, *texts = [[text.replace('$', r'\$') for text in row] for row in cells(table)]
    header[1:] = [name + JUDGE * (j < len(table.judges)) for j, name in enumerate(header[1:])]
    gains, _, _ = table.views[None, None].with_means()
    limit = colour_limit(table)
    row_count, column_count = gains.shape
    gaps = [count for count in (len(table.judges), len(table.metrics)) if count]

    left = max(_inches(text) for text in [header[0], *(row[0] for row in texts)]) + 0.3
    widest = max(map(_inches, header[1:])) + 0.14
    column = min(max(widest, _SMALLEST_COLUMN), 0.95)
    slanted = widest > column
    top = 0.75 * widest + 0.15 if slanted else 0.35
    x = np.arange(column_count) + _GAP * sum(np.arange(column_count) >= gap for gap in gaps)
    matrix_width = column * (x[-1] + 1)
    width = left + matrix_width + max(0.3, 0.75 * widest * slanted)  # room for the end of the colour bar's labels
    width = max(width, 4.5)  # room for the caption
    explained = textwrap.fill(caption(table), int((width - 0.3) * 72 / _CAPTION_FONT * 1.95))
    bottom = 0.75 + 0.16 * (explained.count('\n') + 1)
    height = top + _ROW * row_count + bottom

    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor='white')
    FigureCanvasAgg(figure)
    # one unit of x is a column and one unit of y is a row; the labels are drawn outside of the axes
    axes = figure.add_axes((left / width, bottom / height, matrix_width / width, _ROW * row_count / height))
    axes.set(xlim=(0, x[-1] + 1), ylim=(row_count, 0))
    axes.axis('off')
    for i, row in enumerate(texts):
        axes.text(-0.1 / column, i + 0.5, row[0], ha='right', va='center', fontsize=_FONT)
        for j, gain in enumerate(gains[i]):
            optimised = j < len(table.metrics) and table.optimised[i, j]
            paint = colour(gain, limit)
            axes.add_patch(Rectangle((x[j], i), 1, 1, facecolor=paint, edgecolor='white', linewidth=1))
            if optimised:
                axes.add_patch(Rectangle((x[j] + 0.05, i + 0.09), 0.9, 0.82, fill=False, edgecolor='#111111',
                                         linewidth=1.6, zorder=3))
            bold = optimised or j >= len(table.metrics)
            axes.text(x[j] + 0.5, i + 0.52, typeset(gain, decimals), ha='center', va='center',
                      fontsize=_FONT, color=ink(paint), fontweight='bold' if bold else 'normal')
    for j, text in enumerate(header[1:]):
        place = {'ha': 'left', 'rotation': 45, 'rotation_mode': 'anchor'} if slanted else {'ha': 'center'}
        axes.text(x[j] + 0.5, -0.25, text, va='bottom', fontsize=_FONT, clip_on=False,
                  fontweight='bold' if j >= len(table.metrics) else 'normal', **place)
    axes.text(-0.1 / column, -0.25, header[0], ha='right', va='bottom', fontsize=_FONT, fontweight='bold')
    _draw_colour_bar(figure, limit, (left / width, (bottom - 0.3) / height,
                                     min(matrix_width, 3) / width, 0.12 / height))
    figure.text(0.15 / width, (bottom - 0.66) / height, explained, va='top', fontsize=_CAPTION_FONT, color='#444444')
    return figure_file(figure, file_format)


def figure_file(figure, file_format):
    """A matplotlib figure as the bytes of a file that says nothing of when it was made."""
    # no dates and random names: the same figure gives the same bytes; Type 42 is what publishers ask for
    metadata = {'png': {'Software': None}, 'pdf': {'CreationDate': None, 'Producer': None}}[file_format]
    data = io.BytesIO()
    # images as one picture, which is the default, takes minutes for a hundred crops
    with matplotlib.rc_context({'pdf.fonttype': 42, 'image.composite_image': False}):
        figure.savefig(data, format=file_format, metadata=metadata)
    return data.getvalue()


def typeset(gain, decimals=None):
    return format_gain(gain, decimals).replace('-', '\N{MINUS SIGN}')


def colour_limit(table):
    """The gain at which the colours of a table saturate, percent; the mean over judges does not change it."""
    gains = np.column_stack([table.gains, table.average])
    finite = np.abs(gains[np.isfinite(gains)])
    return float(np.clip(np.percentile(finite, 90), 5, 30)) if finite.size else 5.0


def colour(gain, limit):
    if np.isnan(gain):
        return '#e0e0e0'
    return to_hex(_COLOURS(Normalize(-limit, limit)(gain)))


def ink(colour):
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
