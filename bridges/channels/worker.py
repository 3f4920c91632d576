"""Serving named channels: consumers for what is sent to a fixed name, without a client.

```python
application = ProtocolTypeRouter({
    "websocket": ...,
    "channel": ChannelNameRouter({"thumbnails": ThumbnailConsumer.as_asgi()}),
})
nursery.start_soon(serve_channels, application, ["thumbnails"])
```

Beside the server in one trio program, this works with the in-memory layer too.

Source: the scope type `channel` and its messages, as `channels.worker` 4.3 makes them.
"""

import logging
from collections.abc import Iterable
from typing import Any, NoReturn

import trio

from ...runtime._types import App, Message
from ..asyncio import call_app
from .layers import get_channel_layer

__all__ = ["serve_channels"]

logger = logging.getLogger("greenroom.channels.worker")


async def serve_channels(
    application: App,
    channels: Iterable[str],
    *,
    layer: Any = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve each of `channels` by an instance of the application, until cancelled.

    An instance starts with its channel's first message and handles one message at a time.
    When it fails, that is logged, and the next message starts another.

    Args:
        application: an ASGI application for scopes of type `channel`.
        channels: names; each is served once here, whatever else receives from it.
        layer: the channel layer, the default one if None.
        task_status: for `nursery.start`; by then messages are received.

    Raises:
        ValueError: the settings have no channel layer.
    """
    layer = layer or get_channel_layer()
    if layer is None:
        raise ValueError("Channel layer is not valid")
    async with trio.open_nursery() as nursery:
        for name in channels:
            nursery.start_soon(_serve_channel, application, layer, name)
        task_status.started()


async def _serve_channel(application: App, layer: Any, name: str) -> None:
    while True:
        first: list[Message] = [await layer.receive(name)]

        async def receive(first: list[Message] = first) -> Message:
            message: Message = first.pop() if first else await layer.receive(name)
            return message

        try:
            await call_app(application, {"type": "channel", "channel": name}, receive, _send)
        except Exception:
            logger.exception("the application failed in channel %s", name)


async def _send(message: Message) -> NoReturn:
    raise RuntimeError(
        f"a consumer of a named channel has no client to send {message.get('type')!r} to; "
        "use self.channel_layer.send()"
    )
