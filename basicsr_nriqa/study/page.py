"""The report as one HTML page that needs no other file and no network."""
import base64
import hashlib
from functools import cache
from importlib import resources
from string import Template

from plotly.offline import get_plotlyjs

from basicsr_nriqa.study import page_sections
from basicsr_nriqa.study.curves import grouped
from basicsr_nriqa.study.markup import embedded_json, escape
from basicsr_nriqa.study.page_pictures import pictures_section
from basicsr_nriqa.study.table_text import CAPTION
from basicsr_nriqa.version import __version__

TITLE = 'Relative gain of losses over the baseline'
_SCRIPTS = ('table.js', 'charts.js', 'pictures.js', 'report.js')


def html_page(table, *, flags=(), curves=(), scenes=(), options=(), artifacts=(), missing=(), title=TITLE,
              decimals=None):
    """The whole report as one page that needs no other file.

    Without JavaScript it shows all tables and pictures; with it, one at a time, sortable, and charts. Its content
    security policy allows no request at all, and no script but its own, which it names by their digests.

    Args:
        table (basicsr_nriqa.study.relative_gain.GainTable): The numbers.
        flags (Sequence[basicsr_nriqa.study.flags.Flag]): Warnings.
        curves (Sequence[basicsr_nriqa.study.curves.Curves]): Trainings.
        scenes (Sequence[basicsr_nriqa.study.scenes.Scene]): Pictures.
        options (Sequence[tuple[str, str]]): Title and text of option files.
        artifacts (Sequence[dict]): Contents of artifact files, see :mod:`basicsr_nriqa.study.artifacts`.
        missing (Sequence[tuple[str, str, str]]): Runs that are not there: name, reason, end of the log or nothing.
        title (str): The page's.
        decimals (int | None): How gains are printed at first, see :func:`basicsr_nriqa.study.table_text.format_gain`.

    Returns:
        str: HTML; everything that comes from files is escaped. The same for the same arguments.
    """
    sections = {
        'gains': ('Relative gains', page_sections.gains_section(table, flags, decimals)),
        'loss': ('One loss, with intervals', page_sections.loss_section(table)),
        'warnings': ('Warnings', page_sections.flags_section(table, flags, bool(artifacts))),
        'pictures': ('Pictures', pictures_section(scenes)),
        'training-curves': ('Training curves', page_sections.curves_section(curves)),
        'checks': ('Checks of the frames', page_sections.artifacts_section(artifacts)),
        'missing': ('Failed or missing runs', page_sections.missing_section(missing)),
        'baselines': ('Scores of the baselines', page_sections.baselines_section(table)),
        'sources': ('Options, versions and files', page_sections.sources_section(table, options))}
    sections = {name: part for name, part in sections.items() if part[1]}
    scripts = [get_plotlyjs(), '\n'.join(['"use strict";', *map(_file, _SCRIPTS)])]
    return Template(_file('report.html')).substitute(
        title=escape(title), lead=escape(CAPTION), facts=_facts(table, flags, missing), version=escape(__version__),
        policy=' '.join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
                        for text in scripts),
        style=_file('report.css'), data=embedded_json(_data(curves, artifacts)),
        links='\n'.join(f'<li><a href="#{name}">{escape(heading)}</a></li>'
                        for name, (heading, _) in sections.items()),
        sections='\n\n'.join(f'<section id="{name}" aria-labelledby="{name}-heading">\n'
                             f'<h2 id="{name}-heading">{escape(heading)}</h2>\n{content}\n</section>'
                             for name, (heading, content) in sections.items()),
        scripts='\n'.join(f'<script>{text}</script>' for text in scripts))


def _facts(table, flags, missing):
    facts = [(len(table.losses), 'loss', 'losses', 'gains'), (len(table.models), 'model', 'models', 'gains'),
             (len(table.datasets), 'dataset', 'datasets', 'gains'), (len(table.metrics), 'metric', 'metrics', 'gains'),
             (len({flag.loss for flag in flags}), 'loss with warnings', 'losses with warnings', 'warnings')]
    if missing:
        facts.append((len(missing), 'run failed or missing', 'runs failed or missing', 'missing'))
    return '\n'.join(f'<li><a href="#{section}"><strong>{count}</strong> {one if count == 1 else many}</a></li>'
                     for count, one, many, section in facts)


def _data(curves, artifacts):
    """What the page's script draws; all else it takes from the tables."""
    return {
        'curves': [{title: [{'name': name, 'x': iterations.tolist(), 'y': [float(f'{value:.4g}') for value in values]}
                            for name, (iterations, values) in members.items()]
                    for title, members in grouped(run.series).items()} for run in curves if run.series],
        'spectra': [{'map': content['spectrum']['log_power'],
                     'peaks': [[*peak['frequency'], peak['ratio']] for peak in content['spectrum']['peaks']]}
                    for content in artifacts]}


@cache
def _file(name):
    return resources.files('basicsr_nriqa.study').joinpath('page_files', name).read_text(encoding='utf-8')
