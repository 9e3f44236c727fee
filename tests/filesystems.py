"""Disks that are full or read-only, for tests, in a child process that alone sees them."""
import ctypes
import gc
import os
import pickle
import signal
import traceback

import pytest

_PATIENCE = 120  # seconds
_NEW_USERS, _NEW_MOUNTS = 0x10000000, 0x00020000
_READ_ONLY, _REMOUNT, _BIND = 1, 32, 4096


class CannotMount(Exception):
    """This machine does not let the test mount anything."""


def in_child(function):
    """Run a function in a forked process.

    Returns:
        What it returns, which must be picklable; an exception that it raises is raised here, and EOFError if it is
        killed.
    """
    gc.collect()  # decoders of videos wait for their threads when they go, which the child does not have
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        signal.alarm(_PATIENCE)  # a child that hangs is killed; a thread that sees to it would forbid mounting
        try:
            answer = True, function()
        except BaseException as error:
            error.add_note(traceback.format_exc()) if hasattr(error, 'add_note') else None
            answer = False, error
        with os.fdopen(writing, 'wb') as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, 'rb') as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    if not answer:
        raise EOFError('the child has ended without an answer: see what it printed')
    done, value = pickle.loads(answer)
    if isinstance(value, CannotMount):
        pytest.skip(f'this machine does not allow it: {value}')
    if not done:
        raise value
    return value


def start_child(function):
    """Start a function in a forked process; returns its pid."""
    gc.collect()
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            function()
        finally:
            os._exit(0)
    return pid


def mount_small_disk(path, size):
    """Put an empty disk of ``size`` bytes at a folder; in a child only."""
    _mount(b'tmpfs', path, b'tmpfs', 0, f'size={size}'.encode())


def mount_read_only(path):
    """Make a folder read-only, for root too; in a child only."""
    _mount(os.fsencode(path), path, None, _BIND, None)
    _mount(None, path, None, _BIND | _REMOUNT | _READ_ONLY, None)


_own = False


def _mount(source, path, kind, flags, data):
    global _own
    libc = ctypes.CDLL(None, use_errno=True)
    if not _own:
        uid, gid = os.getuid(), os.getgid()
        if libc.unshare(_NEW_USERS | _NEW_MOUNTS):
            raise CannotMount(f'unshare: {os.strerror(ctypes.get_errno())}')
        for name, text in (('setgroups', 'deny'), ('uid_map', f'0 {uid} 1'), ('gid_map', f'0 {gid} 1')):
            with open(f'/proc/self/{name}', 'w') as file:
                file.write(text)
        _own = True
    if libc.mount(source, os.fsencode(path), kind, flags, data):
        raise CannotMount(f'mount: {os.strerror(ctypes.get_errno())}')
