"""Tests of how consumers end that do not end by themselves, and of what is told about it."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from asgiref.sync import sync_to_async
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from tests.bridges.channels.serving import Wire, exchange, exchange_in_trio, open_websocket, served

from greenroom.bridges.asyncio import TaskCancelled, open_hosted_loop
from greenroom.bridges.channels.consumer import AsyncConsumer, SyncConsumer
from greenroom.bridges.channels.exceptions import StopConsumer
from greenroom.bridges.channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from greenroom.bridges.channels.layers import InMemoryChannelLayer, channel_layers
from greenroom.runtime import ApplicationExited

CONNECT = {"type": "websocket.connect"}
SAID = {"type": "websocket.receive", "text": "said"}
GONE = {"type": "websocket.disconnect", "code": 4001}
WEBSOCKET = {
    "type": "websocket",
    "path": "/room/",
    "client": ("127.0.0.1", 5000),
    "asgi": {"version": "3.0"},
}
FLAVOURS = pytest.mark.parametrize("flavour", ["asyncio", "trio"])


class Waits(AsyncWebsocketConsumer):
    """Waits in `receive`; `left` is what `disconnect` was told, `cancel` ends the test's scope."""

    groups = ("room",)
    left: list[int]
    cancel: Callable[[], object]

    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        self.cancel()
        await self.wait()

    async def wait(self) -> None:
        if self.greenroom_flavour == "trio":
            await trio.sleep_forever()
        await asyncio.Event().wait()

    async def disconnect(self, code: int) -> None:
        if self.greenroom_flavour == "trio":
            await trio.lowlevel.checkpoint()
        else:
            await asyncio.sleep(0)
        self.left.append(code)


async def cancelled_in_trio(
    base: type[Waits], flavour: str, *messages: dict[str, Any], **attributes: Any
) -> Any:
    """Serve a consumer until it cancels its own scope, and give its class."""
    with trio.CancelScope() as scope:
        consumer: Any = type(
            "Ours",
            (base,),
            {
                "greenroom_flavour": flavour,
                "left": [],
                "cancel": lambda self: scope.cancel(),
                **attributes,
            },
        )
        inbox = list(messages)

        async def receive() -> dict[str, Any]:
            if inbox:
                return inbox.pop(0)
            return await trio.sleep_forever()

        async def send(message: dict[str, Any]) -> None: ...

        async with open_hosted_loop():
            await consumer.as_asgi()(WEBSOCKET, receive, send)
    assert scope.cancelled_caught
    return consumer


@FLAVOURS
async def test_consumer_that_is_cancelled_disconnects_and_leaves_its_groups(
    flavour: str, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = await cancelled_in_trio(Waits, flavour, CONNECT, SAID)
    assert consumer.left == [1012]
    assert layer.groups == {}
    assert caplog.messages == [
        "cancelled in Ours, websocket /room/ of 127.0.0.1:5000, handling websocket.receive"
    ]


@FLAVOURS
async def test_consumer_that_is_cancelled_gets_the_code_of_a_client_that_has_left(
    flavour: str,
) -> None:
    class Late(Waits):
        async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
            for _ in range(20):
                await (trio.lowlevel.checkpoint if flavour == "trio" else yield_to_others)()
            await super().receive()

    consumer = await cancelled_in_trio(Late, flavour, CONNECT, SAID, GONE)
    assert consumer.left == [4001]


async def yield_to_others() -> None:
    await asyncio.sleep(0)


@FLAVOURS
async def test_idle_consumer_that_is_cancelled_disconnects_without_a_word(
    flavour: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Idle(Waits):
        async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
            self.start_soon(self.cancel_soon)

        async def cancel_soon(self) -> None:
            self.cancel()

    consumer = await cancelled_in_trio(Idle, flavour, CONNECT, SAID)
    assert consumer.left == [1012]
    assert caplog.messages == []


@FLAVOURS
async def test_consumer_that_is_cancelled_in_connect_leaves_its_groups_and_no_more(
    flavour: str, layer: InMemoryChannelLayer
) -> None:
    consumer = await cancelled_in_trio(Waits, flavour, CONNECT, connect=Waits.receive)
    assert consumer.left == []
    assert layer.groups == {}


@FLAVOURS
async def test_consumer_that_is_cancelled_in_disconnect_is_not_told_again(flavour: str) -> None:
    class Stuck(Waits):
        async def disconnect(self, code: int) -> None:
            self.left.append(code)
            self.cancel()
            await self.wait()

    consumer = await cancelled_in_trio(Stuck, flavour, CONNECT, GONE)
    assert consumer.left == [4001]


@pytest.mark.parametrize("in_trio", [True, False])
def test_sync_consumer_that_is_cancelled_while_its_thread_works_is_told_once_of_the_end(
    in_trio: bool, layer: InMemoryChannelLayer
) -> None:
    left: list[int] = []

    class Works(WebsocketConsumer):
        groups = ("room",)

        def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
            cancel()
            time.sleep(0.05)  # it can't be interrupted

        def disconnect(self, code: int) -> None:
            left.append(code)

    cancel: Callable[[], object]

    async def on_trio() -> None:
        nonlocal cancel
        token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as scope:
            cancel = partial(token.run_sync_soon, scope.cancel)
            await exchange_in_trio(Works.as_asgi(), WEBSOCKET, CONNECT, SAID, GONE)
        assert scope.cancelled_caught

    async def on_asyncio() -> None:
        nonlocal cancel
        wire = Wire(CONNECT, SAID, GONE)
        running = asyncio.create_task(Works.as_asgi()(WEBSOCKET, wire.receive, wire.send))
        cancel = partial(asyncio.get_running_loop().call_soon_threadsafe, running.cancel)
        await asyncio.wait([running])
        assert running.cancelled()

    if in_trio:
        trio.run(on_trio)
    else:
        asyncio.run(on_asyncio())
    assert left == [4001]
    assert layer.groups == {}


@FLAVOURS
async def test_disconnect_of_a_cancelled_consumer_has_two_seconds(
    flavour: str,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Stuck(Waits):
        async def disconnect(self, code: int) -> None:
            self.left.append(code)
            await self.wait()

    consumer = await cancelled_in_trio(Stuck, flavour, CONNECT, SAID)
    assert consumer.left == [1012]
    assert trio.current_time() == pytest.approx(2.0)
    assert caplog.messages[1].startswith("cancelled again after 2.0 seconds in Ours, websocket")
    assert caplog.messages[1].endswith("handling websocket.disconnect")


@FLAVOURS
async def test_failure_while_a_cancelled_consumer_disconnects_is_logged(
    flavour: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Fails(Waits):
        async def disconnect(self, code: int) -> None:
            raise LookupError("nothing to leave")

    await cancelled_in_trio(Fails, flavour, CONNECT, SAID)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "nothing to leave"


def test_consumer_that_is_cancelled_on_asyncio_stays_cancelled() -> None:
    class Ours(Waits):
        left: list[int] = []  # noqa: RUF012
        groups = None  # type: ignore[assignment]

        running: Any = None

        def cancel(self) -> None:
            self.running.cancel()

    async def main() -> None:
        wire = Wire(CONNECT, SAID)
        Ours.running = asyncio.create_task(Ours.as_asgi()(WEBSOCKET, wire.receive, wire.send))
        await asyncio.wait([Ours.running])
        assert Ours.running.cancelled()

    asyncio.run(main())
    assert Ours.left == [1012]


def test_consumer_that_is_cancelled_while_its_thread_is_given_back_may_query_in_disconnect(
    database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    giving_back, go_on = threading.Event(), threading.Event()
    threads: list[str] = []

    def close_slowly(self: BaseDatabaseWrapper) -> None:
        giving_back.set()
        assert go_on.wait(10)

    def query() -> None:
        connection.ensure_connection()
        threads.append(threading.current_thread().name)

    class Asks(AsyncWebsocketConsumer):
        async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
            await sync_to_async(query)()

        async def disconnect(self, code: int) -> None:
            assert code == 1012
            await sync_to_async(query)()

    async def cancel_soon() -> None:
        wire = Wire(CONNECT, SAID)
        task = asyncio.ensure_future(Asks.as_asgi()(WEBSOCKET, wire.receive, wire.send))
        await asyncio.to_thread(giving_back.wait, 10)
        task.cancel()
        asyncio.get_running_loop().call_soon(go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await task

    monkeypatch.setattr(BaseDatabaseWrapper, "close_if_unusable_or_obsolete", close_slowly)
    asyncio.run(cancel_soon())
    assert len(threads) == 2
    assert all(name.startswith("greenroom-") for name in threads)


async def test_consumer_that_cancels_itself_is_told_of_a_failure() -> None:
    class Ours(Waits):
        left: list[int] = []  # noqa: RUF012

        def cancel(self) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    with pytest.raises(TaskCancelled) as failure:
        await exchange_in_trio(Ours.as_asgi(), WEBSOCKET, CONNECT, SAID)
    assert Ours.left == [1011]
    assert isinstance(failure.value.__cause__, asyncio.CancelledError)
    words = "in Ours, websocket /room/ of 127.0.0.1:5000, handling websocket.receive"
    assert failure.value.__cause__.__notes__ == [words]


@FLAVOURS
async def test_cancellation_that_nobody_has_asked_for_is_a_crash(flavour: str) -> None:
    class Ours(Waits):
        left: list[int] = []  # noqa: RUF012

        async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
            raise asyncio.CancelledError

    Ours.greenroom_flavour = flavour  # type: ignore[assignment]
    with pytest.raises(TaskCancelled) as failure:
        await exchange_in_trio(Ours.as_asgi(), WEBSOCKET, CONNECT, SAID)
    assert Ours.left == [1011]
    assert isinstance(failure.value.__cause__, asyncio.CancelledError)


@pytest.mark.parametrize("in_trio", [False, True])
@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (SystemExit(3), ApplicationExited, "3"),
        (GeneratorExit(), RuntimeError, "the application raised GeneratorExit"),
    ],
)
def test_consumer_that_would_end_the_program_ends_alone_and_disconnects(
    error: BaseException, raised: type[Exception], words: str, *, sync: bool, in_trio: bool
) -> None:
    left: list[int] = []

    class Async(AsyncWebsocketConsumer):
        greenroom_flavour = "trio" if in_trio else "asyncio"

        async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
            raise error

        async def disconnect(self, code: int) -> None:
            left.append(code)

    class Sync(WebsocketConsumer):
        def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
            raise error

        def disconnect(self, code: int) -> None:
            left.append(code)

    app = (Sync if sync else Async).as_asgi()
    with pytest.raises(raised, match=words) as failure:  # noqa: PT012 -- one of two calls
        if in_trio:
            trio.run(exchange_in_trio, app, WEBSOCKET, CONNECT, SAID)
        else:
            exchange(app, WEBSOCKET, CONNECT, SAID)
    assert failure.value.__cause__ is error
    assert left == [1011]


def test_interrupted_program_does_not_wait_for_disconnect() -> None:
    class Ours(Waits):
        left: list[int] = []  # noqa: RUF012

        async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exchange(Ours.as_asgi(), WEBSOCKET, CONNECT, SAID)
    assert Ours.left == []


# What is told.


class Breaks(AsyncWebsocketConsumer):
    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        raise LookupError("no such room")


class SyncBreaks(WebsocketConsumer):
    def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        raise LookupError("no such room")


@pytest.mark.parametrize("consumer", [Breaks, SyncBreaks])
def test_error_of_a_handler_says_where_it_was(consumer: type[AsyncConsumer]) -> None:
    with pytest.raises(LookupError) as failure:
        exchange(consumer.as_asgi(), WEBSOCKET, CONNECT, SAID)
    assert failure.value.__notes__ == [
        f"in {consumer.__name__}, websocket /room/ of 127.0.0.1:5000, handling websocket.receive"
    ]


def test_error_that_is_raised_again_and_again_is_noted_once() -> None:
    error = LookupError("the same one")

    class Repeats(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            raise error

    for _ in range(2):
        with pytest.raises(LookupError):
            exchange(Repeats.as_asgi(), WEBSOCKET, CONNECT)
    assert len(error.__notes__) == 1


def test_test_without_a_server_gets_the_error_without_notes() -> None:
    with pytest.raises(LookupError, match=r"^no such room$") as failure:
        exchange(Breaks.as_asgi(), {"type": "websocket", "path": "/"}, CONNECT, SAID)
    assert not hasattr(failure.value, "__notes__")


def test_what_a_client_chose_cannot_forge_a_line() -> None:
    client = ("10.0.0.1\nFORGED", 5000)  # as a proxy tells it
    scope = {**WEBSOCKET, "path": "/a\nFORGED\x1b[31m", "client": client}
    with pytest.raises(LookupError) as failure:
        exchange(Breaks.as_asgi(), scope, CONNECT, SAID)
    (note,) = failure.value.__notes__
    assert note.startswith("in Breaks, websocket /a\\nFORGED\\x1b[31m of 10.0.0.1\\nFORGED:5000, ")


class BrokenLayer:
    """A layer of somebody else, which fails."""

    def __init__(self, *, opens: bool = True) -> None:
        self.opens = opens

    async def new_channel(self) -> str:
        assert self.opens, "no channel"
        return "specific.a"

    async def receive(self, channel: str) -> dict[str, Any]:
        raise AssertionError("no channel any more")


@pytest.mark.parametrize(
    ("broken", "doing"),
    [
        (BrokenLayer(), "waiting for a message of its channel layer"),
        (BrokenLayer(opens=False), "opening its channel"),
    ],
)
@pytest.mark.parametrize("base", [AsyncConsumer, SyncConsumer])
def test_failure_of_the_layer_is_told_as_such(
    broken: Any, doing: str, base: type[AsyncConsumer]
) -> None:
    class Ours(base):  # type: ignore[misc, valid-type]
        pass

    channel_layers.set("default", broken)
    with pytest.raises(AssertionError, match="no channel") as failure:
        exchange(Ours.as_asgi(), {"type": "chat", "path": "/"})
    assert failure.value.__notes__ == [f"in Ours, chat /, {doing}"]


def test_failure_of_the_servers_receive_is_told_as_such() -> None:
    async def receive() -> dict[str, Any]:
        raise OSError("no server any more")

    async def send(message: dict[str, Any]) -> None: ...

    with pytest.raises(OSError, match="no server any more") as failure:
        asyncio.run(AsyncConsumer.as_asgi()({"type": "chat"}, receive, send))
    assert failure.value.__notes__ == [
        "in AsyncConsumer, chat, waiting for a message of its client"
    ]


async def test_crash_is_logged_once_by_our_server(caplog: pytest.LogCaptureFixture) -> None:
    async with served(Breaks.as_asgi()) as address, open_websocket(address, "/") as websocket:
        await websocket.send_message("said")
        with pytest.raises(Exception, match="1011"):
            await websocket.get_message()
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.message.startswith("the application failed in websocket / of 127.0.0.1:")
    assert record.exc_info is not None
    assert record.exc_info[1] is not None
    (note,) = record.exc_info[1].__notes__
    assert note.startswith("in Breaks, websocket / of 127.0.0.1:")


def test_scope_may_be_a_made_up_one_without_a_type() -> None:
    class Fails(AsyncConsumer):
        async def fail(self, message: dict[str, Any]) -> None:
            raise LookupError

        async def stop(self, message: dict[str, Any]) -> None:
            raise StopConsumer

    assert exchange(Fails.as_asgi(), {}, {"type": "stop"}) == []
    with pytest.raises(LookupError):
        exchange(Fails.as_asgi(), {}, {"type": "fail"})
