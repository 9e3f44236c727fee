"""Training in several gloo processes: the same numbers as one process, one set of files, and an end with the error."""
import copy
import json
import logging
import os
import re
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from basicsr.archs import build_network
from basicsr.models import build_model
from basicsr.models.base_model import BaseModel
from basicsr.utils import get_root_logger
from basicsr.utils.logger import initialized_logger
from basicsr.utils.options import parse_options
from conftest import run_python

from basicsr.train import create_train_val_dataloader
from basicsr_nriqa import distributed, launch, rank_failure
from basicsr_nriqa.data.lmdb_store import LmdbReader
from basicsr_nriqa.data.lmdb_writer import LmdbWriter
from basicsr_nriqa.models import VideoIQAModel
from basicsr_nriqa.options import OptionsError

_LAUNCHERS_OWN = ('TORCHELASTIC_', 'SLURM_', 'MASTER_', 'RANK', 'LOCAL_', 'WORLD_SIZE')


@pytest.fixture(autouse=True)
def _not_launched(monkeypatch):
    for name in list(os.environ):
        if name.startswith(_LAUNCHERS_OWN):
            monkeypatch.delenv(name)


@pytest.fixture
def ranks(tmp_path):
    """Run a function of the rank in forks of this process, which need no imports, in the environment of torchrun.

    Returns the exit codes and what each rank printed; one that is not done in time is killed.
    """
    def run(work, world=2, limit=60, **environment):
        # as torchrun does, the parent holds the store
        store = torch.distributed.TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
        shared = {'WORLD_SIZE': world, 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': store.port,
                  'TORCHELASTIC_RUN_ID': 'test', 'TORCHELASTIC_USE_AGENT_STORE': 'True', **environment}
        logs = [tmp_path / f'rank_{rank}.log' for rank in range(world)]
        # The store's thread looks up the name of whoever connects, under a lock of the C library. A fork at that moment
        # would have it locked for ever: so nobody connects before all are there, when the last has closed `gate`.
        wait, gate = os.pipe()
        pids = [_fork(work, rank, log, {**shared, 'RANK': rank, 'LOCAL_RANK': rank}, wait, gate)
                for rank, log in enumerate(logs)]
        os.close(wait)
        os.close(gate)
        codes, deadline = {}, time.monotonic() + limit
        while len(codes) < world:
            for pid in pids:
                if pid not in codes and time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                ended, status = os.waitpid(pid, os.WNOHANG) if pid not in codes else (0, 0)
                if ended:
                    codes[pid] = os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        outputs = [log.read_text() for log in logs]
        assert time.monotonic() < deadline, '\n'.join(['not done in time:', *outputs])
        return [codes[pid] for pid in pids], outputs
    return run


def _fork(work, rank, log, environment, wait, gate):
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        sys.stdout = sys.stderr = log.open('w', buffering=1)
        initialized_logger.clear()
        logging.getLogger('basicsr').handlers.clear()
        os.environ.update({name: str(value) for name, value in environment.items() if value is not None})
        os.close(gate)
        os.read(wait, 1)
        work(rank)
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


@pytest.fixture
def train(ranks, project, write_options):
    """The training that options describe, by :func:`ranks`."""
    def run(options, *arguments, **more):
        path = write_options(options)

        def work(rank):
            sys.argv = ['train.py', '-opt', str(path), '--launcher', 'pytorch', *arguments]
            launch.train(project)
        return ranks(work, **more)
    return run


@pytest.fixture
def alone(write_options, monkeypatch, tmp_path):
    """Train with options in this process, then validate; returns the model."""
    def run(options, steps):
        monkeypatch.setattr(sys, 'argv', ['train.py', '-opt', str(write_options(options, 'alone.yml'))])
        opt, _ = parse_options(str(tmp_path / 'alone'))
        loader, sampler, val_loaders, _, _ = create_train_val_dataloader(opt, get_root_logger())
        model = build_model(opt)
        sampler.set_epoch(0)
        for iteration, batch in enumerate(loader, 1):
            if iteration > steps:
                break
            model.update_learning_rate(iteration)
            model.feed_data(batch)
            model.optimize_parameters(iteration)
        for val_loader in val_loaders:
            model.validation(val_loader, options['train']['total_iter'], None, False)
        return model
    return run


@pytest.fixture
def options(train_options, tmp_path):
    """Three losses, an optimiser that shows the gradient, two validation sets, one of them with a single clip."""
    one = tmp_path / 'one.txt'
    one.write_text('00002/0002\n')
    train_options['datasets']['val_2'] = {**train_options['datasets']['val'], 'name': 'one', 'meta_info_file': str(one)}
    train_options['datasets']['train']['dataset_enlarge_ratio'] = 2
    # after its first step, the momentum is the gradient
    train_options['train'] |= {'optim_g': {'type': 'SGD', 'lr': 1.0, 'momentum': 0.9}, 'total_iter': 1}
    train_options['train']['iqa_opt']['gmsd'] = {'type': 'IQALoss', 'metric': 'gmsd', 'loss_weight': 0.5}
    train_options['val'] |= {'val_freq': 1, 'save_img': True}
    train_options['logger'] |= {'use_tb_logger': True, 'save_checkpoint_freq': 1}
    return train_options


@pytest.fixture
def start(options, tmp_path):
    """Weights that all trainings of a test start from, and sums that depend little on the size of a batch."""
    torch.backends.mkldnn.set_flags(False)  # oneDNN's sums over pixels are good to 1e-5 only
    network = build_network(options['network_g'])
    torch.save({'params': network.state_dict()}, tmp_path / 'start.pth')
    options['path']['pretrain_network_g'] = str(tmp_path / 'start.pth')
    yield network.state_dict()
    torch.backends.mkldnn.set_flags(True)


def _gradient(optimizer):
    return torch.cat([state['momentum_buffer'].flatten().double() for state in optimizer['state'].values()])


def _change(network, start):
    return torch.cat([(network[name] - start[name]).flatten().double() for name in start])


def _trained(project):
    return torch.load(project / 'experiments/tiny/models/net_g_latest.pth', weights_only=True)['params']


def test_two_processes_train_and_validate_as_one(train, alone, options, start, project, tmp_path):
    (project / 'experiments/tiny').mkdir(parents=True)  # an older training, which is renamed
    codes, outputs = train(options)
    assert codes == [0, 0], '\n'.join(outputs)
    experiment = project / 'experiments/tiny'
    together = copy.deepcopy(options)
    together['datasets']['train']['batch_size_per_gpu'] = 2
    expected = _gradient(alone(together, 1).optimizer_g.state_dict())
    found = _gradient(torch.load(experiment / 'training_states/1.state', weights_only=True)['optimizers'][0])
    assert (found - expected).norm() < 1e-6 * expected.norm() and expected.norm() > 1e-3

    # one set of files, by rank 0; the log is rank 0's; both validated
    assert sorted(path.suffix for path in experiment.iterdir() if path.is_file()) == ['.log', '.yml']
    assert len(list((project / 'tb_logger/tiny').iterdir())) == 1
    assert len(list((project / 'experiments').glob('tiny_archived_*'))) == 1
    assert 'iter:       1' in outputs[0] and 'Validation' not in outputs[1] and 'iter:' not in outputs[1]
    assert len(list((experiment / 'visualization/held_out').rglob('*.png'))) == 4

    # one process validates the same network with the same result, to the last digit
    together['path']['pretrain_network_g'] = str(experiment / 'models/net_g_latest.pth')
    alone(together, 0)
    for name in ('held_out_1.json', 'one_1.json'):
        scores = (experiment / 'scores' / name).read_text()
        assert scores == (tmp_path / 'alone/experiments/tiny/scores' / name).read_text()
    assert list(json.loads(scores)['videos']) == ['00002/0002']


def test_two_processes_follow_gradnorm_as_one(train, alone, options, start, project):
    """With an optical flow that is fixed at first, which DistributedDataParallel must not wait for."""
    options['train'] |= {'balance_opt': {'type': 'gradnorm', 'warmup': 1, 'every': 1}, 'total_iter': 3, 'fix_flow': 3,
                         'flow_lr_mul': 1e4, 'optim_g': {'type': 'SGD', 'lr': 0.01}}
    for name in ('val', 'val_2'):
        del options['datasets'][name]
    codes, outputs = train(options)
    assert codes == [0, 0], '\n'.join(outputs)
    options['datasets']['train']['batch_size_per_gpu'] = 2
    model = alone(options, 3)
    assert max(abs(weight - 1) for weight in model.balancer.weights.values()) > 0.01  # else this is the fixed sum
    expected = _change(model.net_g.state_dict(), start)
    trained, flow = _trained(project), 'spynet.basic_module.5.basic_module.8.weight'
    assert (_change(trained, start) - expected).norm() < 1e-5 * expected.norm()
    moved = trained[flow] - start[flow]
    assert moved.any() and (moved - (model.net_g.state_dict()[flow] - start[flow])).norm() < 1e-4 * moved.norm()
    # iterations 1 and 2 left it alone: it has moved by the last gradient only
    last = dict(model.net_g.named_parameters())[flow].grad
    rate = model.optimizer_g.param_groups[1]['lr']
    assert (moved + rate * last).norm() < 1e-3 * moved.norm()


def _everything(experiment):
    """Networks, their average and the state at the end, as far as they are tensors and numbers of a training."""
    state = torch.load(experiment / 'training_states/6.state', weights_only=True)
    network = torch.load(experiment / 'models/net_g_latest.pth', weights_only=True)
    return [network['params'], network['params_ema'], *(state[key] for key in (
        'optimizers', 'schedulers', 'balancer', 'rng', 'samples', 'epoch'))]


def _as_plain(value):
    """Tensors as bytes, so that nesting compares to the bit."""
    if isinstance(value, dict):
        return {key: _as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_plain(item) for item in value]
    return value.numpy().tobytes() if isinstance(value, torch.Tensor) else value


@pytest.mark.slow
def test_two_processes_of_which_one_is_killed_come_to_the_same_bits(train, options, project, start, monkeypatch):
    options['train'] |= {'balance_opt': {'type': 'gradnorm', 'warmup': 1, 'every': 1}, 'total_iter': 6,
                         'ema_decay': 0.9, 'optim_g': {'type': 'Adam', 'lr': 1e-3}}
    options['train']['iqa_opt']['tinyiqa']['frames'] = 1  # draws one in each rank and iteration
    options['logger'] |= {'save_checkpoint_freq': 2, 'use_tb_logger': False}
    for name in ('val', 'val_2'):
        del options['datasets'][name]
    codes, outputs = train({**options, 'name': 'whole'})
    assert codes == [0, 0], '\n'.join(outputs)

    def dies(model, iteration, step=VideoIQAModel.optimize_parameters):
        if iteration == 4 and os.environ['RANK'] == '1':
            os.kill(os.getpid(), signal.SIGKILL)
        step(model, iteration)
    with monkeypatch.context() as patch:
        patch.setattr(VideoIQAModel, 'optimize_parameters', dies)
        codes, outputs = train({**options, 'name': 'cut'})
    assert codes[1] == -signal.SIGKILL and codes[0] != 0
    codes, outputs = train({**options, 'name': 'cut'}, '--auto_resume')
    assert codes == [0, 0] and 'iter: 2.' in outputs[0], '\n'.join(outputs)
    whole, cut = (_everything(project / 'experiments' / name) for name in ('whole', 'cut'))
    assert _as_plain(cut) == _as_plain(whole)


def test_two_processes_are_stopped_by_the_same_guard(train, options, project):
    """It looks at clips of both ranks, and all leave after the same iteration."""
    options['train'] |= {'optim_g': {'type': 'Adam', 'lr': 2e-3}, 'total_iter': 6, 'ema_decay': 0.5}
    options['train']['iqa_opt']['tinyiqa']['loss_weight'] = -10
    options['val'] |= {'save_img': False, 'guard': {'anchors': {'psnr': 0.5}, 'least_kept': 0}}
    options['logger']['save_checkpoint_freq'] = 4
    codes, outputs = train(options)
    assert codes == [0, 0], '\n'.join(outputs)
    experiment = project / 'experiments/tiny'
    stopped = int(re.search(r'Guard: the training is stopped after iteration (\d)', outputs[0])[1])
    assert stopped < 6 and 'Guard' not in outputs[1]
    guard = torch.load(experiment / f'training_states/{stopped}.validated', weights_only=True)['guard']
    assert guard['stopped'] == stopped and guard['good'] < stopped
    clips = {'held_out': ['00002/0001', '00002/0002'], 'one': ['00002/0002']}
    for name, expected in clips.items():
        assert list(guard['start'][name]['clips']) == expected
        assert sorted(str(path.relative_to(experiment / f'guard/{name}'))
                      for path in (experiment / f'guard/{name}').glob('*/*')) == expected
        scores = json.loads((experiment / f'scores/{name}_0.json').read_text())['videos']
        mean = sum(scores[clip]['psnr'] for clip in expected) / len(expected)
        assert guard['start'][name]['means']['psnr'] == pytest.approx(mean)
    latest, good = (torch.load(experiment / f'models/net_g_{name}.pth', weights_only=True)
                    for name in ('latest', 'good'))
    assert all(_as_plain(latest[key]) == _as_plain(good[key]) for key in ('params', 'params_ema'))
    codes, outputs = train(options, '--auto_resume')
    assert codes == [0, 0] and 'there is nothing left to do' in outputs[0], '\n'.join(outputs)


@pytest.fixture
def broken(options, sample, tmp_path):
    """Let one clip of a split have damaged GT; returns the message."""
    def make(phase, split, clip):
        source = LmdbReader(sample / f'vimeo90k_{split}_GT.lmdb')
        with LmdbWriter(tmp_path / 'broken.lmdb') as writer:
            for key in source.listed_keys():
                writer.put(key, b'\x89PNG' if key.startswith(clip) else source.get(key), (64, 96, 3))
        options['datasets'][phase]['dataroot_gt'] = str(tmp_path / 'broken.lmdb')
        return f"broken.lmdb, key '{clip}/"
    return make


def _clip_of_rank_1(options):
    """What of 2 ranks only rank 1 reads in epoch 0: the item at position 1."""
    options['datasets']['train']['dataset_enlarge_ratio'] = 1
    clips = Path(options['datasets']['train']['meta_info_file']).read_text().split('\n')
    return clips[torch.randperm(3, generator=torch.Generator().manual_seed(0))[1]].split(' ')[0]


@pytest.mark.parametrize('phase', ['train', 'val'])
def test_an_error_on_one_rank_ends_all_with_its_message(train, broken, options, phase):
    clip = ('test', '00002/0002') if phase == 'val' else ('train', _clip_of_rank_1(options))
    words = broken(phase, *clip)
    codes, outputs = train(options, limit=40)
    assert codes[1] == 2 and codes[0] not in (0, None)
    assert outputs[1].splitlines()[-1].startswith('error: rank 1: ') and words in outputs[1].splitlines()[-1]
    assert 'error: rank 0: stopped, because rank 1 failed.' in outputs[0] and 'Traceback' not in outputs[0]


def test_errors_in_the_options_are_told_once(train, options):
    options['train']['iqa_opt']['tinyiqa']['metric'] = 'tinyqa'
    codes, outputs = train(options)
    assert codes == [2, 2] and ''.join(outputs).count("did you mean 'tinyiqa'") == 1


def test_fewer_items_than_processes(train, options, project):
    options['datasets']['train'] |= {'dataset_enlarge_ratio': 1, 'batch_size_per_gpu': 2}
    codes, outputs = train(options)
    words = 'datasets: train: 3 items are fewer than one batch of 2 in each of 2 processes'
    assert codes == [2, 2] and ''.join(outputs).count(words) == 1


def _joined(rank=None, **options):
    opt = {'num_gpu': 0, 'manual_seed': 0, 'datasets': {}, **options}
    distributed.init('pytorch', opt, 'options.yml')
    return opt


def test_a_rank_that_waits_for_a_failed_one_is_ended(ranks, monkeypatch):
    monkeypatch.setattr(rank_failure, '_GRACE', 1)

    def work(rank):
        _joined()
        if rank == 1:
            rank_failure.announce(ValueError('bad'), 'bad')
            rank_failure.leave(2)
        time.sleep(100)  # as if deep inside a collective of NCCL
    codes, outputs = ranks(work, limit=30)
    assert codes == [1, 2] and outputs == ['error: rank 0: stopped, because rank 1 failed.\n', 'error: rank 1: bad\n']


def test_a_rank_that_is_killed(ranks):
    def fail(root):
        _joined()
        if os.environ['RANK'] == '1':
            os.kill(os.getpid(), signal.SIGKILL)
        distributed.barrier()
    codes, outputs = ranks(lambda rank: launch._run(fail, '.'), limit=30)
    assert codes == [1, -signal.SIGKILL]
    assert 'Traceback' in outputs[0] and 'error: rank 0: lost another process' in outputs[0].splitlines()[-1]


def test_the_seed_and_what_is_resumed_are_common(ranks):
    def work(rank):
        opt = _joined(manual_seed=None)
        distributed.agree('the seed', opt['manual_seed'])
        assert (opt['rank'], opt['world_size'], opt['dist']) == (rank, 3, True)
        with pytest.raises(OptionsError, match=r'The state: rank 0 has 0, rank 1 has 1\. .* shared file system'):
            distributed.agree('The state', rank)
        distributed.finish()
    assert ranks(work, world=3)[0] == [0, 0, 0]


def test_a_network_with_buffers_is_used_by_one_rank_alone(ranks):
    def work(rank):
        _joined()
        model = SimpleNamespace(device=torch.device('cpu'), opt={'dist': True, 'num_gpu': 0})
        network = BaseModel.model_to_device(model, torch.nn.BatchNorm2d(1))
        network(torch.full((1, 1, 2, 2), float(rank)).requires_grad_()).sum().backward()
        if rank == 0:  # as BasicSR's models validate: not all ranks, or not all equally often
            with torch.no_grad():
                network(torch.ones(1, 1, 2, 2))
        gradients = [None, None]
        torch.distributed.all_gather_object(gradients, network.module.bias.grad.item())
        assert gradients == [4, 4]
        distributed.finish()
    assert ranks(work, limit=30)[0] == [0, 0]


def test_several_gpus_in_one_process_are_advised_against(caplog, monkeypatch):
    monkeypatch.setattr(get_root_logger(), 'propagate', True)
    model = SimpleNamespace(device=torch.device('cpu'), opt={'dist': False, 'num_gpu': 2})
    BaseModel.model_to_device(model, torch.nn.Linear(1, 1))
    assert 'A process for each GPU is faster' in caplog.text


def test_started_by_slurm(ranks, tmp_path):
    scontrol = tmp_path / 'bin/scontrol'
    scontrol.parent.mkdir()
    scontrol.write_text('#!/bin/sh\n[ "$1 $2 $3" = "show hostnames node[1-2]" ] && echo localhost && echo node2\n')
    scontrol.chmod(0o755)
    with socket.socket() as free:
        free.bind(('', 0))
        port = free.getsockname()[1]

    def work(rank):
        for name in list(os.environ):
            if name.startswith(_LAUNCHERS_OWN) and not name.startswith('SLURM_'):
                del os.environ[name]
        os.environ.update(SLURM_PROCID=str(rank), SLURM_LOCALID='0', PATH=f"{scontrol.parent}:{os.environ['PATH']}")
        opt = {'num_gpu': 0, 'manual_seed': 0, 'datasets': {}, 'dist_params': {'port': port, 'timeout': 30}}
        distributed.init('slurm', opt, 'options.yml')
        assert (opt['rank'], opt['world_size'], os.environ['LOCAL_RANK']) == (rank, 2, '0')
        if rank == 1:
            rank_failure.announce(ValueError('bad'), 'bad')
            rank_failure.leave(2)
        with pytest.raises(RuntimeError):
            distributed.barrier()
        rank_failure.announce(RuntimeError('lost'))
        rank_failure.leave(1)
    codes, outputs = ranks(work, limit=30, SLURM_NTASKS=2, SLURM_STEP_NODELIST='node[1-2]')
    assert codes == [1, 2] and outputs == [
        'error: rank 0: stopped, because rank 1 failed. (RuntimeError: lost)\n', 'error: rank 1: bad\n']


_TORCHRUN = {'RANK': '0', 'LOCAL_RANK': '0', 'WORLD_SIZE': '1', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': '29999'}
_SRUN = {'SLURM_PROCID': '0', 'SLURM_LOCALID': '0', 'SLURM_NTASKS': '2', 'PATH': '/nowhere'}


@pytest.mark.parametrize('launcher, environment, changes, words', [
    ('pytorch', {'RANK': '0'}, {}, 'LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT not set, so torchrun did not'),
    ('pytorch', _TORCHRUN, {'dist_params': {'port': 5000}}, 'torchrun chose 29999; give it --master_port 5000'),
    ('pytorch', _TORCHRUN, {'dist_params': {'backend': 'nccl'}}, 'nccl needs num_gpu other than 0'),
    ('pytorch', _TORCHRUN, {'dist_params': {'backend': 'mpi', 'port': 0, 'timeout': '9', 'prot': 1}},
     "options.yml:\n- dist_params:backend: expected nccl or gloo, got 'mpi'.\n"
     '- dist_params:port: expected a whole number from 1 to 65535, got 0.\n'
     "- dist_params:timeout: expected a number above 0 and below 1e+09, got '9'.\n"
     "- dist_params:prot: unknown option (did you mean 'port'?)."),
    ('pytorch', _TORCHRUN, {'dist_params': 'gloo'}, "dist_params: expected options (name: value), got 'gloo'"),
    ('pytorch', {**_TORCHRUN, 'LOCAL_WORLD_SIZE': '3'}, {'num_gpu': 'auto'}, '3 or more processes on this machine'),
    ('slurm', {'SLURM_PROCID': '0'}, {}, 'SLURM_LOCALID, SLURM_NTASKS not set, so srun did not start this process'),
    ('slurm', _SRUN, {}, 'neither SLURM_STEP_NODELIST nor SLURM_NODELIST is set. Set MASTER_ADDR'),
    ('slurm', {**_SRUN, 'SLURM_NODELIST': 'a[1-2]'}, {}, "the nodes are 'a[1-2]', and there is no `scontrol` here"),
    ('none', {'TORCHELASTIC_RUN_ID': 'x', 'WORLD_SIZE': '2'}, {}, 'torchrun started 2 processes, which without'),
])
def test_problems_of_the_start_are_named(monkeypatch, launcher, environment, changes, words):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    gpus = changes.get('num_gpu') == 'auto'  # this machine may have none
    monkeypatch.setattr('torch.cuda.is_available', lambda: gpus)
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2 * gpus)
    with pytest.raises(OptionsError) as caught:
        distributed.init(launcher, {'num_gpu': 0, 'manual_seed': 0, 'datasets': {}, **changes}, 'options.yml')
    assert words in str(caught.value)


def test_a_port_for_each_slurm_job(monkeypatch):
    for name, value in {**_SRUN, 'SLURM_NODELIST': 'node7', 'SLURM_JOB_ID': '1234567'}.items():
        monkeypatch.setenv(name, value)
    for name in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.setenv(name, '')  # so that what is set below is undone
        monkeypatch.delenv(name)
    distributed._read_slurm({})
    assert os.environ['MASTER_ADDR'] == 'node7' and os.environ['MASTER_PORT'] == '26567'


@pytest.mark.slow
def test_torchrun_with_workers_tells_the_error_last_and_leaves_no_process(broken, options, project, write_options):
    words = broken('train', 'train', _clip_of_rank_1(options))
    options['datasets']['train']['num_worker_per_gpu'] = 2
    options['path']['pretrain_network_g'] = None
    done = run_python('-m', 'torch.distributed.run', '--nproc_per_node', 2, project / 'basicsr/train.py', '-opt',
                      write_options(options), '--launcher', 'pytorch', cwd=project)
    assert done.returncode == 1, done.stdout + done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith('error: rank 1: ') and words in line]
    root_cause = done.stderr.rpartition('Root Cause')[2]
    assert words in root_cause and 'rank      : 1' in root_cause  # what a user of torchrun sees at the end

    def left():
        found = []
        for path in Path('/proc').glob('[0-9]*/cmdline'):
            try:
                if str(project) in path.read_text():
                    found.append(path)
            except OSError:  # it has ended
                continue
        return found
    deadline = time.monotonic() + 30
    while left() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left()
