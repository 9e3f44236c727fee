"""Imported by nothing but the server that forks the workers of data loaders; see :mod:`basicsr_nriqa.loader_workers`.

torchrun, Slurm and Ctrl-C signal all processes. The server and its forks must go on until the training has stopped.
"""
import signal

import basicsr_nriqa.launch  # noqa: F401  what workers need, imported once for all of them

for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(_number, signal.SIG_IGN)
