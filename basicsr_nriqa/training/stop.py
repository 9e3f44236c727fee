"""A training that is asked to end saves a checkpoint first, on all ranks after the same iteration."""
import signal
import sys
import time

import torch
from torch import distributed

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_FAILED = 1000  # above all numbers of signals
_ECHO = 3  # seconds in which the same request may come again: Slurm and torchrun both pass a signal on


class Stop:
    """Turns a signal, or an error that can wait, into the end of the training after the running iteration.

    Attributes:
        agreed (int): What all ranks know about: the number of a signal, 1000 for an error, 0 to go on.
        in_validation (bool): A validation may be left before its end, since resuming would do it again.
    """

    def __init__(self):
        self.agreed, self.in_validation = 0, False
        self._requested, self._since, self._error = 0, 0.0, None

    def install(self):
        """Listen to SIGINT, SIGTERM and SIGUSR1 (Slurm's ``--signal``); one that comes later still stops at once."""
        for number in _SIGNALS:
            signal.signal(number, self._request)

    def _request(self, number, frame):
        if not self._requested:
            self._requested, self._since = number, time.monotonic()
        elif time.monotonic() - self._since > _ECHO:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def fail(self, error):
        """End the training with ``error`` once this iteration is complete and its checkpoint saved.

        For a model, inside ``optimize_parameters``, whose weights are good but which cannot go on. On other ranks, too,
        it is this error (or that of another rank which failed in the same iteration).

        Args:
            error (Exception): One that can be pickled.
        """
        self._error = error

    def agree(self):
        """Look for requests; all ranks call it in every iteration and come to the same :attr:`agreed`."""
        self.agreed = _FAILED if self._error else self._requested
        if distributed.is_available() and distributed.is_initialized():
            device = 'cuda' if distributed.get_backend() == 'nccl' else 'cpu'
            flag = torch.tensor(self.agreed, device=device)
            distributed.all_reduce(flag, distributed.ReduceOp.MAX)
            self.agreed = int(flag)
            if self.agreed == _FAILED:
                errors = [None] * distributed.get_world_size()
                distributed.all_gather_object(errors, self._error)
                self._error = self._error or next(error for error in errors if error)

    def leave_validation(self, logger, iteration):
        """End the process between two clips if that was asked for and may be; all ranks call it equally often."""
        if self.in_validation:
            self.agree()
            self.leave(logger, iteration)

    def leave(self, logger, iteration):
        """End the process if that was agreed on; the state has been saved.

        Raises:
            SystemExit: with 128 + the signal's number.
            Exception: what :meth:`fail` was given.
        """
        if self.agreed == _FAILED:
            error, self._error, self.agreed = self._error, None, 0
            raise error
        if self.agreed:
            logger.info(f'Stopped by {signal.Signals(self.agreed).name} after iteration {iteration}; the state is '
                        'saved. Continue with the same command and --auto_resume.')
            sys.exit(128 + self.agreed)


stop = Stop()
