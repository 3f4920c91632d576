"""The way home for any thread, as long as a task keeps it open.

`call_home` leads from the thread of one `run_sync` to the task that waits for it. A
`Home` is made by a task for every thread there is: for a timer that a handler started,
for a thread that asgiref or an executor chose.

Source: what `asgiref.sync.async_to_sync` does for such threads, but for a trio run, too.
"""

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from threading import Lock, get_ident
from typing import Any, final

import trio

from ..asyncio._doorbell import current_ring
from ..asyncio._tasks import disowned
from ._call import here
from ._pool import this_thread


class HomeClosed(Exception):
    """Raised by a call to a `Home` whose task has ended, or ended before the answer."""

    def __str__(self) -> str:
        return "the task that this leads to has ended"


@final
class Home:
    """Where the current task lives, trio or asyncio, for calls from other threads.

    What is called runs beside the task, in a copy of its context; in a thread that a
    `run_sync` of the same home has leased it is `call_home` and `tell_home`.
    """

    __slots__ = (
        "_closed",
        "_context",
        "_errands",
        "_lock",
        "_loop",
        "_post",
        "_tasks",
        "_thread",
    )

    def __init__(self) -> None:
        self._thread = get_ident()
        self._context = contextvars.copy_context()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._post: Callable[..., object]
        if trio.lowlevel.in_trio_task():
            self._post = current_ring()
        else:
            self._loop = asyncio.get_running_loop()
            self._post = self._loop.call_soon_threadsafe
        self._lock = Lock()
        self._closed = False
        self._errands: set[Future[Any]] = set()  # of threads that wait
        self._tasks: set[asyncio.Task[None]] = set()  # asyncio itself keeps none alive

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Have `fn(*args)` done at home, its awaitable awaited there, and wait for the result.

        Raises:
            HomeClosed: home was closed, or is meanwhile.
            RuntimeError: this is home's own thread.
        """
        call = here.call
        if call is not None and call.post == self._post:
            return call.call_home(fn, args)
        return self._call(fn, args)

    def tell(self, fn: Callable[..., object], *args: Any) -> None:
        """Have the synchronous `fn(*args)` called at home; only a leased thread does not wait.

        Raises:
            HomeClosed: home was closed, or is meanwhile.
            RuntimeError: this is home's own thread.
        """
        call = here.call
        if call is not None and call.post == self._post:
            call.tell_home(fn, args)
        else:
            self._call(fn, args)

    def close(self) -> None:
        """Take no more calls, and let go whoever waits; called at home by the task's end."""
        with self._lock:
            self._closed = True
        for errand in tuple(self._errands):
            self._fail(errand, HomeClosed())

    def _call(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if get_ident() == self._thread:
            raise RuntimeError(
                "this would wait in the event loop's own thread, for that same thread: call it "
                "from a synchronous handler or from another thread, in async code by awaiting "
                "sync_to_async(...)"
            )
        errand: Future[Any] = Future()
        with self._lock:  # while home is open the run or loop behind it has not ended
            if self._closed:
                raise HomeClosed
            self._errands.add(errand)
            self._post(self._perform, errand, fn, args)
        pool = this_thread.pool
        if pool is None:
            return errand.result()
        pool.pause(errand, fn)
        try:
            return errand.result()
        finally:
            pool.resume(errand)

    # -- at home

    def _perform(
        self, errand: "Future[Any]", fn: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        if errand.done():  # home was closed meanwhile
            return
        # Whoever calls from a thread has not created a task: it is not the scope's to end.
        context = disowned(self._context)
        try:
            result = context.run(fn, *args)
        except BaseException as error:  # noqa: BLE001 -- raised in the thread
            self._fail(errand, error)
            return
        if not inspect.isawaitable(result):
            self._succeed(errand, result)
            return
        if self._loop is None:
            trio.lowlevel.spawn_system_task(self._wait_for, errand, result, context=context)
        else:
            task = self._loop.create_task(self._wait_for(errand, result), context=context)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _wait_for(self, errand: "Future[Any]", awaitable: Awaitable[Any]) -> None:
        try:
            result = await awaitable
        except (trio.Cancelled, asyncio.CancelledError):
            self._fail(errand, HomeClosed())
            raise
        except BaseException as error:  # noqa: BLE001 -- raised in the thread
            self._fail(errand, error)
        else:
            self._succeed(errand, result)

    def _succeed(self, errand: "Future[Any]", result: Any) -> None:
        self._errands.discard(errand)
        if not errand.done():
            errand.set_result(result)

    def _fail(self, errand: "Future[Any]", error: BaseException) -> None:
        self._errands.discard(errand)
        if not errand.done():
            errand.set_exception(error)
