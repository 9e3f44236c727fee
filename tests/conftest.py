"""Fixtures shared by the tests: a tiny data set, option dictionaries and how to run the user's own commands."""
import contextlib
import ctypes
import gc
import logging
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
import yaml

import basicsr_nriqa  # noqa: F401
from basicsr_nriqa.data.sample_clips import make_sample_vimeo90k
from basicsr_nriqa.data.vimeo90k import prepare_vimeo90k

ROOT = Path(__file__).resolve().parents[1]
# the networks are tiny: more threads only wait for each other, above all on a busy machine
os.environ.setdefault('OMP_NUM_THREADS', '1')


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _memory_given_back(request):
    """The C library keeps what large tests had, 10 GB in a worker, while those of the other worker need it."""
    yield
    if request.node.get_closest_marker('slow'):
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL('libc.so.6').malloc_trim(0)


@pytest.fixture(scope='session', autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    cv2.setNumThreads(1)  # OpenCV's threads do not outlive a fork, but it would wait for them


@pytest.fixture(scope='session')
def shared():
    """Published outputs, weights and frames that lie beside a developer's checkout."""
    folder = ROOT.parent / 'shared'
    if not folder.is_dir():
        pytest.skip('no folder shared/ beside the checkout')
    return folder


@pytest.fixture(scope='session')
def sample(tmp_path_factory):
    """A packed sample data set: 3 training and 2 test clips of 64 x 96 px."""
    out = tmp_path_factory.mktemp('sample')
    make_sample_vimeo90k(out / 'vimeo_septuplet', 3, 2, size=(64, 96), progress=False)
    prepare_vimeo90k(out / 'vimeo_septuplet', out, progress=False)
    return out


@pytest.fixture
def train_options(sample):
    """Complete options of a training that takes a second or two."""
    return {
        'name': 'tiny', 'model_type': 'VideoIQAModel', 'scale': 4, 'num_gpu': 0, 'manual_seed': 0,
        'datasets': {
            'train': {
                'name': 'train', 'type': 'ClipTrainDataset', 'io_backend': {'type': 'lmdb'},
                'dataroot_gt': str(sample / 'vimeo90k_train_GT.lmdb'),
                'dataroot_lq': str(sample / 'vimeo90k_train_LRx4.lmdb'),
                'meta_info_file': str(sample / 'meta_info_Vimeo90K_train_GT.txt'),
                'num_frame': 2, 'gt_size': 64, 'batch_size_per_gpu': 1, 'num_worker_per_gpu': 0},
            'val': {
                'name': 'held_out', 'type': 'ClipTestDataset', 'io_backend': {'type': 'lmdb'}, 'num_frame': 2,
                'dataroot_gt': str(sample / 'vimeo90k_test_GT.lmdb'),
                'dataroot_lq': str(sample / 'vimeo90k_test_LRx4.lmdb')}},
        'network_g': {'type': 'BasicVSRPP', 'mid_channels': 8, 'num_blocks': 1},
        'path': {'pretrain_network_g': None, 'resume_state': None},
        'train': {
            'optim_g': {'type': 'Adam', 'lr': 4e-4},
            'scheduler': {'type': 'CosineAnnealingRestartLR', 'periods': [10], 'restart_weights': [1]},
            'total_iter': 4, 'warmup_iter': -1,
            'pixel_opt': {'type': 'CharbonnierLoss', 'loss_weight': 1.0, 'reduction': 'mean'},
            'iqa_opt': {'tinyiqa': {'type': 'IQALoss', 'metric': 'tinyiqa', 'loss_weight': -0.01}}},
        'val': {'val_freq': 4, 'save_img': False, 'pbar': False,
                'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 0, 'better': 'higher'},
                            'tinyiqa': {'type': 'calculate_iqa', 'metric': 'tinyiqa', 'better': 'higher'}}},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 100, 'use_tb_logger': False}}


@pytest.fixture
def write_options(tmp_path):
    """Write an option dictionary to a file; returns its path."""
    def write(options, name='options.yml'):
        path = tmp_path / name
        path.write_text(yaml.safe_dump(options, sort_keys=False))
        return path
    return write


@pytest.fixture
def log(caplog, monkeypatch):
    """What is logged by BasicSR's logger, which hands nothing on by itself."""
    from basicsr.utils import get_root_logger
    monkeypatch.setattr(get_root_logger(), 'propagate', True)
    caplog.set_level(logging.INFO, 'basicsr')
    return caplog


@pytest.fixture
def project(tmp_path):
    """A checkout of its own with the launchers, so that what they write lands in a temporary folder."""
    root = tmp_path / 'project'
    (root / 'basicsr').mkdir(parents=True)
    for name in ('train.py', 'test.py'):
        (root / 'basicsr' / name).write_text((ROOT / 'basicsr' / name).read_text())
    return root


def run_python(*arguments, cwd=None, **options):
    """Run Python with these arguments as a user would; returns the completed process with text output."""
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, text=True, capture_output=True,
                          timeout=600, **options)
