"""Say what checkpoint files are: network, layout, size, training, and the options that build their network."""
import argparse
import json

from basicsr_nriqa.checkpoints import describe

_BLOCKS = {'SRGANDiscriminator': 'network_d'}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='examples:\n  python scripts/inspect_checkpoint.py experiments/baseline/models/net_g_latest.pth\n  '
               'python scripts/inspect_checkpoint.py --json *.pth\n  '
               'python scripts/inspect_checkpoint.py --keys https://HOST/NAME-0123abcd.pth\n\n'
               'No code in a file is run. A URL is fetched once, to the folder `checkpoints` of torch.hub. The exit\n'
               'status is 2 if a file cannot be read or belongs to no known network.')
    parser.add_argument('files', metavar='FILE', nargs='+', help='path or URL of a checkpoint')
    parser.add_argument('--keys', action='store_true', help='every name, as our networks call it, with its shape')
    parser.add_argument('--json', action='store_true', help='for programs: a list with one item for each good file')
    args = parser.parse_args()
    found, errors = [], []
    for path in args.files:
        try:
            found.append(describe(path))
        except (OSError, ValueError) as error:
            errors.append(f'error: {" ".join(str(error).split())}\n')
    if not args.keys:
        for item in found:
            item.pop('keys', None)
    if args.json:
        print(json.dumps(found, indent=2, default=str))
    elif found:
        print('\n\n'.join(map(details, found)))
    if errors:
        parser.exit(2, ''.join(errors))


def details(item):
    """One file on several lines.

    Args:
        item (dict): From :func:`basicsr_nriqa.checkpoints.describe`.

    Returns:
        str: The lines.
    """
    if item['kind'] == 'training state':
        rows = [('is', f"a training state of BasicSR, iteration {item['iter']}, epoch {item['epoch']}"),
                ('for', 'path: resume_state, together with the networks of this iteration'), ('sha256', item['sha256'])]
        return _lines(item['path'], rows)
    wrapper = f"under '{item['wrapper']}'" if item['wrapper'] else 'without a wrapper'
    others = ''.join(f", not those under '{key}'" for key in item['other_wrappers'])
    rows = [('network', item['network']), ('layout', f"{item['layout']}, {wrapper}{others}"),
            ('parameters', f"{item['parameters']:,}"), ('sha256', item['sha256'])]
    if item['trained_with']:
        note = item['trained_with']
        rows.append(('trained', ', '.join(f'{key}: {value}' for key, value in note.items())
                     if isinstance(note, dict) else str(note)))
    options = {'spynet_path': item['path']} if item['network'] == 'SpyNet' else item['options']
    lines = [_lines(item['path'], rows), f"{_BLOCKS.get(item['network'], 'network_g')}:"]
    # JSON's numbers, words and lists are YAML's too
    lines += [f'  {name}: {value if isinstance(value, str) else json.dumps(value)}' for name, value in options.items()]
    lines += [f'  {name}  {tuple(shape)}' for name, shape in item.get('keys', {}).items()]
    return '\n'.join(lines)


def _lines(title, rows):
    return '\n'.join([title, *(f'  {name:<11}{value}' for name, value in rows)])


if __name__ == '__main__':
    main()
