"""Check LMDB databases: every key, checksum and size, every image decodable, LR and GT belonging together."""
import argparse
import json
import sys
from pathlib import Path

from basicsr_nriqa.command_line import positive
from basicsr_nriqa.data.database_check import check_database
from basicsr_nriqa.data.errors import DataError

SHOWN = 20


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='example:\n  cd datasets/vimeo90k\n  python ../../scripts/check_lmdb.py vimeo90k_train_GT.lmdb '
               'vimeo90k_train_LRx4.lmdb --list meta_info_Vimeo90K_train_GT.txt\n\n'
               'The exit status is 1 if anything is wrong. Databases of stock BasicSR have no checksums; all else is\n'
               'checked in them, too.')
    parser.add_argument('database', type=Path, help='the database, of GT if LR is given too')
    parser.add_argument('lr', type=Path, nargs='?', help='the database of the LR frames')
    parser.add_argument('--scale', type=positive, help='GT size over LR size; default: what the database notes')
    parser.add_argument('--list', type=Path, help='clips that must be there, such as a meta_info file')
    parser.add_argument('--quick', action='store_true', help='decode only images without a checksum')
    parser.add_argument('--workers', type=positive, help='threads; default: one a core')
    parser.add_argument('--all', action='store_true', help=f'print all problems, not the first {SHOWN}')
    args = parser.parse_args()
    try:
        reports = check_database(args.database, args.lr, args.scale, args.list, not args.quick, args.workers)
    except DataError as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('Interrupted: not everything was checked.')
    for path, report in zip((args.database, args.lr), reports):
        sizes = ', '.join(f'{width}x{height} ({count})' for (height, width), count in
                          sorted(report.sizes.items(), key=lambda item: -item[1])[:4])
        print(f'{path}: {report.images} images, {report.raw} of them raw, {report.checksums} with checksum; {sizes}'
              f'{", ..." if len(report.sizes) > 4 else ""}')
        if report.about:
            print(f'  made with {json.dumps(report.about)}')
    problems = [problem for report in reports for problem in report.problems]
    if problems:
        shown = problems if args.all else problems[:SHOWN]
        left = len(problems) - len(shown)
        sys.exit('\n'.join(shown) + (f'\n... and {left} more; --all shows them' if left else '')
                 + f'\n{len(problems)} problem{"s" if len(problems) > 1 else ""}. Copy or make the database again.')
    print('All is well.')


if __name__ == '__main__':
    main()
