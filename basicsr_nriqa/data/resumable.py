"""Training data that go on in the middle of an epoch, with the same samples and the same augmentations.

The sampler gives each sample its place: epoch and position in the epoch. The place alone, with the training's seed,
decides which item of the dataset it is and how it is augmented, whatever the number of workers, of ranks, and of
stops on the way.
"""
import math
import multiprocessing
import os
import signal
import threading
from functools import partial

import torch
from basicsr.utils import get_root_logger
from torch.utils.data import Dataset, Sampler, get_worker_info

from basicsr_nriqa.random_streams import cpu_streams, seed_cpu_streams, set_cpu_streams, undisturbed


class ItemStreams(Dataset):
    """A dataset whose items draw their randomness from streams of their own.

    It is indexed by what :class:`ResumableSampler` yields. Before an item is read, Python's, numpy's global and
    torch's CPU stream are seeded from (seed, epoch, position); in the main process they are put back afterwards, so
    that reading does not change what the training draws. Other attributes are those of the dataset.

    Args:
        dataset (Dataset): Any with ``len`` and an integer index.
        seed (int): Of the training.
    """

    def __init__(self, dataset, seed):
        self.dataset, self.seed = dataset, seed

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, place):
        epoch, position, index = place
        if get_worker_info() is None:
            with undisturbed(cpu_streams, set_cpu_streams):
                return self._item(epoch, position, index)
        return self._item(epoch, position, index)

    def _item(self, epoch, position, index):
        seed_cpu_streams(self.seed, epoch, position)
        return self.dataset[index]

    def __getattr__(self, name):
        # unpickling asks for special names before there is a dataset, the loader for __getitems__, which knows no place
        if name == 'dataset' or name.startswith('__'):
            raise AttributeError(name)
        return getattr(self.dataset, name)


class ResumableSampler(Sampler):
    """A new order of the dataset in every epoch, dealt out to the ranks; an epoch can be entered anywhere.

    With W ranks, rank r gets the positions r, r + W, r + 2W, ... of the epoch, so that one step of W ranks with
    batches of b sees the samples of one step of a single process with batches of W * b. Positions at the end that do
    not suffice for all ranks are left out, as the loader leaves out an incomplete batch. On one rank the order is that
    of BasicSR's EnlargedSampler.

    Iterating yields ``(epoch, position, index)``, for :class:`ItemStreams`.

    Args:
        dataset (Dataset): Its length is all that is used.
        num_replicas (int): Ranks that take part.
        rank (int): This one, from 0.
        ratio (float): Length of an epoch relative to the dataset, as ``dataset_enlarge_ratio``.

    Attributes:
        epoch_length (int): Samples of an epoch, of all ranks together.
    """

    def __init__(self, dataset, num_replicas, rank, ratio=1):
        self.items = len(dataset)
        self.epoch_length = math.ceil(self.items * ratio)
        self.num_replicas, self.rank = num_replicas, rank
        self.epoch, self.start = 0, 0

    def set_epoch(self, epoch, start=0):
        """Go to an epoch, for the next iteration.

        Args:
            epoch (int): Which one, from 0.
            start (int): How many of its samples are done, by all ranks together.
        """
        self.epoch, self.start = epoch, start

    def __len__(self):
        return max(0, self.epoch_length - self.start) // self.num_replicas

    def __iter__(self):
        order = torch.randperm(self.epoch_length, generator=torch.Generator().manual_seed(self.epoch)).tolist()
        first, epoch = self.start + self.rank, self.epoch
        for position in range(first, first + len(self) * self.num_replicas, self.num_replicas):
            yield epoch, position, order[position] % self.items


def loader_options(dataset_opt):
    """Options of the training set as its loader shall see them.

    Random streams belong to a process. A thread that reads items itself (``prefetch_mode: cpu`` without workers) would
    draw from those of the training at the same time, so there is none.
    """
    if dataset_opt.get('prefetch_mode') == 'cpu' and not dataset_opt['num_worker_per_gpu']:
        get_root_logger().warning('prefetch_mode: cpu has no effect with num_worker_per_gpu: 0; batches are read '
                                  'between the steps. Set num_worker_per_gpu to 1 or more, or leave prefetch_mode out.')
        return {**dataset_opt, 'prefetch_mode': None}
    return dataset_opt


def prepare_loader(loader, seed):
    """Let a training loader neither draw from the training's random streams nor lose its workers to a signal.

    Ctrl-C and Slurm signal all processes of a training; those that read must go on until it has saved its state.

    Args:
        loader (DataLoader): Changed in place.
        seed (int): Of the training.
    """
    loader.generator = torch.Generator().manual_seed(seed)  # each epoch it draws a seed for the workers
    loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)


def _start_worker(init, worker_id):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # first, so that all threads inherit it
    threading.Thread(target=_heed_reader, args=(multiprocessing.parent_process().pid,), daemon=True).start()
    if init:
        init(worker_id)


def _heed_reader(pid):
    """Obey SIGTERM from the process that this one reads for, which when it ends waits for this one, and no other."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != pid:
        pass
    os._exit(0)
