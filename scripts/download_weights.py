"""Gather the trained weights of metrics in one folder, for a machine without network; or check such a folder."""
import argparse
import sys
from pathlib import Path

from basicsr_nriqa.iqa import CATALOGUE, MetricError, metric_info
from basicsr_nriqa.iqa.weights import FOLDER_VARIABLE, SUMS
from basicsr_nriqa.iqa.weights_folder import check_folder, fill_folder, needed_files
from basicsr_nriqa.suggestion import suggest


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='examples:\n  python scripts/download_weights.py lpips hyperiqa -o weights\n  '
               'python scripts/download_weights.py --all -o weights\n  '
               'python scripts/download_weights.py --check -o weights         # all that is there\n  '
               'python scripts/download_weights.py --check lpips -o weights   # and lpips must be complete\n\n'
               'An interrupted run goes on where it was when started again. Files that this machine has already, in\n'
               f'the caches of torch, pyiqa, CLIP or Hugging Face, are copied. FOLDER/{SUMS} is for `sha256sum -c`.\n'
               'python scripts/list_metrics.py shows which metrics need files.')
    parser.add_argument('metrics', metavar='METRIC', nargs='*', help='names of metrics')
    parser.add_argument('-o', '--out', metavar='FOLDER', type=Path, required=True, help='the folder')
    parser.add_argument('--all', action='store_true', help='every metric that needs files: several GB')
    parser.add_argument('--check', action='store_true', help='fetch nothing, verify the files in FOLDER')
    args = parser.parse_args()
    if not (args.metrics or args.all or args.check):
        parser.error('name at least one METRIC, or give --all')
    if args.out.exists() and not args.out.is_dir():
        parser.error(f'argument -o/--out: {args.out} is a file, expected a folder')
    for name in args.metrics:
        if name not in CATALOGUE:
            parser.exit(2, f'error: {_why_not(name)}\n')
    names = [*args.metrics, *(CATALOGUE if args.all else ())]
    files = needed_files(names)
    for name in args.metrics:
        if not CATALOGUE[name].files:
            print(f'{name}: needs no files')
    try:
        status = _check(args.out, files) if args.check else _fill(args.out, files) if files else 0
    except (MetricError, OSError) as error:
        status = f'error: {error}'
    sys.exit(status)


def _why_not(name):
    try:
        metric_info(name)
    except MetricError:
        return f"unknown metric '{name}'{suggest(name.lower(), CATALOGUE)}; python scripts/list_metrics.py lists them"
    return (f"'{name}': pyiqa alone knows its files. Build it once on a machine with network; they land in "
            '$TORCH_HOME/hub/pyiqa (default ~/.cache/torch/hub/pyiqa), which can be copied.')


def _check(folder, files):
    right, problems = check_folder(folder, files)
    for problem in problems:
        print(problem)
    print(f'{folder}: {len(right)} files are right, {len(problems)} are not.')
    return 1 if problems else 0


def _fill(folder, files):
    failed = fill_folder(files, folder)
    if failed:
        return f'error: {len(failed)} of {len(files)} files could not be had: {", ".join(failed)}. Run it again.'
    print(f'{len(files)} files are in {folder}. To use them, here or where the folder is copied to:\n'
          f'  export {FOLDER_VARIABLE}={folder.resolve()}')
    return 0


if __name__ == '__main__':
    main()
