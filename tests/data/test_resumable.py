import multiprocessing
import pickle
import random
import signal
import subprocess

import numpy as np
import pytest
import torch
from basicsr.data.data_sampler import EnlargedSampler
from torch.utils.data import DataLoader, Dataset
from training_process import context

from basicsr_nriqa.data.resumable import ItemStreams, ResumableSampler, loader_options, prepare_loader
from basicsr_nriqa.random_streams import all_streams, seed_cpu_streams, set_all_streams


class _Drawing(Dataset):
    """Draws from every stream that datasets use."""

    def __init__(self):
        self.opt = {'name': 'drawing'}

    def __len__(self):
        return 10

    def __getitem__(self, index):
        drawn = random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002
        return torch.tensor([index, *drawn], dtype=torch.float64)


def _batches(workers=0, batch=1, replicas=1, rank=0, epoch=0, start=0, seed=1):
    dataset = ItemStreams(_Drawing(), seed)
    sampler = ResumableSampler(dataset, replicas, rank)
    sampler.set_epoch(epoch, start)
    loader = DataLoader(dataset, batch_size=batch, sampler=sampler, num_workers=workers, drop_last=True)
    prepare_loader(loader, seed)
    return list(loader)


def test_items_depend_on_seed_epoch_and_position_only():
    one = torch.cat(_batches())
    assert torch.equal(one, torch.cat(_batches(workers=2)))
    assert torch.equal(one, torch.cat(_batches(workers=1, batch=5)))
    assert len(one[:, 1:].unique()) == 30
    for other in (_batches(epoch=1), _batches(seed=2)):
        assert not set(one[:, 1].tolist()) & set(torch.cat(other)[:, 1].tolist())


def test_an_epoch_entered_in_the_middle_goes_on():
    whole = torch.cat(_batches(epoch=3))
    assert torch.equal(torch.cat(_batches(epoch=3, start=4, workers=2)), whole[4:])
    assert torch.equal(torch.cat(_batches(epoch=3, start=4, batch=2)), whole[4:])  # with another batch size
    assert _batches(epoch=3, start=10) == [] and _batches(epoch=3, start=12) == []


@pytest.mark.parametrize('start', [0, 4])
def test_ranks_together_see_the_batches_of_one_process(start):
    alone = _batches(batch=4, start=start)
    ranks = [_batches(batch=2, start=start, replicas=2, rank=rank) for rank in range(2)]
    assert len(alone) == len(ranks[0]) == len(ranks[1]) > 0
    for whole, parts in zip(alone, zip(*ranks)):
        together = torch.stack(parts, 1).flatten(0, 1)
        assert torch.equal(together, whole)


def test_the_order_is_that_of_basicsr():
    ours, theirs = ResumableSampler(range(7), 1, 0, 2.5), EnlargedSampler(range(7), 1, 0, 2.5)
    for epoch in (0, 1):
        ours.set_epoch(epoch)
        theirs.set_epoch(epoch)
        assert [index for _, _, index in ours] == list(theirs)
    assert len(ours) == len(theirs) == ours.epoch_length == 18
    for rank in range(3):
        ours = [index for _, _, index in ResumableSampler(range(6), 3, rank)]
        assert ours == list(EnlargedSampler(range(6), 3, rank))


def test_ranks_have_equally_many_samples():
    for replicas, items in ((3, 8), (4, 3)):
        assert {len(list(ResumableSampler(range(items), replicas, rank))) for rank in range(replicas)} == {
            items // replicas}


def test_reading_does_not_change_what_the_training_draws():
    for workers in (0, 1):
        seed_cpu_streams(4)
        undisturbed = random.random(), np.random.rand(), torch.rand(())  # noqa: NPY002
        seed_cpu_streams(4)
        _batches(workers)
        assert (random.random(), np.random.rand(), torch.rand(())) == undisturbed  # noqa: NPY002


def test_an_error_of_the_dataset_leaves_the_streams_alone():
    class Broken(_Drawing):
        def __getitem__(self, index):
            raise ValueError('damaged')

    torch.manual_seed(3)
    with pytest.raises(ValueError, match='damaged'):
        ItemStreams(Broken(), 0)[0, 0, 0]
    drawn = torch.rand(())
    torch.manual_seed(3)
    assert torch.rand(()) == drawn


def test_it_is_the_dataset_in_all_else():
    streams = pickle.loads(pickle.dumps(ItemStreams(_Drawing(), 5)))
    assert len(streams) == 10 and streams.opt == {'name': 'drawing'} and streams.seed == 5
    with pytest.raises(AttributeError, match='no attribute'):
        _ = streams.nothing

    class Many(_Drawing):
        def __getitems__(self, indices):
            raise AssertionError('it does not know places')

    assert len(list(DataLoader(ItemStreams(Many(), 0), sampler=ResumableSampler(range(10), 1, 0)))) == 10


def test_a_thread_never_reads_beside_the_training(caplog):
    options = {'prefetch_mode': 'cpu', 'num_worker_per_gpu': 0}
    assert loader_options(options)['prefetch_mode'] is None and options['prefetch_mode'] == 'cpu'
    options = {'prefetch_mode': 'cpu', 'num_worker_per_gpu': 1}
    assert loader_options(options) is options


@pytest.mark.parametrize('way', [multiprocessing.get_context('fork'), context], ids=['fork', 'server'])
def test_workers_heed_only_the_signals_of_their_own_process(way):
    dataset = ItemStreams(_Drawing(), 0)
    loader = DataLoader(dataset, sampler=ResumableSampler(dataset, 1, 0), num_workers=1,
                        multiprocessing_context=way)
    prepare_loader(loader, 0)
    batches = iter(loader)
    next(batches)
    worker, = batches._workers
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        subprocess.run(['kill', f'-{int(number)}', str(worker.pid)], check=True)  # from another process
    assert len(list(batches)) == 9
    batches = iter(loader)
    next(batches)
    worker, = batches._workers
    worker.terminate()  # what the end of Python does, and then it waits
    worker.join(20)
    assert worker.exitcode == 0


def test_streams_are_saved_as_plain_data(tmp_path):
    random.gauss(0, 1)  # half of a pair is kept for the next call
    np.random.randn()  # noqa: NPY002
    torch.save(all_streams(), tmp_path / 'streams')
    drawn = random.gauss(0, 1), np.random.randn(), np.random.rand(), torch.randn(())  # noqa: NPY002
    set_all_streams(torch.load(tmp_path / 'streams', weights_only=True))
    assert (random.gauss(0, 1), np.random.randn(), np.random.rand(), torch.randn(())) == drawn  # noqa: NPY002
