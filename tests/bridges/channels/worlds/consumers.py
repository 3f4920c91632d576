"""Consumers of every kind: written as for Channels, for asyncio and plain, and for trio."""

import asyncio
import json
from typing import Any

import trio
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from tests.bridges.channels.worlds.journal import note

from greenroom.bridges.channels.db import database_sync_to_async
from greenroom.bridges.channels.generic.http import AsyncHttpConsumer
from greenroom.bridges.channels.generic.websocket import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
    WebsocketConsumer,
)

released: dict[str, "asyncio.Future[None]"] = {}  # what handlers wait for, by name


class AsyncEcho(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        subprotocol = "chat" if "chat" in self.scope["subprotocols"] else None
        await self.accept(subprotocol, headers=[(b"x-greeting", b"hello")])

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await asyncio.sleep(0)
        if text_data == "close":
            await self.close(4001, "enough")
            await self.send("unheard")
        else:
            await self.send(text_data, bytes_data)

    async def disconnect(self, code: int) -> None:
        await asyncio.sleep(0)
        note("left", self.scope["query_string"].decode(), code)


class SyncEcho(WebsocketConsumer):
    def connect(self) -> None:
        subprotocol = "chat" if "chat" in self.scope["subprotocols"] else None
        self.accept(subprotocol, headers=[(b"x-greeting", b"hello")])

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "close":
            self.close(4001, "enough")
            self.send("unheard")
        else:
            self.send(text_data, bytes_data)

    def disconnect(self, code: int) -> None:
        note("left", self.scope["query_string"].decode(), code)


class TrioEcho(AsyncEcho):
    greenroom_flavour = "trio"

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await trio.lowlevel.checkpoint()
        if text_data == "close":
            await self.close(4001, "enough")
            await self.send("unheard")
        else:
            await self.send(text_data, bytes_data)

    async def disconnect(self, code: int) -> None:
        await trio.lowlevel.checkpoint()
        note("left", self.scope["query_string"].decode(), code)


class AsyncJson(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json({"got": content})


class SyncJson(JsonWebsocketConsumer):
    def receive_json(self, content: Any, **kwargs: Any) -> None:
        self.send_json({"got": content})


class TrioJson(AsyncJson):
    greenroom_flavour = "trio"


class Refusing(WebsocketConsumer):
    def connect(self) -> None:
        self.close()

    def disconnect(self, code: int) -> None:
        note("left", "refused", code)


class Room(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.channel_layer.group_send(self.room, {"type": "chat.message", "text": text_data})

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send(event["text"])

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.room, self.channel_name)
        note("left", self.room, code)


class TrioRoom(Room):
    greenroom_flavour = "trio"


class SyncRoom(WebsocketConsumer):
    def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        async_to_sync(self.channel_layer.group_add)(self.room, self.channel_name)
        self.accept()

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        async_to_sync(self.channel_layer.group_send)(
            self.room, {"type": "chat.message", "text": text_data}
        )

    def chat_message(self, event: dict[str, Any]) -> None:
        self.send(event["text"])

    def disconnect(self, code: int) -> None:
        async_to_sync(self.channel_layer.group_discard)(self.room, self.channel_name)
        note("left", self.room, code)


class Failed(Exception):
    """Raised on purpose."""


class AsyncCrashing(AsyncWebsocketConsumer):
    groups = ("async-crashing",)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        raise Failed("in AsyncCrashing")

    async def disconnect(self, code: int) -> None:
        note("left", "async-crashing", code)


class SyncCrashing(WebsocketConsumer):
    groups = ("sync-crashing",)

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        raise Failed("in SyncCrashing")

    def disconnect(self, code: int) -> None:
        note("left", "sync-crashing", code)


class TrioCrashing(AsyncWebsocketConsumer):
    greenroom_flavour = "trio"
    groups = ("trio-crashing",)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await trio.lowlevel.checkpoint()
        raise Failed("in TrioCrashing")

    async def disconnect(self, code: int) -> None:
        note("left", "trio-crashing", code)


class CrashingAtOnce(AsyncWebsocketConsumer):
    groups = ("crashing-at-once",)

    async def connect(self) -> None:
        raise Failed("in CrashingAtOnce")


class Busy(AsyncWebsocketConsumer):
    """Is in the middle of something when its client leaves."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        released["busy"] = asyncio.get_running_loop().create_future()
        note("began")
        await released["busy"]
        await self.send("unheard")
        note("finished")

    async def disconnect(self, code: int) -> None:
        note("left", "busy", code)


class AsyncUser(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        user = self.scope["user"]
        users = await User.objects.filter(username="ana").acount()
        await self.send(f"{user.get_username()!r} of {users}")


class SyncUser(WebsocketConsumer):
    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        user = self.scope["user"]
        users = User.objects.filter(username="ana").count()
        self.scope["session"]["said"] = text_data
        self.scope["session"].save()
        self.send(f"{user.get_username()!r} of {users}")


class TrioUser(AsyncWebsocketConsumer):
    greenroom_flavour = "trio"

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        user = self.scope["user"]
        users = await database_sync_to_async(User.objects.filter(username="ana").count)()
        await self.send(f"{user.get_username()!r} of {users}")


class Answer(AsyncHttpConsumer):
    async def handle(self, body: bytes) -> None:
        await asyncio.sleep(0)
        await self.send_response(201, body[::-1], headers=[(b"X-Size", b"%d" % len(body))])


class TrioAnswer(AsyncHttpConsumer):
    greenroom_flavour = "trio"

    async def handle(self, body: bytes) -> None:
        await trio.lowlevel.checkpoint()
        await self.send_response(201, body[::-1], headers=[(b"X-Size", b"%d" % len(body))])


class Events(AsyncHttpConsumer):
    """Server-sent events, until the client leaves."""

    async def handle(self, body: bytes) -> None:
        await self.send_headers(headers=[(b"Content-Type", b"text/event-stream")])
        await self.send_body(b"data: first\n\n", more_body=True)
        try:
            await asyncio.sleep(3600)
        finally:
            note("handle ended")

    async def disconnect(self) -> None:
        note("left", "events")


class LongPoll(AsyncHttpConsumer):
    """Answers with the next message of its group."""

    async def handle(self, body: bytes) -> None:
        await self.channel_layer.group_add("polls", self.channel_name)
        await self.send_headers(headers=[(b"Content-Type", b"application/json")])
        note("polling")

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send_body(json.dumps(event["text"]).encode())

    async def disconnect(self) -> None:
        await self.channel_layer.group_discard("polls", self.channel_name)
