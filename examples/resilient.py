"""A consumer that survives its crashes: the socket stays open, and the sum goes on."""

from typing import Self

from django.conf import settings

from greenroom.actors import Crash, Restart
from greenroom.bridges.channels.generic.websocket import AsyncWebsocketConsumer
from greenroom.bridges.channels.routing import ProtocolTypeRouter

settings.configure()


class SumConsumer(AsyncWebsocketConsumer):
    restart = Restart.TRANSIENT
    total = 0

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.total += int(text_data or "")
        await self.send(f"the sum is {self.total}")

    async def restarted(self, cause: Crash, previous: Self) -> None:
        self.total = previous.total
        await self.send(f"that was a {type(cause.error).__name__}, the sum is still {self.total}")


application = ProtocolTypeRouter({"websocket": SumConsumer.as_asgi()})
