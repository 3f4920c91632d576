"""A chat of many rooms, with the consumers that Channels users know, in one file."""

from typing import Any

from django.conf import settings

MEMORY = "greenroom.bridges.channels.layers.InMemoryChannelLayer"
settings.configure(CHANNEL_LAYERS={"default": {"BACKEND": MEMORY}})

from django.urls import path

from greenroom.bridges.channels.generic.websocket import AsyncWebsocketConsumer
from greenroom.bridges.channels.routing import ProtocolTypeRouter, URLRouter


class RoomConsumer(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        event = {"type": "room.message", "text": text_data}
        await self.channel_layer.group_send(self.room, event)

    async def room_message(self, event: dict[str, Any]) -> None:
        await self.send(event["text"])

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.room, self.channel_name)


routes = [path("rooms/<slug:room>/", RoomConsumer.as_asgi())]
application = ProtocolTypeRouter({"websocket": URLRouter(routes)})
