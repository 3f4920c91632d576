"""A server for tests, and raw clients for it: over real sockets, or in memory in virtual time."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

import pytest
import trio
import trio.testing
import trio_websocket

from greenroom.runtime import App, Server, ServerConfig, open_tcp, serve


class RawClient:
    """One connection, as bytes."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._unread = b""

    async def __aenter__(self) -> "RawClient":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stream.aclose()

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def receive_some(self) -> bytes:
        """Read whatever is there, once something is."""
        data, self._unread = self._unread, b""
        return data or bytes(await self.stream.receive_some())

    async def receive_until(self, end: bytes) -> bytes:
        """Read until `end`, which is the last of the result."""
        data = b""
        while end not in data:
            part = await self.receive_some()
            assert part, f"the server closed the connection after {data!r}"
            data += part
        at = data.index(end) + len(end)
        self._unread = data[at:]
        return data[:at]

    async def receive_all(self) -> bytes:
        """Read until the server closes."""
        data = b""
        while part := await self.receive_some():
            data += part
        return data

    async def ask(self, request: bytes) -> bytes:
        """Send a request, and read until the server closes."""
        await self.send(request)
        return await self.receive_all()


class Site:
    """A server that runs in the test's nursery."""

    def __init__(self, server: Server, port: int, nursery: trio.Nursery) -> None:
        self.server = server
        self.port = port
        self._nursery = nursery

    async def connect(self) -> RawClient:
        """Open a TCP connection to the server."""
        return RawClient(await trio.open_tcp_stream("127.0.0.1", self.port))

    def connect_in_memory(self) -> RawClient:
        """Open a connection without a socket; what is sent waits until it is read."""
        ours, theirs = trio.testing.lockstep_stream_pair()
        self._nursery.start_soon(self.server.serve_stream, theirs, ("127.0.0.1", 5000))
        return RawClient(ours)


class StartSite(Protocol):
    """The fixture `start_site`."""

    async def __call__(self, app: App, **settings: Any) -> Site: ...


def site_starter(nursery: trio.Nursery) -> StartSite:
    """Make the fixture `start_site`: a server with the given settings of `ServerConfig`."""

    async def start(app: App, **settings: Any) -> Site:
        settings.setdefault("lifespan", "off")
        [listener] = open_tcp("127.0.0.1", 0)
        port = listener.getsockname()[1]
        run = partial(serve, app, listeners=[listener], config=ServerConfig(**settings))
        server = await nursery.start(run)
        return Site(server, port, nursery)

    return start


def get(path: str = "/", *headers: str) -> bytes:
    """Make the head of a GET."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


@asynccontextmanager
async def open_websocket(
    port: int,
    path: str = "/",
    *,
    host: str = "127.0.0.1",
    subprotocols: Sequence[str] | None = None,
    headers: list[tuple[bytes, bytes]] | None = None,
) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    """Connect with trio-websocket, and close at the end.

    trio-websocket leaves its own TCP connection open when the server has closed first, so
    the connection is ours here.
    """
    async with (
        await trio.open_tcp_stream(host, port) as stream,
        trio.open_nursery() as nursery,
    ):
        websocket = await trio_websocket.wrap_client_stream(
            nursery,
            stream,
            f"{host}:{port}",
            path,
            subprotocols=subprotocols,
            extra_headers=headers,
        )
        async with websocket:
            yield websocket


async def close_code(websocket: trio_websocket.WebSocketConnection) -> int:
    """Wait until the server closes, and give its code."""
    with pytest.raises(trio_websocket.ConnectionClosed) as closed:
        await websocket.get_message()
    assert closed.value.reason is not None
    code: int = closed.value.reason.code
    return code
