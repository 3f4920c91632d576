"""What users write with pytest-django, pytest-asyncio and pytest-trio."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
import pytest_trio  # type: ignore[import-untyped]
import trio
import trio.testing
from channels.testing import HttpCommunicator, WebsocketCommunicator
from django.db import connection
from tests.bridges.channels.testing.project.asgi import application, stock_pages
from tests.bridges.channels.testing.project.notes.models import Note
from websockets.sync.client import connect

from greenroom.bridges.channels.db import database_sync_to_async
from greenroom.bridges.channels.layers import InMemoryChannelLayer, get_channel_layer
from greenroom.bridges.channels.testing import virtual_time
from greenroom.bridges.channels.testing.fixtures import Communicators
from greenroom.bridges.threads import run_sync

URLS = ["/sync/", "/async/", "/trio/"]
ORIGIN = [(b"origin", b"http://testserver")]


@pytest.fixture(autouse=True)
def nothing_stays(db: None) -> Iterator[None]:
    """The test before has left nothing, and its connection is this thread's only."""
    assert Note.objects.count() == 0
    before = connection.connection
    yield
    assert connection.connection is before, "somebody has closed the test's connection"
    assert not connection.allow_thread_sharing


async def tell(url: str, *texts: str) -> list[str]:
    answers = []
    async with WebsocketCommunicator(application, url, headers=ORIGIN) as websocket:
        assert await websocket.connect() == (True, None)
        for text in texts:
            await websocket.send_to(text)
            answers.append(await websocket.receive_from(timeout=20))
    return answers


def count() -> int:
    return Note.objects.count()


@pytest.mark.asyncio
@pytest.mark.parametrize("url", URLS)
async def test_asyncio(url: str) -> None:
    await Note.objects.acreate(text="mine")
    assert await database_sync_to_async(count)() == 1
    assert await tell(url, "theirs", "theirs", "again") == ["2", "-1", "3"]
    assert await Note.objects.acount() == 3
    request = HttpCommunicator(application, "GET", "/count/", headers=[(b"host", b"testserver")])
    assert (await request.get_response(timeout=20))["body"] == b"3"
    request = HttpCommunicator(application, "GET", "/acount/", headers=[(b"host", b"testserver")])
    assert (await request.get_response(timeout=20))["body"] == b"3"
    await request.wait()


@pytest.mark.trio
@pytest.mark.parametrize("url", URLS)
async def test_trio(url: str, autojump_clock: trio.testing.MockClock) -> None:
    await database_sync_to_async(Note.objects.create)(text="mine")
    assert await tell(url, "theirs", "theirs", "again") == ["2", "-1", "3"]
    assert await database_sync_to_async(count)() == 3
    for path in ("/count/", "/acount/"):
        request = HttpCommunicator(application, "GET", path, headers=[(b"host", b"testserver")])
        assert (await request.get_response(timeout=20))["body"] == b"3"
        await request.wait()
    assert await request.receive_nothing(timeout=3600)


@pytest.mark.parametrize("url", URLS)
@virtual_time
async def test_virtual(url: str) -> None:
    await Note.objects.acreate(text="mine")
    assert await tell(url, "theirs", "again") == ["2", "3"]
    await asyncio.sleep(3600)


async def ask_django_itself() -> list[bytes]:
    """Ask Django's own handler, which takes a thread of asgiref's for each request."""
    answers = []
    for path in ("/count/", "/acount/", "/write/", "/count/"):
        headers = [(b"host", b"testserver")]
        request = HttpCommunicator(stock_pages, "GET", path, headers=headers)
        answers.append((await request.get_response(timeout=20))["body"])
        await request.wait(timeout=20)
    return answers


@pytest.mark.asyncio
async def test_asyncio_with_djangos_own_handler() -> None:
    await Note.objects.acreate(text="mine")
    assert await ask_django_itself() == [b"1", b"1", b"2", b"2"]
    assert await Note.objects.acount() == 2


@pytest.mark.trio
async def test_trio_with_djangos_own_handler() -> None:
    await database_sync_to_async(Note.objects.create)(text="mine")
    assert await ask_django_itself() == [b"1", b"1", b"2", b"2"]
    assert await database_sync_to_async(count)() == 2


@virtual_time
async def test_virtual_with_djangos_own_handler() -> None:
    await Note.objects.acreate(text="mine")
    assert await ask_django_itself() == [b"1", b"1", b"2", b"2"]


@pytest.mark.asyncio
async def test_asyncio_in_any_thread() -> None:
    await Note.objects.acreate(text="mine")
    assert await database_sync_to_async(count, thread_sensitive=False)() == 1
    assert await tell("/any/", "theirs", "theirs", "again") == ["2", "-1", "3"]
    assert await Note.objects.acount() == 3


@pytest.mark.parametrize("run", [lambda main: asyncio.run(main()), trio.run])
def test_rows_of_a_plain_test(run: Callable[[Any], Any]) -> None:
    Note.objects.create(text="mine")
    assert run(lambda: tell("/sync/", "theirs", "mine")) == ["2", "-1"]
    assert Note.objects.count() == 2


@pytest.mark.parametrize("run", [lambda main: asyncio.run(main()), trio.run])
def test_handlers_of_many_consumers_take_turns(run: Callable[[Any], Any]) -> None:
    """Their transactions end in the order in which they began, and none ends another's."""

    async def main() -> list[str]:
        sockets = [WebsocketCommunicator(application, url) for url in (*URLS, *URLS)]
        for socket in sockets:
            socket.scope["headers"] = ORIGIN
            assert (await socket.connect(timeout=20))[0]
        for turn in range(5):
            for number, socket in enumerate(sockets):
                await socket.send_to(f"{number}.{turn}")
        answers = [await socket.receive_from(timeout=20) for socket in sockets for _ in range(5)]
        for socket in sockets:
            await socket.disconnect(timeout=20)
        return answers

    assert "-1" not in run(main)
    assert Note.objects.count() == 2 * len(URLS) * 5


def test_a_handler_asks_others_in_its_transaction() -> None:
    async def main() -> None:
        async with (
            WebsocketCommunicator(application, "/group/", headers=ORIGIN) as one,
            WebsocketCommunicator(application, "/group/", headers=ORIGIN) as two,
        ):
            await one.connect()
            await two.connect()
            await one.send_to("hello")
            assert await one.receive_from(timeout=20) == "hello of 1"
            assert await two.receive_from(timeout=20) == "hello of 1"

    asyncio.run(main())


@pytest.mark.asyncio
async def test_fixtures_asyncio(
    communicator: Communicators, channel_layer: InMemoryChannelLayer
) -> None:
    assert get_channel_layer() is channel_layer
    assert channel_layer.groups == {}
    websocket = communicator(application, "/group/", headers=ORIGIN)
    assert (await websocket.connect())[0]
    await channel_layer.group_send("notes", {"type": "note", "text": "layer"})
    assert await websocket.receive_from(timeout=20) == "layer of 0"
    request = communicator.http(application, "GET", "/count/", headers=[(b"host", b"testserver")])
    assert (await request.get_response(timeout=20))["body"] == b"0"
    # The communicator is left open on purpose: the fixture cleans up.


@pytest.mark.trio
async def test_fixtures_trio(communicator: Communicators, channel_layer: object) -> None:
    websocket = communicator(application, "/async/", headers=ORIGIN)
    assert (await websocket.connect())[0]
    assert await run_sync(threading.active_count) > 1


@pytest_trio.trio_fixture  # type: ignore[untyped-decorator]
async def connected(communicator: Communicators) -> AsyncIterator[WebsocketCommunicator]:
    websocket = communicator(application, "/trio/", headers=ORIGIN)
    assert (await websocket.connect())[0]
    yield websocket
    await websocket.disconnect()
    assert websocket.future.done()


@pytest.mark.trio
async def test_fixture_that_connects_trio(connected: WebsocketCommunicator) -> None:
    await connected.send_to("text")
    assert await connected.receive_from(timeout=20) == "1"


@pytest_asyncio.fixture
async def connected_asyncio(communicator: Communicators) -> AsyncIterator[WebsocketCommunicator]:
    websocket = communicator(application, "/async/", headers=ORIGIN)
    assert (await websocket.connect())[0]
    yield websocket
    await websocket.disconnect()
    assert websocket.future.done()


@pytest.mark.asyncio
async def test_fixture_that_connects(connected_asyncio: WebsocketCommunicator) -> None:
    await connected_asyncio.send_to("text")
    assert await connected_asyncio.receive_from(timeout=20) == "1"


@pytest.mark.django_db(transaction=True)
def test_live(channels_live_server: Any) -> None:
    Note.objects.create(text="mine")
    with connect(channels_live_server.ws_url + "/sync/", origin=channels_live_server.url) as socket:
        socket.send("theirs")
        assert socket.recv(timeout=20) == "2"
    assert Note.objects.count() == 2


@pytest.mark.asyncio
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("url", URLS)
async def test_asyncio_with_transactions_of_its_own(url: str) -> None:
    await Note.objects.acreate(text="mine")
    assert await tell(url, "theirs", "theirs", "again") == ["2", "-1", "3"]
    assert await Note.objects.acount() == 3


def test_no_time_was_lost(request: pytest.FixtureRequest) -> None:
    """Last: nothing has waited for a connection's turn in vain."""
    assert time.monotonic() - STARTED < 30


STARTED = time.monotonic()
