"""Serving an application to a test, over real sockets or by hand."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from http.client import HTTPConnection
from typing import Any, TypeVar

import trio
import websockets.asyncio.server
from tests.runtime import serving
from trio_websocket import WebSocketConnection
from websockets.exceptions import ConnectionClosed

from greenroom.bridges.asyncio import open_hosted_loop, serve
from greenroom.bridges.django.database import database_guard
from greenroom.bridges.threads import run_sync
from greenroom.runtime import ServerConfig, open_tcp

T = TypeVar("T")


@asynccontextmanager
async def served(app: Any, **config: Any) -> AsyncIterator[str]:
    """Serve `app` on a free port, and give `127.0.0.1:port`."""
    listeners = open_tcp("127.0.0.1", 0)
    host, port = listeners[0].getsockname()[:2]
    config.setdefault("graceful_timeout", 5.0)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(serve, app, listeners=listeners, config=ServerConfig(**config))
        )
        yield f"{host}:{port}"
        server.stop()


class PeerGone(OSError):
    """What the server on asyncio raises after the client has left."""


class OthersWebSocket:
    """One WebSocket of a server that is not ours, by the rules that uvicorn has made for itself."""

    def __init__(self, connection: websockets.asyncio.server.ServerConnection) -> None:
        self._connection = connection
        self._connected = False
        self._over = False  # closed by the application, or its disconnect was given out

    async def receive(self) -> dict[str, Any]:
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        try:
            data = await self._connection.recv()
        except ConnectionClosed:
            self._over = True
            code = self._connection.close_code
            return {"type": "websocket.disconnect", "code": code, "reason": ""}
        return {"type": "websocket.receive", "text": data}

    async def send(self, message: dict[str, Any]) -> None:
        if self._over:
            raise RuntimeError(f"Unexpected ASGI message {message['type']!r}")
        try:
            if message["type"] == "websocket.send":
                await self._connection.send(message["text"])
            elif message["type"] == "websocket.close":
                self._over = True
                await self._connection.close(message.get("code", 1000))
        except ConnectionClosed as error:
            raise PeerGone from error


@asynccontextmanager
async def served_on_asyncio(app: Any) -> AsyncIterator[str]:
    """Serve WebSockets to `app` natively on an asyncio loop in a thread of its own."""

    async def handle(connection: websockets.asyncio.server.ServerConnection) -> None:
        websocket = OthersWebSocket(connection)
        await app({"type": "websocket", "path": "/"}, websocket.receive, websocket.send)

    started = threading.Event()
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event
    port = 0

    async def main() -> None:
        nonlocal loop, stop, port
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        async with websockets.asyncio.server.serve(handle, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            started.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    await trio.to_thread.run_sync(started.wait, 10)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(thread.join, 10)


def middleware(app: Any) -> Any:
    """Wrap `send`, as a middleware for cookies does."""

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        async def wrapped(message: dict[str, Any]) -> None:
            await send(message)

        await app(scope, receive, wrapped)

    return outer


def open_websocket(
    address: str, path: str, extra_headers: list[tuple[bytes, bytes]] | None = None
) -> AbstractAsyncContextManager[WebSocketConnection]:
    """Open a WebSocket to a served application."""
    host, port = address.split(":")
    return serving.open_websocket(int(port), path, host=host, headers=extra_headers)


async def refusal(address: str, path: str, **headers: str) -> tuple[int, bytes]:
    """Ask for a WebSocket that is refused, and give the status and the body of the answer."""

    def ask() -> tuple[int, bytes]:
        connection = HTTPConnection(address, timeout=10)
        handshake = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        connection.request("GET", path, headers={**handshake, **headers})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, body

    return await trio.to_thread.run_sync(ask)


async def say(websocket: WebSocketConnection, text: str) -> str | bytes:
    """Send a text and give the answer."""
    await websocket.send_message(text)
    answer: str | bytes = await websocket.get_message()
    return answer


class Wire:
    """The two ends of an ASGI application for a test on asyncio: a queue and a list."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for message in messages:
            self.inbox.put_nowait(message)
        self.sent: list[dict[str, Any]] = []
        self.answered = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        return await self.inbox.get()

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        self.answered.set()


def exchange(app: Any, scope: dict[str, Any], *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """Run `app` natively on asyncio to its end, with these messages; give what it sent."""
    wire = Wire(*messages)
    asyncio.run(asyncio.wait_for(app(scope, wire.receive, wire.send), 10))
    return wire.sent


async def exchange_in_trio(
    app: Any, scope: dict[str, Any], *messages: dict[str, Any]
) -> list[dict[str, Any]]:
    """Run `app` from a trio task to its end, with these messages; give what it sent."""
    inbox = iter(messages)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        for message in inbox:
            return message
        return await trio.sleep_forever()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    with trio.fail_after(10):
        async with open_hosted_loop():
            await app(scope, receive, send)
    return sent


async def query(fn: Callable[..., T], *args: Any) -> T:
    """Ask the database in a thread that does not keep its connection."""
    return await run_sync(fn, *args, around=database_guard)
