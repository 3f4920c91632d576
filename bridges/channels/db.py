"""Calling the ORM from async code."""

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import trio
from asgiref.sync import SyncToAsync, sync_to_async
from django.db import close_old_connections

from ..django.database import database_guard, refuse_blocking_queries
from ..threads import run_sync

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
    `asgiref.sync.SyncToAsync`. Under trio each call leases a thread of its own.
    """

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function in a thread, and wait for what it returns."""
        if trio.lowlevel.in_trio_task():
            return await run_sync(self._call, args, kwargs, around=database_guard)
        return await super().__call__(*args, **kwargs)

    def _call(self, args: Any, kwargs: Any) -> R:
        return self.func(*args, **kwargs)

    def thread_handler(self, loop: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the function in the thread that asgiref chose."""
        close_old_connections()
        try:
            return super().thread_handler(loop, *args, **kwargs)  # type: ignore[no-untyped-call]
        finally:
            close_old_connections()


# A class used as a decorator; its name is a function's.
database_sync_to_async: Callable[..., Any] = DatabaseSyncToAsync


async def aclose_old_connections() -> None:
    """Close the connections that have outlived their `CONN_MAX_AGE`, in the ORM's thread."""
    await _aclose_old_connections()


_aclose_old_connections: Callable[[], Coroutine[Any, Any, None]] = sync_to_async(
    close_old_connections
)
