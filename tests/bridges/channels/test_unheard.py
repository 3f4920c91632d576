"""Tests of what a consumer sends although nobody will read it, over our server and another."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from tests.bridges.channels.serving import (
    OthersWebSocket,
    exchange,
    middleware,
    open_websocket,
    refusal,
    served,
    served_on_asyncio,
)
from tests.runtime.serving import close_code

from greenroom.bridges.channels._unheard import CLOSED, MAX_UNHEARD, Unheard
from greenroom.bridges.channels.consumer import AsyncConsumer
from greenroom.bridges.channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from greenroom.bridges.channels.layers import InMemoryChannelLayer
from greenroom.runtime import ClientDisconnected, LocalProtocolError

Serve = Callable[[Any], AbstractAsyncContextManager[str]]
SERVERS = pytest.mark.parametrize("serve", [served, served_on_asyncio])


class Story:
    """What a consumer lives through, told to the test in another thread."""

    handled: ClassVar[list[str]]
    codes: ClassVar[list[int]]
    client_left: ClassVar[threading.Event]
    ended: ClassVar[threading.Event]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.handled, cls.codes = [], []
        cls.client_left, cls.ended = threading.Event(), threading.Event()


class AsyncStory(Story, AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        assert text_data is not None
        await asyncio.to_thread(self.client_left.wait, 10)
        await self.tell(text_data)

    async def tell(self, text: str) -> None:
        await self.send(text)
        self.handled.append(text)

    async def disconnect(self, code: int) -> None:
        await self.close()  # as many do, though it is closed
        self.codes.append(code)
        self.ended.set()


class SyncStory(Story, WebsocketConsumer):
    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        assert text_data is not None
        self.client_left.wait(10)
        self.tell(text_data)

    def tell(self, text: str) -> None:
        self.send(text)
        self.handled.append(text)

    def disconnect(self, code: int) -> None:
        self.close()
        self.codes.append(code)
        self.ended.set()


async def leave_early(story: Any, serve: Serve, *texts: str, wrap: Any = None) -> None:
    """Send `texts`, leave with code 4002 before anything is answered, and wait for the end."""
    app = story.as_asgi()
    async with serve(app if wrap is None else wrap(app)) as address:
        async with open_websocket(address, "/") as websocket:
            for text in texts:
                await websocket.send_message(text)
            await websocket.aclose(4002)
        story.client_left.set()
        assert await trio.to_thread.run_sync(story.ended.wait, 10)


@SERVERS
@pytest.mark.parametrize("wrap", [None, middleware])
@pytest.mark.parametrize("base", [AsyncStory, SyncStory])
async def test_messages_sent_before_the_client_left_are_handled_and_then_its_code(
    base: type, serve: Serve, wrap: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Answers(base):  # type: ignore[misc]
        pass

    await leave_early(Answers, serve, "a", "b", "c", wrap=wrap)
    assert Answers.handled == ["a", "b", "c"]
    assert Answers.codes == [4002]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@SERVERS
async def test_async_handler_that_sends_for_ever_ends_and_its_consumer_goes_on(
    serve: Serve,
) -> None:
    sends: list[str] = []

    class Endless(AsyncStory):
        async def tell(self, text: str) -> None:
            while text == "for ever":
                await self.send(text)
                sends.append(text)
            self.handled.append(text)

    await leave_early(Endless, serve, "for ever", "after it")
    assert len(sends) == MAX_UNHEARD
    assert (Endless.handled, Endless.codes) == (["after it"], [4002])


@SERVERS
async def test_sync_handler_that_sends_for_ever_ends_and_its_consumer_goes_on(
    serve: Serve,
) -> None:
    class Endless(SyncStory):
        def tell(self, text: str) -> None:
            while text == "for ever":
                self.send(text)
            self.handled.append(text)

    await leave_early(Endless, serve, "for ever", "after it")
    assert (Endless.handled, Endless.codes) == (["after it"], [4002])


@SERVERS
@pytest.mark.parametrize("base", [AsyncStory, SyncStory])
async def test_disconnect_may_end_as_a_client_that_has_left_ends_it(
    base: type, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    class Gone(base):  # type: ignore[misc]
        def disconnect(self, code: int) -> Any:
            self.codes.append(code)
            self.ended.set()
            raise ClientDisconnected

    await leave_early(Gone, serve, "a")
    assert Gone.codes == [4002]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("base", [AsyncStory, SyncStory])
async def test_consumer_that_crashes_after_the_client_left_gets_the_clients_code(
    base: type, caplog: pytest.LogCaptureFixture
) -> None:
    class Crashes(base):  # type: ignore[misc]
        def tell(self, text: str) -> None:
            self.handled.append(text)
            raise RuntimeError("as it happens")

    await leave_early(Crashes, served, "a", "b")
    assert (Crashes.handled, Crashes.codes) == (["a"], [4002])
    (failure,) = [record for record in caplog.records if record.exc_info]
    assert failure.exc_info is not None
    assert str(failure.exc_info[1]) == "as it happens"


class AsyncCloses(AsyncWebsocketConsumer):
    groups = ("closing",)
    codes: ClassVar[list[int]] = []

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.channel_layer.group_send("closing", {"type": "from.group"})
        await self.close(4001)
        await self.send("too late")
        await self.close(4009)

    async def from_group(self, event: dict[str, Any]) -> None:
        await self.send("from the group")

    async def disconnect(self, code: int) -> None:
        self.codes.append(code)


class SyncCloses(WebsocketConsumer):
    groups = ("closing",)
    codes: ClassVar[list[int]] = []

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.channel_layer.group_send("closing", {"type": "from.group"})
        self.close(4001)
        self.send("too late")
        self.close(4009)

    def from_group(self, event: dict[str, Any]) -> None:
        self.send("from the group")

    def disconnect(self, code: int) -> None:
        self.codes.append(code)


@SERVERS
@pytest.mark.parametrize("wrap", [None, middleware])
@pytest.mark.parametrize("base", [AsyncCloses, SyncCloses])
async def test_consumer_that_has_closed_may_go_on_sending_in_vain(
    base: type, serve: Serve, wrap: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Closes(base):  # type: ignore[misc]
        codes: ClassVar[list[int]] = []

    caplog.set_level(logging.DEBUG, "greenroom.channels")
    app = Closes.as_asgi()
    async with (
        serve(app if wrap is None else wrap(app)) as address,
        open_websocket(address, "/") as websocket,
    ):
        await websocket.send_message("close")
        assert await close_code(websocket) == 4001
    assert Closes.codes == [4001]
    # The last one comes from the group, if it came before the client had closed, too.
    expected = [f"websocket.{name} is ignored: {CLOSED}" for name in ("send", "close", "send")]
    ours = [text for text in caplog.messages if "ignored" in text]
    assert ours in (expected, expected[:2])
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("base", [AsyncWebsocketConsumer, WebsocketConsumer])
async def test_consumer_that_has_refused_its_client_may_go_on_sending_in_vain(
    base: type, caplog: pytest.LogCaptureFixture
) -> None:
    codes: list[int] = []

    class Async(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            await self.close()
            await self.send("too late")
            await self.close()

        async def disconnect(self, code: int) -> None:
            codes.append(code)

    class Sync(WebsocketConsumer):
        def connect(self) -> None:
            self.close()
            self.send("too late")
            self.close()

        def disconnect(self, code: int) -> None:
            codes.append(code)

    async with served((Async if base is AsyncWebsocketConsumer else Sync).as_asgi()) as address:
        assert (await refusal(address, "/"))[0] == 403
    assert codes == [1006]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_consumer_that_accepts_after_it_has_refused_learns_of_its_mistake(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Fickle(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            await self.close()
            await self.accept()

    async with served(Fickle.as_asgi()) as address:
        assert (await refusal(address, "/"))[0] == 403
    (failure,) = [record for record in caplog.records if record.exc_info]
    assert failure.exc_info is not None
    assert "websocket.accept" in str(failure.exc_info[1])


async def test_consumer_that_has_denied_with_a_response_may_go_on_sending_in_vain(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Denies(AsyncConsumer):
        async def websocket_connect(self, message: dict[str, Any]) -> None:
            start = {"type": "websocket.http.response.start", "status": 401, "headers": []}
            await self.send(start)
            for body, more in ((b"a", True), (b"b", False)):
                await self.send(
                    {"type": "websocket.http.response.body", "body": body, "more_body": more}
                )
            await self.send({"type": "websocket.send", "text": "too late"})

    async with served(Denies.as_asgi()) as address:
        assert await refusal(address, "/") == (401, b"ab")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_close_that_the_server_refuses_was_not_sent() -> None:
    sent: list[dict[str, Any]] = []

    class Closes(AsyncConsumer):
        async def stop(self, message: dict[str, Any]) -> None:
            with pytest.raises(LocalProtocolError):
                await self.send({"type": "websocket.close", "code": 5})
            await self.send({"type": "websocket.close", "code": 4005})

    async def main() -> None:
        messages = iter(({"type": "stop"}, {"type": "websocket.disconnect", "code": 4005}))

        async def receive() -> dict[str, Any]:
            return next(messages)

        async def send(message: dict[str, Any]) -> None:
            if message["code"] == 5:
                raise LocalProtocolError("no such code")
            sent.append(message)

        await Closes.as_asgi()({"type": "websocket"}, receive, send)

    asyncio.run(main())
    assert [message["code"] for message in sent] == [4005]


def test_oserror_of_a_protocol_of_ones_own_is_the_handlers_to_know() -> None:
    class Calls(AsyncConsumer):
        async def call(self, message: dict[str, Any]) -> None:
            await self.send({"type": "called"})

    async def main() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "call"}

        async def send(message: dict[str, Any]) -> None:
            raise ConnectionRefusedError("the other end is down")

        await Calls.as_asgi()({"type": "telephone"}, receive, send)

    with pytest.raises(ConnectionRefusedError):
        asyncio.run(main())


def test_oserror_of_a_handlers_own_is_a_crash() -> None:
    class Opens(AsyncWebsocketConsumer):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            raise FileNotFoundError("no such file")

    with pytest.raises(FileNotFoundError):
        exchange(
            Opens.as_asgi(),
            {"type": "websocket"},
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": "x"},
        )


def test_receive_that_says_the_client_is_gone_ends_the_consumer(
    layer: InMemoryChannelLayer,
) -> None:
    async def main() -> None:
        async def receive() -> dict[str, Any]:
            raise ClientDisconnected

        async def send(message: dict[str, Any]) -> None: ...

        await asyncio.wait_for(
            AsyncWebsocketConsumer.as_asgi()({"type": "websocket"}, receive, send), 10
        )

    with pytest.raises(ClientDisconnected):
        asyncio.run(main())


def test_method_may_be_called_by_hand_on_a_consumer_that_nobody_serves() -> None:
    sent: list[Any] = []

    async def base_send(message: dict[str, Any]) -> None:
        sent.append(message)

    consumer = AsyncWebsocketConsumer()
    consumer.base_send = base_send
    asyncio.run(consumer.send("by hand"))
    assert sent == [{"type": "websocket.send", "text": "by hand"}]


def test_the_other_server_of_these_tests_raises_as_uvicorn_does() -> None:
    websocket: Any = object.__new__(OthersWebSocket)
    websocket._over = True
    with pytest.raises(RuntimeError, match="Unexpected ASGI message"):
        asyncio.run(websocket.send({"type": "websocket.send", "text": ""}))


# What happens to one message: the server takes it, or raises one of these.
ERRORS = [None, ClientDisconnected(), ConnectionResetError(), LocalProtocolError("no")]
TYPES = ["websocket.accept", "websocket.send", "websocket.close"]


@given(
    st.lists(st.tuples(st.sampled_from(TYPES), st.sampled_from(ERRORS)), max_size=2 * MAX_UNHEARD),
    st.booleans(),
)
def test_error_is_raised_unless_it_says_that_nobody_listens_and_that_only_a_hundred_times(
    sendings: list[tuple[str, Exception | None]], asgi: bool
) -> None:
    unheard = Unheard(asgi=asgi)
    closed, ignored = False, 0
    for kind, error in sendings:
        message = {"type": kind}
        vain = closed and kind != "websocket.accept"
        gone = isinstance(error, ClientDisconnected) or (asgi and isinstance(error, OSError))
        outcome: object = None
        try:
            if not unheard.covers(message):
                outcome = "sent" if error is None else error
                if error is not None and unheard.excuses(error, message):
                    outcome = None
                if error is None and kind == "websocket.close":
                    unheard.sent(message)
        except ClientDisconnected:
            outcome = "too many"
        if vain or gone:
            assert outcome == ("too many" if ignored == MAX_UNHEARD else None)
            ignored = min(ignored + 1, MAX_UNHEARD)
        else:
            assert outcome == ("sent" if error is None else error)
            closed = closed or (error is None and kind == "websocket.close")
