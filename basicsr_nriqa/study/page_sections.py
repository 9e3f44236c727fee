"""The sections of the report's page: each function gives the HTML of one, or nothing where it has no content."""
import numpy as np

from basicsr_nriqa.study.artifact_flags import describe_perturbation
from basicsr_nriqa.study.curves import grouped
from basicsr_nriqa.study.heat_map import RULES, heat_maps, reason
from basicsr_nriqa.study.markup import details, escape, panels, select, table
from basicsr_nriqa.study.metric_names import shown_name

_RULES = {
    'reference': 'LPIPS, or another metric that sees the reference, became much worse where it was not optimised, or '
                 'hardly better where it was (the last observation of the paper).',
    'gaming': 'The gain of the optimised score is lost after mild JPEG compression, a mild blur or a shift by one '
              'pixel, which hardly change the picture.',
    'spectrum': 'What the tuning added to the pictures has peaks in its spectrum, as dots, grids and stripes do.'}

_HOW_TO_READ = [
    'Rows are losses: what was added to the Charbonnier loss for fine-tuning. Columns are metrics.',
    'A number is the relative gain over the baseline in percent (equation 1 of the paper): +5 means five percent '
    'better, also for metrics of which a lower score is better. Scores are averaged over the frames of a video and '
    'over the videos first; gains are then averaged over models and datasets.',
    'Point at a cell, or move to it with Tab and the arrow keys, for its 95 % interval: where the gain would lie had '
    'other videos of the same kind been tested (bootstrap over videos). An interval that includes 0 shows no '
    'difference.',
    'A framed, bold, starred number is a metric that the loss contained. That it improves is no evidence for better '
    'pictures.',
    'The order is that of the average over all metrics. It ranks losses, not pictures: look at the warnings and at the '
    'pictures, too.']

_HOW_TO_READ_JUDGES = (
    'Judges are metrics that no loss of this table contained: they did not become better by being optimised. They '
    'stand together, and the column Judges is the mean of their gains. A judge can still profit where it resembles a '
    'metric that was optimised, as PSNR resembles the Charbonnier loss.')

_HOW_TO_READ_CHECKS = [
    'They compare the saved frames of a fine-tuned model with those of its baseline, and need no reference.',
    'Every spectrum has a strongest frequency. Where its power is many times that of its surroundings and its '
    'amplitude can be seen, the difference has a regular pattern; there is a warning then, which names the thresholds.',
    'Gain kept: the share of the gain that the tuned model still has after the change, over the baseline before or '
    'after the same change, whichever scored worse. It is not available (n/a) where there was hardly any gain.',
    'A gain is positive where the score became better: ↑ higher is better, ↓ lower is better.']


def gains_section(gain_table, flags, decimals):
    notes = ''.join(f'<li>{escape(note)}</li>' for note in gain_table.notes)
    reading = ''.join(f'<li>{escape(line)}</li>'
                      for line in [*_HOW_TO_READ, *[_HOW_TO_READ_JUDGES] * bool(gain_table.judges)])
    return '\n'.join([details('How to read this table', f'<ul>{reading}</ul>'),
                      heat_maps(gain_table, flags, decimals), f'<ul class="notes">{notes}</ul>' if notes else ''])


def loss_section(gain_table):
    """A chart that the page's script draws from the table that is shown."""
    choice = select('choose-loss', 'Loss', {loss: loss for loss in gain_table.losses})
    return (f'<div data-js hidden><div class="controls">{choice}</div>\n'
            '<figure><div id="loss-chart" class="chart"></div><figcaption id="loss-caption" aria-live="polite">'
            '</figcaption></figure>\n'
            f'{details("The numbers of this chart", "<div id=loss-numbers></div>")}</div>\n'
            '<noscript><p>This chart needs JavaScript; its numbers are in the table above.</p></noscript>')


def flags_section(gain_table, flags, checked):
    """Warnings, loss by loss in the order of the table; first those about averages."""
    if not flags:
        return '<p>No loss has a warning.' + ('' if checked else ' Saved frames were not checked.') + '</p>'
    lead = ''.join(f'<dt>{escape(RULES[rule])}</dt><dd>{escape(_RULES[rule])}</dd>'
                   for rule in RULES if any(flag.rule == rule for flag in flags))
    parts = [f'<dl class="rules">{lead}</dl>']
    order = [*gain_table.losses, *sorted({flag.loss for flag in flags} - set(gain_table.losses))]
    for loss in order:
        mine = [flag for flag in flags if flag.loss == loss]
        if mine:
            general = [flag for flag in mine if flag.model is None and flag.dataset is None]
            single = [flag for flag in mine if flag not in general]
            parts.append(f'<h3><span class="flag" aria-hidden="true">⚑</span> {escape(loss)}</h3>')
            parts.append(_flag_list(general))
            if single:
                count = f'{len(single)} warning{"s" * (len(single) > 1)} about single models and datasets'
                parts.append(details(count, _flag_list(single), opened=not general and len(single) <= 3))
    return '\n'.join(filter(None, parts))


def _flag_list(flags):
    items = ''.join(f'<li><strong>{escape(RULES.get(flag.rule, flag.rule))}</strong>: {escape(reason(flag))}</li>'
                    for flag in flags)
    return f'<ul>{items}</ul>' if items else ''


def curves_section(curves):
    curves = [run for run in curves if run.series]
    if not curves:
        return ''
    choice, parts = panels('training', 'Training', [
        (f'{run.model}, {run.loss}', details(f'The numbers of {run.model}, {run.loss}', _curve_numbers(run)))
        for run in curves])
    titles = dict.fromkeys(title for run in curves for title in grouped(run.series))
    shown = select('choose-curves', 'Show', {title: title for title in titles})
    return (f'<div class="controls" data-js hidden>{choice}{shown}'
            '<span class="choice"><input type="checkbox" id="curves-log" autocomplete="off"> '
            '<label for="curves-log">Logarithmic</label></span></div>\n'
            '<figure data-js hidden><div id="curves-chart" class="chart"></div>'
            f'<figcaption id="curves-caption" aria-live="polite"></figcaption></figure>\n{parts}')


def _curve_numbers(run):
    rows = []
    for title, members in grouped(run.series).items():
        for name, (iterations, values) in members.items():
            finite = values[np.isfinite(values)]
            ends = [f'{value:.4g}' for value in (values[0], values[-1])]
            extremes = [f'{finite.min():.4g}', f'{finite.max():.4g}'] if finite.size else ['n/a', 'n/a']
            rows.append([name, title, f'{iterations[0]} to {iterations[-1]}', *ends, *extremes])
    return table(['Curve', 'Group', 'Iterations', 'First', 'Last', 'Lowest', 'Highest'], rows,
                 caption=f'Curves of {run.model}, {run.loss}')


def artifacts_section(artifacts):
    """Direct checks of saved frames: the spectrum of the difference, and what is left of gains."""
    if not artifacts:
        return ''
    choice, parts = panels('artifacts', 'Run', [
        (_run(content), f'<h3>{escape(_run(content))}</h3>\n{_spectrum(content)}\n{_gaming(content)}')
        for content in artifacts])
    reading = ''.join(f'<li>{escape(line)}</li>' for line in _HOW_TO_READ_CHECKS)
    return (f'{details("How to read these checks", f"<ul>{reading}</ul>")}\n'
            f'<div class="controls" data-js hidden>{choice}</div>\n'
            '<figure data-js hidden><div id="spectrum-chart" class="chart"></div>'
            f'<figcaption id="spectrum-caption" aria-live="polite"></figcaption></figure>\n{parts}')


def _run(content):
    return ', '.join(content[key] for key in ('model', 'loss', 'dataset'))


def _spectrum(content):
    spectrum = content['spectrum']
    if spectrum['identical']:
        return '<p>The frames are identical to those of the baseline.</p>'
    if not spectrum['peaks']:
        return '<p>There are no peaks in the spectrum of the difference to the baseline.</p>'
    rows = [[f'{peak["ratio"]:.3g} times', *(f'{frequency:.3f}' for frequency in peak['frequency']),
             f'{peak["period"]:.3g}', f'{peak["amplitude"]:.2g}'] for peak in spectrum['peaks']]
    return table(['Power over its surroundings', 'Vertical, cycles/px', 'Horizontal, cycles/px', 'Period, px',
                  'Amplitude, grey levels'], rows,
                 caption='Strongest peaks in the spectrum of the difference to the baseline')


def _gaming(content):
    rows = []
    for metric, entry in content['gaming'].items():
        changes = {'nothing': entry, **{describe_perturbation(name, content['settings']): perturbed
                                        for name, perturbed in entry['perturbations'].items()}}
        for change, scores in changes.items():
            kept = scores.get('kept', 1)
            rows.append([_with_direction(metric, entry['lower_better']), change,
                         *(f'{scores[key]:.4g}' for key in ('baseline', 'tuned', 'gain')),
                         'n/a' if kept is None else '' if scores is entry else f'{100 * kept:.0f} %'])
    if not rows:
        return '<p>No score was checked: the loss contained no metric that needs no reference.</p>'
    return table(['Optimised metric', 'After', 'Baseline', 'Tuned', 'Gain', 'Gain kept'], rows, 'second-title',
                 'The optimised score after changes that hardly alter the picture')


def baselines_section(gain_table):
    if not gain_table.baselines:
        return ''
    names = [_with_direction(metric, gain_table.lower_better[metric]) for metric in gain_table.metrics]
    rows = [[model, dataset, *(f'{means[metric]:.4g}' for metric in gain_table.metrics)]
            for (model, dataset), means in gain_table.baselines.items()]
    return ('<p>What the gains are relative to: mean over videos. ↑ higher is better, ↓ lower is better.</p>\n'
            + table(['Model', 'Dataset', *names], rows, 'second-title', 'Scores of the baseline models'))


def _with_direction(metric, lower_better):
    return f'{shown_name(metric)} {"↓" if lower_better else "↑"}'


def missing_section(missing):
    """Runs that are not done or failed, each with the end of its log."""
    return '\n'.join(
        f'<h3>{escape(run)}</h3>\n<p>{escape(why)}</p>'
        + (details('The end of its log', f'<pre tabindex="0">{escape(log)}</pre>') if log else '')
        for run, why, log in missing)


def sources_section(gain_table, options):
    """Exact options, versions and score files."""
    parts = []
    if options:
        parts.append('<h3>Options</h3>')
        parts += [details(title, f'<pre tabindex="0">{escape(text)}</pre>') for title, text in options]
    versions = {}
    for scores in gain_table.sources.values():
        for package, version in scores['versions'].items():
            versions.setdefault(package, {})[str(version)] = None
    if versions:
        rows = [[package, ', '.join(found)] for package, found in sorted(versions.items())]
        parts.append('<h3>Versions</h3>\n' + table(['What', 'Version'], rows, 'texts', 'What made the scores'))
    if gain_table.sources:
        rows = [[path, scores['model'], scores['loss'], scores['dataset'], len(scores['videos']),
                 scores['checkpoint'] or 'none'] for path, scores in gain_table.sources.items()]
        files = table(['Score file', 'Model', 'Loss', 'Dataset', 'Videos', 'Checkpoint'], rows, 'texts',
                      'Score files that this report was made from')
        parts.append(f'<h3>Score files</h3>\n{details(f"{len(rows)} files", files, opened=len(rows) <= 8)}')
    return '\n'.join(parts)
