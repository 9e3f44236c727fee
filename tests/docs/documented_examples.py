"""The examples of one page, in their order: `python documented_examples.py PAGE`, in a checkout of a user.

Python is run, in one namespace. YAML is read and checked as what it is: options, put where they belong into those of
``options/base_vimeo90k.yml``, or a plan of a study. Whatever is wrong is printed with its line, and ends with status 1.
"""
import ast
import json
import sys
import tokenize
import traceback
from io import StringIO
from pathlib import Path

import yaml
from basicsr.utils import registry
from basicsr.utils.options import parse_options
from documentation import Block, Place, blocks

from basicsr_nriqa.option_definitions.check_mode import only_checking
from basicsr_nriqa.options import load_yaml, read_options
from basicsr_nriqa.study.plan import read_study

# what pages take for granted before their first Python example, and what must be true after the last
GIVEN = {
    'docs/data.md': 'import torch; gt = torch.randint(256, (64, 96, 3), dtype=torch.uint8).numpy()',
    'docs/checkpoints.md': 'import torch; from basicsr.archs import build_network\n'
                           "network = build_network({'type': 'BasicVSRPP', 'mid_channels': 64, 'num_blocks': 7})\n"
                           "torch.save({'params': network.state_dict()}, 'net_g_latest.pth')"}
AFTERWARDS = {
    'docs/data.md': 'assert lr.shape == (16, 24, 3)',
    'docs/balancing.md': "from basicsr_nriqa.balancing import BALANCERS; assert BALANCERS['shortest'] is Shortest"}
# blocks that show no example of ours: output, directives of the documentation
SHOWN = ('', 'sh', 'bash', 'console', 'shell', 'text', 'toctree', 'eval-rst', 'mermaid', 'note', 'warning')
OPTIONS = {'name', 'model_type', 'scale', 'num_gpu', 'manual_seed', 'deterministic', 'datasets', 'network_g',
           'network_d', 'path', 'train', 'val', 'logger', 'dist_params', '_base_'}
# what the blocks are put into: the paper's setting, with the losses and metrics that balancers and guards ask for
BASE = {'_base_': 'base_vimeo90k.yml', 'name': 'documented',
        'train': {'iqa_opt': {'lpips': {'type': 'LPIPSLoss'}, 'dbcnn': {'type': 'DBCNNLoss'}}},
        'val': {'metrics': {'lpips': {'type': 'calculate_iqa', 'metric': 'lpips', 'better': 'lower'}}}}
STOCK = {'_base_': 'base_vimeo90k.yml', 'name': 'documented', 'model_type': 'SRModel',
         'train': {'_delete_': True, 'total_iter': 1}}


def check_page(page):
    """The problems of a page's examples, as text."""
    namespace = {'__name__': 'example'}
    problems = []
    examples = [Block(Place('given to the page', 1), 'python', GIVEN.get(page, '')), *blocks(page),
                Block(Place('after the page', 1), 'python', AFTERWARDS.get(page, ''))]
    for block in examples:
        check = CHECKS.get(block.language)
        if check is None and block.language not in SHOWN:
            problems.append(f'{block.place}: no test knows what a block of `{block.language}` is')
        try:
            if check:
                check(block, namespace)
        except BaseException:
            problems.append(f'{block.place}: {traceback.format_exc(limit=-3)}')
    return problems


def check_python(block, namespace):
    """Run it; where a line is an expression with a literal in a comment behind it, that is its value."""
    text = '\n' * (block.place.line - 1) + block.text  # so that tracebacks have the page's lines
    promised = {token.start[0]: token.string.lstrip('# ') for token in
                tokenize.generate_tokens(StringIO(text + '\n').readline) if token.type == tokenize.COMMENT}
    for statement in ast.parse(text, block.place.page).body:
        if isinstance(statement, ast.Expr):
            value = eval(compile(ast.Expression(statement.value), block.place.page, 'eval'), namespace)
            try:
                expected = ast.literal_eval(promised.get(statement.end_lineno, ''))
            except (SyntaxError, ValueError):
                continue  # words, or shortened by an ellipsis
            assert value == expected, f'line {statement.lineno}: {value!r}, not {expected!r}'
        else:
            exec(compile(ast.Module([statement], []), block.place.page, 'exec'), namespace)


def check_yaml(block, namespace):
    """A plan of a study, or options."""
    if all(line.startswith('#') for line in block.text.splitlines()):  # a line for editors
        assert Path('options', block.text.partition('$schema=')[2]).is_file()
        return
    file = Path('example.yml')
    file.write_text(block.text)
    content = load_yaml(file)
    if {'models', 'losses', 'datasets'} <= content.keys():
        study = read_study(file)
        assert study.runs
    elif 'type' in content:
        check_options(_placed(content))
    elif content.keys() & OPTIONS:
        check_options(content)
    else:
        raise AssertionError(f'no check takes this block: its first options are {[*content][:3]}. Begin at the top of '
                             'an option file (train:, datasets:, ...), or teach tests/docs/documented_examples.py')


def check_options(content):
    """Complete an excerpt and have BasicSR and the plugin read it as from the command line."""
    content = {'name': 'documented'} | content
    if '_base_' in content:
        names = [content['_base_']] if isinstance(content['_base_'], str) else content['_base_']
        folder = next(folder for folder in map(Path, ('options', 'options/vrt', 'options/iseebetter'))
                      if all((folder / name).is_file() for name in names))
    else:
        folder = Path('options')
        if not {'model_type', 'num_gpu', 'datasets', 'network_g', 'path'} <= content.keys():
            stock = 'perceptual_opt' in content.get('train', {})  # of BasicSR's models
            (folder / 'documented_base.yml').write_text(yaml.safe_dump(STOCK if stock else BASE))
            base = read_options(folder / 'documented_base.yml')
            content = {**_in_place_of(base, content), '_base_': 'documented_base.yml'}
    file = folder / 'documented.yml'
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    before, sys.argv = sys.argv, ['train.py', '-opt', str(file)]
    try:
        options = read_options(file)
        # sets that the page makes itself, elsewhere
        made = all(Path(dataset['dataroot_lq']).exists() for dataset in options['datasets'].values()
                   if isinstance(dataset.get('dataroot_lq'), str))
        with only_checking(fetch=True, here=made):
            parse_options(str(Path.cwd()), is_train='train' in options)
    finally:
        sys.argv = before
        file.unlink()


def _placed(content):
    """Options of one class, where options of such a class stand."""
    known = {'network_g': registry.ARCH_REGISTRY, 'train': registry.LOSS_REGISTRY,
             'datasets': registry.DATASET_REGISTRY}
    group = next(group for group, classes in known.items() if content['type'] in classes)
    if group == 'network_g':
        return {'network_g': content}
    if group == 'train':
        return {'train': {'iqa_opt': {'example': content}}}
    return {'datasets': {'val' if 'Test' in content['type'] else 'train': content}}


def _in_place_of(base, content):
    """Fill in `...`; options of another ``type`` replace those of the base but for what every data set says."""
    if not (isinstance(base, dict) and isinstance(content, dict)):
        return base if content == '...' else content
    merged = {key: _in_place_of(base.get(key), value) for key, value in content.items()}
    if 'type' in content and content['type'] != base.get('type'):
        common = ('name', 'batch_size_per_gpu', 'num_worker_per_gpu')
        merged = {key: base[key] for key in common if key in base} | merged | {'_delete_': True}
    for name, part in (merged.get('datasets') or {}).items():  # of a mixture
        if isinstance(part, dict) and 'ratio' in part:
            merged['datasets'][name] = {key: base[key] if value == '...' else value for key, value in part.items()}
    return merged


def check_json(block, namespace):
    json.loads(block.text)


CHECKS = {'python': check_python, 'py': check_python, 'yaml': check_yaml, 'yml': check_yaml, 'json': check_json}

if __name__ == '__main__':
    found = check_page(sys.argv[1])
    sys.exit('\n'.join(found) or None)
