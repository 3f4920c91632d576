"""One call of a blocking function: from its home, a trio or asyncio task, to a thread and back.

The task waits until the thread is done and meanwhile runs errands for it (`call_home`).
So a call has two sides, and each attribute says whose it is; they meet only through
`post`, which runs a function in the home thread.

        home thread                          leased thread
        enqueue(call) ─────────────────────> run()
        _perform(fn, args) <─── post ──────── call_home(fn)
             └──────── answers.put ─────────>
        _end() <──────────── post ─────────── run() is over
"""

import asyncio
import contextvars
import inspect
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from queue import SimpleQueue
from types import CoroutineType
from typing import Any, Final, NoReturn, Protocol, TypeAlias, final

import outcome
import trio

from ..asyncio import TaskCancelled, current_hosted_loop
from ..asyncio._doorbell import current_ring
from ._asgiref import WatchedLoop, move_locals_here, offer_loop, withdraw_loop
from ._describe import describe_function
from ._pool import Around, Job

Answer: TypeAlias = outcome.Value[Any] | outcome.Error
Answers: TypeAlias = SimpleQueue[Answer]


class Threads(Protocol):
    """Where a call may run: a `ThreadPool`, or a `Lease` of one of its threads."""

    def enqueue(self, job: Job) -> None:
        """Have `job` run by a thread."""

    def pause(self, who: object, what: object = None) -> None:
        """Note that a running job begins to wait for its home; `who` for `what`."""

    def resume(self, who: object) -> None:
        """Note that a running job goes on."""


class _Here(threading.local):
    call: "Call | None" = None
    answers: Answers | None = None


here: Final = _Here()  # in a leased thread: the call that it serves


class Call(ABC):
    """A call that waits for a thread, or runs in one; the base of its two flavours."""

    def __init__(
        self,
        threads: Threads,
        around: Around | None,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        post: Callable[..., object],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.context = contextvars.copy_context()
        self._threads = threads
        self._around = around
        self._fn = fn
        self._args = args
        self.post = post
        self._loop = loop
        self._taken = threading.Lock()  # by the thread that runs it, or by who gives it up
        self._waiting_for: list[asyncio.Task[Any]] = []  # of async_to_sync
        self._told: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._told_posted = False
        self._told_error: Exception | None = None
        self._errand: tuple[Awaitable[Any], Answers] | None = None  # home's
        self._over = False  # home's
        self.answer: Answer | None = None

    # -- in the leased thread

    def run(self, before: Callable[[], object] | None = None) -> Callable[[], object]:
        """Run the function, unless the call was given up before."""
        if not self._taken.acquire(blocking=False):
            return nothing
        here.call = self
        if self._loop is not None:
            threads = self._threads
            watched = WatchedLoop(
                self._loop, partial(threads.pause, self), partial(threads.resume, self)
            )
            offer_loop(watched, self._waiting_for)
        try:
            if before is not None:
                before()
            self.answer = outcome.Value(self.context.run(self._body))
        except BaseException as error:  # noqa: BLE001 -- raised at home
            self.answer = outcome.Error(error)
        finally:
            here.call = None
            withdraw_loop()
        return self._report

    def _body(self) -> Any:
        move_locals_here(self.context)
        if self._around is None:
            return self._fn(*self._args)
        with self._around():
            return self._fn(*self._args)

    def _report(self) -> None:
        self.post(self._end)

    def call_home(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Have `fn(*args)` done at home, and wait for its result."""
        answers = here.answers
        if answers is None:
            answers = here.answers = SimpleQueue()
        self.post(self._perform, fn, args, answers)
        return answers.get().unwrap()

    def tell_home(self, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        """Have `fn(*args)` called at home soon, in order."""
        self.raise_told_error()
        self._told.append((fn, args))
        if not self._told_posted:
            self._told_posted = True
            self.post(self._perform_told)

    def raise_told_error(self) -> None:
        """Raise what a function given to `tell_home` has raised."""
        error, self._told_error = self._told_error, None
        if error is not None:
            raise error

    def __str__(self) -> str:
        """Say what is called, for logs."""
        return describe_function(self._fn, self._args)

    @abstractmethod
    def check_cancelled(self) -> None:
        """Raise in the thread if the task at home was cancelled."""

    # -- at home

    def _perform_told(self) -> None:
        self._told_posted = False
        while self._told:
            fn, args = self._told.popleft()
            if self._told_error is None:  # after a failure the rest is void
                try:
                    fn(*args)
                except Exception as error:  # noqa: BLE001 -- raised in the thread, or by the call
                    self._told_error = error

    def _perform(self, fn: Callable[..., Any], args: tuple[Any, ...], answers: Answers) -> None:
        try:
            self.raise_told_error()
            result = fn(*args)
        except BaseException as error:  # noqa: BLE001 -- raised in the thread
            answers.put(outcome.Error(error))
            return
        if type(result) is CoroutineType or inspect.isawaitable(result):
            self._threads.pause(self, result)
            self._errand = result, answers
            self._wake()
        else:
            answers.put(outcome.Value(result))

    async def _run_errand(self, errand: tuple[Awaitable[Any], Answers]) -> None:
        self._errand = None
        awaitable, answers = errand
        answer: Answer
        try:
            answer = outcome.Value(await awaitable)
        except BaseException as error:  # noqa: BLE001 -- raised in the thread
            answer = outcome.Error(error)
        self._threads.resume(self)
        answers.put(answer)

    def _end(self) -> None:
        self._over = True
        self._wake()

    def _give_up(self) -> bool:
        """Leave a call that no thread has begun; the task in `async_to_sync` is cancelled."""
        if self._taken.acquire(blocking=False):
            return True
        if self._waiting_for:
            self._waiting_for[-1].cancel()
        return False

    @abstractmethod
    def _wake(self) -> None: ...

    @abstractmethod
    async def wait(self) -> None:
        """Wait for the thread, and run its errands meanwhile; then `answer` is there."""


@final
class TrioCall(Call):
    """A call whose home is the current trio task."""

    def __init__(
        self,
        threads: Threads,
        around: Around | None,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
    ) -> None:
        hosted = current_hosted_loop()
        loop = None if hosted is None else hosted.loop
        super().__init__(threads, around, fn, args, current_ring(), loop)
        self._task = trio.lowlevel.current_task()
        self._raise_cancel: Callable[[], NoReturn] | None = None

    async def wait(self) -> None:
        """As `Call.wait`; cancelled before a thread has begun, leave at once."""
        while not self._over:
            await trio.lowlevel.wait_task_rescheduled(self._ask)
            if self._errand is not None:
                await self._run_errand(self._errand)
        if self._raise_cancel is not None and _was_cancelled(self.answer):
            self._raise_cancel()
        if _was_cancelled(self.answer):
            assert isinstance(self.answer, outcome.Error)
            raise TaskCancelled from self.answer.error

    def _ask(self, raise_cancel: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
        if self._give_up():
            return trio.lowlevel.Abort.SUCCEEDED
        self._raise_cancel = raise_cancel
        return trio.lowlevel.Abort.FAILED

    def _wake(self) -> None:
        trio.lowlevel.reschedule(self._task)

    def check_cancelled(self) -> None:
        """Raise `trio.Cancelled` in the thread if the task at home was cancelled."""
        if self._raise_cancel is not None:
            self._raise_cancel()


@final
class AsyncioCall(Call):
    """A call whose home is the current asyncio task, on a hosted or any other loop."""

    def __init__(
        self,
        threads: Threads,
        around: Around | None,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(threads, around, fn, args, loop.call_soon_threadsafe, loop)
        self._running_loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self._cancellation: asyncio.CancelledError | None = None

    async def wait(self) -> None:
        """As `Call.wait`; cancelled before a thread has begun, leave at once."""
        while not self._over:
            try:
                if self._errand is not None:
                    await self._run_errand(self._errand)
                    continue
                self._waiter = self._running_loop.create_future()
                await self._waiter
            except asyncio.CancelledError as error:
                self._cancellation = error
                if self._give_up():
                    raise
        failed = isinstance(self.answer, outcome.Error) and not _was_cancelled(self.answer)
        if self._cancellation is not None and not failed:
            # asyncio tells a task only once, so the cancellation goes before a result.
            raise self._cancellation

    async def _run_errand(self, errand: tuple[Awaitable[Any], Answers]) -> None:
        task = asyncio.current_task()
        requests = task.cancelling() if task is not None else 0
        await super()._run_errand(errand)
        if task is not None and task.cancelling() > requests:
            raise asyncio.CancelledError  # it went to the errand, and concerns the call

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def check_cancelled(self) -> None:
        """Raise `asyncio.CancelledError` in the thread if the task at home was cancelled."""
        if self._cancellation is not None:
            raise asyncio.CancelledError


def _was_cancelled(answer: Answer | None) -> bool:
    return isinstance(answer, outcome.Error) and isinstance(answer.error, asyncio.CancelledError)


def nothing() -> None:
    """Report nothing: nobody waits."""
