"""GPUs are given to one process at a time. What they are is said by the environment, so none is needed here."""
import os
import signal
import threading
import time

import pytest

from basicsr_nriqa.study import gpus
from basicsr_nriqa.study.gpus import claimed, visible_gpus


@pytest.fixture(autouse=True)
def _two_gpus(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,GPU-1/2')
    monkeypatch.delenv('SLURM_JOB_ID', raising=False)
    monkeypatch.setattr(gpus, '_POLL', 0.05)


def test_processes_side_by_side_get_different_ones(tmp_path):
    with claimed(1, tmp_path) as first, claimed(1, tmp_path) as second:
        assert (first, second) == (['4'], ['GPU-1/2'])
    with claimed(2, tmp_path) as both:
        assert both == ['4', 'GPU-1/2']
    assert list(tmp_path.iterdir()) == []


def test_waits_until_as_many_are_free_as_are_needed(tmp_path, capsys):
    got, taken = [], threading.Event()

    def take():
        with claimed(2, tmp_path) as names:
            got.extend(names)
            taken.set()
    with claimed(1, tmp_path):
        thread = threading.Thread(target=take)
        thread.start()
        assert not taken.wait(0.4)
        with claimed(1, tmp_path) as other:  # what it cannot use yet it does not hold
            assert other == ['GPU-1/2']
    thread.join(10)
    assert got == ['4', 'GPU-1/2'] and capsys.readouterr().out.count('Waiting for 2 of the GPUs 4, GPU-1/2.') == 1


def test_a_killed_process_gives_them_back(tmp_path):
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        with claimed(2, tmp_path) as names:
            os.write(tell, str(len(names)).encode())
            time.sleep(60)
        os._exit(1)
    assert os.read(told, 1) == b'2'
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with claimed(2, tmp_path) as names:
        assert len(names) == 2


def test_only_steps_of_one_slurm_job_share_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv('SLURM_JOB_ID', '7')
    with claimed(1, tmp_path) as first, claimed(1, tmp_path) as second:  # snakemake inside a job
        assert (first, second) == (['4'], ['GPU-1/2'])
        monkeypatch.setenv('SLURM_JOB_ID', '8')  # its GPU of the same number is another one
        with claimed(2, tmp_path) as others:
            assert others == ['4', 'GPU-1/2']


def test_more_than_there_are_and_none(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r'3 GPUs are asked for .* only 2 can be used here'), claimed(3, tmp_path):
        pass
    with claimed(0, tmp_path) as names:
        assert names == []
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    assert visible_gpus() == []
    with claimed(1, tmp_path) as names:
        assert names == []


def test_counts_by_nvidia_smi(tmp_path, monkeypatch):
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    monkeypatch.setenv('PATH', str(tmp_path))
    assert visible_gpus() == []
    program = tmp_path / 'nvidia-smi'
    program.write_text('#!/bin/sh\necho "GPU 0: NVIDIA H100 (UUID: GPU-1)"\necho "GPU 1: NVIDIA H100 (UUID: GPU-2)"\n')
    program.chmod(0o755)
    assert visible_gpus() == ['0', '1']
    program.write_text('#!/bin/sh\necho "NVIDIA-SMI has failed"\nexit 9\n')
    assert visible_gpus() == []
