"""List the quality metrics: direction, range, weight in Table I of the paper, and which work here without network."""
import argparse
import json
import textwrap
from difflib import get_close_matches

from basicsr_nriqa.iqa import CATALOGUE, MetricError, metric_info, metric_options
from basicsr_nriqa.iqa.pyiqa_adapter import pyiqa_names
from basicsr_nriqa.iqa.weights import locate, weights_path

_COLUMNS = ('metric', 'kind', 'better', 'range', 'px', 'Table I', 'offline', 'trained on')


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='examples:\n  python scripts/list_metrics.py\n  python scripts/list_metrics.py lpips clipiqa\n  '
               'python scripts/list_metrics.py --all --json\n\nNothing is downloaded, and no network is built.')
    parser.add_argument('names', metavar='NAME', nargs='*', help='show these metrics only, in detail')
    parser.add_argument('--all', action='store_true', help="the names of pyiqa's other metrics too")
    parser.add_argument('--json', action='store_true', help='for programs')
    args = parser.parse_args()
    names = list(dict.fromkeys(args.names or CATALOGUE))
    others = [name for name in pyiqa_names() if name not in CATALOGUE] if args.all or {*names} - {*CATALOGUE} else []
    for name in names:
        if name not in CATALOGUE and name not in others:
            close = ', '.join(get_close_matches(name.lower(), [*CATALOGUE, *others]))
            hint = f'did you mean {close}?' if close else 'python scripts/list_metrics.py --all lists them'
            parser.exit(2, f"error: unknown metric '{name}': {hint}\n")
    others = [name for name in others if args.all and name not in names]
    if args.json:
        print(json.dumps([describe(metric_info(name)) for name in [*names, *others]], indent=2))
        return
    metrics = [describe(metric_info(name)) for name in names]
    print('\n\n'.join(map(details, metrics)) if args.names else table(metrics))
    if others:
        print('\nOther metrics of pyiqa, by their names:')
        print(_wrapped(', '.join(others), '  '))


def describe(info):
    """A metric as plain values, with the state of its files here.

    Args:
        info (MetricInfo): The metric.

    Returns:
        dict: ``offline`` is None where pyiqa alone knows which files are needed. A file has a ``path`` if it is here,
        and a ``problem`` if it is here but not the published one.
    """
    files = []
    for file in info.files:
        path = problem = None
        try:
            path = locate(file)
        except MetricError as error:
            problem = str(error)
        files.append({'name': file.name, 'url': file.url, 'sha256': file.sha256, 'path': path and str(path),
                      'place': str(weights_path(file)), 'problem': problem})
    return {'name': info.name, 'full_reference': info.full_reference, 'clip': info.clip,
            'lower_better': info.lower_better, 'score_range': info.score_range, 'min_size': info.min_size,
            'trained_on': info.trained_on, 'table1_weight': info.table1_weight, 'source': info.source,
            'license': info.license, 'options': metric_options(info.name), 'training': info.training, 'files': files,
            'offline': all(file['path'] for file in files) if info.name in CATALOGUE else None}


def table(metrics):
    """One line for each metric, and below the files that the numbers in the column ``offline`` stand for.

    Args:
        metrics (list[dict]): From :func:`describe`.

    Returns:
        str: At most 120 columns.
    """
    lacking = list({file['name']: file for metric in metrics for file in metric['files'] if not file['path']}.values())
    numbers = {file['name']: str(number) for number, file in enumerate(lacking, 1)}
    rows = [_COLUMNS]
    for metric in metrics:
        missing = [numbers[file['name']] for file in metric['files'] if file['name'] in numbers]
        rows.append((metric['name'], _kind(metric), _better(metric), _range(metric), str(metric['min_size']),
                     _table1(metric), 'yes' if metric['offline'] else f"no: {', '.join(missing)}",
                     metric['trained_on']))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ['  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    lines += ['', 'FR compares with GT. range: nominal. px: smallest side. Table I: loss_weight in the paper.']
    if lacking:
        lines += ['', 'Works offline once these files are here (scripts/download_weights.py gathers them):']
    for file in lacking:
        lines.append(_wrapped(file['problem'] or file['name'], f"{numbers[file['name']]:>3}  "))
    return '\n'.join(lines)


def details(metric):
    """Everything about one metric, on several lines; long paths and URLs are not wrapped."""
    reference = 'compares with GT' if metric['full_reference'] else 'no reference'
    rows = [('kind', f"{_kind(metric)} ({reference}{', scores whole clips' * metric['clip']})"),
            ('better', f"{_better(metric)}, nominal range {_range(metric)}"),
            ('smallest side', f"{metric['min_size']} px"),
            ('trained on', metric['trained_on']),
            ('Table I', metric['table1_weight'] and f'loss_weight: {_table1(metric)}'),
            ('licence', metric['license']),
            ('options', ', '.join(metric['options'])),
            ('as a loss', ', '.join(f'{key}: {value}' for key, value in metric['training'].items())),
            ('works offline', {True: 'yes', False: 'no', None: 'if pyiqa finds its files'}[metric['offline']])]
    rows += [('file', f"{file['name']}\n  {_where(file)}") for file in metric['files']]
    lines = [f"{metric['name']}: {metric['source']}"]
    lines += [f'  {key:<15}' + value.replace('\n', '\n' + 17 * ' ') for key, value in rows if value]
    return '\n'.join(lines)


def _wrapped(text, start):
    return textwrap.fill(text, 118, initial_indent=start, subsequent_indent=' ' * len(start), break_on_hyphens=False)


def _where(file):
    if file['path']:
        return f"found: {file['path']}"
    return f"{file['problem'] or 'missing'}\n  from {file['url']}\n  to {file['place']}"


def _kind(metric):
    return ('FR' if metric['full_reference'] else 'NR') + ' clip' * metric['clip']


def _better(metric):
    return 'lower' if metric['lower_better'] else 'higher'


def _range(metric):
    return '{:g}..{:g}'.format(*metric['score_range']) if metric['score_range'] else '?'


def _table1(metric):
    weight = metric['table1_weight']
    return '' if weight is None else f'{weight:+f}'.rstrip('0')


if __name__ == '__main__':
    main()
