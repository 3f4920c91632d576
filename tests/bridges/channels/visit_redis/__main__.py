"""A program: both layers of channels_redis, installed as they are, below consumers of ours.

Run with the address of a server that speaks Redis' protocol; prints what it heard. It is
a process of its own because `install_as_channels` lasts.
"""

# ruff: noqa: E402 -- what says `channels` is imported after the installation

import sys
import uuid
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from greenroom.bridges.channels import install_as_channels

install_as_channels()

import django
from django.conf import settings

# Without the timeout that redis-py has since 8, as the system check asks for.
HOST = {"address": sys.argv[1], "socket_timeout": None}
CONFIG = {"hosts": [HOST], "prefix": f"visit-{uuid.uuid4().hex}"}
settings.configure(
    DEBUG=True,
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={
        "core": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {**CONFIG, "channel_capacity": {"jobs": 2}},
        },
        "pubsub": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": CONFIG,
        },
    },
)
django.setup()

import channels_redis.core
import trio
from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.layers import BaseChannelLayer, SyncLayer, get_channel_layer
from channels.routing import URLRouter
from django.core.management import call_command
from django.urls import path
from trio_websocket import WebSocketConnection, open_websocket

from greenroom.bridges.asyncio import serve
from greenroom.bridges.channels.layers import BaseChannelLayer as OurBase
from greenroom.runtime import ServerConfig, open_tcp


class Async(AsyncWebsocketConsumer):  # type: ignore[misc]  # `channels` has no types
    groups = ("room",)

    async def connect(self) -> None:
        await self.accept()
        await self.send(self.channel_name)

    async def receive(self, text_data: str, bytes_data: None = None) -> None:
        await self.channel_layer.group_send("room", {"type": "said", "text": text_data})

    async def said(self, event: dict[str, Any]) -> None:
        await self.send(f"async: {event['text']}")


class Trio(Async):
    greenroom_flavour = "trio"

    async def said(self, event: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        await self.send(f"trio: {event['text']}")


class Sync(WebsocketConsumer):  # type: ignore[misc]
    groups = ("room",)

    def connect(self) -> None:
        self.accept()
        self.send(self.channel_name)

    def receive(self, text_data: str, bytes_data: None = None) -> None:
        group_send = async_to_sync(self.channel_layer.group_send)
        group_send("room", {"type": "said", "text": text_data})

    def said(self, event: dict[str, Any]) -> None:
        self.send(f"sync: {event['text']}")


def consumer(base: Any, alias: str) -> Any:
    made: Any = type(base.__name__, (base,), {"channel_layer_alias": alias})
    return made.as_asgi()


application = URLRouter(
    [
        path(f"{alias}/{base.__name__.lower()}", consumer(base, alias))
        for alias in ("core", "pubsub")
        for base in (Async, Trio, Sync)
    ]
)


async def hear(listeners: dict[str, WebSocketConnection]) -> str:
    return ", ".join([str(await websocket.get_message()) for websocket in listeners.values()])


async def visit(alias: str, port: int) -> None:
    layer = get_channel_layer(alias)
    async with AsyncExitStack() as stack:
        enter, websockets, names = stack.enter_async_context, {}, {}
        for name in ("async 1", "async 2", "trio 1", "sync 1", "sync 2"):
            kind = name.split()[0]
            address = open_websocket("127.0.0.1", port, f"/{alias}/{kind}", use_ssl=False)
            websockets[name] = websocket = await enter(address)
            names[name] = await websocket.get_message()
        for name, websocket in websockets.items():
            await websocket.send_message(name)
            print(alias, "hears", await hear(websockets))
        # Whoever came first has opened the connection that all of them use.
        await websockets.pop("async 1").aclose()
        await websockets["sync 1"].send_message("after one has left")
        print(alias, "hears", await hear(websockets))
        message = {"type": "said", "text": "from a thread"}
        await trio.to_thread.run_sync(SyncLayer(layer).group_send, "room", message)
        print(alias, "hears", await hear(websockets))
        for name in ("sync 2", "trio 1"):
            await trio.to_thread.run_sync(async_to_sync(layer.send), names[name], message)
            print(alias, "hears", await websockets[name].get_message())


def fill() -> None:
    """Send to a channel that nobody reads, up to its capacity."""
    layer = get_channel_layer("core")
    layer.sync.send("jobs", {"type": "job"})
    layer.sync.send("jobs", {"type": "job"})
    try:
        layer.sync.send("jobs", {"type": "job"})
    except ChannelFull as error:
        print("full:", type(error).__module__)
    try:
        layer.sync.group_send("a room", {"type": "job"})
    except TypeError as error:
        print(error)


async def main() -> None:
    listeners = open_tcp("127.0.0.1", 0)
    config = ServerConfig(graceful_timeout=5)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(
                partial(serve, application, listeners=listeners, config=config)
            )
            port = listeners[0].getsockname()[1]
            await visit("core", port)
            await visit("pubsub", port)
            await trio.to_thread.run_sync(fill)
            server.stop()


call_command("check")
assert channels_redis.core.BaseChannelLayer is BaseChannelLayer is OurBase
trio.run(main)
print("stopped")
