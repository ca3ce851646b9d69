"""Torch's random numbers under a seed, in one thread at a time."""

import contextlib
import os
import threading

import torch

_lock = threading.RLock()


def _new_lock():
    """Make a lock for a forked process, in which no thread is left that could release the old one."""
    global _lock
    _lock = threading.RLock()


if os.name == "posix":  # elsewhere processes do not fork
    os.register_at_fork(after_in_child=_new_lock)


@contextlib.contextmanager
def seeded(seed):
    """Run a block under its own torch seed and leave the global random state as it was.

    A process has one generator for each device, so blocks wait for each other: two fits in two threads run one after
    the other. Use processes to fit at the same time.
    """
    launched = torch.distributed.is_available() and torch.distributed.is_initialized()
    own = [torch.cuda.current_device()] if launched and torch.cuda.is_available() else []
    with _lock, torch.random.fork_rng(devices=own if launched else None):
        torch.manual_seed(seed)
        yield
