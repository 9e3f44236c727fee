"""Writing the study's results for people: a table in several forms, the figure of the paper's Fig. 2, one page."""
from pathlib import Path

from basicsr_nriqa.files import write_atomically
from basicsr_nriqa.study.figures import draw_figure
from basicsr_nriqa.study.page import html_page
from basicsr_nriqa.study.table_text import csv_table, markdown_table


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
