"""Check option files as training and testing do at their start, without starting: all problems of each, at once."""
import argparse
import importlib
import sys

from tqdm import tqdm

import basicsr_nriqa  # noqa: F401  makes BasicSR importable
from basicsr_nriqa.option_definitions.file_check import check_file
from basicsr_nriqa.options import OptionsError


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='examples:\n  python scripts/check_options.py options/finetune_maniqa.yml\n  '
               'python scripts/check_options.py --elsewhere options/finetune_*.yml options/vrt/finetune_*.yml\n\n'
               'Exit status: 0 if all can be used, 1 if not. A file with `train` is checked as one for training, '
               'others as for testing.\nIn the editor: docs/options.md.')
    parser.add_argument('files', metavar='FILE', nargs='+', help='option files (.yml)')
    parser.add_argument('--force_yml', metavar='OPTION=VALUE', nargs='+', default=(),
                        help='change options first, as in training')
    parser.add_argument('--import', dest='modules', metavar='MODULE', nargs='+', default=(),
                        help='Python modules that register classes of your own, found from where you are')
    where = parser.add_mutually_exclusive_group()
    where.add_argument('--elsewhere', action='store_true',
                       help='for another machine: do not look for data, checkpoints, weights and GPUs here')
    where.add_argument('--fetch', action='store_true',
                       help='fetch weights of metrics that are missing; else they are only listed')
    args = parser.parse_args()
    sys.path.insert(0, '')
    for module in args.modules:
        importlib.import_module(module)
    failed = 0
    for path in tqdm(args.files, unit='file', disable=None, leave=False):
        try:
            missing = check_file(path, args.force_yml, args.fetch, not args.elsewhere)
        except OptionsError as error:
            failed += 1
            tqdm.write(str(error))
        else:
            tqdm.write('\n- '.join([f"{path}: fine{', but weights will be fetched first:' * bool(missing)}", *missing]))
    if failed:
        sys.exit(f'error: {failed} of {len(args.files)} cannot be used.')


if __name__ == '__main__':
    main()
