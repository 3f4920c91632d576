"""The pool of this process, for everybody who names no other."""

import os
import threading

from ._pool import DEFAULT_SIZE, THREADS_VARIABLE, ThreadPool

_pool: ThreadPool | None = None
_lock = threading.Lock()


def default_pool() -> ThreadPool:
    """Give the pool of this process, made at the first call.

    Its size is the environment's `GREENROOM_THREADS`, or 10: the speed-up of more
    threads is small under one interpreter lock, and each may keep a database connection.

    Raises:
        ValueError: `GREENROOM_THREADS` is no positive number.
    """
    global _pool
    if _pool is None:
        with _lock:
            if _pool is None:
                _pool = ThreadPool(_size_from_environment())
    return _pool


def _size_from_environment() -> int:
    value = os.environ.get(THREADS_VARIABLE, "")
    if not value:
        return DEFAULT_SIZE
    if not value.isdecimal() or int(value) < 1:
        raise ValueError(f"{THREADS_VARIABLE} must be a positive number, it is {value!r}")
    return int(value)


def _forget() -> None:
    # Threads do not survive a fork, and the lock may have been held by one of them.
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
