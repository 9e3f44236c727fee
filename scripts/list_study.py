"""The grid of a study and how far it is: every model with every loss, trained, tested, failed or waiting."""
import argparse
import json
import sys

from basicsr_nriqa.options import OptionsError
from basicsr_nriqa.study.plan import read_study
from basicsr_nriqa.study.progress import log_tail, status

EXAMPLE = """examples:
  python scripts/list_study.py                              the paper's study
  python scripts/list_study.py workflow/mini_study.yml --failed"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('study', nargs='?', default='workflow/study.yml', help='the plan (default: %(default)s)')
    for what in ('models', 'losses', 'datasets'):
        parser.add_argument(f'--{what}', metavar='KEY,...', help=f'only these {what} of the plan')
    parser.add_argument('--failed', action='store_true', help='show the end of the log of what failed')
    parser.add_argument('--json', action='store_true', help='the same for programs')
    args = parser.parse_args()
    try:
        study = read_study(args.study, args.models, args.losses, args.datasets)
    except OptionsError as error:
        sys.exit(f'error: {error}')
    states = {run.name: status(study, run) for run in study.runs.values()}
    if args.json:
        print(json.dumps({name: {'model': study.runs[name].model_label, 'loss': study.runs[name].loss_label,
                                 'state': state.kind, 'text': state.text, 'iteration': state.iteration,
                                 'total': state.total, 'log': str(state.log) if state.log else None}
                          for name, state in states.items()}, indent=1))
        return
    print_grid(study, states)
    failed = {name: state for name, state in states.items() if state.kind == 'failed'}
    for name, state in failed.items():
        print(f'\n{name}: {state.text}\n  {state.log}')
        if args.failed:
            print('  | ' + log_tail(state.log).replace('\n', '\n  | '))


def print_grid(study, states):
    """Losses in rows, models in columns."""
    models = dict.fromkeys(run.model_label for run in study.runs.values())
    losses = dict.fromkeys(run.loss_label for run in study.runs.values())
    cells = {(run.loss_label, run.model_label): _short(states[run.name]) for run in study.runs.values()}
    rows = [['', *models], *([loss, *(cells[loss, model] for model in models)] for loss in losses)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print('  '.join(text.ljust(width) for text, width in zip(row, widths)).rstrip())
    done = sum(state.complete for state in states.values())
    names = ', '.join(dataset.label for dataset in study.datasets.values())
    print(f'\n{study.name}: {done} of {len(states)} done, each a training and tests on {names}. '
          f'Everything is in {study.output}.')


def _short(state):
    if state.kind in ('training', 'stopped'):
        return f'{state.kind} {state.iteration:,}/{state.total:,}'
    return {'waiting': '.', 'failed': 'FAILED'}.get(state.kind, state.text)


if __name__ == '__main__':
    main()
