"""A bounded set of worker threads, each leased to one call, or one handler, at a time.

The thread that was used last is leased first, so a few threads do the work and what is
kept per thread, such as Django's database connections, is reused. At most `size` calls
make progress at once. A thread that waits for its home (`call_home`, `async_to_sync`, or
a handler's lease between two calls) makes no progress and needs what others do; `spare`
threads may then stand in for it, else handlers that ask each other would wait for ever.
When all `size + spare` wait, and somebody else needs a thread, only the log can help: it
names who waits for what.

A pinned thread is kept by one owner for long, and nobody else can use it meanwhile, so
the pool lets all its `size` threads be pinned but one.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import islice
from queue import SimpleQueue
from time import monotonic
from typing import Any, Final, Protocol, TypeAlias, final
from weakref import WeakSet

from ._describe import describe_awaited

Around: TypeAlias = Callable[[], AbstractContextManager[Any]]

DEFAULT_SIZE: Final = 10  # times a few processes, well below the 100 connections of PostgreSQL
DEFAULT_GRACE: Final = 0.05
THREADS_VARIABLE: Final = "GREENROOM_THREADS"  # the size of the pool of this process

logger = logging.getLogger("greenroom.threads")


class Job(Protocol):
    """What a worker thread does."""

    def run(self, before: Callable[[], object] | None = None) -> Callable[[], object]:
        """Do it, raise nothing, and give what reports its end.

        An error of `before`, called first, counts as the job's own. The report is called
        when the thread is free again.
        """


class NoThreadToPin(Exception):
    """Raised by the first call that needs a pinned thread, where none can be spared.

    One thread of a pool always stays for everybody else, so `size - 1` can be pinned.
    Make the pool larger (`GREENROOM_THREADS` for that of the process), or pin less.
    """

    def __init__(self, pool: str, pinned: int, size: int) -> None:
        super().__init__(pool, pinned, size)
        self.pool = pool
        self.pinned = pinned
        self.size = size

    def __str__(self) -> str:
        return (
            f"{self.pinned} of the {self.size} threads of the pool {self.pool!r} are pinned, and "
            f"one has to stay for others: make the pool larger ({THREADS_VARIABLE}), or pin less"
        )


@final
class ThreadPool:
    """Worker threads for blocking code, `size` of them at work at once.

    A pool is process-wide: it may serve several loops in several threads.

    Args:
        size: calls that make progress at once, 1 or more; with Django about the number
            of database connections.
        spare: further threads that may stand in for those that wait; `size` if None.
            `size + spare` threads exist at most.
        grace: real seconds that one must have waited before another is made to stand in
            for it. Most waits are over by then, and each thread may connect to a database.
        name: begins the names of the threads.

    Raises:
        ValueError: `size` is below 1, or `spare` or `grace` is negative.
    """

    def __init__(
        self,
        size: int = DEFAULT_SIZE,
        *,
        spare: int | None = None,
        grace: float = DEFAULT_GRACE,
        name: str = "greenroom",
    ) -> None:
        if size < 1:
            raise ValueError(f"size must be 1 or more, it is {size!r}")
        if spare is not None and spare < 0:
            raise ValueError(f"spare must be 0 or more, it is {spare!r}")
        if not grace >= 0:
            raise ValueError(f"grace must be 0 seconds or more, it is {grace!r}")
        self.size = size
        self.name = name
        self._grace = grace
        self._timer: threading.Timer | None = None  # until somebody may be stood in for
        self._limit = size + (size if spare is None else spare)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._pending: deque[Job] = deque()
        self._threads = 0
        self._started = 0
        self._busy = 0  # jobs that make progress
        self._pinned = 0
        self._resting = 0  # pinned threads, counted as busy, that have nothing to do
        self._expected = 0  # jobs whose thread is leased, and has not noticed them yet
        self._reporting = 0  # threads that are free, and whose last caller does not know it yet
        # Who waits for home -> what for, and since when; who has waited longest is first.
        self._waiting: dict[object, tuple[object, float]] = {}
        self._told_exhausted = False  # once for each time that everybody waits
        self._closed = False
        with _pools_lock:
            _pools.add(self)

    @property
    def threads(self) -> int:
        """The number of threads there are now."""
        return self._threads

    @property
    def busy(self) -> int:
        """The number of calls that make progress now."""
        return self._busy

    @property
    def pinned(self) -> int:
        """The number of threads that are kept for one owner each."""
        return self._pinned

    @property
    def pending(self) -> int:
        """The number of calls that wait for a thread now."""
        return len(self._pending)

    def enqueue(self, job: Job) -> None:
        """Have `job` run by the next free thread; called from any thread.

        Raises:
            RuntimeError: the pool is closed.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError(f"the thread pool {self.name!r} is closed")
            worker = self._lease()
            if worker is None:
                self._pending.append(job)
            blocked = self._note_blocked()
        if worker is not None:
            worker.jobs.put(job)
        if blocked:
            self._tell_blocked(blocked)

    def pause(self, who: object, what: object = None) -> None:
        """Note that a running job begins to wait for its home; `who` for `what`."""
        with self._lock:
            self._busy -= 1
            self._waiting[who] = what, monotonic()
            blocked = self._serve_pending()
        if blocked:
            self._tell_blocked(blocked)

    def resume(self, who: object, *, expected: bool = False) -> None:
        """Note that a running job goes on. For a while more than `size` may then be busy."""
        with self._lock:
            self._busy += 1
            self._expected -= expected
            self._waiting.pop(who, None)

    def pin(self) -> None:
        """Reserve a thread for one owner, before the job that takes it.

        Raises:
            NoThreadToPin: none would be left for others.
        """
        with self._lock:
            most = self.size - 1
            if self._pinned >= most:
                raise NoThreadToPin(self.name, self._pinned, self.size)
            self._pinned += 1
            last = self._pinned == most and most > 1
        if last:
            logger.warning(
                "%d of the %d threads of the pool %r are pinned: one is left for everybody else, "
                "and who wants to pin that is refused",
                most,
                self.size,
                self.name,
            )

    def unpin(self) -> None:
        """Give up what `pin` has reserved."""
        with self._lock:
            self._pinned -= 1

    def rest(self) -> None:
        """Note that a pinned thread has nothing to do."""
        with self._lock:
            self._resting += 1
            blocked = self._note_blocked()
        if blocked:
            self._tell_blocked(blocked)

    def work(self, *, expected: bool = False) -> None:
        """Note that a pinned thread has something to do again."""
        with self._lock:
            self._resting -= 1
            self._expected -= expected

    def expect(self) -> None:
        """Note that a thread that waits for a job of its lease is about to get one."""
        with self._lock:
            self._expected += 1

    def close(self) -> None:
        """End every thread as soon as it has nothing to do, and take no more jobs."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            self._threads -= len(idle)
        for worker in idle:
            worker.jobs.put(None)

    def _lease(self) -> "_Worker | None":
        if self._busy >= self.size:
            return None
        if self._idle:
            worker = self._idle.pop()
        elif self._threads < self.size or self._may_stand_in():
            self._threads += 1
            self._started += 1
            worker = _Worker(self, f"{self.name}-{self._started}")
        else:
            return None
        self._busy += 1
        return worker

    def _may_stand_in(self) -> bool:
        """Tell whether there may be one thread more than now; if later, come back to it."""
        if self._threads >= self._limit:
            return False
        standing_in = self._threads - self.size
        one_more = next(islice(self._waiting.values(), standing_in, None), None)
        if one_more is None:
            return False
        remaining = one_more[1] + self._grace - monotonic()
        if remaining <= 0:
            return True
        if self._timer is None:
            self._timer = threading.Timer(remaining, self._look_again)
            self._timer.daemon = True
            self._timer.start()
        return False

    def _look_again(self) -> None:
        with self._lock:
            self._timer = None
            blocked = self._serve_pending()
        if blocked:
            self._tell_blocked(blocked)

    def _serve_pending(self) -> list[tuple[object, object]]:
        while self._pending:
            worker = self._lease()
            if worker is None:
                break
            worker.jobs.put(self._pending.popleft())
        self._stop_timer_if_idle()
        return self._note_blocked()

    def _stop_timer_if_idle(self) -> None:
        if self._timer is not None and not self._pending:
            self._timer.cancel()
            self._timer = None

    def _note_blocked(self) -> list[tuple[object, object]]:
        """Give who waits, if everybody does, nothing can be done about it, and nobody was told."""
        if (
            self._busy > self._resting
            or not self._pending
            or self._threads < self._limit
            or self._told_exhausted
        ):
            return []
        self._told_exhausted = True
        waiting = [(who, what) for who, (what, _) in self._waiting.items()]
        return [*waiting, *((job, "a thread") for job in self._pending)]

    def _tell_blocked(self, blocked: list[tuple[object, object]]) -> None:
        logger.warning(
            "all %d threads of the pool %r wait for their callers, and more is to do; if these "
            "wait for each other, they do so for ever: %s",
            self._limit,
            self.name,
            "; ".join(f"{who} waits for {describe_awaited(what)}" for who, what in blocked),
        )

    def _follow(self, worker: "_Worker") -> "Job | _Rest":
        """Tell `worker`, which has run a job, what it shall do next."""
        with self._lock:
            self._reporting += 1
            if self._pending and self._busy <= self.size:
                job = self._pending.popleft()
                self._stop_timer_if_idle()
                return job
            self._told_exhausted = False
            self._busy -= 1
            if self._closed or self._threads > self.size:
                self._threads -= 1
                return _END
            self._idle.append(worker)
            return _IDLE


_pools: Final[WeakSet[ThreadPool]] = WeakSet()
_pools_lock: Final = threading.Lock()


def threads_at_work() -> int:
    """Tell how many threads of all pools are at work now, for whoever has to wait for them.

    They count from the moment that something is asked of them until the answer is on its way.
    """
    with _pools_lock:
        return sum(
            pool._busy
            - pool._resting
            + pool._expected
            + pool._reporting
            + (pool._timer is not None)
            for pool in _pools
        )


class _Here(threading.local):
    pool: ThreadPool | None = None


this_thread: Final = _Here()  # in a worker thread: the pool that it belongs to


class _Rest:
    """What a worker does when there is no job."""


_IDLE: Final = _Rest()
_END: Final = _Rest()


_farewells: Final[list[Callable[[], object]]] = []


def call_before_threads_end(fn: Callable[[], object]) -> None:
    """Have `fn` called in each thread of every pool before it ends, to close what it holds.

    Such as Django's connections, of which each thread has its own.
    """
    _farewells.append(fn)


@final
class _Worker:
    __slots__ = ("_pool", "jobs")

    def __init__(self, pool: ThreadPool, name: str) -> None:
        self._pool = pool
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        # A daemon, so that a handler that never returns does not keep the process alive.
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        pool, jobs = self._pool, self.jobs
        this_thread.pool = pool
        following: Job | _Rest | None
        while (following := jobs.get()) is not None:
            while not isinstance(following, _Rest):
                report = following.run()
                following = pool._follow(self)
                # The thread is free before its caller goes on, so the next call finds it.
                try:
                    report()
                except RuntimeError:
                    logger.debug("the caller's loop has ended before its call", exc_info=True)
                with pool._lock:
                    pool._reporting -= 1
                del report
            if following is _END:
                break
        for farewell in _farewells:
            try:
                farewell()
            except Exception:
                logger.exception("a thread of the pool %r failed at its end", pool.name)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)  # threads do not survive a fork
