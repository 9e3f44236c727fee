"""Writing the study's results for people: tables, the figures of the paper's Figs. 1 to 3, one page."""
import re
from pathlib import Path

from basicsr_nriqa.files import write_atomically
from basicsr_nriqa.study.figures import draw_figure
from basicsr_nriqa.study.page import TITLE, html_page
from basicsr_nriqa.study.scene_figures import draw_grid, draw_scene
from basicsr_nriqa.study.table_text import csv_intervals, csv_table, markdown_table

_FORMATS = ('png', 'pdf')


def write_report(table, folder, *, flags=(), curves=(), scenes=(), options=(), artifacts=(), missing=(), title=TITLE,
                 decimals=None, intervals=False):
    """Write all forms of a gain table, and the page with everything that is known besides.

    Args:
        table (basicsr_nriqa.study.relative_gain.GainTable): The numbers.
        folder (str | Path): Where to; made if missing, files of earlier reports are replaced.
        flags, curves, scenes, options, artifacts, missing, title: See :func:`basicsr_nriqa.study.page.html_page`.
        decimals (int | None): How gains are printed, on the page only at first, see
            :func:`basicsr_nriqa.study.table_text.format_gain`.
        intervals (bool): Put the 95 % intervals behind the gains of ``table.md``.

    Returns:
        list[Path]: ``table.csv`` and ``intervals.csv`` (all digits, no marks, but the latter says which metrics are
        judges), ``table.md``, ``figure.png`` and ``.pdf`` (Fig. 2), ``figure1_NUMBER.png`` and ``.pdf`` for each scene
        and ``figure3.png`` and ``.pdf`` if there are scenes, ``report.html``.

    Raises:
        NotADirectoryError: The folder is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f'{folder}: expected a folder for the report, and this is a file; name another')
    scenes = list(scenes)
    contents = {'table.csv': csv_table(table), 'intervals.csv': csv_intervals(table),
                'table.md': markdown_table(table, decimals, intervals)}
    for file_format in _FORMATS:
        contents[f'figure.{file_format}'] = draw_figure(table, file_format, decimals)
        for number, scene in enumerate(scenes, 1):
            contents[f'figure1_{number}.{file_format}'] = draw_scene(scene, file_format)
        if scenes:
            contents[f'figure3.{file_format}'] = draw_grid(scenes, file_format)
    contents['report.html'] = html_page(
        table, flags=tuple(flags), curves=tuple(curves), scenes=scenes, options=tuple(options),
        artifacts=tuple(artifacts), missing=tuple(missing), title=title, decimals=decimals)
    for name, content in contents.items():
        write_atomically(folder / name, content)
    for path in folder.glob('figure[13]*.p[nd][gf]'):
        if path.name not in contents and re.fullmatch(r'figure(1_\d+|3)\.(png|pdf)', path.name):
            path.unlink()  # of an earlier report with more scenes
    return [folder / name for name in contents]
