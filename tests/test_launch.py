"""The user's own commands, run as processes."""
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, run_python

import basicsr
from basicsr_nriqa import launch
from basicsr_nriqa.data.lmdb_store import LmdbReader
from basicsr_nriqa.data.lmdb_writer import LmdbWriter


def _train(project, options, *arguments, cwd=None):
    return run_python(project / 'basicsr/train.py', '-opt', options, *arguments, cwd=cwd or project)


def test_train_then_test_then_scores(project, train_options, write_options, tmp_path):
    done = _train(project, write_options(train_options))
    assert done.returncode == 0, done.stderr
    log = done.stdout + done.stderr
    assert re.search(r'iter: +4, lr:.*l_pix: .*l_tinyiqa: ', log) and not re.search(r'iter: +5,', log)
    assert log.count('Validation held_out') == 1 and '@ 4 iter' in log
    experiment = project / 'experiments/tiny'
    checkpoint = experiment / 'models/net_g_latest.pth'
    assert checkpoint.is_file() and (experiment / 'scores/held_out_4.json').is_file()

    options = {key: train_options[key] for key in ('model_type', 'scale', 'num_gpu', 'manual_seed', 'network_g')}
    options |= {'name': 'tested', 'path': {'pretrain_network_g': str(checkpoint)},
                'datasets': {'test_1': {**train_options['datasets']['val'], 'name': 'one'},
                             'test_2': {**train_options['datasets']['val'], 'name': 'two', 'num_frame': 3}},
                'val': {'save_img': True, 'metrics': {
                    'ssim': {'type': 'calculate_ssim', 'crop_border': 0},
                    'gmsd': {'type': 'calculate_iqa', 'metric': 'gmsd', 'better': 'lower'}}}}
    done = run_python(project / 'basicsr/test.py', '-opt', write_options(options, 'test.yml'), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'Validation one' in done.stderr and 'Validation two' in done.stderr and '# gmsd: 0.' in done.stderr
    scores = json.loads((project / 'results/tested/scores/two.json').read_text())
    assert scores['loss'] == 'tinyiqa' and scores['model'] == 'BasicVSRPP' and scores['dataset'] == 'two'
    frames = project / 'results/tested/visualization/two/00002/0001'
    assert sorted(path.name for path in frames.iterdir()) == [f'im{i}_tested.png' for i in (1, 2, 3)]
    assert cv2.imread(str(frames / 'im1_tested.png')).shape == (64, 96, 3)


def test_finetune_maniqa_without_data_says_what_is_missing(project, tmp_path):
    done = _train(project, ROOT / 'options/finetune_maniqa.yml')
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    for words in ('datasets:train:dataroot_gt', 'python scripts/prepare_vimeo90k.py', 'ckpt_koniq10k.pt',
                  'path:pretrain_network_g'):
        assert words in done.stderr
    assert not (project / 'experiments').exists() and not (project / 'tb_logger').exists()


def _start(project, options, log, *arguments, cwd):
    return subprocess.Popen([sys.executable, project / 'basicsr/train.py', '-opt', options, *arguments], cwd=cwd,
                            stdout=log.open('w'), stderr=subprocess.STDOUT, start_new_session=True)


def test_stopped_by_a_signal_and_resumed_from_another_folder(project, train_options, write_options, tmp_path):
    train_options['train']['total_iter'] = 100000
    train_options['datasets']['train'] |= {'num_worker_per_gpu': 1, 'dataset_enlarge_ratio': 10}
    options, log = write_options(train_options), tmp_path / 'log'
    process = _start(project, options, log, cwd=project)
    deadline = time.time() + 300
    while 'iter:       3' not in log.read_text() and time.time() < deadline and process.poll() is None:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGTERM)  # all of its processes, as Slurm does
    assert process.wait(120) == 128 + signal.SIGTERM, log.read_text()[-3000:]
    stopped = int(re.search(r'Stopped by SIGTERM after iteration (\d+)', log.read_text())[1])
    assert stopped >= 3
    states = project / 'experiments/tiny/training_states'
    assert sorted(path.name for path in states.iterdir()) == [f'{stopped}.sha256', f'{stopped}.state']

    train_options['train']['total_iter'] = stopped + 2
    train_options['val']['val_freq'] = 1000
    (tmp_path / 'elsewhere').mkdir()
    done = _train(project, write_options(train_options), '--auto_resume', cwd=tmp_path / 'elsewhere')
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    assert f'iter: {stopped}.' in text
    iterations = [int(number) for number in re.findall(r'iter: +(\d+), lr', text)]
    assert iterations == [stopped + 1, stopped + 2]
    assert not list(project.glob('experiments/tiny_archived_*'))


@pytest.fixture
def broken(sample, tmp_path, train_options):
    """Copy the training databases with one value of GT changed; returns the options that use them."""
    def make(key, value):
        source = LmdbReader(sample / 'vimeo90k_train_GT.lmdb')
        with LmdbWriter(tmp_path / 'broken.lmdb') as writer:
            for name in source.listed_keys():
                data = source.get(name) if name != key else value
                if data is not None:
                    writer.put(name, data, (64, 96, 3))
        train = train_options['datasets']['train']
        train |= {'dataroot_gt': str(tmp_path / 'broken.lmdb'), 'num_frame': 7, 'num_worker_per_gpu': 1}
        (tmp_path / 'one.txt').write_text('00001/0002 7 (64,96,3)\n')
        train['meta_info_file'] = str(tmp_path / 'one.txt')
        return train_options
    return make


def _wrong_size():
    return cv2.imencode('.png', np.zeros((60, 96, 3), np.uint8))[1].tobytes()


@pytest.mark.parametrize('value, words', [
    (None, "broken.lmdb: the database has no key '00001/0002/im4'"),
    (b'\x89PNG\r\n', "broken.lmdb, key '00001/0002/im4': not a readable image"),
    (_wrong_size(), "frame '00001/0002/im4': GT is 96x60 and LR 24x16"),
], ids=['missing key', 'corrupt PNG', 'wrong scale'])
def test_bad_frames_end_training_with_one_line(project, broken, write_options, value, words):
    done = _train(project, write_options(broken('00001/0002/im4', value)))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith('error: ') and words in done.stderr.splitlines()[-1]


def test_misspelt_options_end_before_anything_is_made(project, train_options, write_options):
    train_options['train']['iqa_opt']['tinyiqa']['metric'] = 'tinyqa'
    train_options['datasets']['train']['dataroot_gt'] = 'nowhere.lmdb'
    train_options['trian'] = {}
    done = _train(project, write_options(train_options))
    assert done.returncode == 2 and 'Traceback' not in done.stderr and not (project / 'experiments').exists()
    for words in ("did you mean 'train'", "did you mean 'tinyiqa'", 'nowhere.lmdb: nothing is there'):
        assert words in done.stderr


def _stock_options(sample, folder):
    """A stock SRModel on single frames of the sample."""
    for kind in ('gt', 'lq'):
        (folder / kind).mkdir()
    for path in (sample / 'vimeo_septuplet/sequences/00001').rglob('im1.png'):
        frame = cv2.imread(str(path))
        cv2.imwrite(str(folder / f'gt/{path.parent.name}.png'), frame)
        cv2.imwrite(str(folder / f'lq/{path.parent.name}.png'), cv2.resize(frame, (24, 16)))
    return {
        'name': 'stock', 'model_type': 'SRModel', 'scale': 4, 'num_gpu': 0, 'manual_seed': 0,
        'datasets': {'train': {
            'name': 'pairs', 'type': 'PairedImageDataset', 'dataroot_gt': str(folder / 'gt'),
            'dataroot_lq': str(folder / 'lq'), 'io_backend': {'type': 'disk'}, 'gt_size': 64, 'use_hflip': True,
            'use_rot': True, 'num_worker_per_gpu': 0, 'batch_size_per_gpu': 1, 'dataset_enlarge_ratio': 1}},
        'network_g': {'type': 'MSRResNet', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1,
                      'upscale': 4},
        'path': {'pretrain_network_g': None, 'resume_state': None},
        'train': {'optim_g': {'type': 'Adam', 'lr': 1e-3},
                  'scheduler': {'type': 'MultiStepLR', 'milestones': [100]}, 'total_iter': 4,
                  'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
                  'perceptual_opt': {'type': 'IQAPerceptualLoss', 'metric': 'tinyiqa', 'loss_weight': -0.01}},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 2, 'use_tb_logger': False}}


def test_in_a_stock_project_by_one_import(sample, write_options, tmp_path):
    script = tmp_path / 'their_train.py'
    script.write_text('import basicsr_nriqa\nfrom basicsr.train import train_pipeline\ntrain_pipeline(".")\n')
    done = run_python(script, '-opt', write_options(_stock_options(sample, tmp_path)), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r'l_percep: -\d', done.stderr)) == 4


def test_a_script_is_known_by_its_lines(tmp_path):
    stock, clone, own = (tmp_path / name for name in ('stock.py', 'clone.py', 'own.py'))
    stock.write_bytes(b'def train_pipeline():\n    pass\n')
    clone.write_bytes(b'def train_pipeline():\r\n    pass\r\n')  # as Git checks it out on some systems
    own.write_bytes(b'def train_pipeline():\n    return\n')
    assert launch._same(stock, clone)
    assert not launch._same(stock, own) and not launch._same(stock, tmp_path / 'none.py')


def test_in_a_stock_checkout_by_one_file_in_losses(sample, write_options, tmp_path):
    checkout = tmp_path / 'BasicSR'
    shutil.copytree(Path(basicsr.__file__).parent, checkout / 'basicsr')
    (checkout / 'basicsr/losses/nriqa_loss.py').write_text('import basicsr_nriqa\n')
    options = yaml.safe_load(write_options(_stock_options(sample, tmp_path)).read_text())
    done = run_python('basicsr/train.py', '-opt', write_options(options), cwd=checkout,
                      env={'PYTHONPATH': str(checkout), 'PATH': ''})
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r'l_percep: -\d', done.stderr)) == 4
    # the script's own loop is not the repaired one, which writes this
    assert (checkout / 'experiments/stock/training_states/4.sha256').is_file()
    assert str(checkout) in run_python('-c', 'import basicsr; print(basicsr.__file__)', cwd=checkout,
                                       env={'PYTHONPATH': str(checkout), 'PATH': ''}).stdout


@pytest.mark.slow
def test_finetune_maniqa_trains(project, sample, train_options, tmp_path):
    """The shipped option file on the sample data with a randomly initialised MANIQA and a small network."""
    from pyiqa.archs.maniqa_arch import MANIQA

    from basicsr_nriqa.iqa.network_tools import no_downloads
    torch.manual_seed(3)
    place = tmp_path / 'home/hub/pyiqa/ckpt_koniq10k.pt'
    place.parent.mkdir(parents=True)
    with no_downloads():
        torch.save(MANIQA(pretrained=False, scale=0.8).state_dict(), place)
    data = {f'datasets:{phase}:{key}': str(sample / name) for phase, split in (('train', 'train'), ('val', 'test'))
            for key, name in (('dataroot_gt', f'vimeo90k_{split}_GT.lmdb'),
                              ('dataroot_lq', f'vimeo90k_{split}_LRx4.lmdb'))}
    data['datasets:train:meta_info_file'] = str(sample / 'meta_info_Vimeo90K_train_GT.txt')
    small = {'datasets:train:gt_size': 64, 'datasets:train:num_frame': 2, 'datasets:train:batch_size_per_gpu': 1,
             'datasets:train:num_worker_per_gpu': 0, 'datasets:train:pin_memory': 'false',
             'network_g:mid_channels': 8, 'network_g:num_blocks': 1, 'path:pretrain_network_g': '~',
             'train:iqa_opt:maniqa:frames': 1, 'train:total_iter': 2, 'logger:print_freq': 1, 'val:val_freq': 100,
             'val:metrics': '~'}
    done = run_python(project / 'basicsr/train.py', '-opt', ROOT / 'options/finetune_maniqa.yml', '--force_yml',
                      *(f'{key}={value}' for key, value in (data | small).items()), cwd=tmp_path,
                      env={**os.environ, 'TORCH_HOME': str(tmp_path / 'home')})
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r'l_pix: .*l_maniqa: -?\d', done.stderr)) == 2
    assert (project / 'experiments/finetune_maniqa/models/net_g_latest.pth').is_file()


@pytest.mark.parametrize('is_train', [True, False])
def test_a_changed_script_of_basicsr_is_told_what_it_lacks(is_train, monkeypatch, tmp_path, caplog):
    script = tmp_path / 'train.py'
    script.write_text('def train_pipeline(root):\n    pass\n')
    main = types.SimpleNamespace(__file__=str(script), train_pipeline=len, test_pipeline=len)
    monkeypatch.setitem(sys.modules, '__main__', main)
    monkeypatch.setattr(launch, '_handed_over', [])
    monkeypatch.setattr(logging.getLogger('basicsr'), 'propagate', True)
    assert launch.hand_over(tmp_path, is_train) is None
    name = 'train' if is_train else 'test'
    assert f'its {name}_pipeline is not repaired' in caplog.text
    assert f'`from basicsr.{name} import {name}_pipeline`' in caplog.text
