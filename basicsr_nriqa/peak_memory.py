"""How much memory a piece of work takes at most."""
import ctypes
from pathlib import Path

import torch


class PeakMemory:
    """The rise of the peak since this was made: allocated memory on a GPU, resident memory of the process elsewhere.

    Args:
        device (str | torch.device): where the work is done.
    """

    def __init__(self, device):
        self._device = torch.device(device)
        if self._device.type == 'cuda':
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
            return
        self._before = None
        try:
            ctypes.CDLL(None).malloc_trim(0)  # what earlier work freed goes back, so that it does not hide this work's
            Path('/proc/self/clear_refs').write_text('5')  # the peak starts anew
            self._before = _resident('VmRSS')
        except (OSError, AttributeError):  # not Linux with glibc
            pass

    def rise(self):
        """Bytes, or None where this system does not tell."""
        if self._before is None:
            return None
        gpu = self._device.type == 'cuda'
        return (torch.cuda.max_memory_allocated(self._device) if gpu else _resident('VmHWM')) - self._before


def _resident(key):
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f'{key}:'))
