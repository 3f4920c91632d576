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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

logger = logging.getLogger("greenroom.django")


@contextmanager
def database_guard() -> Iterator[None]:
    """Guard the connections of this thread around one handler, within a `with` block.

    On entry and on exit a connection is closed if it is broken or older than its
    `CONN_MAX_AGE` seconds. On exit a transaction that the handler opened and left open
    is rolled back by dropping its connection, and an error is logged. One that was
    open on entry is not ours to end: tests share a connection inside a transaction.

    Costs about nothing in a thread that has not used a database yet, and does not need
    Django to be configured.
    """
    opened = _connections()
    for connection in opened:
        connection.close_if_unusable_or_obsolete()
    inherited = [connection for connection in opened if _in_transaction(connection)]
    try:
        yield
    finally:
        drop_open_transactions(inherited)
        for connection in _connections():
            connection.close_if_unusable_or_obsolete()


def drop_open_transactions(inherited: Iterable[BaseDatabaseWrapper] = ()) -> None:
    """Drop each connection of this thread that is inside a transaction, and log it.

    Args:
        inherited: connections whose transaction somebody else began and will end.
    """
    for connection in _connections():
        if _in_transaction(connection) and connection not in inherited:
            logger.error(
                "A transaction on database %r was left open by the handler that just ended: "
                "its connection is dropped, and what it wrote is rolled back.",
                connection.alias,
            )
            _drop(connection)


def _connections() -> list[BaseDatabaseWrapper]:
    """Give the connections that this thread has made."""
    # Settings that nobody has read yet cannot have led to a connection.
    return list(connections.all(initialized_only=True)) if settings.configured else []


def _in_transaction(connection: BaseDatabaseWrapper) -> bool:
    if connection.connection is None:
        return False
    # The attribute, since `get_autocommit()` would connect.
    return connection.in_atomic_block or (
        connection.settings_dict["AUTOCOMMIT"] and not connection.autocommit
    )


def _drop(connection: BaseDatabaseWrapper) -> None:
    try:
        connection.close()
    except Error:
        logger.debug("Closing database %r failed.", connection.alias, exc_info=True)
    # A wrapper closed inside an atomic block refuses to work until that block ends, and
    # this one never will. The next use of the alias makes a new wrapper.
    del connections[connection.alias]
