"""What asgiref keeps per thread, carried to a leased thread and back; the only file that knows.

`async_to_sync` looks in a thread-local for the loop to run on. Left behind, a loop that
no longer turns would make it hang for ever, so it is cleared after each call. Which
thread `sync_to_async` uses is said by a context variable, so tasks inherit it. An
asgiref `Local` (Django's active language, URLconf, script prefix) lives in a context
variable but belongs to one thread, and has to be moved on purpose.
"""

import asyncio
import contextvars
import inspect
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, Final, final

from asgiref.local import _rehome, _Storage
from asgiref.sync import SyncToAsync, ThreadSensitiveContext

_UNSET: Final = object()


@final
class WatchedLoop:
    """What `async_to_sync` sees as its loop in a leased thread.

    It tells when the thread begins to wait for the loop and when it has its answer.
    """

    __slots__ = ("_answered", "_loop", "_waits")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        waits: Callable[[object], object],
        answered: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._waits = waits
        self._answered = answered

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def create_task(self, coro: Any) -> "asyncio.Task[Any]":
        """Start what a thread waits for; called in the loop's thread."""
        arguments = dict(coro.cr_frame.f_locals)
        task = self._loop.create_task(coro)
        self._waits(coro)
        task.add_done_callback(partial(self._end, arguments))
        return task

    def _end(self, arguments: dict[str, Any], task: "asyncio.Task[Any]") -> None:
        answer: Future[Any] | None = arguments.get("call_result")
        if task.cancelled() and answer is not None and not answer.done():
            # A loop that is about to be closed cancels tasks before their first step: this
            # one never came to tell the thread, which would wait for ever.
            if inspect.iscoroutine(arguments["awaitable"]):
                arguments["awaitable"].close()
            answer.set_exception(asyncio.CancelledError())
        self._answered()


def offer_loop(loop: WatchedLoop, waiting_for: "list[asyncio.Task[Any]]") -> None:
    """Let `async_to_sync` in this thread run on `loop`; its task is then in `waiting_for`."""
    local = SyncToAsync.threadlocal
    local.main_event_loop = loop
    local.main_event_loop_pid = os.getpid()
    local.task_context = waiting_for


def withdraw_loop() -> None:
    """Forget every loop that `async_to_sync` could use in this thread."""
    SyncToAsync.threadlocal.__dict__.clear()


@final
class OfferedExecutor:
    """Sends the thread-sensitive calls of the current task to an executor.

    And those of the tasks it starts, also after `withdraw`. It is no `async with
    ThreadSensitiveContext(executor=...)`, as that goes two steps too far: it refuses the
    calls of tasks that outlive it, and it overrules a thread that waits in `async_to_sync`
    for all this, which shall do these calls itself, as in a test of Django's.
    """

    __slots__ = ("_token",)

    def __init__(self, executor: Executor) -> None:
        context = ThreadSensitiveContext()
        SyncToAsync.context_to_thread_executor[context] = executor
        self._token: contextvars.Token[Any] | None = SyncToAsync.thread_sensitive_context.set(
            context
        )

    def withdraw(self) -> None:
        """Have the calls of the current task go where they went before."""
        # asgiref keeps the executor for as long as `context` lives. The token leads there: if
        # the executor, which has this object, led to the token, both would live for ever.
        token, self._token = self._token, None
        if token is not None:
            SyncToAsync.thread_sensitive_context.reset(token)


def move_locals_here(context: contextvars.Context) -> None:
    """Make this thread the owner of the `Local`s in `context`, the current one."""
    for variable, value in context.items():
        if type(value) is _Storage:
            variable.set(_rehome(value))


def adopt_context_here(context: contextvars.Context) -> None:
    """Set in the current context what another thread has set in `context`, a copy of it."""
    for variable, value in context.items():
        mine = variable.get(_UNSET)
        if mine is value:
            continue
        if type(value) is _Storage:
            if type(mine) is _Storage and mine.data is value.data:
                continue
            value = _rehome(value)
        variable.set(value)
