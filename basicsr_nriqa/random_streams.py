"""The random streams of a process: Python's, numpy's global one, torch's on the CPU and on every CUDA device."""
import random
from contextlib import contextmanager
from hashlib import blake2b

import numpy as np
import torch

# Datasets and models of BasicSR draw from numpy's global stream, so this is the one to seed and to keep.


def seed_cpu_streams(*numbers):
    """Seed the streams of the CPU with a mixture of some numbers: near numbers give streams that are not alike.

    Args:
        numbers (int): Such as seed, epoch and position; the same ones give the same streams on every machine.
    """
    mixture = blake2b(repr(numbers).encode(), digest_size=40).digest()
    random.seed(mixture[:16])
    np.random.seed(np.frombuffer(mixture[16:32], '<u4'))  # noqa: NPY002
    torch.default_generator.manual_seed(int.from_bytes(mixture[32:], 'little'))


def cpu_streams():
    """Where the streams of the CPU are: numbers, lists and tensors, which ``torch.load(weights_only=True)`` reads."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    version, words, gauss = random.getstate()
    return {'python': [version, list(words), gauss], 'numpy': [name, keys.tolist(), *rest],
            'torch': torch.get_rng_state()}


def set_cpu_streams(streams):
    """Put the streams of the CPU back to where :func:`cpu_streams` found them."""
    version, words, gauss = streams['python']
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(streams['numpy']))  # noqa: NPY002
    torch.set_rng_state(streams['torch'])


def all_streams():
    """As :func:`cpu_streams`, and ``cuda``: a tensor for each device, none where CUDA is not in use."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {**cpu_streams(), 'cuda': cuda}


def set_all_streams(streams):
    """Put all streams back to where :func:`all_streams` found them, those of CUDA as far as there are devices."""
    set_cpu_streams(streams)
    if torch.cuda.is_available():
        for device, state in zip(range(torch.cuda.device_count()), streams['cuda']):
            torch.cuda.set_rng_state(state, device)


@contextmanager
def undisturbed(get=all_streams, put=set_all_streams):
    """What is drawn inside is drawn from streams that afterwards are where they were."""
    streams = get()
    try:
        yield
    finally:
        put(streams)
