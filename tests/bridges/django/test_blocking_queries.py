"""A synchronous query in a trio task is an error, not a loop that stands still."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, connections, transaction
from django.db.backends.signals import connection_created
from tests.django_project.models import Log

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.django.database import (
    BlockingQuery,
    allow_blocking_queries,
    database_guard,
    refuse_blocking_queries,
)
from greenroom.bridges.threads import run_sync


@pytest.fixture(autouse=True)
def refused(database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("DJANGO_ALLOW_ASYNC_UNSAFE", raising=False)
    refuse_blocking_queries()
    connections.close_all()
    yield
    connections.close_all()


def count() -> int:
    return Log.objects.count()


@pytest.mark.parametrize("connected", [False, True])
async def test_query_in_a_trio_task_is_refused(connected: bool) -> None:
    if connected:
        with allow_blocking_queries():
            count()
    with pytest.raises(BlockingQuery, match="await database_sync_to_async") as error:
        count()
    assert isinstance(error.value, SynchronousOnlyOperation)
    assert error.value.alias == "default"
    assert (connection.connection is not None) is connected  # none is left half set up


async def test_query_in_a_thread_is_none_of_its_business() -> None:
    assert await run_sync(count, around=database_guard) == 0

    def plain() -> int:
        try:
            return count()
        finally:
            connections.close_all()

    assert await trio.to_thread.run_sync(plain) == 0


def test_connection_that_was_made_before_the_loop_ran_is_guarded_too() -> None:
    assert count() == 0  # in this thread, the loop's one

    async def main() -> None:
        with pytest.raises(BlockingQuery):
            count()

    trio.run(main)
    assert count() == 0


def test_connection_that_was_made_before_it_was_asked_for_is_guarded_too() -> None:
    connection_created.disconnect(dispatch_uid="greenroom.blocking_queries")
    connection.execute_wrappers.clear()
    count()
    refuse_blocking_queries()
    refuse_blocking_queries()
    assert len(connection.execute_wrappers) == 1

    async def main() -> None:
        with pytest.raises(BlockingQuery):
            count()

    trio.run(main)


async def test_connecting_is_refused_although_no_query_follows() -> None:
    with pytest.raises(BlockingQuery):
        connection.ensure_connection()
    with pytest.raises(BlockingQuery), transaction.atomic():
        pytest.fail("entered")
    assert connection.connection is None


async def test_connection_is_not_left_as_it_is_when_its_first_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with allow_blocking_queries():
        count()
        connection.close()

    def set_up() -> None:  # as MySQL's does
        with connection.cursor() as cursor:
            cursor.execute("select 1")

    monkeypatch.setattr(connection, "init_connection_state", set_up)
    with pytest.raises(BlockingQuery):
        count()
    assert connection.connection is None


async def test_refusal_leaves_a_transaction_that_was_begun_on_purpose_as_it_is() -> None:
    with allow_blocking_queries():
        atomic = transaction.atomic()
        atomic.__enter__()
        Log.objects.create(type="kept")
    with pytest.raises(BlockingQuery):
        count()
    with allow_blocking_queries():
        atomic.__exit__(None, None, None)
        assert count() == 1


async def test_allowing_is_for_the_block_and_the_tasks_that_it_starts() -> None:
    counts: list[int] = []

    async def child() -> None:
        counts.append(count())

    with allow_blocking_queries():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
        counts.append(count())
    assert counts == [0, 0]
    with pytest.raises(BlockingQuery):
        count()


async def test_djangos_own_way_out_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    assert count() == 0


async def test_wrapper_that_is_added_for_a_while_takes_its_own_away() -> None:
    seen: list[str] = []

    def mine(execute: Any, sql: str, *rest: Any) -> Any:
        seen.append(sql)
        return execute(sql, *rest)

    connection.execute_wrappers.clear()
    with allow_blocking_queries(), connection.execute_wrapper(mine):
        count()  # connects within the block
    assert seen
    del seen[:]
    with pytest.raises(BlockingQuery):
        count()
    assert seen == []


async def test_asyncio_code_in_a_trio_program_gets_djangos_own_error() -> None:
    async def handler() -> None:
        with pytest.raises(SynchronousOnlyOperation, match="from an async context") as error:
            count()
        assert not isinstance(error.value, BlockingQuery)

    async with open_hosted_loop() as loop:
        await loop.run_asyncio(handler)


def test_natively_on_asyncio_djangos_own_error_stays() -> None:
    async def main() -> None:
        with pytest.raises(SynchronousOnlyOperation, match="from an async context"):
            count()

    asyncio.run(main())


@pytest.mark.parametrize("installed", ["django", "channels.consumer"])
def test_the_app_and_the_consumers_bridge_ask_for_it(tmp_path: Path, installed: str) -> None:
    app = "'greenroom.bridges.django'" if installed == "django" else ""
    load = "" if installed == "django" else f"import greenroom.bridges.{installed}"
    program = f"""
import django, trio
from django.conf import settings
database = {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
settings.configure(INSTALLED_APPS=[{app}], DATABASES={{"default": database}})
django.setup()
{load}
from django.db import connection

async def main():
    connection.cursor().execute("select 1")

try:
    trio.run(main)
except BaseException as error:
    print(type(error).__name__)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / ".src")},
        check=False,
    )
    assert (done.stdout, done.stderr) == ("BlockingQuery\n", "")
