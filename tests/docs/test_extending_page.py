"""The classes of docs/extending.md, in a file beside the train script, train together with the page's option file."""
import re
from itertools import takewhile

import pytest
import yaml
from conftest import ROOT, run_python
from documentation import blocks

from basicsr_nriqa.options import read_options

PAGE = 'docs/extending.md'


@pytest.mark.slow
def test_the_classes_of_the_page_train_and_validate(project, train_options, write_options, tmp_path):
    examples = [block for block in blocks(PAGE) if block.language in ('python', 'yaml')]
    # up to the file of options with all of them; what follows is for a session
    classes = takewhile(lambda block: '_base_' not in block.text, examples)
    (project / 'my_extensions.py').write_text(
        '\n\n'.join(block.text for block in classes if block.language == 'python'))
    script = project / 'basicsr/train.py'
    text, launch = script.read_text(), 'from basicsr_nriqa.launch'
    assert text.count(launch) == 1
    script.write_text(text.replace(launch, f'import basicsr_nriqa\nimport my_extensions\n{launch}'))
    merged = tmp_path / 'options/my_extensions.yml'
    merged.parent.mkdir()
    merged.write_text(next(block.text for block in reversed(examples) if '_base_' in block.text))
    (merged.parent / 'base_vimeo90k.yml').write_text((ROOT / 'options/base_vimeo90k.yml').read_text())
    options = read_options(merged)
    options['datasets']['val'] = train_options['datasets']['val']
    options |= {'num_gpu': 0, 'logger': train_options['logger']}
    options['train']['total_iter'] = options['val']['val_freq'] = 3
    done = run_python(script, '-opt', write_options(options), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = re.findall(r'l_pix: .*', done.stderr)
    assert len(lines) == 3
    for name in ('l_sharpness: -', 'l_edges: ', 'w_pix: ', 'w_sharpness: '):
        assert name in lines[-1]
    assert re.search(r'# sharpness: \d', done.stderr)
    saved = yaml.safe_load(merged.read_text())
    assert {saved['network_g']['type'], saved['datasets']['train']['type'], saved['train']['balance_opt']['type']} == {
        'SmallVSR', 'PannedPhotos', 'equal_norms'}
