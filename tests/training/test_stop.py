import logging
import os
import pickle
import signal
import time

import pytest
import torch
from torch import distributed
from training_process import start_process

from basicsr_nriqa.training import stop as stop_module
from basicsr_nriqa.training.stop import Stop


@pytest.fixture
def stop():
    """One that listens; the handlers of before come back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    stop = Stop()
    stop.install()
    yield stop
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_training_after_the_iteration(stop, number):
    stop.agree()
    stop.leave(logging.getLogger(), 1)
    signal.raise_signal(number)
    stop.leave(logging.getLogger(), 1)  # not yet agreed on, so not saved
    stop.agree()
    with pytest.raises(SystemExit) as end:
        stop.leave(logging.getLogger(), 2)
    assert end.value.code == 128 + number


def test_the_echo_of_a_signal_is_not_a_second_one(stop, monkeypatch):
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)  # Slurm's own, and as torchrun passes it on
    stop.agree()
    assert stop.agreed == signal.SIGTERM
    monkeypatch.setattr(stop_module, '_ECHO', -1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = start_process(_signalled_again)
    process.join(60)
    assert process.exitcode == -signal.SIGTERM


def _signalled_again():
    stop_module._ECHO = 0.1
    Stop().install()
    signal.raise_signal(signal.SIGTERM)
    time.sleep(0.2)
    signal.raise_signal(signal.SIGTERM)


def test_an_error_that_can_wait(stop):
    stop.fail(FloatingPointError('five steps in a row'))
    stop.leave(logging.getLogger(), 1)
    stop.agree()
    assert stop.agreed
    with pytest.raises(FloatingPointError, match='five steps'):
        stop.leave(logging.getLogger(), 1)


def _rank(rank, folder, case):
    torch.set_num_threads(1)
    distributed.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    stop = Stop()
    stop.install()
    ended = None
    for iteration in range(1, 5):
        if rank == 1 and iteration == 3:
            if case == 'signal':
                os.kill(os.getpid(), signal.SIGUSR1)
            else:
                stop.fail(FloatingPointError('rank 1 cannot go on'))
        stop.agree()
        try:
            stop.leave(logging.getLogger(), iteration)
        except (SystemExit, FloatingPointError) as error:
            ended = iteration, str(error)
            break
    (folder / f'{rank}').write_bytes(pickle.dumps(ended))
    distributed.destroy_process_group()


@pytest.mark.parametrize('case, reason', [('signal', str(128 + signal.SIGUSR1)), ('error', 'rank 1 cannot go on')])
def test_all_ranks_end_after_the_same_iteration_for_the_same_reason(tmp_path, case, reason):
    processes = [start_process(_rank, rank, tmp_path, case) for rank in range(2)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert [pickle.loads((tmp_path / f'{rank}').read_bytes()) for rank in range(2)] == [(3, reason)] * 2
