"""The guard around a handler, in a thread that outlives it."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, connections, transaction
from tests.django_project.models import Log

from greenroom.bridges.django.database import database_guard


@pytest.fixture
def in_thread(database: None) -> Iterator[Callable[[Callable[[], object]], object]]:
    """Run a function as a handler in one leased thread, the same one each time."""
    with ThreadPoolExecutor(max_workers=1) as thread:

        def run(handler: Callable[[], object]) -> object:
            def guarded() -> object:
                with database_guard():
                    return handler()

            return thread.submit(guarded).result()

        yield run
        thread.submit(connections.close_all).result()


def enter_a_transaction_and_write() -> None:
    transaction.atomic().__enter__()
    Log.objects.create(type="lost")


def count() -> int:
    return Log.objects.count()


def test_a_transaction_left_open_is_rolled_back_and_logged(
    in_thread: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    in_thread(enter_a_transaction_and_write)
    assert count() == 0
    (record,) = [each for each in caplog.records if each.name == "greenroom.django"]
    assert record.levelno == logging.ERROR
    assert "'default'" in record.getMessage()


def test_what_later_handlers_write_in_that_thread_is_committed(
    in_thread: Callable[..., object],
) -> None:
    in_thread(enter_a_transaction_and_write)
    for _ in range(3):
        in_thread(lambda: Log.objects.create(type="kept"))
    assert count() == 3


def test_a_handler_that_crashes_inside_atomic_leaves_nothing_to_mend(
    in_thread: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    def crash() -> None:
        with transaction.atomic():
            Log.objects.create(type="lost")
            raise LookupError

    with pytest.raises(LookupError):
        in_thread(crash)
    assert count() == 0
    assert not [each for each in caplog.records if each.name == "greenroom.django"]


def test_autocommit_turned_off_and_left_off_counts_as_a_transaction(
    in_thread: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    def turn_off() -> None:
        transaction.set_autocommit(False)
        Log.objects.create(type="lost")

    in_thread(turn_off)
    in_thread(lambda: Log.objects.create(type="kept"))
    assert list(Log.objects.values_list("type", flat=True)) == ["kept"]
    assert "left open" in caplog.text


def test_a_transaction_that_was_open_before_the_handler_stays_open(database: None) -> None:
    with transaction.atomic():
        with database_guard():
            Log.objects.create(type="inside")
        assert connection.in_atomic_block
        Log.objects.create(type="after")
    assert count() == 2


def test_a_connection_older_than_conn_max_age_is_closed_after_the_handler(
    in_thread: Callable[..., object],
) -> None:
    # The project's CONN_MAX_AGE is Django's default: 0 seconds.
    in_thread(count)
    assert in_thread(lambda: connection.connection) is None


def test_a_connection_younger_than_conn_max_age_serves_the_next_handler(
    in_thread: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)

    def count_and_give_connection() -> object:
        count()
        return connection.connection

    first = in_thread(count_and_give_connection)
    second = in_thread(count_and_give_connection)
    assert first is second
    assert first is not None


def test_a_thread_that_never_used_a_database_opens_no_connection(database: None) -> None:
    opened: list[object] = []

    def handler() -> None:
        with database_guard():
            pass
        opened.append(connection.connection)

    thread = threading.Thread(target=handler)
    thread.start()
    thread.join()
    assert opened == [None]
