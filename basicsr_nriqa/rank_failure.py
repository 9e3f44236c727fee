"""An error in one process of a training ends them all, and is the one that the user gets to see."""
import json
import os
import signal
import sys
import threading
import time
import traceback
from datetime import timedelta

from basicsr.utils.dist_util import get_dist_info
from torch import distributed

_POLL = 1  # seconds
_GRACE = 10  # seconds in which a process may still find out by itself, or end what it is writing
_SHUTDOWN = 5  # seconds
_KEY = 'error'
_LOST = ('lost another process, which ended without an error of its own: killed for lack of memory (see `dmesg`), '
         'perhaps, or with its machine.')
_watch = None


def watch():
    """End this process, too, when another one announces an error; nothing if it is watched already.

    The others of a failed rank would wait for it: with NCCL until the timeout, under Slurm with no one to end them.
    """
    global _watch
    if _watch is None:
        _watch = _Watch(_connect())
        _watch.start()


def unwatch():
    """The end of the training is near: what others do no longer matters."""
    global _watch
    if _watch is not None:
        _watch.ended.set()
        _watch = None


def announce(error, message=None):
    """This process ends with an error: tell the other ones, torchrun and the user.

    Of many processes with the same error one tells the user; those that fail later than another say so in one line.

    Args:
        error (Exception): The error.
        message (str | None): What the user can do about it; None, for what nobody foresaw: the traceback is shown.
    """
    rank, world_size = get_dist_info()
    rank = int(os.environ.get('RANK', rank)) if 'TORCHELASTIC_RUN_ID' in os.environ else rank
    own = {'rank': rank, 'error': message or f'{type(error).__name__}: {error}'}
    first = _first(own)
    unwatch()
    if first == own:
        if message is None:
            traceback.print_exception(error)
        name = f'rank {rank}: ' if world_size > 1 else ''
        if message or (name and _is_lost_connection(error)):
            print(f'error: {name}{message or _LOST}', file=sys.stderr, flush=True)
        _tell_torchrun(message or ''.join(traceback.format_exception(error)), 0)
    else:
        if first['error'] != own['error']:
            print(f"error: rank {rank}: stopped, because rank {first['rank']} failed. "
                  f"({own['error'].strip().splitlines()[0]})", file=sys.stderr, flush=True)
        _tell_torchrun(f"stopped, because rank {first['rank']} failed.", 1)


def leave(code):
    """End this process, after :func:`announce`.

    An interpreter that shuts down may wait for NCCL or for a server of workers that is still importing, while torchrun
    ends the others only when this process has ended. So it gets a time limit, which the system enforces.
    """
    if 'TORCHELASTIC_RUN_ID' in os.environ or distributed.is_initialized():
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_SHUTDOWN)
    sys.exit(code)


class _Watch(threading.Thread):

    def __init__(self, store):
        super().__init__(name='rank_failure', daemon=True)
        self.store, self.ended = store, threading.Event()

    def run(self):
        try:
            while not self.store.check([_KEY]):
                if self.ended.wait(_POLL):
                    return
            failed = json.loads(self.store.get(_KEY))['rank']
        except RuntimeError:  # the meeting point is closed: rank 0, or torchrun, has ended
            return
        if not self.ended.wait(_GRACE):
            rank, _ = get_dist_info()
            print(f'error: rank {rank}: stopped, because rank {failed} failed.', file=sys.stderr, flush=True)
            sys.stdout.flush()
            os._exit(1)  # the main thread may be deep inside a collective that never ends


def _connect():
    """A connection of its own to where the processes met: the one that waits in a collective would not answer."""
    store = distributed.TCPStore(os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']), is_master=False,
                                 wait_for_workers=False, timeout=timedelta(seconds=60))
    attempt = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')  # torchrun keeps the store when it starts ranks again
    return distributed.PrefixStore(f'basicsr_nriqa/{attempt}', store)


def _first(own):
    """The first failure of all processes: ``own``, unless another one is known."""
    try:
        if _watch is not None:
            store = _watch.store
        elif os.environ.get('TORCHELASTIC_USE_AGENT_STORE') == 'True':  # torchrun's own, there before they have met
            store = _connect()
        else:
            return own
        return json.loads(store.compare_set(_KEY, '', json.dumps(own)))
    except RuntimeError:  # it is closed, or never was
        return own


def _is_lost_connection(error):
    return isinstance(error, distributed.DistError) or any(
        words in str(error) for words in ('Connection closed by peer', 'Connection reset by peer'))


def _tell_torchrun(text, seconds_later):
    """torchrun ends with a summary, whose root cause is the earliest of these files."""
    path = os.environ.get('TORCHELASTIC_ERROR_FILE')
    if path:
        extra = {'py_callstack': text, 'timestamp': str(int(time.time()) + seconds_later)}
        with open(path, 'w', encoding='utf-8') as file:
            json.dump({'message': {'message': text, 'extraInfo': extra}}, file)
