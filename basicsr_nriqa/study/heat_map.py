"""The matrix of Fig. 2 as HTML tables, one for each model and dataset and for their averages."""
import numpy as np

from basicsr_nriqa.study.figures import colour_limit, typeset
from basicsr_nriqa.study.markup import details, escape, select

RULES = {'reference': 'reference metric', 'gaming': 'gamed score', 'spectrum': 'pattern'}


def heat_maps(table, flags, decimals):
    """All tables with their controls and legend.

    Every cell carries its number and interval as data for the page's script, and all ways to print it. The script
    shows one table at a time and sorts it; without the script all are there, each with its caption. Judges, if there
    are some, and the other metrics are groups of columns with titles.

    Args:
        table (basicsr_nriqa.study.relative_gain.GainTable): The numbers.
        flags (Sequence[basicsr_nriqa.study.flags.Flag]): Warnings, shown in the rows that they are about.
        decimals (int | None): How gains are printed at first.

    Returns:
        str: HTML.
    """
    limit = colour_limit(table)
    # with one model the average over models is that model
    models, datasets = ([None, *names] if len(names) > 1 else [None] for names in (table.models, table.datasets))
    forms = list(dict.fromkeys([decimals, None, 0]))
    controls = [select(f'choose-{what}', what.capitalize(),
                       {'' if name is None else name: f'all {what}s, averaged' if name is None else name
                        for name in names}) for what, names in (('model', models), ('dataset', datasets))
                if len(names) > 1]
    controls.append(select('choose-decimals', 'Decimals',
                           {str(i): 'automatic' if form is None else f'{form}, as in the paper' if form == 0 else form
                            for i, form in enumerate(forms)}))
    shown = [_heat_map(table, table.views[key], key, flags, forms, limit)
             for key in ((model, dataset) for model in models for dataset in datasets) if key in table.views]
    return '\n'.join([
        f'<div class="controls" data-js hidden>{"".join(controls)}</div>',
        '<p id="view-status" class="status" role="status" aria-live="polite"></p>', *shown, _legend(table, limit)])


def about(flag, model, dataset):
    """Whether a warning belongs into the table of this model and dataset (None: averaged over all).

    A warning about the average belongs to the average alone, one about a single run also to the averages that the run
    is in; but the reference metric is judged in the average itself.
    """
    if (flag.model, flag.dataset) == (model, dataset):
        return True
    if flag.rule == 'reference' and (model, dataset) == (None, None):
        return False
    return (flag.model, flag.dataset) != (None, None) and model in (None, flag.model) and dataset in (
        None, flag.dataset)


def where(table, model, dataset):
    """In words what is averaged."""
    averaged, named = [], []
    for name, names, what in ((model, table.models, 'models'), (dataset, table.datasets, 'datasets')):
        if name is None and len(names) != 1:
            averaged.append(f'{len(names)} {what}')
        else:
            named.append(name or names[0])
    return ', '.join([*named, f'average over {" and ".join(averaged)}'] if averaged else named)


def _heat_map(table, view, key, flags, forms, limit):
    head = ''.join(f'<th scope="col" data-sort{" class=average" * (j >= len(table.metrics))}>{escape(name)}</th>'
                   for j, name in enumerate(table.columns))
    place = where(table, *key)
    numbers = np.stack(view.with_means(), axis=2)
    rows = '\n'.join(_row(table, loss, row, [flag for flag in flags if flag.loss == loss and about(flag, *key)], forms,
                          limit) for loss, row in zip(view.losses, numbers))
    columns, groups = _groups(table)
    model, dataset = (escape(name or '') for name in key)
    return (f'<div class="view" data-model="{model}" data-dataset="{dataset}">\n'
            f'<div class="scroll" role="region" tabindex="0" aria-label="Relative gain, {escape(place)}">\n'
            f'<table class="gains">\n<caption>Relative gain in percent: {escape(place)}</caption>{columns}\n'
            f'<thead>{groups}<tr><th scope="col" data-sort="text">Loss</th>{head}<th scope="col">Warnings</th></tr>'
            '</thead>\n'
            f'<tbody>\n{rows}\n</tbody>\n</table></div></div>')


def _groups(table):
    """Where judges are separated: what makes the columns groups, and the row of their headings."""
    if not table.judges:
        return '', ''
    groups = {'Judges, never optimised': len(table.judges),
              'Optimised by some loss': len(table.metrics) - len(table.judges),
              'Means': len(table.columns) - len(table.metrics)}
    columns = ''.join(f'<colgroup span="{count}"></colgroup>' for count in (1, *groups.values(), 1))
    titles = ''.join(f'<th scope="colgroup" colspan="{count}"><span>{title}</span></th>'
                     for title, count in groups.items())
    return columns, f'<tr class="groups"><td></td>{titles}<td></td></tr>\n'


def _row(table, loss, numbers, flags, forms, limit):
    """A line of a table; numbers are (columns, 3): gain and the ends of its interval."""
    optimised = table.optimised[table.losses.index(loss)]
    columns = ''
    for j, (name, number) in enumerate(zip(table.columns, numbers)):
        kinds, remark = ['apart'] * (j in (len(table.judges), len(table.metrics)) and j > 0), ''
        if j >= len(table.metrics):
            kinds.append('average')
        elif optimised[j]:
            kinds.append('optimised')
            remark = '; the loss contained this metric'
        elif j < len(table.judges):
            remark = '; a judge: no loss contained this metric'
        columns += _cell(f'{loss}, {name}', *number, kinds, remark, forms, limit)
    mark = ' <span class="flag" aria-hidden="true">⚑</span>' if flags else ''
    return (f'<tr><th scope="row"><span class="loss">{escape(loss)}</span>{mark}</th>{columns}'
            f'<td class="warnings">{_warnings(flags)}</td></tr>')


def _cell(name, gain, low, high, kinds, remark, forms, limit):
    if np.isnan(gain):
        colour, strength = 'missing', 0
    else:
        colour = 'good' if gain > 0 else 'bad'
        strength = round(100 * min(1, abs(gain) / limit))
    hint = f'{name}: {_percent(gain)}'
    if not np.isnan(low):
        hint += f', 95 % interval {_percent(low)} to {_percent(high)}'
    classes = ' '.join([colour, *kinds])
    numbers = ' '.join(f'data-{key}="{number:.6g}"' for key, number in (('gain', gain), ('low', low), ('high', high))
                       if not np.isnan(number))
    texts = '|'.join(typeset(gain, form) for form in forms)
    return (f'<td class="{classes}" style="--strength:{strength}%" {numbers} data-texts="{texts}" '
            f'title="{escape(hint + remark)}">{typeset(gain, forms[0])}</td>')


def _percent(gain):
    return 'not available' if np.isnan(gain) else f'{gain:+.1f} %'.replace('-', '\N{MINUS SIGN}')


def _warnings(flags):
    if not flags:
        return '<span class="none">none</span>'
    reasons = ''.join(f'<li>{escape(reason(flag))}</li>' for flag in flags[:6])
    if len(flags) > 6:
        reasons += f'<li>and {len(flags) - 6} more, see the warnings below.</li>'
    return details(f'{len(flags)} warning{"s" * (len(flags) > 1)}', f'<ul>{reasons}</ul>')


def reason(flag):
    """The reason of a warning with the place that it is about."""
    place = ', '.join(name for name in (flag.model, flag.dataset) if name)
    return f'{place}: {flag.reason}' if place else flag.reason


def _legend(table, limit):
    judges = ('<span>Judges: metrics that no loss of this table contained; the column of this name is their mean</span>'
              if table.judges else '')
    return ('<div class="legend"><span class="scale"><span>≤ \N{MINUS SIGN}'
            f'{limit:.0f} %, worse</span><span class="bar"></span><span>≥ +{limit:.0f} %, better</span></span>'
            '<span><span class="sample optimised">+9</span> the loss contained this metric: no evidence</span>'
            f'{judges}<span><span class="flag">⚑</span> there is a warning</span></div>')
