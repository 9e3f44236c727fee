"""The matrix of Fig. 2 as HTML tables, one for each model and dataset and for their averages."""
import numpy as np

from basicsr_nriqa.study.figures import colour_limit, typeset
from basicsr_nriqa.study.markup import details, escape, select
from basicsr_nriqa.study.metric_names import shown_name

RULES = {'reference': 'reference metric', 'gaming': 'gamed score', 'spectrum': 'pattern'}


def heat_maps(table, flags, decimals):
    """All tables with their controls and legend.

    Every cell carries its number and interval as data for the page's script, and all ways to print it. The script
    shows one table at a time and sorts it; without the script all are there, each with its caption.

    Args:
        table (basicsr_nriqa.study.relative_gain.GainTable): The numbers.
        flags (Sequence[basicsr_nriqa.study.flags.Flag]): Warnings, shown in the rows that they are about.
        decimals (int | None): How gains are printed at first.

    Returns:
        str: HTML.
    """
    limit = colour_limit(np.column_stack([table.gains, table.average]))
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
        '<p id="view-status" class="status" role="status" aria-live="polite"></p>', *shown, _legend(limit)])


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
    names = [*map(shown_name, table.metrics), 'Average']
    head = ''.join(f'<th scope="col" data-sort{" class=average" * (i == len(names) - 1)}>{escape(name)}</th>'
                   for i, name in enumerate(names))
    place = where(table, *key)
    rows = '\n'.join(_row(table, view, i, [flag for flag in flags if flag.loss == loss and about(flag, *key)], forms,
                          limit, names) for i, loss in enumerate(view.losses))
    model, dataset = (escape(name or '') for name in key)
    return (f'<div class="view" data-model="{model}" data-dataset="{dataset}">\n'
            f'<div class="scroll" role="region" tabindex="0" aria-label="Relative gain, {escape(place)}">\n'
            f'<table class="gains">\n<caption>Relative gain in percent: {escape(place)}</caption>\n'
            f'<thead><tr><th scope="col" data-sort="text">Loss</th>{head}<th scope="col">Warnings</th></tr></thead>\n'
            f'<tbody>\n{rows}\n</tbody>\n</table></div></div>')


def _row(table, view, i, flags, forms, limit, names):
    loss = view.losses[i]
    optimised = [*table.optimised[table.losses.index(loss)], False]
    numbers = zip((*view.gains[i], view.average[i]), (*view.low[i], view.average_low[i]),
                  (*view.high[i], view.average_high[i]))
    columns = ''.join(_cell(f'{loss}, {name}', *number, marked, j == len(names) - 1, forms, limit)
                      for j, (name, number, marked) in enumerate(zip(names, numbers, optimised)))
    mark = ' <span class="flag" aria-hidden="true">⚑</span>' if flags else ''
    return (f'<tr><th scope="row"><span class="loss">{escape(loss)}</span>{mark}</th>{columns}'
            f'<td class="warnings">{_warnings(flags)}</td></tr>')


def _cell(name, gain, low, high, optimised, average, forms, limit):
    if np.isnan(gain):
        kind, strength = 'missing', 0
    else:
        kind = 'good' if gain > 0 else 'bad'
        strength = round(100 * min(1, abs(gain) / limit))
    kinds = ' '.join([kind] + ['optimised'] * bool(optimised) + ['average'] * average)
    hint = f'{name}: {_percent(gain)}'
    if not np.isnan(low):
        hint += f', 95 % interval {_percent(low)} to {_percent(high)}'
    if optimised:
        hint += '; the loss contained this metric'
    numbers = ' '.join(f'data-{key}="{number:.6g}"' for key, number in (('gain', gain), ('low', low), ('high', high))
                       if not np.isnan(number))
    texts = '|'.join(typeset(gain, form) for form in forms)
    return (f'<td class="{kinds}" style="--strength:{strength}%" {numbers} data-texts="{texts}" '
            f'title="{escape(hint)}">{typeset(gain, forms[0])}</td>')


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


def _legend(limit):
    return ('<div class="legend"><span class="scale"><span>≤ \N{MINUS SIGN}'
            f'{limit:.0f} %, worse</span><span class="bar"></span><span>≥ +{limit:.0f} %, better</span></span>'
            '<span><span class="sample optimised">+9</span> the loss contained this metric: no evidence</span>'
            '<span><span class="flag">⚑</span> there is a warning</span></div>')
