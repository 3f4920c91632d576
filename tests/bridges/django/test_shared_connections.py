"""A test's connection in the threads of handlers: seen by all, closed by none, used in turns."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio
from asgiref.sync import SyncToAsync
from django.db import close_old_connections, connection, connections, transaction
from tests.django_project.models import Log

from greenroom.bridges.django import _turns
from greenroom.bridges.django._shared_connections import (
    borrowed,
    connections_to_lend,
    lend,
    lend_in_test,
)
from greenroom.bridges.django.database import database_guard
from greenroom.bridges.threads import run_sync

pytestmark = pytest.mark.usefixtures("database")


def write(name: str) -> int:
    with transaction.atomic():
        Log.objects.create(type=name)
    return Log.objects.count()


async def handle(fn: Callable[..., Any], *args: Any) -> Any:
    """Call it as a handler is called: in a leased thread, guarded."""
    return await run_sync(fn, *args, around=database_guard)


@pytest.fixture
def in_transaction() -> Iterator[None]:
    """The test's own transaction, which it rolls back, with a row that nobody else sees."""
    with transaction.atomic():
        Log.objects.create(type="mine")
        yield
        assert connection.connection is not None, "somebody has closed it"
        assert not connection.needs_rollback
        transaction.set_rollback(True)
    assert not connection.allow_thread_sharing
    assert Log.objects.count() == 0


def test_a_handler_sees_and_writes_what_the_test_will_roll_back(in_transaction: None) -> None:
    assert trio.run(handle, Log.objects.count) == 0
    with lend(connections_to_lend()):
        assert trio.run(handle, write, "theirs") == 2
        assert trio.run(handle, lambda: connection.connection) is connection.connection
    assert trio.run(handle, Log.objects.count) == 0
    assert Log.objects.count() == 2


def test_nobody_who_borrows_a_connection_closes_it(in_transaction: None) -> None:
    def close() -> None:
        Log.objects.count()
        close_old_connections()
        connection.close()
        connections.close_all()

    with lend(connections_to_lend()):
        trio.run(handle, close)
        close_old_connections()  # as a signal at the end of a request does
        assert trio.run(handle, write, "theirs") == 2


def test_a_handlers_failed_transaction_takes_nothing_else_along(in_transaction: None) -> None:
    def fail() -> None:
        write("kept")
        with transaction.atomic():
            write("lost")
            raise KeyError

    with lend(connections_to_lend()):
        with pytest.raises(KeyError):
            trio.run(handle, fail)
        assert trio.run(handle, write, "more") == 3
    assert sorted(Log.objects.values_list("type", flat=True)) == ["kept", "mine", "more"]


def test_a_transaction_that_a_handler_leaves_open_is_rolled_back_and_logged(
    in_transaction: None, caplog: pytest.LogCaptureFixture
) -> None:
    def leave_open() -> None:
        transaction.atomic().__enter__()
        write("lost")

    with lend(connections_to_lend()):
        trio.run(handle, leave_open)
        (record,) = caplog.records
        assert "was left open" in record.getMessage()
        assert trio.run(handle, Log.objects.count) == 1
        assert trio.run(handle, write, "next") == 2


def test_transactions_of_several_threads_never_interleave(in_transaction: None) -> None:
    """One that did would end another's savepoint, which is an error of the database."""
    meet = threading.Barrier(4, timeout=20)

    def work(number: int) -> None:
        with borrowed():
            meet.wait()
            for turn in range(10):
                try:
                    with transaction.atomic(savepoint=turn % 3 != 1):
                        Log.objects.create(type=f"{number}.{turn}")
                        with transaction.atomic(savepoint=turn % 2 == 0):
                            write(f"{number}.{turn} nested")
                        if turn % 3 == 0:
                            raise KeyError  # noqa: TRY301
                except KeyError:
                    continue

    with lend(connections_to_lend()), ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work, number) for number in range(4)]:
            done.result(30)
    assert Log.objects.count() == 1 + 4 * 6 * 2


def test_who_waits_in_its_transaction_for_another_lets_it_pass_after_a_while(
    in_transaction: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_turns, "PATIENCE", 0.05)

    def ask(threads: ThreadPoolExecutor) -> int:
        with borrowed(), transaction.atomic():
            Log.objects.create(type="outer")
            count = threads.submit(answer).result(20)
            Log.objects.create(type="outer again")
            return count

    def answer() -> int:
        with borrowed():
            return write("inner")

    with lend(connections_to_lend()), ThreadPoolExecutor(2) as threads:
        assert threads.submit(ask, threads).result(30) == 3
        assert threads.submit(answer).result(30) == 5
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert "out of turn" in caplog.messages[0]


def test_a_thread_gets_its_own_connection_back(in_transaction: None) -> None:
    def own() -> Any:
        connection.ensure_connection()
        return connections["default"]

    with ThreadPoolExecutor(1) as thread:
        before = thread.submit(own).result(20)
        with lend(connections_to_lend()):

            def borrow() -> Any:
                with borrowed(), borrowed():
                    return connections["default"]

            assert thread.submit(borrow).result(20) is connections["default"]
            assert thread.submit(own).result(20) is before
        thread.submit(connections.close_all).result(20)


def test_the_thread_that_sync_to_async_uses_borrows_for_as_long_as_anybody_lends(
    in_transaction: None,
) -> None:
    def count() -> int:
        return SyncToAsync.single_thread_executor.submit(Log.objects.count).result(20)

    with lend_in_test():
        assert count() == 1
        with lend(connections_to_lend()):
            assert count() == 1
        assert count() == 1
    assert count() == 0
    with lend_in_test():
        pass  # which closes what that thread has opened
    closed = SyncToAsync.single_thread_executor.submit(lambda: connection.connection)
    assert closed.result(20) is None


def test_without_a_transaction_nothing_is_lent_and_connections_are_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Log.objects.create(type="committed")
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 600)
    assert connections_to_lend() == {}

    def look() -> tuple[Any, int]:
        return connections["default"], Log.objects.count()

    with lend({}):
        theirs, count = trio.run(handle, look)
    assert theirs is not connections["default"]
    assert count == 1
    assert theirs.connection is None


def test_what_is_lent_of_a_test_that_is_over_is_not_borrowed() -> None:
    with transaction.atomic():
        Log.objects.count()
        loan = connections_to_lend()
    with lend(loan):
        theirs = trio.run(handle, lambda: connections["default"])
    assert theirs is not connections["default"]
