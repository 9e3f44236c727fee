"""One step of a study, as workflow/Snakefile starts them. To run a whole study: snakemake, see docs/study.md."""
import argparse
import logging
import sys
from pathlib import Path

from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.files import write_atomically
from basicsr_nriqa.iqa import MetricError
from basicsr_nriqa.options import OptionsError
from basicsr_nriqa.study import steps
from basicsr_nriqa.study.gather import report
from basicsr_nriqa.study.plan import read_study

EXAMPLE = """examples:
  python scripts/study_step.py --study workflow/study.yml train vrt_maniqa
trains VRT with MANIQA, or goes on with it
  python scripts/study_step.py --study workflow/study.yml report --partial
makes the report of what is done"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--study', default='workflow/study.yml', metavar='FILE', help='the plan (default: %(default)s)')
    for what in ('models', 'losses', 'datasets'):
        parser.add_argument(f'--{what}', metavar='KEY,...', help=f'only these {what} of the plan')
    commands = parser.add_subparsers(dest='step', required=True, metavar='STEP')
    for name, help_text, arguments in (
            ('check-options', 'check all options, fetch missing weights of metrics', ()),
            ('check-data', 'check the databases of a data set', ('data',)),
            ('train', 'a training, resumed if it was interrupted', ('run',)),
            ('test', 'the test of a training on a data set', ('run', 'dataset')),
            ('artifacts', 'the direct check for artifacts of a fine-tuned model', ('run', 'dataset')),
            ('report', 'tables, figures and report.html', ())):
        command = commands.add_parser(name, help=help_text)
        for argument in arguments:
            command.add_argument(argument)
        if name == 'check-data':
            command.add_argument('-o', '--output', type=Path, required=True, help='written when all is well')
        if name == 'report':
            command.add_argument('--partial', action='store_true', help='of what is done, naming what is not')
    args = parser.parse_args()
    logging.basicConfig(format='%(levelname)s: %(message)s')
    try:
        run(args, read_study(args.study, args.models, args.losses, args.datasets))
    except (ValueError, OSError, DataError, MetricError) as error:
        sys.exit(f'error: {error}')


def run(args, study):
    if args.step == 'check-options':
        steps.check_options(study)
        print(f'The options of {len(study.runs)} trainings and of their tests are fine.')
    elif args.step == 'check-data':
        problems = steps.check_data(study.data(args.data))
        if problems:
            raise DataError('\n'.join(problems))
        write_atomically(args.output, 'All is well.\n')
    elif args.step == 'report':
        for path in report(study, args.partial):
            print(path)
    else:
        one = _find(study.runs, args.run, 'training')
        if args.step == 'train':
            steps.train(study, one)
        else:
            dataset = _find(study.datasets, args.dataset, 'data set')
            {'test': steps.test, 'artifacts': steps.measure_artifacts}[args.step](study, one, dataset)


def _find(known, name, what):
    if name not in known:
        raise OptionsError(f"the study has no {what} '{name}'; it has: {', '.join(known)}")
    return known[name]


if __name__ == '__main__':
    main()
