"""What becomes of Django's database connections around one handler in a leased thread.

Django keeps one connection per thread and alias. A leased thread outlives the handler
that borrowed it, so its connections are looked after where Django does it for a
request: before the handler, since the server may have dropped one meanwhile, and
after it. One rule is ours: a handler that ends inside a transaction loses it, as
otherwise everything that later borrows the thread would write into that transaction,
report success, and never be committed.

Source: Django, "Databases", "Persistent connections".
"""

import logging
import select
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final

from django.conf import settings
from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..threads import call_before_threads_end
from ._blocking_queries import BlockingQuery as BlockingQuery
from ._blocking_queries import allow_blocking_queries as allow_blocking_queries
from ._blocking_queries import refuse_blocking_queries as refuse_blocking_queries
from ._shared_connections import borrowed, in_test, is_lent

__all__ = [
    "BlockingQuery",
    "allow_blocking_queries",
    "database_guard",
    "is_guarded",
    "refuse_blocking_queries",
    "transactions_here",
]

logger = logging.getLogger("greenroom.django")

_NOTHING: Final = nullcontext()


@contextmanager
def database_guard(who: Callable[[], str] | None = None) -> Iterator[None]:
    """Guard the connections of this thread around one handler, within a `with` block.

    On entry and on exit a connection is closed if it is broken or older than its
    `CONN_MAX_AGE` seconds; on entry also if the server has hung up, as after its restart.
    On exit a transaction that the handler opened and left open is rolled back by dropping
    its connection, and an error is logged. A connection that is inside a transaction on
    entry is left alone: tests share such a one.

    Costs about nothing in a thread that has not used a database yet, and does not need
    Django to be configured.

    Args:
        who: names the handler, if there is something to log about it.
    """
    with borrowed() if in_test() else _NOTHING:
        mine = _connections()
        inherited = [each for each in mine if _stays(each)]
        for connection in mine:
            if connection not in inherited and _was_hung_up(connection):
                connection.close()
        _tidy(mine, inherited, who)
        _here.guards += 1
        try:
            yield
        finally:
            _here.guards -= 1
            _tidy(_connections(), inherited, who)
            if in_test():
                # Left open, it would keep the test's database from being deleted.
                for connection in _connections():
                    if connection not in inherited and not is_lent(connection):
                        connection.close()


class _Here(threading.local):
    guards = 0


_here: Final = _Here()


def is_guarded() -> bool:
    """Tell whether a guard will look after the connections of this thread."""
    return _here.guards > 0


def transactions_here() -> list[BaseDatabaseWrapper]:
    """Give the connections of this thread that are inside a transaction, or lent by a test."""
    return [each for each in _connections() if _stays(each)]


def _stays(connection: BaseDatabaseWrapper) -> bool:
    return _in_transaction(connection) or is_lent(connection)


def _tidy(
    mine: Sequence[BaseDatabaseWrapper],
    inherited: list[BaseDatabaseWrapper],
    who: Callable[[], str] | None,
) -> None:
    for connection in mine:
        if connection in inherited:
            continue
        if _in_transaction(connection):
            logger.error(
                "A transaction on database %r was left open by %s: "
                "its connection is dropped, and what it wrote is rolled back.",
                connection.alias,
                "the handler that just ended" if who is None else who(),
            )
            _drop(connection)
        else:
            connection.close_if_unusable_or_obsolete()


def _connections() -> Sequence[BaseDatabaseWrapper]:
    """Give the connections that this thread has made."""
    # Settings that nobody has read yet cannot have led to a connection.
    return connections.all(initialized_only=True) if settings.configured else []


def _close_all() -> None:
    for connection in _connections():
        connection.close()


call_before_threads_end(_close_all)


def _in_transaction(connection: BaseDatabaseWrapper) -> bool:
    raw = connection.connection
    if raw is None:
        return False
    # The attribute, since `get_autocommit()` would connect.
    return connection.in_atomic_block or (
        connection.settings_dict["AUTOCOMMIT"] and (not connection.autocommit or _has_begun(raw))
    )


def _has_begun(raw: Any) -> bool:
    """Ask the driver, without a query, for a `BEGIN` that Django has not sent itself."""
    if hasattr(raw, "in_transaction"):  # sqlite3
        return bool(raw.in_transaction)
    # psycopg: 1 to 3 are in a command, in a transaction, and in one that has failed.
    return getattr(getattr(raw, "info", None), "transaction_status", 0) in (1, 2, 3)


def _was_hung_up(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a PostgreSQL server has closed a connection that lay idle.

    It costs no query, as `CONN_HEALTH_CHECKS` does: who hangs up says so, and then there is
    something to read.
    """
    raw = connection.connection
    if raw is None or connection.vendor != "postgresql" or not hasattr(select, "poll"):
        return False
    try:
        poll = select.poll()
        poll.register(raw.fileno(), select.POLLIN)
        return bool(poll.poll(0)) and not connection.is_usable()
    except Exception:  # noqa: BLE001 -- whatever a driver says of a closed connection
        return True


def _drop(connection: BaseDatabaseWrapper) -> None:
    try:
        connection.close()
    except Error:
        logger.debug("Closing database %r failed.", connection.alias, exc_info=True)
    # A wrapper closed inside an atomic block refuses to work until that block ends, and
    # this one never will. The next use of the alias makes a new wrapper.
    del connections[connection.alias]
