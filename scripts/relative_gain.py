"""Compare fine-tuned models with their baseline, in the form of Fig. 2 of Kashkarov et al."""
import argparse
import sys

from basicsr_nriqa.study.flags import ReferenceRule, reference_flags, reference_notes
from basicsr_nriqa.study.relative_gain import gain_table
from basicsr_nriqa.study.report import write_report
from basicsr_nriqa.study.scores import find_scores
from basicsr_nriqa.study.table_text import console_table

EXAMPLE = """example:
  python scripts/relative_gain.py results/ -o report/
reads every results/**/scores/*.json and writes report/table.csv, intervals.csv, table.md, figure.png,
figure.pdf and report.html"""


def decimals(text):
    if text == 'auto':
        return None
    if text not in [*'0123456']:
        raise argparse.ArgumentTypeError(f"expected auto or a whole number from 0 to 6, got '{text}'")
    return int(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('scores', nargs='+', metavar='SCORES',
                        help='score files, or folders to search recursively for scores/*.json')
    parser.add_argument('-o', '--output', required=True, metavar='DIR', help='folder for the report; made if missing')
    parser.add_argument('--baseline', default='baseline', metavar='LABEL',
                        help='the loss label of the models that were not fine-tuned (default: %(default)s)')
    parser.add_argument('--mixed-versions', action='store_true',
                        help='compare score files of different versions all the same, with a note')
    parser.add_argument('--decimals', type=decimals, metavar='N',
                        help='of printed gains; 0 prints as Fig. 2 does (default: auto, one below 10 %%, none above)')
    parser.add_argument('--intervals', action='store_true',
                        help='print the 95 %% intervals behind the gains; drawn over the videos (bootstrap)')
    rule = parser.add_argument_group('flags', 'losses that probably produce artifacts')
    rule.add_argument('--flag-metric', default=ReferenceRule.metric, metavar='NAME', help='default: %(default)s')
    rule.add_argument('--flag-worsened', default=ReferenceRule.worsened, type=float, metavar='PERCENT',
                      help='flag a loss without the metric that worsened it by more (default: %(default)s)')
    rule.add_argument('--flag-hardly-improved', default=ReferenceRule.hardly_improved, type=float, metavar='PERCENT',
                      help='flag a loss with the metric that improved it by less (default: %(default)s)')
    args = parser.parse_args()
    try:
        thresholds = ReferenceRule(args.flag_metric, args.flag_worsened, args.flag_hardly_improved)
        table = gain_table(find_scores(args.scores), args.baseline, args.mixed_versions)
        flags = reference_flags(table, thresholds)
        files = write_report(table, args.output, flags=flags, decimals=args.decimals, intervals=args.intervals)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    print(console_table(table, args.decimals, args.intervals))
    lines = [f'{flag.loss}: {flag.reason}' for flag in flags if flag.model is None]
    lines += reference_notes(table, thresholds)
    print('\nFlags of losses that probably produce artifacts:', *(lines or ['none']), sep='\n  ')
    print('\nWritten:', *files, sep='\n  ')


if __name__ == '__main__':
    main()
