"""Whoever follows docs/plugin.md in a stock checkout of BasicSR trains with a metric; its files are the page's."""
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from basicsr.archs import build_network
from conftest import run_python
from documentation import blocks
from training_process import start_training

import basicsr

PAGE = 'docs/plugin.md'
FILE = 'options/msrresnet_tinyiqa.yml'
MARK = 'this is the BasicSR of the checkout'
SHORT = ['num_gpu=0', 'train:total_iter=4', 'val:val_freq=2', 'logger:print_freq=1', 'logger:save_checkpoint_freq=2',
         'logger:use_tb_logger=false', 'network_g:num_feat=8', 'network_g:num_block=1',
         'datasets:train:num_worker_per_gpu=0']


def _blocks(language):
    return [block.text for block in blocks(PAGE) if block.language == language]


def _options(number):
    return yaml.safe_load(_blocks('yaml')[number])


def _run(checkout, *command):
    """Python in the checkout, whose ``basicsr`` is the one that is imported, as the page's ``PYTHONPATH=.`` has it."""
    done = run_python(*command, cwd=checkout, env={**os.environ, 'PYTHONPATH': '.'})
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3000:]
    assert MARK in output
    return output


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """A checkout of BasicSR with the page's files and photographs."""
    root = tmp_path_factory.mktemp('BasicSR')
    shutil.copytree(Path(basicsr.__file__).parent, root / 'basicsr', ignore=shutil.ignore_patterns('__pycache__'))
    with (root / 'basicsr/version.py').open('a') as stream:
        stream.write(f'\nprint({MARK!r})\n')
    (root / 'options').mkdir()
    (root / FILE).write_text(_blocks('yaml')[0])
    plugin_file, photographs = _blocks('python')
    (root / 'basicsr/losses/nriqa_loss.py').write_text(plugin_file)
    _run(root, '-c', photographs)
    return root


@pytest.fixture(scope='module')
def trained(checkout):
    """The checkout after the first command of the page, and what was printed."""
    assert f'python basicsr/train.py -opt {FILE}' in ''.join(_blocks(''))
    return checkout, _run(checkout, 'basicsr/train.py', '-opt', FILE, '--force_yml', *SHORT)


@pytest.mark.slow
def test_a_stock_model_trains_and_validates_with_a_metric(trained):
    checkout, output = trained
    assert len(re.findall(r'l_percep: -\d', output)) == 4
    assert re.findall(r'# tinyiqa: 0\.\d+', output)
    assert (checkout / 'experiments/msrresnet_tinyiqa/models/net_g_latest.pth').is_file()


@pytest.mark.slow
def test_the_script_of_basicsr_itself_goes_on_with_the_repaired_loop(trained):
    checkout, _ = trained
    output = _run(checkout, 'basicsr/train.py', '-opt', FILE, '--auto_resume', '--force_yml', *SHORT,
                  'train:total_iter=6')
    assert re.findall(r'iter: +(\d+), lr', output) == ['5', '6'] and '-1 day' not in output
    states = checkout / 'experiments/msrresnet_tinyiqa/training_states'
    assert sorted(path.name for path in states.glob('*.sha256')) == ['2.sha256', '4.sha256', '6.sha256']


@pytest.mark.slow
def test_an_error_of_the_user_is_one_line(checkout):
    done = run_python('basicsr/train.py', '-opt', FILE, '--force_yml', 'train:pixel_opt:type=L1Los', cwd=checkout,
                      env={**os.environ, 'PYTHONPATH': '.'})
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    assert "train:pixel_opt:type: no loss is called 'L1Los' (did you mean 'L1Loss'?)" in done.stderr


@pytest.mark.slow
def test_without_the_file_the_checkout_is_stock_and_reads_what_was_trained(trained):
    checkout, _ = trained
    plugin_file = checkout / 'basicsr/losses/nriqa_loss.py'
    content = plugin_file.read_text()
    plugin_file.unlink()
    try:
        output = _run(checkout, 'basicsr/train.py', '-opt', FILE, '--force_yml', *SHORT, 'name=stock', 'val=~',
                      'train:perceptual_opt=~', 'train:total_iter=1',
                      'path:pretrain_network_g=experiments/msrresnet_tinyiqa/models/net_g_latest.pth')
        assert 'l_percep' not in output and 'l_pix' in output
        done = run_python('-c', 'import basicsr.models, sys; sys.exit("basicsr_nriqa" in sys.modules)', cwd=checkout,
                          env={**os.environ, 'PYTHONPATH': '.'})
        assert done.returncode == 0
    finally:
        plugin_file.write_text(content)


def _moved(train_options, network):
    """A short training with the datasets of the page's last block, with the sample data."""
    page = _options(2)
    options = {**train_options, 'network_g': network, 'model_type': page['model_type']}
    own = options['datasets']['train']
    options['datasets'] = {'train': {**page['datasets']['train'], 'batch_size_per_gpu': 1, 'num_worker_per_gpu': 0}}
    options['datasets']['train'] |= {name: own[name] for name in ('dataroot_gt', 'dataroot_lq', 'meta_info_file',
                                                                  'gt_size')}
    options['train'] = {**options['train'], 'pixel_opt': page['train']['pixel_opt'], 'fix_flow': 2, 'total_iter': 3,
                        'flow_lr_mul': page['train']['flow_lr_mul']}
    del options['train']['iqa_opt'], options['val']
    return options


def test_the_move_from_a_stock_model_changes_no_bit(project, train_options, write_options, tmp_path):
    """The network is one that needs no 64 px; the page's BasicVSR was compared by hand."""
    options = _moved(train_options, train_options['network_g'])
    weights = []
    for name in (options['model_type'], 'VideoRecurrentModel'):
        file = write_options({**options, 'model_type': name, 'name': name}, f'{name}.yml')
        process = start_training(project, tmp_path / name, '-opt', file)
        process.join(120)
        assert process.exitcode == 0, (tmp_path / name).read_text()[-3000:]
        weights.append(torch.load(project / f'experiments/{name}/models/net_g_latest.pth')['params'])
    start = build_network(train_options['network_g']).state_dict()
    assert weights[0].keys() == start.keys()
    assert all(torch.equal(ours, stock) for ours, stock in zip(weights[0].values(), weights[1].values()))
