"""How the workers of data loaders start in a training of several processes, and that they end with it."""
import multiprocessing
import os
import threading
from functools import partial
from multiprocessing import forkserver


def use_server(start_now):
    """Make workers forks of a server that has imported this package; nothing if a way to start them was chosen before.

    A fork of this process would copy CUDA and the threads of the communication; spawn, which BasicSR takes, imports
    everything again in each worker, of each epoch. The server imports it once and has neither.

    Args:
        start_now (bool): Workers will be needed: let it import while this process builds the model.
    """
    if multiprocessing.get_start_method(allow_none=True) is None:
        multiprocessing.set_start_method('forkserver')
        multiprocessing.set_forkserver_preload(['basicsr_nriqa.loader_server'])
        if start_now:
            forkserver.ensure_running()


def end_with_us(loader):
    """Let the workers of a loader end when this process does, also if it is killed.

    torch looks whether a worker's parent lives. That is the server, which itself lives as long as its forks.

    Args:
        loader (DataLoader): Changed in place.
    """
    loader.worker_init_fn = partial(_start, loader.worker_init_fn)


def _start(init, worker_id):
    threading.Thread(target=_end_after, args=(multiprocessing.parent_process(),), daemon=True).start()
    if init:
        init(worker_id)


def _end_after(process):
    process.join()
    os._exit(1)
