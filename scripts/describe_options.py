"""Write options/schema.json, for editors, and docs/option_reference.md from the definitions that check the options."""
import argparse
import json
import sys
from pathlib import Path

from basicsr_nriqa.files import write_atomically
from basicsr_nriqa.option_definitions.reference import option_reference
from basicsr_nriqa.option_definitions.schema import option_schema

ROOT = Path(__file__).resolve().parents[1]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='examples:\n  python scripts/describe_options.py\n  python scripts/describe_options.py --check')
    parser.add_argument('--schema', type=Path, metavar='FILE', default=ROOT / 'options/schema.json',
                        help='default: options/schema.json')
    parser.add_argument('--reference', type=Path, metavar='FILE', default=ROOT / 'docs/option_reference.md',
                        help='default: docs/option_reference.md')
    parser.add_argument('--check', action='store_true', help='write nothing; exit with 1 if one of them is out of date')
    args = parser.parse_args()
    texts = {args.schema: json.dumps(option_schema(), indent=1, ensure_ascii=False) + '\n',
             args.reference: option_reference()}
    old = [path for path, text in texts.items() if not path.is_file() or path.read_text(encoding='utf-8') != text]
    if args.check:
        sys.exit(f"out of date: {', '.join(map(str, old))}; python scripts/describe_options.py writes them anew."
                 if old else 0)
    for path, text in texts.items():
        write_atomically(path, text)
        print(f'{path} {"written" if path in old else "is as it was"}')


if __name__ == '__main__':
    main()
