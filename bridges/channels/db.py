"""Calling the ORM from async code.

Source: `channels.db` 4.3.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import trio
from asgiref.sync import SyncToAsync, sync_to_async
from django.db import close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..django._shared_connections import borrowed
from ..django.database import (
    database_guard,
    is_guarded,
    refuse_blocking_queries,
    transactions_here,
)
from ..threads import ExecutorThreads, run_sync, watched_loop
from ._threads import pinned_thread

__all__ = [
    "DatabaseSyncToAsync",
    "aclose_old_connections",
    "close_old_connections",
    "database_sync_to_async",
]

refuse_blocking_queries()

P = ParamSpec("P")
R = TypeVar("R")


class DatabaseSyncToAsync(SyncToAsync[P, R]):
    """A sync function as a coroutine function, with Django's old connections closed around it.

    Under asyncio all calls of one handler share a thread, and so a connection; see
    `asgiref.sync.SyncToAsync`. Under trio each call leases a thread of its own, unless
    the consumer is `pinned` to one.

    Args:
        func: a function or a method that is no coroutine function.
        thread_sensitive: whether the thread matters; if not, any will do.
        executor: whose threads to use, where it does not matter.
        context: to call it in, instead of a copy of the caller's.

    Raises:
        TypeError: `func` is a coroutine function, or there is an executor although the
            thread matters.
    """

    def __init__(
        self,
        func: Callable[P, R],
        thread_sensitive: bool = True,
        executor: Any = None,
        context: Any = None,
    ) -> None:
        super().__init__(func, thread_sensitive, executor, context)
        self._threads = None if executor is None else ExecutorThreads(executor)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function in a thread, and wait for what it returns."""
        if not trio.lowlevel.in_trio_task():
            return await super().__call__(*args, **kwargs)
        call = partial(self.func, *args, **kwargs)
        if self.context is not None:
            call = partial(self.context.run, call)
        threads = self._threads or pinned_thread.get()
        return await run_sync(call, pool=threads, around=database_guard)

    def thread_handler(self, loop: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the function in the thread that asgiref chose."""
        with borrowed():  # where the thread does not matter, a test's data do
            inherited = transactions_here()
            _close_old_connections(inherited)
            try:
                with watched_loop(loop) as watched:
                    return super().thread_handler(watched, *args, **kwargs)  # type: ignore[no-untyped-call]
            finally:
                # What a handler has begun it may go on with in its next call; its end is judged.
                _close_old_connections(transactions_here() if is_guarded() else inherited)


if TYPE_CHECKING:
    # For type checkers the decorator gives a function, so that a method of it is bound.
    def database_sync_to_async(
        func: Callable[P, R],
        thread_sensitive: bool = True,
        executor: Any = None,
        context: Any = None,
    ) -> Callable[P, Coroutine[Any, Any, R]]:
        """Make a coroutine function of a sync one; see `DatabaseSyncToAsync`."""
        return DatabaseSyncToAsync(func, thread_sensitive, executor, context)
else:
    database_sync_to_async = DatabaseSyncToAsync


async def aclose_old_connections() -> None:
    """Close the connections that have outlived their `CONN_MAX_AGE`, in the ORM's thread.

    One that is inside a transaction stays, be it a test's.
    """
    if trio.lowlevel.in_trio_task():
        await run_sync(_close_old_connections_here, pool=pinned_thread.get())
    else:
        await sync_to_async(_close_old_connections_here)()


def _close_old_connections_here() -> None:
    _close_old_connections(transactions_here())


def _close_old_connections(inherited: list[BaseDatabaseWrapper]) -> None:
    """Close this thread's old connections but `inherited`, which were inside a transaction."""
    if not inherited:
        close_old_connections()  # by its name here, which tests may replace
        return
    for connection in connections.all(initialized_only=True):
        if connection not in inherited:
            connection.close_if_unusable_or_obsolete()
