"""The ways between trio and one asyncio loop, where both run in the same thread.

Whichever of the two turns the other: `HostedLoop` is turned by trio, and an `OuterLoop` turns
a trio run that is its guest.
"""

import asyncio
import contextvars
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar, final

import outcome
import trio

from ._context import adopt_context
from ._errors import TaskCancelled
from ._tasks import AnyTask, cancelled_by_trio

T = TypeVar("T")


class Crossings(ABC):
    """An asyncio loop that trio code can cross over to, and back."""

    _untold: BaseException | None = None  # what has left the loop, and no trio code has seen yet

    @property
    @abstractmethod
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop itself, as `asyncio.get_running_loop()` gives it."""

    @abstractmethod
    def create_task(self, coro: Any, *, context: contextvars.Context | None = None) -> AnyTask:
        """Start a task, which belongs to the scope in whose code it is created."""

    @abstractmethod
    def create_future(self) -> "asyncio.Future[Any]":
        """Make a future of the loop."""

    def _create_waiter(self) -> "asyncio.Future[None]":
        """Make a future that is resolved when a trio task has ended."""
        return self.create_future()

    async def _learn_of_end(self) -> NoReturn:
        """Raise what becomes of asyncio code whose trio task was cancelled with all the others."""
        raise asyncio.CancelledError

    async def run_asyncio(self, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        """From trio: await `fn(*args)` as an asyncio task on this loop.

        It runs in a copy of the caller's context; what it set there is the caller's
        when it has returned normally. Cancelling the caller cancels the task and waits
        for it; a task that returns all the same hands over its result, and the caller
        is cancelled at its next checkpoint.

        Raises:
            TaskCancelled: the task was cancelled, and not by the caller.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        context = contextvars.copy_context()
        result: T = await wait_future(self.create_task(await_call(fn, args), context=context))
        adopt_context(context)
        return result

    async def run_trio(self, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        """From asyncio code on this loop: await `fn(*args)` in a trio task.

        It runs in a copy of the caller's context; what it set there is the caller's
        when it has returned normally. Cancelling the caller cancels the trio task and
        waits for it. Then the cancellation is raised even if `fn` returned a value,
        for asyncio tells a task only once; an error of `fn` goes before it.
        """
        context = contextvars.copy_context()
        scope = trio.CancelScope()
        ended: outcome.Value[T] | outcome.Error | None = None
        over = False
        waiter = self._create_waiter()

        async def run() -> None:
            nonlocal ended, over
            try:
                with scope:
                    ended = outcome.Value(await fn(*args))
            except trio.Cancelled:  # the whole trio program is ending
                raise
            except BaseException as error:  # noqa: BLE001 -- raised in the asyncio code
                ended = outcome.Error(error)
            finally:
                over = True
                if not waiter.done():
                    waiter.set_result(None)

        trio.lowlevel.spawn_system_task(run, name=fn, context=context)
        cancellation: asyncio.CancelledError | None = None
        while not over:
            try:
                await waiter
            except asyncio.CancelledError as error:
                cancellation = error
                scope.cancel()
                waiter = self._create_waiter()
        answer, ended = ended, None
        try:
            if not isinstance(answer, outcome.Error):
                if cancellation is not None:
                    raise cancellation
                if answer is None:
                    await self._learn_of_end()
                adopt_context(context)
            assert answer is not None
            return answer.unwrap()
        finally:
            del answer, cancellation  # their tracebacks hold this frame: no reference cycle


async def await_call(fn: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
    """Await `fn(*args)`; `fn` may be a plain function, whose body then runs here, too."""
    return await fn(*args)


async def wait_future(future: "asyncio.Future[T]") -> T:
    """In trio: wait for `future` of the hosted loop; being cancelled cancels it.

    Raises:
        TaskCancelled: the future was cancelled, and not by the caller.
    """
    raise_cancel = None if future.done() else await _until_done(future)
    try:
        if raise_cancel is not None and future.cancelled():
            raise_cancel()
        return future.result()
    except asyncio.CancelledError as error:
        raise TaskCancelled from error
    except (KeyboardInterrupt, SystemExit) as error:
        loop = future.get_loop()
        if isinstance(loop, Crossings) and loop._untold is error:
            loop._untold = None
        raise
    finally:
        del future  # an error's traceback holds this frame: no reference cycle


async def _until_done(future: "asyncio.Future[Any]") -> Callable[[], NoReturn] | None:
    waiter = _FutureWaiter(future)
    future.add_done_callback(waiter.wake)
    await trio.lowlevel.wait_task_rescheduled(waiter.ask)
    return waiter.raise_cancel


@final
class _FutureWaiter:
    """A trio task that waits for a future; one for each asyncio scope, so it is kept small."""

    __slots__ = ("future", "raise_cancel", "task")

    def __init__(self, future: "asyncio.Future[Any]") -> None:
        self.future = future
        self.raise_cancel: Callable[[], NoReturn] | None = None
        self.task = trio.lowlevel.current_task()

    def wake(self, _future: object) -> None:
        trio.lowlevel.reschedule(self.task)

    def ask(self, raise_cancel: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
        self.raise_cancel = raise_cancel
        cancelled_by_trio.add(self.future)
        self.future.cancel()
        return trio.lowlevel.Abort.FAILED
