"""An error, instead of a loop that stands still, for a query in a trio task.

Django refuses a synchronous query in a thread whose asyncio loop runs. It does not know
trio: `Item.objects.count()` in a trio task would block every connection of the process
until the database has answered, without a word. What refuses it here uses Django's
public hooks: a signal for each new connection, and a wrapper around its queries.

In asyncio code that is hosted in a trio program Django's own check works, as there a loop
runs. Leased threads run no trio task, so queries there are not looked at.

Source: Django, "Asynchronous support", "Async safety"; "Database instrumentation".
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, final

import trio
from django.conf import settings
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

VARIABLE: Final = "DJANGO_ALLOW_ASYNC_UNSAFE"  # Django's own, with its own meaning

_allowed: ContextVar[bool] = ContextVar("greenroom.blocking_queries_allowed", default=False)


class BlockingQuery(SynchronousOnlyOperation):
    """Raised by a synchronous database query in a trio task, which it would block.

    And with it every other task of the process. Have it done in a thread.
    """

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self.alias = alias

    def __str__(self) -> str:
        return (
            f"a query of database {self.alias!r} in a trio task would block the event loop, and "
            "every connection that it serves: await database_sync_to_async(function)(...) of "
            "greenroom.bridges.channels.db, or run_sync(function, ...) of "
            "greenroom.bridges.threads, or wrap code that may block on purpose, as in a test, "
            "in `with allow_blocking_queries():` of greenroom.bridges.django.database"
        )


@contextmanager
def allow_blocking_queries() -> Iterator[None]:
    """Allow synchronous queries in the trio task that runs this block, and those it starts.

    For tests and scripts, in which nobody else waits for the loop.
    """
    token = _allowed.set(True)
    try:
        yield
    finally:
        _allowed.reset(token)


def refuse_blocking_queries() -> None:
    """Have synchronous queries in trio tasks raise `BlockingQuery` from now on.

    Called by the Django application `greenroom.bridges.django`, and by the consumers'
    bridge; again it does nothing. A connection is opened first, and closed again by the
    refusal: only then Django tells of it. Of connections that exist already, those of
    the calling thread are guarded.
    """
    connection_created.connect(_guard_connection, dispatch_uid="greenroom.blocking_queries")
    if settings.configured:
        for connection in connections.all(initialized_only=True):
            _guard_of(connection).complete = connection.connection


def _guard_connection(connection: BaseDatabaseWrapper, **_: object) -> None:
    guard = _guard_of(connection)
    if _refuses():
        connection.close()
        raise BlockingQuery(connection.alias)
    guard.complete = connection.connection


def _guard_of(connection: BaseDatabaseWrapper) -> "_Guard":
    for wrapper in connection.execute_wrappers:
        if isinstance(wrapper, _Guard):
            return wrapper
    guard = _Guard()
    # In front, so that nobody who adds one for a while takes this one away at its end.
    connection.execute_wrappers.insert(0, guard)
    return guard


def _refuses() -> bool:
    return trio.lowlevel.in_trio_task() and not _allowed.get() and not os.environ.get(VARIABLE)


@final
class _Guard:
    """What Django calls around each query of one connection."""

    __slots__ = ("complete",)

    def __init__(self) -> None:
        self.complete: object = None  # the driver's connection, if Django has set it up

    def __call__(
        self,
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,
        context: dict[str, Any],
    ) -> Any:
        if _refuses():
            connection = context["connection"]
            if connection.connection is not self.complete:
                connection.close()  # else its next user would find it half set up
            raise BlockingQuery(connection.alias)
        return execute(sql, params, many, context)
