"""Many sockets at once, and a crash on each: none is closed, and no message lost or repeated."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Self

import pytest
import trio
from tests.bridges.channels.serving import served

from greenroom.actors import Crash, Restart
from greenroom.bridges.channels.consumer import AsyncConsumer
from greenroom.bridges.channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from greenroom.bridges.channels.layers import InMemoryChannelLayer
from greenroom.runtime import Receive, Scope, Send, restarts_in_place, speaks
from greenroom.runtime.restarting import EXTENSION

TEXTS = 12  # that each client sends; the consumer fails at the fifth and the ninth
EVENTS = 6  # that its group gets; the consumer fails at the third
CRASHES = {"text 4", "text 8", "event 2"}

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Client:
    """A WebSocket as bytes, so that every byte the server sends is accounted for."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._unread = b""

    async def open(self) -> None:
        await self._stream.send_all(HANDSHAKE)
        while b"\r\n\r\n" not in self._unread:
            self._unread += await self._stream.receive_some()
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")

    async def send(self, *texts: str) -> None:
        """Send texts in one piece, so that they wait together; masked with zeros."""
        frames = [bytes((0x81, 0x80 | len(text))) + bytes(4) + text.encode() for text in texts]
        await self._stream.send_all(b"".join(frames))

    async def receive(self, count: int) -> list[str]:
        """Read so many texts; fail at any other frame, and at bytes behind the last text."""
        texts: list[str] = []
        while len(texts) < count:
            while len(self._unread) < 2 or len(self._unread) < 2 + self._unread[1]:
                part = bytes(await self._stream.receive_some())
                assert part, f"closed after {texts}"
                self._unread += part
            assert self._unread[0] == 0x81, f"{self._unread!r} after {texts}"
            end = 2 + self._unread[1]
            texts.append(self._unread[2:end].decode())
            self._unread = self._unread[end:]
        assert self._unread == b""
        return texts


@asynccontextmanager
async def open_clients(address: str, count: int) -> AsyncIterator[list[Client]]:
    """Open WebSockets, some at a time."""
    host, port = address.split(":")
    streams: list[trio.SocketStream] = []
    clients: list[Client] = []
    limit = trio.CapacityLimiter(50)

    async def open_one() -> None:
        async with limit:
            stream = await trio.open_tcp_stream(host, int(port))
            streams.append(stream)
            client = Client(stream)
            await client.open()
            clients.append(client)

    try:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(open_one)
        yield clients
    finally:
        for stream in streams:
            await trio.aclose_forcefully(stream)


class Numbered(AsyncWebsocketConsumer):
    """Answers each text and each event with its number among all that it has answered."""

    restart = Restart.TRANSIENT
    groups = ("storm",)
    answered = 0

    async def restarted(self, cause: Crash, previous: Self) -> None:
        self.answered = previous.answered

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        assert text_data is not None
        if text_data in CRASHES:
            raise ValueError(text_data)
        self.answered += 1
        await self.send(f"{self.answered} {text_data}")

    async def group_event(self, event: dict[str, Any]) -> None:
        await self.receive(event["text"])


class TrioNumbered(Numbered):
    greenroom_flavour = "trio"


class SyncNumbered(WebsocketConsumer):
    restart = Restart.TRANSIENT
    groups = ("storm",)
    answered = 0

    def restarted(self, cause: Crash, previous: Self) -> None:
        self.answered = previous.answered

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        assert text_data is not None
        if text_data in CRASHES:
            raise ValueError(text_data)
        self.answered += 1
        self.send(f"{self.answered} {text_data}")

    def group_event(self, event: dict[str, Any]) -> None:
        self.receive(event["text"])


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What is logged; pytest would format thousands of tracebacks that nobody reads."""
    lines: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        lines.append(record.getMessage())
        return False

    loggers = [logging.getLogger(f"greenroom.{name}") for name in ("channels", "scopes", "asyncio")]
    for logger in loggers:
        logger.addFilter(keep)
    yield lines
    for logger in loggers:
        logger.removeFilter(keep)


def numbers_of(answers: list[str], kind: str) -> list[int]:
    """Give the numbers of the texts or events that were answered, in their order."""
    words = [answer.split() for answer in answers]
    return [int(number) for _, each, number in words if each == kind]


@pytest.mark.parametrize(
    ("consumer", "count"), [(Numbered, 1000), (TrioNumbered, 200), (SyncNumbered, 50)]
)
async def test_a_crash_on_each_of_many_sockets_costs_the_messages_that_crashed_and_no_other(
    consumer: type[AsyncConsumer],
    count: int,
    layer: InMemoryChannelLayer,
    logged: list[str],
) -> None:
    texts = [f"text {number}" for number in range(TEXTS)]
    events = [{"type": "group.event", "text": f"event {number}"} for number in range(EVENTS)]
    answers = TEXTS + EVENTS - len(CRASHES)

    async def talk(client: Client) -> None:
        half = TEXTS // 2
        await client.send(*texts[:half])
        await trio.lowlevel.checkpoint()
        await client.send(*texts[half:])
        got = await client.receive(answers)
        assert [answer.split()[0] for answer in got] == [str(n + 1) for n in range(answers)]
        assert numbers_of(got, "text") == [0, 1, 2, 3, 5, 6, 7, 9, 10, 11]
        assert numbers_of(got, "event") == [0, 1, 3, 4, 5]

    async with (
        served(consumer.as_asgi(), lifespan="off") as address,
        open_clients(address, count) as clients,
    ):
        async with trio.open_nursery() as nursery:
            for at, client in enumerate(clients):
                if at % (count // EVENTS + 1) == 0:  # all events, over the whole time
                    layer.group_send("storm", events.pop(0))
                nursery.start_soon(talk, client)
                if at % 10 == 0:
                    await trio.lowlevel.checkpoint()
        assert events == []
        assert len(layer.groups["storm"]) == count
        layer.group_send("storm", {"type": "group.event", "text": "still here"})
        for client in clients:
            assert await client.receive(1) == [f"{answers + 1} still here"]
    assert len(logged) == count * len(CRASHES)
    assert all(" is restarted in place (restart " in line for line in logged)
    assert layer.groups == {}


@speaks("trio")
@restarts_in_place()
async def numbered(scope: Scope, receive: Receive, send: Send) -> None:
    """As the consumers, without a layer; it counts in its scope."""
    if EXTENSION not in scope["extensions"]:
        await receive()
        await send({"type": "websocket.accept"})
        scope["answered"] = 0
    while (message := await receive())["type"] == "websocket.receive":
        if message["text"] in CRASHES:
            raise ValueError(message["text"])
        scope["answered"] += 1
        await send({"type": "websocket.send", "text": f"{scope['answered']} {message['text']}"})


async def test_a_raw_application_survives_a_crash_on_each_of_many_sockets(
    logged: list[str],
) -> None:
    expected = [f"text {number}" for number in range(TEXTS)]
    expected = [text for text in expected if text not in CRASHES]

    async def talk(client: Client) -> None:
        await client.send(*[f"text {number}" for number in range(TEXTS)])
        got = await client.receive(len(expected))
        assert got == [f"{number} {text}" for number, text in enumerate(expected, start=1)]

    async with (
        served(numbered, lifespan="off") as address,
        open_clients(address, 200) as clients,
        trio.open_nursery() as nursery,
    ):
        for client in clients:
            nursery.start_soon(talk, client)
    assert len(logged) == 200 * 2
    assert all(" is called again (restart " in line for line in logged)
