"""Connections to a real PostgreSQL, counted there: never more than threads, and none left over."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import trio
from asgiref.sync import sync_to_async
from django.db import OperationalError, connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from tests.bridges.channels.serving import Wire, exchange_in_trio, open_websocket, say, served
from tests.bridges.django.exchange import Exchange, Pages
from tests.django_project.models import Log

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.channels.consumer import AsyncConsumer, SyncConsumer
from greenroom.bridges.channels.db import database_sync_to_async
from greenroom.bridges.channels.exceptions import StopConsumer
from greenroom.bridges.channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from greenroom.bridges.channels.layers import InMemoryChannelLayer
from greenroom.bridges.channels.worker import serve_channels
from greenroom.bridges.django.asgi import get_asgi_application
from greenroom.bridges.django.database import allow_blocking_queries
from greenroom.bridges.threads import ThreadPool

THREADS = 4
NAME = "greenroom-test"
COUNT = "select count(*) from pg_stat_activity where application_name = %s"
TEST = {"type": "test", "path": "/"}


class Server:
    """The server, as its administrator sees it."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def ask(self, query: str) -> int:
        row = self._connection.execute(query, [NAME]).fetchone()
        assert row is not None
        return int(row[0])

    def connected(self) -> int:
        return self.ask(COUNT)

    def has(self, wanted: int) -> bool:
        """Wait until there are so many connections; who hangs up is gone a little later."""
        end = time.monotonic() + 5
        while self.connected() != wanted:
            if time.monotonic() > end:
                return False
            time.sleep(0.005)  # another process: there is no event to wait for
        return True

    def hang_up(self) -> None:
        """Close every connection, as a restart does."""
        self._connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where application_name = %s",
            [NAME],
        )

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def server(postgres_url: str) -> Iterator[Server]:
    server = Server(postgres_url)
    yield server
    server.close()


Configure = Callable[..., None]


@pytest.fixture
def configure(server: Server, postgres_url: str) -> Iterator[Configure]:
    """Make the database `pg` of the project; called with its settings, again to change them."""
    url = urlsplit(postgres_url)
    options = {"application_name": NAME}
    settings = dict(connections.settings["default"])
    settings.update(
        ENGINE="django.db.backends.postgresql",
        NAME=url.path[1:],
        USER=url.username or "",
        PASSWORD=url.password or "",
        HOST=url.hostname or parse_qs(url.query)["host"][0],
        PORT=str(url.port or ""),
        OPTIONS=options,
    )
    connections.settings["pg"] = settings

    def configure(**changes: Any) -> None:
        options.update(changes.pop("OPTIONS", {}))
        settings.update(changes)

    with connections["pg"].schema_editor() as editor:
        editor.create_model(Log)
    connections["pg"].close()
    assert server.has(0)
    yield configure
    options.pop("pool", None)
    with connections["pg"].schema_editor() as editor:
        editor.delete_model(Log)
    connections["pg"].close()
    del connections["pg"]
    del connections.settings["pg"]


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch, configure: Configure) -> Iterator[ThreadPool]:
    """The threads of the process, four; closed before the database is taken away."""
    pool = ThreadPool(THREADS, grace=3600, name="postgres")  # on a busy machine all waits are long
    monkeypatch.setattr("greenroom.bridges.threads._default._pool", pool)
    yield pool
    pool.close()
    for thread in threading.enumerate():
        if thread.name.startswith("postgres-"):
            thread.join(5)
            assert not thread.is_alive()


def write(kind: str = "kept") -> int:
    """Write a row, and tell how many connections there are."""
    Log.objects.using("pg").create(type=kind)
    return connected()


def connected() -> int:
    with connections["pg"].cursor() as cursor:
        cursor.execute(COUNT, [NAME])
        (count,) = cursor.fetchone()
    return int(count)


def written() -> int:
    with allow_blocking_queries():
        try:
            return Log.objects.using("pg").count()
        finally:
            connections["pg"].close()


class Sync(WebsocketConsumer):
    def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        self.send(str(write()))


class AsyncCalls(AsyncWebsocketConsumer):
    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        await self.send(str(await database_sync_to_async(write)()))


class AsyncOrm(AsyncWebsocketConsumer):
    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        await Log.objects.using("pg").acreate(type="kept")
        await self.send(str(await sync_to_async(connected)()))


class Trio(AsyncCalls):
    greenroom_flavour = "trio"


KINDS = [Sync, AsyncCalls, AsyncOrm, Trio]


@pytest.mark.parametrize("kind", KINDS)
async def test_many_sockets_share_the_connections_of_few_threads(
    pool: ThreadPool, configure: Configure, server: Server, kind: Any
) -> None:
    configure(CONN_MAX_AGE=60)
    most: list[int] = []

    async def visit(address: str) -> None:
        async with open_websocket(address, "/") as websocket:
            most.extend([int(await say(websocket, "write")) for _ in range(2)])

    with trio.fail_after(30):
        async with served(kind.as_asgi()) as address:
            for _ in range(2):
                async with trio.open_nursery() as nursery:
                    for _ in range(30):
                        nursery.start_soon(visit, address)
    assert len(most) == 120
    assert max(most) <= THREADS
    assert 1 <= server.connected() <= THREADS  # kept for those who come next
    pool.close()
    assert server.has(0)
    assert written() == 120


def on_asyncio(kind: Any, visits: int) -> list[int]:
    """Serve so many connections at once natively on asyncio, and give what they were told."""

    async def visit() -> int:
        wire = Wire({"type": "websocket.connect"}, {"type": "websocket.receive", "text": "write"})
        app = kind.as_asgi()({"type": "websocket", "path": "/"}, wire.receive, wire.send)
        running = asyncio.ensure_future(app)
        while len(wire.sent) < 2:
            await wire.answered.wait()
            wire.answered.clear()
        wire.inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await running
        return int(wire.sent[1]["text"])

    async def main() -> list[int]:
        return await asyncio.wait_for(asyncio.gather(*(visit() for _ in range(visits))), 30)

    return asyncio.run(main())


@pytest.mark.parametrize("kind", [Sync, AsyncCalls, AsyncOrm])
@pytest.mark.parametrize("age", [0, None])
def test_natively_on_asyncio_it_is_so_too(
    pool: ThreadPool, configure: Configure, server: Server, kind: Any, age: int | None
) -> None:
    configure(CONN_MAX_AGE=age)
    told = on_asyncio(kind, 20)
    assert len(told) == 20
    if age is None:
        assert max(told) <= THREADS
        assert 1 <= server.connected() <= THREADS
        pool.close()
    assert server.has(0)
    assert written() == 20


@pytest.mark.parametrize("world", ["trio", "asyncio"])
@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_views_leave_no_connection(
    pool: ThreadPool, configure: Configure, server: Server, flavour: str, world: Any
) -> None:
    configure(CONN_MAX_AGE=0)

    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(str(write()))

    async def async_view(request: HttpRequest) -> HttpResponse:
        await Log.objects.using("pg").acreate(type="kept")
        return HttpResponse(str(await sync_to_async(connected)()))

    pages = Pages(path("", view if flavour == "sync" else async_view))
    with override_settings(ROOT_URLCONF=pages, MIDDLEWARE=[]):
        app = get_asgi_application()
        for _ in range(5):
            answer = Exchange().run(app, world)
            assert answer.status == 200
            assert int(answer.content) == 1
            assert server.has(0)


async def test_worker_shares_the_connections_of_few_threads(
    pool: ThreadPool, configure: Configure, server: Server, layer: InMemoryChannelLayer
) -> None:
    configure(CONN_MAX_AGE=60)
    told: list[int] = []
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()

    class Job(SyncConsumer):
        def run_it(self, message: dict[str, Any]) -> None:
            told.append(write())
            if len(told) == 40:
                token.run_sync_soon(done.set)

    names = [f"jobs-{n}" for n in range(8)]
    with trio.fail_after(20):
        async with open_hosted_loop(), trio.open_nursery() as nursery:
            await nursery.start(serve_channels, Job.as_asgi(), names)
            for number in range(40):
                await layer.send(names[number % 8], {"type": "run.it"})
            await done.wait()
            nursery.cancel_scope.cancel()
    assert max(told) <= THREADS
    pool.close()
    assert server.has(0)
    assert written() == 40


async def test_djangos_pool_of_connections_gets_back_what_it_lends(
    pool: ThreadPool, configure: Configure, server: Server
) -> None:
    pytest.importorskip("psycopg_pool")
    configure(OPTIONS={"pool": {"min_size": 0, "max_size": 2, "timeout": 10}})
    told: list[int] = []
    try:
        for kind in KINDS:
            async with served(kind.as_asgi()) as address, trio.open_nursery() as nursery:

                async def visit(address: str = address) -> None:
                    async with open_websocket(address, "/") as websocket:
                        told.extend([int(await say(websocket, "write")) for _ in range(3)])

                for _ in range(4):
                    nursery.start_soon(visit)
        assert len(told) == 4 * 4 * 3
        assert max(told) <= 2
    finally:
        connections["pg"].close_pool()  # type: ignore[attr-defined]
    assert server.has(0)


class Ends(SyncConsumer):
    """Writes in a transaction, and ends in one way or another."""

    begun: ClassVar[threading.Event]
    go_on: ClassVar[threading.Event]

    def end(self, message: dict[str, Any]) -> None:
        with transaction.atomic(using="pg"):
            write("lost")
            type(self).begun.set()
            assert type(self).go_on.wait(10)
            raise LookupError


class AsyncEnds(AsyncConsumer):
    """The same, with async code between the calls."""

    begun: ClassVar[threading.Event]
    go_on: ClassVar[threading.Event]

    async def end(self, message: dict[str, Any]) -> None:
        def begin() -> None:
            transaction.atomic(using="pg").__enter__()
            write("lost")

        await sync_to_async(begin)()
        type(self).begun.set()
        assert await asyncio.to_thread(type(self).go_on.wait, 10)
        raise LookupError


@pytest.mark.parametrize("kind", [Ends, AsyncEnds])
@pytest.mark.parametrize("how", ["crash", "cancellation"])
async def test_handler_that_ends_early_leaves_neither_connection_nor_transaction(
    pool: ThreadPool, configure: Configure, server: Server, kind: Any, how: str
) -> None:
    configure(CONN_MAX_AGE=0)
    kind.begun, kind.go_on = threading.Event(), threading.Event()

    async def receive() -> Any:
        if not kind.begun.is_set():
            return {"type": "end"}
        return await trio.sleep_forever()

    async def send(message: Any) -> None: ...

    async def run() -> None:
        try:
            await kind.as_asgi()(TEST, receive, send)
        except* LookupError:
            assert how == "crash"

    with trio.fail_after(20):
        async with open_hosted_loop(), trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await trio.to_thread.run_sync(kind.begun.wait, 10)
            if how == "cancellation":
                nursery.cancel_scope.cancel()
            kind.go_on.set()
    assert server.has(0)
    assert written() == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_stopped_server_leaves_no_connection_once_its_threads_end(
    pool: ThreadPool, configure: Configure, server: Server, kind: Any
) -> None:
    configure(CONN_MAX_AGE=None)
    async with trio.open_nursery() as nursery:
        async with served(kind.as_asgi(), graceful_timeout=0.1) as address:
            for _ in range(5):
                websocket = await nursery.start(stay, address)
                assert int(await say(websocket, "write")) <= THREADS
        nursery.cancel_scope.cancel()
    pool.close()
    assert server.has(0)


async def stay(address: str, task_status: trio.TaskStatus[Any]) -> None:
    async with open_websocket(address, "/") as websocket:
        task_status.started(websocket)
        await trio.sleep_forever()


@pytest.mark.parametrize("kind", KINDS)
async def test_handler_does_not_notice_that_the_server_has_hung_up_since_the_last_one(
    pool: ThreadPool, configure: Configure, server: Server, kind: Any
) -> None:
    configure(CONN_MAX_AGE=None)
    async with served(kind.as_asgi()) as address, open_websocket(address, "/") as websocket:
        for _ in range(3):
            assert int(await say(websocket, "write")) == 1
            server.hang_up()
    pool.close()
    assert written() == 3


@pytest.mark.parametrize("kind", [Sync, AsyncCalls])
async def test_handler_whose_connection_breaks_fails_and_the_next_one_works(
    pool: ThreadPool, configure: Configure, server: Server, kind: Any
) -> None:
    configure(CONN_MAX_AGE=None)

    def break_it() -> None:
        write("first")
        server.hang_up()
        write("second")

    class SyncBreaks(Sync):
        def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
            if text_data == "break":
                with pytest.raises(OperationalError):
                    break_it()
                self.send("broken")
            else:
                super().receive(text_data)

    class AsyncBreaks(AsyncCalls):
        async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
            if text_data == "break":
                with pytest.raises(OperationalError):
                    await database_sync_to_async(break_it)()
                await self.send("broken")
            else:
                await super().receive(text_data)

    app: Any = (SyncBreaks if kind is Sync else AsyncBreaks).as_asgi()
    async with served(app) as address, open_websocket(address, "/") as websocket:
        assert await say(websocket, "write") == "1"
        assert await say(websocket, "break") == "broken"
        assert await say(websocket, "write") == "1"


def begin_in_sql() -> None:
    with connections["pg"].cursor() as cursor:
        cursor.execute("BEGIN")


@pytest.mark.parametrize("begin", [lambda: transaction.atomic("pg").__enter__(), begin_in_sql])
async def test_transaction_left_open_is_named_and_later_writers_commit(
    begin: Callable[[], None],
    pool: ThreadPool,
    configure: Configure,
    server: Server,
    caplog: pytest.LogCaptureFixture,
) -> None:
    configure(CONN_MAX_AGE=None)

    class Forgets(SyncConsumer):
        def forget(self, message: dict[str, Any]) -> None:
            begin()
            write("lost")

        def write(self, message: dict[str, Any]) -> None:
            write("kept")

        def stop(self, message: dict[str, Any]) -> None:
            raise StopConsumer

    kinds = ["forget", *["write"] * 12, "stop"]
    await exchange_in_trio(Forgets.as_asgi(), TEST, *({"type": kind} for kind in kinds))
    pool.close()
    assert server.has(0)
    assert written() == 12
    (record,) = [each for each in caplog.records if each.name == "greenroom.django"]
    assert record.levelno == logging.ERROR
    assert record.getMessage() == (
        "A transaction on database 'pg' was left open by Forgets, test /, handling 'forget': its "
        "connection is dropped, and what it wrote is rolled back."
    )
