"""Consumers that write down what they are told, and count what was written down, in every way."""

import asyncio
from typing import Any

from asgiref.sync import async_to_sync
from django.db import IntegrityError, transaction

from greenroom.bridges.channels.db import database_sync_to_async
from greenroom.bridges.channels.generic.websocket import (
    AsyncWebsocketConsumer,
    WebsocketConsumer,
)

from .models import Note


def write(text: str) -> int:
    """Write `text` down, and count."""
    try:
        with transaction.atomic():
            Note.objects.create(text=text)
    except IntegrityError:
        return -1
    return Note.objects.count()


class SyncNotes(WebsocketConsumer):
    """Uses the ORM in the way of sync code."""

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Write it down."""
        assert text_data is not None
        self.send(str(write(text_data)))


class AsyncNotes(AsyncWebsocketConsumer):
    """Uses the ORM in a thread, and asynchronously."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Write it down."""
        assert asyncio.get_running_loop()
        assert text_data is not None
        written = await database_sync_to_async(write)(text_data)
        assert written <= await Note.objects.acount()
        await self.send(str(written))


class AnyThreadNotes(AsyncWebsocketConsumer):
    """Uses the ORM in whatever thread."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Write it down."""
        written = await database_sync_to_async(write, thread_sensitive=False)(str(text_data))
        await self.send(str(written))


class ThreadNotes(AsyncWebsocketConsumer):
    """Uses the ORM from trio."""

    greenroom_flavour = "trio"

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Write it down."""
        assert text_data is not None
        await self.send(str(await database_sync_to_async(write)(text_data)))


class GroupNotes(WebsocketConsumer):
    """Asks another one in the midst of a transaction."""

    groups = ("notes",)

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Tell everybody."""
        with transaction.atomic():
            Note.objects.create(text=str(text_data))
            async_to_sync(self.channel_layer.group_send)(
                "notes", {"type": "note", "text": text_data}
            )

    def note(self, event: dict[str, Any]) -> None:
        """Look whether it is there."""
        self.send(f"{event['text']} of {Note.objects.count()}")
