"""What a test has in its database connection, lent to the threads in which handlers run.

A test's data often exist in an open transaction only, that of one connection in one thread,
to be rolled back at the end. A handler in a leased thread would connect by itself, and find
nothing. So while applications run in a test, leased threads, and the one thread that
`sync_to_async` uses where nothing else was chosen, have that very connection. It is not
closed by anybody, and taken back afterwards.

Who uses it when is the business of `_turns.py`.

Source: Django, `LiveServerTestCase`, which lends connections to in-memory databases.
"""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeAlias

import trio
from asgiref.sync import AsyncToSync, SyncToAsync
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ._turns import end_turn, turns_of

Connections: TypeAlias = Mapping[str, BaseDatabaseWrapper]

PATIENCE: Final = 2.0  # real seconds for what another thread does at once, unless it waits for us

_loans: Final[list[Connections]] = []
_lock: Final = threading.Lock()


def in_test() -> bool:
    """Tell whether a test lends connections now, be it none."""
    return bool(_loans)


def lent() -> dict[str, BaseDatabaseWrapper]:
    """Give the connections that leased threads shall use now, by alias."""
    return {
        alias: connection
        for loan in _loans.copy()
        for alias, connection in loan.items()
        if _is_only_here(connection)  # else its test is over
    }


def connections_to_lend() -> dict[str, BaseDatabaseWrapper]:
    """Give those connections of this thread whose data no other connection sees."""
    if not settings.configured:
        return {}
    return {
        connection.alias: connection
        for connection in connections.all(initialized_only=True)
        if _is_only_here(connection)
    }


def _is_only_here(connection: BaseDatabaseWrapper) -> bool:
    if connection.connection is None:
        return False
    return connection.in_atomic_block or is_in_memory(connection)


def is_in_memory(connection: Any) -> bool:
    """Tell whether the database lives in this process only."""
    return bool(connection.vendor == "sqlite" and connection.is_in_memory_db())


async def test_connections() -> dict[str, BaseDatabaseWrapper]:
    """Give the connections that the test which runs here would have to lend.

    They are this thread's. An async test of Django's runs on a loop in another thread than
    the one in which its transaction was opened: asgiref knows that one.
    """
    found = connections_to_lend()
    if found or trio.lowlevel.in_trio_task():
        return found
    parent = AsyncToSync.loop_thread_executors.get(asyncio.get_running_loop())
    if parent is None:
        return found
    with suppress(RuntimeError):  # nobody waits there any more
        asked = asyncio.wrap_future(parent.submit(connections_to_lend))
        # It answers at once, unless it waits for us in its turn.
        if (await asyncio.wait([asked], timeout=PATIENCE))[0]:
            return asked.result()
        asked.cancel()
    return found


@contextmanager
def lend(loan: Connections) -> Iterator[None]:
    """Let leased threads use the connections `loan` while the block runs."""
    turns = [turns_of(connection) for connection in loan.values()]
    for connection in loan.values():
        connection.inc_thread_sharing()
    with _lock:
        _loans.append(loan)
    for each in turns:
        each.begin()
    _tell_thread_of_asgiref(loan)
    try:
        yield
    finally:
        with _lock:
            _loans[:] = [each for each in _loans if each is not loan]
        _tell_thread_of_asgiref(loan)
        for each in turns:
            each.end()
        for connection in loan.values():
            connection.dec_thread_sharing()


def _tell_thread_of_asgiref(loan: Connections) -> None:
    if loan:
        with suppress(RuntimeError):  # the process ends
            # Without waiting, as it may wait for us. What is asked for later comes later.
            SyncToAsync.single_thread_executor.submit(_borrow)


@contextmanager
def lend_in_test() -> Iterator[None]:
    """Let other threads use this thread's connections during one whole test, run in the block.

    No loop runs here, so that at the end there is time to close what the thread of asgiref
    has opened by itself: it would keep the test's database from being deleted.
    """
    try:
        with lend(connections_to_lend()):
            yield
    finally:
        if settings.configured:
            with suppress(TimeoutError):
                SyncToAsync.single_thread_executor.submit(_close_own).result(PATIENCE)


def _close_own() -> None:
    if not _loans:
        for connection in connections.all(initialized_only=True):
            connection.close()


# -- in a thread that borrows


class _Here(threading.local):
    borrowing = False

    def __init__(self) -> None:
        # What this thread had itself instead, by alias.
        self.displaced: dict[str, BaseDatabaseWrapper | None] = {}


_here: Final = _Here()


@contextmanager
def borrowed() -> Iterator[None]:
    """In any thread: use what is lent, while the block runs."""
    if not _loans or _here.borrowing or _here.displaced:  # it does so already
        yield
        return
    _here.borrowing = True
    _borrow()
    try:
        yield
    finally:
        _here.borrowing = False
        used = [connections[alias] for alias in _here.displaced]
        _give_back({})
        for connection in used:
            end_turn(connection)


def is_lent(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether `connection` is a test's, which other threads may use as well."""
    return any(connection in loan.values() for loan in _loans.copy())


def _borrow() -> None:
    wanted = lent()
    _give_back(wanted)
    mine = {each.alias: each for each in connections.all(initialized_only=True)} if wanted else {}
    for alias, connection in wanted.items():
        if mine.get(alias) is not connection:
            _here.displaced.setdefault(alias, mine.get(alias))
            connections[alias] = connection


def _give_back(wanted: Connections) -> None:
    for alias in [alias for alias in _here.displaced if alias not in wanted]:
        own = _here.displaced.pop(alias)
        if own is None:
            del connections[alias]
        else:
            connections[alias] = own
