"""Consumers that survive what kills others, and keep a diary of it; for several files of tests."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, ClassVar, Self

import pytest
import trio
import trio.lowlevel
import trio.testing
from tests.bridges.channels.serving import (
    served,
    served_on_asyncio,
)

from greenroom.actors import Crash, Restart
from greenroom.bridges.channels.consumer import AsyncConsumer, SyncConsumer
from greenroom.bridges.channels.exceptions import StopConsumer
from greenroom.bridges.channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from greenroom.runtime import speaks

Serve = Callable[[Any], AbstractAsyncContextManager[str]]


class Diary:
    """What the instances of one class have lived through."""

    made: ClassVar[list[Any]]
    connected: ClassVar[list[Any]]
    causes: ClassVar[list[str]]
    left: ClassVar[list[tuple[Any, int]]]
    ended: ClassVar[threading.Event]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.made, cls.connected, cls.causes, cls.left = [], [], [], []
        cls.ended = threading.Event()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.made.append(self)
        self.answers = 0

    def take_over(self, cause: Crash, previous: Any) -> None:
        self.answers = previous.answers
        self.causes.append(str(cause.error))

    def leave(self, code: int) -> None:
        self.left.append((self, code))
        self.ended.set()


class Async(Diary, AsyncWebsocketConsumer):
    restart = Restart.TRANSIENT
    groups: Any = ("all",)

    async def connect(self) -> None:
        self.connected.append(self)
        await self.accept()

    async def restarted(self, cause: Crash, previous: Self) -> None:
        self.take_over(cause, previous)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "fail":
            raise ValueError("as told")
        self.answers += 1
        await self.send(f"{self.answers} {text_data}")

    async def from_group(self, event: dict[str, Any]) -> None:
        await self.receive(event["text"])

    async def disconnect(self, code: int) -> None:
        self.leave(code)


class Trio(Async):
    greenroom_flavour = "trio"


class Sync(Diary, WebsocketConsumer):
    restart = Restart.TRANSIENT
    groups: Any = ("all",)

    def connect(self) -> None:
        self.connected.append(self)
        self.accept()

    def restarted(self, cause: Crash, previous: Self) -> None:
        self.take_over(cause, previous)

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "fail":
            raise ValueError("as told")
        self.answers += 1
        self.send(f"{self.answers} {text_data}")

    def from_group(self, event: dict[str, Any]) -> None:
        self.receive(event["text"])

    def disconnect(self, code: int) -> None:
        self.leave(code)


class Adds(AsyncConsumer):
    """Sends the sum of all numbers so far; what is no number is too much for it."""

    restart = Restart.TRANSIENT
    total = 0

    async def restarted(self, cause: Crash, previous: Self) -> None:
        self.total = previous.total

    async def add(self, message: dict[str, Any]) -> None:
        self.total += int(message["text"])
        await self.send({"type": "sum", "text": str(self.total)})

    async def stop(self, message: dict[str, Any]) -> None:
        raise StopConsumer


class TrioAdds(Adds):
    greenroom_flavour = "trio"


class SyncAdds(SyncConsumer):
    restart = Restart.TRANSIENT
    total = 0

    def restarted(self, cause: Crash, previous: Self) -> None:
        self.total = previous.total

    def add(self, message: dict[str, Any]) -> None:
        self.total += int(message["text"])
        self.send({"type": "sum", "text": str(self.total)})

    def stop(self, message: dict[str, Any]) -> None:
        raise StopConsumer


NUMBERS = [{"type": "add", "text": text} for text in ("one", "1", "two", "2", "three", "3")]
NUMBERS += [{"type": "stop"}]
SUMS = [{"type": "sum", "text": text} for text in ("1", "3", "6")]


def wrapping(app: Any) -> Any:
    """Stand around an application, as a middleware does that looks at every message."""

    @speaks("both")
    async def outer(scope: Any, receive: Any, send: Any) -> None:
        async def wrapped_receive() -> Any:
            return await receive()

        async def wrapped_send(message: dict[str, Any]) -> None:
            await send(message)

        await app(scope, wrapped_receive, wrapped_send)

    return outer


served_here = partial(served, lifespan="off")

FLAVOURS = pytest.mark.parametrize("base", [Async, Trio, Sync])
PLACES = pytest.mark.parametrize(
    ("base", "serve", "wrap"),
    [
        (Async, served_here, None),
        (Async, served_here, wrapping),
        (Async, served_on_asyncio, None),
        (Trio, served_here, None),
        (Trio, served_here, wrapping),
        (Sync, served_here, None),
        (Sync, served_here, wrapping),
        (Sync, served_on_asyncio, None),
    ],
)


def a_subclass_of(base: Any) -> Any:
    """Make a class whose diary is its own."""
    return type("Consumer", (base,), {})


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def wait(event: threading.Event) -> None:
    assert await trio.to_thread.run_sync(event.wait, 10)


async def checkpoint() -> None:
    if trio.lowlevel.in_trio_task():
        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)


CONNECT = {"type": "websocket.connect"}
FAIL = {"type": "websocket.receive", "text": "fail"}
WEBSOCKET = {"type": "websocket", "path": "/"}


async def never(message: dict[str, Any]) -> None:
    raise AssertionError(f"nobody should send {message}")
