"""A small channel layer over Valkey whose `receive` pops atomically: what workers are proved with.

Written for asyncio, as layers of others are; each receiver has a connection of its own. A
receiver that is cancelled asks the server to end its blocking pop, and takes what that
gives: a message that was popped in the same moment is returned all the same.
"""

import asyncio
import json
import uuid
from typing import Any

from redis.asyncio import Redis

from greenroom.runtime.layers import BaseChannelLayer


class ValkeyLayer(BaseChannelLayer):
    """Lists by channel name: RPUSH to send, BLPOP to receive."""

    def __init__(self, url: str, prefix: str = "layer:", **options: Any) -> None:
        super().__init__(**options)
        self._url = url
        self._prefix = prefix

    def _connect(self) -> "Redis":
        # Without a timeout: to wait for a message is no failure.
        return Redis.from_url(self._url, single_connection_client=True, socket_timeout=None)

    async def new_channel(self, prefix: str = "specific.") -> str:
        return f"{prefix}.valkey!{uuid.uuid4().hex}"

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        self.require_valid_channel_name(channel)
        self.require_valid_message(message)
        async with self._connect() as client:
            await client.rpush(self._prefix + channel, json.dumps(message))

    async def receive(self, channel: str) -> dict[str, Any]:
        self.require_valid_channel_name(channel)
        async with self._connect() as client:
            number = await client.client_id()
            popping = asyncio.ensure_future(client.blpop([self._prefix + channel], timeout=0))
            try:
                popped: Any = await asyncio.shield(popping)
            except asyncio.CancelledError:
                popped = await self._end(popping, number)
                if popped is None:
                    raise
        message: dict[str, Any] = json.loads(popped[1])
        return message

    async def _end(self, popping: "asyncio.Future[Any]", number: int) -> Any:
        async with self._connect() as other:
            while not popping.done():
                await other.client_unblock(number)
                await asyncio.wait([popping], timeout=0.01)
        return None if popping.exception() else popping.result()
