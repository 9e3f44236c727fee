"""Compare fine-tuned models with their baseline, in the form of Fig. 2 of Kashkarov et al."""
import argparse
import sys

from basicsr_nriqa.study.relative_gain import gain_table
from basicsr_nriqa.study.report import write_report
from basicsr_nriqa.study.scores import find_scores
from basicsr_nriqa.study.table_text import console_table

EXAMPLE = """example:
  python scripts/relative_gain.py results/ -o report/
reads every results/**/scores/*.json and writes report/table.csv, table.md, figure.png and report.html"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('scores', nargs='+', metavar='SCORES',
                        help='score files, or folders to search recursively for scores/*.json')
    parser.add_argument('-o', '--output', required=True, metavar='DIR', help='folder for the report; made if missing')
    parser.add_argument('--baseline', default='baseline', metavar='LABEL',
                        help='the loss label of the models that were not fine-tuned (default: %(default)s)')
    args = parser.parse_args()
    try:
        table = gain_table(find_scores(args.scores), args.baseline)
        files = write_report(table, args.output)
    except (ValueError, OSError) as error:
        sys.exit(f'ERROR: {error}')
    print(console_table(table))
    print('\nWritten:', *files, sep='\n  ')


if __name__ == '__main__':
    main()
