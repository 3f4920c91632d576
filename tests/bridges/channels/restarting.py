"""A layer whose server restarts, and consumers on it with their clients, on virtual time."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import pytest
import trio
import trio.testing
from asgiref.sync import async_to_sync
from tests.bridges.channels.working import AsyncioLayer

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.channels.generic.websocket import (
    AsyncWebsocketConsumer,
    WebsocketConsumer,
)
from greenroom.bridges.channels.testing._clock import hold_clock_for_threads

SCOPE = {"type": "websocket", "path": "/room/", "client": ["127.0.0.1", 5000], "asgi": {}}
GONE = {"type": "websocket.disconnect", "code": 1001}
FLAVOURS = pytest.mark.parametrize("flavour", ["asyncio", "trio", "sync"])


class Restarting(AsyncioLayer):
    """A layer whose server goes away, on the clock of the loop that runs, and comes again."""

    def __init__(self) -> None:
        super().__init__()
        self.until = -inf
        self.tried: list[tuple[str, float]] = []
        self.down: asyncio.Event = asyncio.Event()
        self.bad: list[BaseException] = []  # what the next ones raise, whoever they are
        self.groups: defaultdict[str, set[str]] = defaultdict(set)
        self.asked: list[
            tuple[str, str, str, float]
        ] = []  # of groups: method, group, channel, when
        self.only: str | None = None
        self.latency: dict[str, float] = {}  # of methods, in seconds
        self.refusing: Callable[[str], bool] = lambda _channel: False  # what asks for a group

    def go_away(self, seconds: float, *, forget: bool = True) -> None:
        """Lose all connections, and groups too, and refuse other connections for so long."""
        self.until = trio.current_time() + seconds
        if forget:
            self.groups.clear()
        self.interrupt()

    def interrupt(self, only: str | None = None) -> None:
        """Lose the connections, or that of one channel only, and accept others."""
        self.only = only
        self.down.set()
        self.down = asyncio.Event()

    def tell(self, group: str, text: str) -> None:
        """Send a text to all who are in a group."""
        for channel in self.groups[group]:
            self.put(channel, {"type": "said", "text": text})

    async def receive(self, channel: str) -> Any:
        now = asyncio.get_running_loop().time()
        self.tried.append((channel, now))
        if self.bad:
            raise self.bad.pop()
        if now < self.until:
            raise ConnectionError("refused")
        while True:
            waits = [
                asyncio.ensure_future(super().receive(channel)),
                asyncio.ensure_future(self.down.wait()),
            ]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if waits[0].done():
                    return waits[0].result()
            finally:
                for task in waits:
                    task.cancel()
                await asyncio.wait(waits)
            if self.bad:
                raise self.bad.pop()
            if self.only in (None, channel):
                raise ConnectionError("lost")

    async def group_add(self, group: str, channel: str) -> None:
        await self.ask("group_add", group, channel)
        self.groups[group].add(channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await self.ask("group_discard", group, channel)
        self.groups[group].discard(channel)

    async def ask(self, name: str, group: str, channel: str) -> None:
        """Reach the server with a request, if that is there."""
        now = asyncio.get_running_loop().time()
        self.asked.append((name, group, channel, now))
        if now < self.until or self.refusing(channel):
            raise ConnectionError("refused")
        if name in self.latency:
            await asyncio.sleep(self.latency[name])


class Async(AsyncWebsocketConsumer):
    groups: tuple[str, ...] = ("room",)

    async def connect(self) -> None:
        await self.accept()
        await self.send(self.channel_name)

    async def said(self, event: dict[str, Any]) -> None:
        await self.send(event["text"])

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        assert text_data is not None
        name, group = text_data.split()
        try:
            await getattr(self.channel_layer, f"group_{name}")(group, self.channel_name)
        except ConnectionError as error:
            await self.send(str(error))
        else:
            await self.send("done")


class Trio(Async):
    greenroom_flavour = "trio"


class Sync(WebsocketConsumer):
    groups: tuple[str, ...] = ("room",)

    def connect(self) -> None:
        self.accept()
        self.send(self.channel_name)

    def said(self, event: dict[str, Any]) -> None:
        self.send(event["text"])

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        assert text_data is not None
        name, group = text_data.split()
        try:
            method = getattr(self.channel_layer, f"group_{name}")
            async_to_sync(method)(group, self.channel_name)
        except ConnectionError as error:
            self.send(str(error))
        else:
            self.send("done")


CONSUMERS: dict[str, Any] = {"asyncio": Async, "trio": Trio, "sync": Sync}


class Client:
    """The client of one consumer, and how that one has ended."""

    def __init__(self) -> None:
        self.says, self._said = trio.open_memory_channel[dict[str, Any]](inf)
        self._heard, self._hears = trio.open_memory_channel[dict[str, Any]](inf)
        self.says.send_nowait({"type": "websocket.connect"})
        self.ended = trio.Event()
        self.ended_at = inf
        self.error: Exception | None = None
        self.name = ""

    async def run(self, app: Any) -> None:
        try:
            await app(SCOPE, self._said.receive, self._heard.send)
        except Exception as error:  # noqa: BLE001
            self.error = error
        self.ended_at = trio.current_time()
        self.ended.set()

    async def ask(self, text: str) -> Any:
        """Say something, and give the answer."""
        self.says.send_nowait({"type": "websocket.receive", "text": text})
        return await self.hear()

    async def hear(self) -> Any:
        message = await self._hears.receive()
        return message["type"] if message["type"] != "websocket.send" else message["text"]


@asynccontextmanager
async def connected(*consumers: Any) -> AsyncIterator[list[Client]]:
    """Connect a client to each, who has heard the name of its channel."""
    hold_clock_for_threads()
    clients = []
    async with open_hosted_loop(), trio.open_nursery() as nursery:
        # Virtual seconds: a consumer that does not end must not hang the test.
        nursery.cancel_scope.deadline = trio.current_time() + 2000
        for consumer in consumers:
            clients.append(client := Client())
            nursery.start_soon(client.run, consumer.as_asgi())
            assert await client.hear() == "websocket.accept"
            client.name = await client.hear()
        await trio.testing.wait_all_tasks_blocked()
        yield clients
        for client in clients:
            client.says.send_nowait(GONE)
            await client.ended.wait()
    assert not nursery.cancel_scope.cancelled_caught


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("greenroom.") and record.levelno > logging.INFO
    ]
