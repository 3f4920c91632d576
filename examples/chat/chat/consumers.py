"""One browser tab in one room, for as long as its WebSocket lives."""

from typing import Any
from urllib.parse import parse_qs

from greenroom.bridges.channels.generic.websocket import AsyncWebsocketConsumer

from .models import MAX_TEXT_LENGTH, Message, Room

MOST_MISSED = 200  # messages that a page gets at once when it comes back


class RoomConsumer(AsyncWebsocketConsumer):
    """Stores what its user says, and passes on what anybody in the room says.

    The page sends plain text; it gets each message as JSON, its own ones as well.
    """

    room: Room | None = None

    async def connect(self) -> None:
        slug = self.scope["url_route"]["kwargs"]["slug"]
        if self.scope["user"].is_authenticated:
            self.room = await Room.objects.filter(slug=slug).afirst()
        if self.room is None:
            await self.close()
            return
        # Into the group before reading what was missed: a message may then come twice,
        # which the page notices by its id, but none is lost in between.
        await self.channel_layer.group_add(self.room.group, self.channel_name)
        await self.accept()
        missed = Message.objects.filter(room=self.room, pk__gt=self.last_seen())
        async for message in missed.select_related("author")[:MOST_MISSED]:
            await self.send(message.as_json())

    def last_seen(self) -> int:
        """The id of the newest message that the page shows already."""
        query = parse_qs(self.scope["query_string"].decode("latin-1"))
        value = query.get("after", ["0"])[0]
        return int(value) if value.isascii() and value.isdigit() and len(value) < 18 else 0

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        text = (text_data or "").strip()[:MAX_TEXT_LENGTH]
        if not text or self.room is None:
            return
        message = await Message.objects.acreate(
            room=self.room, author=self.scope["user"], text=text
        )
        await self.channel_layer.group_send(
            self.room.group, {"type": "room.message", "json": message.as_json()}
        )

    async def room_message(self, event: dict[str, Any]) -> None:
        """Handle what `group_send` above sent, in everybody's consumer."""
        await self.send(event["json"])

    async def disconnect(self, code: int) -> None:
        if self.room is not None:
            await self.channel_layer.group_discard(self.room.group, self.channel_name)
