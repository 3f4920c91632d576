"""Many clients, and applications that crash in every way: nothing is left behind."""

import asyncio
import gc
import logging
import random
import tracemalloc
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
import trio_websocket
from tests.runtime.serving import Site, get, open_websocket, site_starter

from greenroom.bridges.asyncio import hosted, open_hosted_loop
from greenroom.bridges.channels.generic.websocket import (
    AsyncWebsocketConsumer,
    WebsocketConsumer,
)
from greenroom.runtime import App, Receive, Scope, Send

ROUNDS = 6
CLIENTS = 40
GROWTH = 64 * 1024  # bytes that caches may still grow by from the third round to the last


class OnDemandError(BaseException):
    """What no handler of `Exception` sees."""


def crash(kind: str) -> None:
    """Crash in the named way."""
    if kind == "group":
        raise ExceptionGroup("two", [ValueError("one"), ExceptionGroup("in it", [OSError("two")])])
    if kind == "cancelled":
        raise asyncio.CancelledError
    if kind == "base":
        raise OnDemandError
    if kind == "error":
        raise RuntimeError("on demand")


async def raw_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Crash at once for HTTP, and on demand for a WebSocket; else echo."""
    if scope["type"] == "http":
        crash(scope["path"].strip("/"))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"fine"})
        return
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        if "text" in message:
            crash(message["text"])
            await send({"type": "websocket.send", "text": message["text"]})


class AsyncConsumer(AsyncWebsocketConsumer):
    groups = ("everybody",)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        assert text_data is not None
        stray = asyncio.create_task(asyncio.sleep(3600))
        crash(text_data)
        stray.cancel()
        await self.send(text_data=text_data)


class SyncConsumer(WebsocketConsumer):
    groups = ("everybody",)

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        assert text_data is not None
        crash(text_data)
        self.send(text_data=text_data)


def consumers_app() -> App:
    """Route to consumers that crash on demand."""
    asynchronous, synchronous = AsyncConsumer.as_asgi(), SyncConsumer.as_asgi()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await raw_app(scope, receive, send)
        else:
            consumer = asynchronous if scope["path"] == "/async" else synchronous
            await consumer(scope, receive, send)

    return app


async def visit(site: Site, fate: random.Random) -> None:
    """Be one client: talk a little, then crash the application, leave, or vanish."""
    end = fate.choice(["error", "group", "cancelled", "base", "leave", "vanish", "http"])
    if end == "http":
        kind = fate.choice(["error", "group", "cancelled", "base", "fine"])
        async with await site.connect() as client:
            answer = await client.ask(get("/" + kind, "Connection: close"))
        assert answer.startswith(b"HTTP/1.1 200" if kind == "fine" else b"HTTP/1.1 500")
        return
    path = fate.choice(["/async", "/sync"])
    if end == "vanish":
        async with await site.connect() as client:
            await client.send(get(path, "Upgrade: websocket", "Connection: Upgrade"))
            await client.receive_some()
        return
    async with open_websocket(site.port, path) as websocket:
        for number in range(fate.randrange(4)):
            await websocket.send_message(str(number))
            assert await websocket.get_message() == str(number)
        if end == "leave":
            return
        await websocket.send_message(end)
        with pytest.raises(trio_websocket.ConnectionClosed) as closed:
            await websocket.get_message()
        assert closed.value.reason is not None
        assert closed.value.reason.code == 1011


async def soak(site: Site) -> None:
    """Let rounds of clients come, and compare what is left after each."""
    fate = random.Random(2026)
    tasks, memory = [], []
    tracemalloc.start()
    try:
        for _ in range(ROUNDS):
            async with trio.open_nursery() as nursery:
                for _ in range(CLIENTS):
                    nursery.start_soon(visit, site, random.Random(fate.random()))
            while site.server.connections or site.server.scopes:
                await trio.testing.wait_all_tasks_blocked(0.01)
            gc.collect()
            tasks.append(trio.lowlevel.current_statistics().tasks_living)
            memory.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert len(set(tasks)) == 1, tasks
    assert memory[-1] - memory[2] < GROWTH, memory


RunSoak = Callable[[], Awaitable[None]]


async def soak_raw() -> None:
    async with trio.open_nursery() as nursery:
        await soak(await site_starter(nursery)(raw_app))
        nursery.cancel_scope.cancel()


async def soak_consumers() -> None:
    async with open_hosted_loop() as loop, trio.open_nursery() as nursery:
        await soak(await site_starter(nursery)(hosted(consumers_app())))
        assert [task for task in asyncio.all_tasks(loop.loop) if not task.done()] == []
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("run", [soak_raw, soak_consumers])
async def test_after_random_crashes_tasks_and_memory_are_what_they_were(
    run: RunSoak, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The records of a hundred crashes, kept by pytest, would be the growth.
    for name in ("greenroom.scopes", "greenroom.channels", "greenroom.asyncio"):
        monkeypatch.setattr(logging.getLogger(name), "disabled", True)
    await run()
