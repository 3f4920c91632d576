"""One thread for the length of a handler, taken at its first blocking call.

All `sync_to_async` calls and asynchronous ORM calls of one handler have to share a
thread, else a transaction's statements go to different database connections. A handler
that makes none takes no thread. A task that outlives the handler in which it was started
has a thread for the length of each call.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, suppress
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, TypeVar, final

import trio

from ._asgiref import OfferedExecutor, withdraw_loop
from ._call import nothing
from ._default import default_pool
from ._pool import Around, Job, ThreadPool
from ._run import run_sync

T = TypeVar("T")

logger = logging.getLogger("greenroom.threads")


@final
class Lease(Executor):
    """A thread of a pool, for an `async with` block of trio or asyncio code.

    Under asyncio, asgiref's thread-sensitive calls in the block go to this thread, unless
    another waits in `async_to_sync` for the whole, which then does them; `run_sync(...,
    pool=lease)` goes to this one in both flavours. Between two calls the thread
    does not count as busy, unless it is pinned. At the end of the block
    `around` is left, then the thread is free.

    Args:
        pool: where the thread comes from; `default_pool()` if None.
        around: makes a context manager, entered in the thread before its first call
            and left after the last.
        pinned: the thread is kept for long, as for a connection's whole life, and counts
            as one of the pool's `size` all the time. A call raises `NoThreadToPin` if
            none would be left for others.
    """

    __slots__ = (
        "_around",
        "_closed",
        "_entered",
        "_fresh",
        "_idle",
        "_jobs",
        "_noting",
        "_offered",
        "_pinned",
        "_pool",
        "_reserved",
        "_taken",
        "_used",
    )

    def __init__(
        self,
        pool: ThreadPool | None = None,
        *,
        around: Around | None = None,
        pinned: bool = False,
    ) -> None:
        self._pool = default_pool() if pool is None else pool
        self._around = around
        self._pinned = pinned
        self._reserved = False  # a thread of the pool counts as ours
        self._fresh = True  # `around` is due before the next call
        self._used = False
        self._jobs: SimpleQueue[Job | None] | None = None  # None until a thread is asked for
        self._taken = threading.Lock()  # by the thread, or by the end of the block
        self._noting = threading.Lock()
        self._idle = False  # the thread waits for its next job, and nobody has asked for one
        self._entered: AbstractContextManager[Any] | None = None
        self._offered: OfferedExecutor | None = None
        self._closed = False

    async def __aenter__(self) -> "Lease":
        if not trio.lowlevel.in_trio_task():
            self._offered = OfferedExecutor(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._offered is not None:
            self._offered.withdraw()
        try:
            await self._end()
        finally:
            if self._reserved:
                self._pool.unpin()

    async def _end(self) -> None:
        jobs = self._jobs
        if jobs is None:
            self._closed = True
            return
        try:
            if self._taken.acquire(blocking=False):  # no thread has begun
                self._hand_on(jobs)
            elif self._used and self._around is not None:
                await self._leave()
        finally:
            self._closed = True
            jobs.put(None)

    def _hand_on(self, jobs: "SimpleQueue[Job | None]") -> None:
        """Have what was asked for, by a task that outlives the block, run elsewhere."""
        self._closed = True
        with suppress(Empty):
            while True:
                job = jobs.get_nowait()
                if isinstance(job, _Item):
                    job.run_in(self._pool, self._around)

    def reserve(self) -> None:
        """Pin a thread now instead of at the first call.

        Raises:
            NoThreadToPin: none would be left for others.
        """
        if not self._reserved:
            self._pool.pin()
            self._reserved = True

    async def refresh(self) -> None:
        """Leave `around` now, and enter it again before the next call; the thread stays."""
        if self._used and self._around is not None:
            await self._leave()
        self._used = False
        self._fresh = True

    async def _leave(self) -> None:
        if self._offered is None:
            with trio.CancelScope(shield=True):
                await run_sync(self._exit, pool=self)
            return
        leaving = asyncio.ensure_future(run_sync(self._exit, pool=self))
        cancellation: asyncio.CancelledError | None = None
        while not leaving.done():
            try:
                await asyncio.wait([leaving])
            except asyncio.CancelledError as error:
                cancellation = error
        leaving.result()
        if cancellation is not None:
            raise cancellation

    @property
    def used(self) -> bool:
        """Whether a call was made, since the last `refresh` if there was one."""
        return self._used

    # -- as an executor, for asgiref

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        """Have `fn(*args, **kwargs)` run in the thread, after what was asked for before.

        After the block has ended it runs in any thread of the pool, with `around` around it.
        """
        item = _Item(fn, args, kwargs)
        if self._closed:
            item.run_in(self._pool, self._around)
        else:
            self.enqueue(item)
        return item.future

    # -- as threads, for run_sync

    def enqueue(self, job: Job) -> None:
        """Have `job` run in the thread, after what was asked for before.

        Raises:
            NoThreadToPin: it would be the first in the thread of a pinned lease.
            RuntimeError: the block has ended.
        """
        if self._closed:
            raise RuntimeError("the lease of this thread has ended")
        if self._jobs is not None:
            with self._noting:
                if self._idle:
                    self._idle = False
                    self._pool.expect()
                self._jobs.put(job)
        else:
            if self._pinned:
                self.reserve()
            self._jobs = SimpleQueue()
            self._jobs.put(job)
            self._pool.enqueue(self)
        self._used = True

    def pause(self, who: object, what: object = None) -> None:
        """Note that a call in the thread begins to wait for its home."""
        self._pool.pause(who, what)

    def resume(self, who: object) -> None:
        """Note that a call in the thread goes on."""
        self._pool.resume(who)

    # -- as a job of the pool

    def run(self, before: Callable[[], object] | None = None) -> Callable[[], object]:  # noqa: ARG002 -- a pool gives none
        """Run what is asked for, until the block ends."""
        if not self._taken.acquire(blocking=False):
            return nothing
        jobs = self._jobs
        assert jobs is not None
        while True:
            job = self._wait_for_job(jobs)
            if job is None:
                break
            report = job.run(self._enter if self._fresh else None)
            report()
            del job, report
        try:
            self._exit()
        except Exception:
            logger.exception("what was around a handler's calls failed at its end")
        return nothing

    def _wait_for_job(self, jobs: "SimpleQueue[Job | None]") -> Job | None:
        pool = self._pool
        with self._noting:
            idle = self._idle = jobs.empty()
        if not idle:
            return jobs.get()
        if self._pinned:
            pool.rest()
            job = jobs.get()
            pool.work(expected=job is not None)
            return job
        # The handler does something else, and others may need the thread's place.
        pool.pause(self, "its next call")
        job = jobs.get()
        pool.resume(self, expected=job is not None)
        return job

    def __str__(self) -> str:
        return "a handler that keeps its thread"

    def _enter(self) -> None:
        self._fresh = False
        if self._around is not None:
            entered = self._around()
            entered.__enter__()
            self._entered = entered

    def _exit(self) -> None:
        entered, self._entered = self._entered, None
        if entered is not None:
            entered.__exit__(None, None, None)


@final
class _Item:
    """One call that asgiref asks for."""

    __slots__ = ("_args", "_fn", "_kwargs", "future")

    def __init__(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.future: Future[Any] = Future()
        self._fn = fn
        self._args = args
        self._kwargs = kwargs

    def run_in(self, pool: ThreadPool, around: Around | None) -> None:
        """Have the function run by itself in any thread of a pool, with `around` around it."""
        if around is not None:
            self._args = (around, self._fn, self._args, self._kwargs)
            self._fn, self._kwargs = _call_within, {}
        try:
            pool.enqueue(self)
        except RuntimeError as error:
            self.future.set_exception(error)

    def run(self, before: Callable[[], object] | None = None) -> Callable[[], object]:
        """Run the function, unless its future was cancelled."""
        if self.future.set_running_or_notify_cancel():
            try:
                if before is not None:
                    before()
                result = self._fn(*self._args, **self._kwargs)
            except BaseException as error:  # noqa: BLE001 -- raised where the future is awaited
                self.future.set_exception(error)
            else:
                self.future.set_result(result)
            finally:
                withdraw_loop()
        return nothing

    def __str__(self) -> str:
        return "a call of sync_to_async"


def _call_within(
    around: Around, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> T:
    with around():
        return fn(*args, **kwargs)
