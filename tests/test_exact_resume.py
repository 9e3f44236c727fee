"""A training killed with SIGKILL at any moment and resumed ends as the one that was never interrupted, bit for bit."""
import random
import shutil
import signal
import time

import cv2
import pytest
import torch
from training_process import start_training

START = 'Start training from epoch'


@pytest.fixture
def video_options(train_options):
    """All that has a state: workers, an average, a balancer, losses that draw frames; several epochs a checkpoint."""
    train_options['datasets']['train'] |= {'num_worker_per_gpu': 2, 'num_frame': 2}
    train_options['train'] |= {
        'ema_decay': 0.9, 'balance_opt': {'type': 'gradnorm', 'warmup': 3, 'every': 1}, 'iqa_opt': {
            'tinyiqa': {'type': 'IQALoss', 'metric': 'tinyiqa', 'loss_weight': -0.01, 'frames': 1},
            'gmsd': {'type': 'IQALoss', 'metric': 'gmsd', 'loss_weight': 0.01}}}
    train_options['val']['val_freq'] = 10
    train_options['logger'] |= {'print_freq': 100, 'save_checkpoint_freq': 5}
    train_options['train']['total_iter'] = 20
    return train_options


@pytest.fixture
def stock_options(sample, tmp_path):
    """BasicSR's own model and dataset, which draw from Python's and numpy's streams."""
    for kind in ('gt', 'lq'):
        (tmp_path / kind).mkdir()
    for path in (sample / 'vimeo_septuplet/sequences/00001').rglob('im1.png'):
        frame = cv2.imread(str(path))
        cv2.imwrite(str(tmp_path / f'gt/{path.parent.name}.png'), frame)
        cv2.imwrite(str(tmp_path / f'lq/{path.parent.name}.png'), cv2.resize(frame, (24, 16)))
    pairs = {'type': 'PairedImageDataset', 'dataroot_gt': str(tmp_path / 'gt'), 'dataroot_lq': str(tmp_path / 'lq'),
             'io_backend': {'type': 'disk'}}
    return {
        'name': 'stock', 'model_type': 'SRModel', 'scale': 4, 'num_gpu': 0, 'manual_seed': 0,
        'datasets': {
            'train': {**pairs, 'name': 'pairs', 'gt_size': 32, 'use_hflip': True, 'use_rot': True,
                      'num_worker_per_gpu': 1, 'batch_size_per_gpu': 2, 'dataset_enlarge_ratio': 5,
                      'prefetch_mode': 'cpu'},
            'val': {**pairs, 'name': 'the_same'}},
        'network_g': {'type': 'MSRResNet', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1,
                      'upscale': 4},
        'path': {'pretrain_network_g': None, 'resume_state': None},
        'train': {'optim_g': {'type': 'Adam', 'lr': 1e-3}, 'ema_decay': 0.9, 'warmup_iter': 5,
                  'scheduler': {'type': 'MultiStepLR', 'milestones': [15, 30]}, 'total_iter': 40,
                  'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
                  'perceptual_opt': {'type': 'IQAPerceptualLoss', 'metric': 'tinyiqa', 'loss_weight': -0.01}},
        'val': {'val_freq': 8, 'save_img': False,
                'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 0}}},
        'logger': {'print_freq': 100, 'save_checkpoint_freq': 4, 'use_tb_logger': False}}


class _Runs:
    """Trainings with the same options, each in a folder of its own."""

    def __init__(self, project, write_options, options):
        self.project, self.options, self.name = project, write_options(options), options['name']

    def start(self, root, *arguments):
        return start_training(root, root / 'log', '-opt', self.options, *arguments)

    def new_root(self, name):
        root = self.project.parent / name
        shutil.copytree(self.project, root)
        (root / 'log').touch()
        return root

    def finish(self, root, *arguments):
        process = self.start(root, *arguments)
        process.join(300)
        assert process.exitcode == 0, (root / 'log').read_text()[-3000:]

    def kill(self, root, seconds, checkpoints=0):
        """Start or resume, and kill; whether it was still running.

        The moment comes some seconds after the first step can have begun and so many new checkpoints are complete.
        """
        states = root / 'experiments' / self.name / 'training_states'
        starts, complete = (root / 'log').read_text().count(START), len(list(states.glob('*.sha256')))
        process = self.start(root, '--auto_resume')
        deadline = time.time() + 120
        while process.is_alive() and time.time() < deadline and (
                (root / 'log').read_text().count(START) == starts
                or len(list(states.glob('*.sha256'))) < complete + checkpoints):
            time.sleep(0.005)
        process.join(seconds)
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), (root / 'log').read_text()[-3000:]
        return process.exitcode != 0

    def result(self, root):
        """All that a training leaves: networks and the whole state, random streams included."""
        folder = root / 'experiments' / self.name
        state = max(folder.glob('training_states/*.state'), key=lambda path: int(path.stem))
        validated = state.with_suffix('.validated')
        return {path.name: torch.load(path, weights_only=True)
                for path in (folder / 'models/net_g_latest.pth', state, validated)}


def _differences(one, other, where=''):
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [where]
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        return [place for key in one for place in _differences(one[key], other[key], f'{where}/{key}')]
    if isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        return [place for i in range(len(one)) for place in _differences(one[i], other[i], f'{where}/{i}')]
    return [] if one == other or one != one else [where]


def _reference(runs):
    root = runs.new_root('uninterrupted')
    runs.finish(root)
    return runs.result(root)


def _kill_once_a_checkpoint(runs, kills, longest, chance):
    expected, root = _reference(runs), runs.new_root('killed')
    for _ in range(kills):
        assert runs.kill(root, chance.uniform(0, longest), checkpoints=1)
    runs.finish(root, '--auto_resume')
    assert (root / 'log').read_text().count('Resuming training from epoch') == kills
    assert _differences(expected, runs.result(root)) == []


def test_video_model_after_two_kills(project, write_options, video_options):
    _kill_once_a_checkpoint(_Runs(project, write_options, video_options), 2, 0.3, random.Random(5))


def test_stock_model_after_a_kill(project, write_options, stock_options):
    _kill_once_a_checkpoint(_Runs(project, write_options, stock_options), 1, 0.1, random.Random(1))


@pytest.mark.slow
def test_video_model_after_twenty_kills(project, write_options, video_options):
    """Wherever they hit; a training that ends in between must end like the others, then the next one is killed."""
    runs, chance, kills = _Runs(project, write_options, video_options), random.Random(2), 0
    expected = _reference(runs)
    for number in range(20):
        root = runs.new_root(f'killed_{number}')
        while kills < 20 and runs.kill(root, chance.uniform(0, 3)):
            kills += 1
        runs.finish(root, '--auto_resume')
        assert _differences(expected, runs.result(root)) == []
        if kills == 20:
            return
    raise AssertionError(f'only {kills} of 20 kills came before the end')
