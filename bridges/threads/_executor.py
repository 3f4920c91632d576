"""Calls in threads that somebody else has chosen: asgiref, or an executor of the user's."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, final

from ._asgiref import WatchedLoop
from ._call import here
from ._pool import Job, this_thread


@final
class ExecutorThreads:
    """The threads of an executor, for `run_sync(..., pool=...)`; nobody counts them."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def enqueue(self, job: Job) -> None:
        """Have `job` run by the executor."""
        self._executor.submit(_run, job)

    def pause(self, who: object, what: object = None) -> None:
        """Note nothing: another job needs no permission to run."""

    def resume(self, who: object) -> None:
        """Note nothing."""


def _run(job: Job) -> None:
    job.run()()


class _Here(threading.local):
    watched = False


_here: Final = _Here()


@contextmanager
def watched_loop(loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
    """Give what stands for `loop` in a call of asgiref's in this thread.

    In a thread of a pool that is what notes when the call waits for the loop, so that
    another thread stands in for this one.
    """
    pool = this_thread.pool
    # Within another call this thread works for the loop it waits for, and is noted to wait.
    if pool is None or here.call is not None or _here.watched:
        yield loop
        return
    who = _Waiting(threading.current_thread().name)
    _here.watched = True
    try:
        yield WatchedLoop(loop, partial(pool.pause, who), partial(pool.resume, who))
    finally:
        _here.watched = False


@final
class _Waiting:
    """A call of `sync_to_async`, for logs."""

    __slots__ = ("_thread",)

    def __init__(self, thread: str) -> None:
        self._thread = thread

    def __str__(self) -> str:
        return f"a call in thread {self._thread}"
