"""Consumers whose lives are written down: an application for servers in their own processes."""

import asyncio
import json
import os
from typing import Any

import django
import trio
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    CHANNEL_LAYERS={
        "default": {"BACKEND": "greenroom.bridges.channels.layers.InMemoryChannelLayer"}
    },
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"stderr": {"class": "logging.StreamHandler"}},
        "loggers": {"greenroom": {"handlers": ["stderr"], "level": "INFO", "propagate": False}},
    },
)

django.setup()

from django.core.exceptions import SynchronousOnlyOperation  # noqa: E402
from django.db import connection  # noqa: E402
from django.urls import path  # noqa: E402

from greenroom.actors import Restart  # noqa: E402
from greenroom.bridges.channels.generic.http import AsyncHttpConsumer  # noqa: E402
from greenroom.bridges.channels.generic.websocket import (  # noqa: E402
    AsyncWebsocketConsumer,
    WebsocketConsumer,
)
from greenroom.bridges.channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

_journal = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(*words: object) -> None:
    """Write one line, whole, from whatever thread."""
    os.write(_journal, json.dumps(words).encode() + b"\n")


class Events(AsyncHttpConsumer):
    """Server-sent events, until the client leaves."""

    async def handle(self, body: bytes) -> None:
        await self.send_headers(headers=[(b"content-type", b"text/event-stream")])
        await self.send_body(b"data: first\n\n", more_body=True)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            note("events", "cancelled")
            raise
        finally:
            note("events", "finally")

    async def disconnect(self) -> None:
        note("events", "disconnect")


class TrioEvents(AsyncHttpConsumer):
    """The same, written for trio."""

    greenroom_flavour = "trio"

    async def handle(self, body: bytes) -> None:
        await self.send_headers(headers=[(b"content-type", b"text/event-stream")])
        await self.send_body(b"data: first\n\n", more_body=True)
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            note("trio-events", "cancelled")
            raise
        finally:
            note("trio-events", "finally")

    async def disconnect(self) -> None:
        note("trio-events", "disconnect")


class Poll(AsyncHttpConsumer):
    """Answers with the next message of its group; `handle` itself sends nothing."""

    async def handle(self, body: bytes) -> None:
        await self.channel_layer.group_add("polls", self.channel_name)
        note("poll", "waits")

    async def poll_answer(self, event: dict[str, Any]) -> None:
        await self.send_response(200, event["text"].encode())

    async def disconnect(self) -> None:
        note("poll", "disconnect")


class Publish(AsyncHttpConsumer):
    async def handle(self, body: bytes) -> None:
        event = {"type": "poll.answer", "text": body.decode()}
        await self.channel_layer.group_send("polls", event)
        await self.send_response(200, b"published")


class Ticks(AsyncHttpConsumer):
    """A stream that a task sends, while messages of the layer are handled."""

    async def handle(self, body: bytes) -> None:
        await self.send_headers()
        self.start_soon(self.tick)

    async def tick(self) -> None:
        try:
            while True:
                await self.send_body(b"tick\n", more_body=True)
                await asyncio.sleep(0.01)
        finally:
            note("ticks", "end")

    async def disconnect(self) -> None:
        note("ticks", "disconnect")


class TrioTicks(AsyncHttpConsumer):
    """The same, written for trio."""

    greenroom_flavour = "trio"

    async def handle(self, body: bytes) -> None:
        await self.send_headers()
        self.start_soon(self.tick)

    async def tick(self) -> None:
        try:
            while True:
                await self.send_body(b"tick\n", more_body=True)
                await trio.sleep(0.01)
        finally:
            note("trio-ticks", "end")

    async def disconnect(self) -> None:
        note("trio-ticks", "disconnect")


class Flood(AsyncHttpConsumer):
    """More than any buffer holds."""

    sent = 0

    async def handle(self, body: bytes) -> None:
        await self.send_headers(headers=[(b"content-length", b"%d" % (1600 * 65536))])
        for at in range(1600):
            await self.send_body(b"x" * 65536, more_body=at < 1599)
            type(self).sent += 1


class Flooded(AsyncHttpConsumer):
    async def handle(self, body: bytes) -> None:
        await self.send_response(200, b"%d" % Flood.sent)


class Afterwards(AsyncHttpConsumer):
    """Goes on after it has answered."""

    async def handle(self, body: bytes) -> None:
        await self.send_response(200, b"answered")
        await asyncio.sleep(0.05)
        note("afterwards", "done")

    async def disconnect(self) -> None:
        note("afterwards", "disconnect")


class Fails(AsyncHttpConsumer):
    async def handle(self, body: bytes) -> None:
        raise LookupError("failed on purpose in handle")

    async def disconnect(self) -> None:
        note("fails", "disconnect")


class AsyncCrash(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "layer":
            await self.channel_layer.send(self.channel_name, {"type": "chat.message"})
        elif text_data == "secret":
            await self.channel_layer.send(self.channel_name, {"type": "close"})
        elif text_data == "task":
            self.start_soon(self.fail)
        elif text_data == "cancelled":
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        else:
            raise LookupError("failed on purpose in receive")

    async def chat_message(self, event: dict[str, Any]) -> None:
        raise LookupError("failed on purpose in chat_message")

    async def fail(self) -> None:
        await asyncio.sleep(0)
        raise LookupError("failed on purpose in a task")

    async def disconnect(self, code: int) -> None:
        note("crash", "disconnect", code)


class TrioCrash(AsyncWebsocketConsumer):
    greenroom_flavour = "trio"

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "task":
            self.start_soon(self.fail)
        else:
            raise LookupError("failed on purpose in trio")

    async def fail(self) -> None:
        await trio.lowlevel.checkpoint()
        raise LookupError("failed on purpose in a task of trio's")

    async def disconnect(self, code: int) -> None:
        note("crash", "disconnect", code)


class TrioRestarts(AsyncWebsocketConsumer):
    """Fails, and goes on in place."""

    greenroom_flavour = "trio"
    restart = Restart.TRANSIENT

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await trio.lowlevel.checkpoint()
        if text_data == "fail":
            raise LookupError("failed on purpose, once")
        await self.send(text_data)


class TrioBlocks(AsyncWebsocketConsumer):
    """Asks a database in the thread that everybody shares."""

    greenroom_flavour = "trio"

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        try:
            connection.cursor().execute("select 1")
        except SynchronousOnlyOperation as error:
            await self.send(type(error).__name__)


class SyncCrash(WebsocketConsumer):
    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        raise LookupError("failed on purpose in a thread")

    def disconnect(self, code: int) -> None:
        note("crash", "disconnect", code)


class Tasks(AsyncWebsocketConsumer):
    """Starts tasks in both ways, and leaves them alone."""

    async def connect(self) -> None:
        await self.accept()
        self.kept = asyncio.create_task(self.run("create_task"))
        self.start_soon(self.run, "start_soon")

    async def run(self, how: str) -> None:
        note("tasks", "began", how)
        try:
            await asyncio.Event().wait()
        finally:
            note("tasks", "ended", how)

    async def disconnect(self, code: int) -> None:
        note("tasks", "disconnect", code)


class Stuck(AsyncWebsocketConsumer):
    """Is in the middle of something that has no end."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        note("stuck", "began")
        await asyncio.Event().wait()

    async def disconnect(self, code: int) -> None:
        note("stuck", "disconnect", code)


application = ProtocolTypeRouter(
    {
        "http": URLRouter(
            [
                path("events/", Events.as_asgi()),
                path("trio-events/", TrioEvents.as_asgi()),
                path("poll/", Poll.as_asgi()),
                path("publish/", Publish.as_asgi()),
                path("ticks/", Ticks.as_asgi()),
                path("trio-ticks/", TrioTicks.as_asgi()),
                path("flood/", Flood.as_asgi()),
                path("flooded/", Flooded.as_asgi()),
                path("afterwards/", Afterwards.as_asgi()),
                path("fails/", Fails.as_asgi()),
            ]
        ),
        "websocket": URLRouter(
            [
                path("async-crash/", AsyncCrash.as_asgi()),
                path("sync-crash/", SyncCrash.as_asgi()),
                path("trio-crash/", TrioCrash.as_asgi()),
                path("trio-restarts/", TrioRestarts.as_asgi()),
                path("trio-blocks/", TrioBlocks.as_asgi()),
                path("tasks/", Tasks.as_asgi()),
                path("stuck/", Stuck.as_asgi()),
            ]
        ),
    }
)
