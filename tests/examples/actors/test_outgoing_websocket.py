"""The outgoing WebSocket of the examples: however it breaks, each tick is passed on once."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import count

import pytest
import trio
import trio.testing
from examples.actors import outgoing_websocket
from examples.actors.outgoing_websocket import FEED, SUBSCRIBERS, Progress, Tick

from greenroom.actors import (
    Actor,
    ActorRestarted,
    Backoff,
    ChildSpec,
    Context,
    ExitReason,
    Shutdown,
    open_actor_system,
)
from greenroom.runtime import App, Receive, Scope, Send, ServerConfig, open_tcp, serve, speaks

AT_ONCE = replace(FEED, backoff=Backoff(first=0, longest=0))


class Collector(Actor[Tick]):
    """Collects ticks up to a number, and ends."""

    def __init__(self, ticks: list[int], enough: int) -> None:
        self.ticks = ticks
        self.enough = enough

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        self.me = ctx.self
        ctx.groups.join(SUBSCRIBERS, self.me)

    async def receive(self, tick: Tick) -> None:
        self.ticks.append(tick.number)
        if tick.number == self.enough:
            self.me.stop()


@speaks("trio")
async def ticker(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the hundred ticks after the one that the client knows, and hang up politely."""
    await send({"type": "websocket.accept"})
    after = int(scope["query_string"].removeprefix(b"after="))
    for number in range(after + 1, after + 101):
        await send({"type": "websocket.send", "text": f"{number} tick"})
    await send({"type": "websocket.close"})


@asynccontextmanager
async def served(app: App) -> AsyncIterator[int]:
    """Serve an application; give its port."""
    async with trio.open_nursery() as nursery:
        listeners = open_tcp("127.0.0.1", 0)
        server = await nursery.start(
            partial(serve, app, listeners=listeners, config=ServerConfig(lifespan="off"))
        )
        yield listeners[0].getsockname()[1]
        server.stop()


@asynccontextmanager
async def cutting_off(port: int, limits: Sequence[int]) -> AsyncIterator[int]:
    """Stand between: cut the first connections off after so many bytes, and no others."""
    connections = count()

    async def pass_on(source: trio.SocketStream, target: trio.SocketStream, limit: int) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while limit > 0:
                data = await source.receive_some()
                if not data:
                    break
                await target.send_all(data[:limit])
                limit -= len(data)
        await trio.aclose_forcefully(source)
        await trio.aclose_forcefully(target)

    async def serve_client(client: trio.SocketStream) -> None:
        number = next(connections)
        limit = limits[number] if number < len(limits) else 10**9
        server = await trio.open_tcp_stream("127.0.0.1", port)
        async with server, trio.open_nursery() as nursery:
            nursery.start_soon(pass_on, client, server, 10**9)
            nursery.start_soon(pass_on, server, client, limit)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve_client, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def collect(port: int, enough: int) -> tuple[list[int], list[ActorRestarted]]:
    """Let the feed run up to a tick; give the ticks and its restarts."""
    ticks: list[int] = []
    restarts: list[ActorRestarted] = []
    async with open_actor_system("test") as system:
        system.events.subscribe(ActorRestarted, restarts.append)
        collector = system.spawn(ChildSpec("collector", Collector), ticks, enough)
        system.spawn(AT_ONCE, "127.0.0.1", port, Progress())
        await collector.join()
    return ticks, restarts


async def test_wherever_the_connection_is_cut_each_tick_is_passed_on_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # trio-websocket does not notice an end in the middle of the handshake, but the feed does.
    monkeypatch.setattr(outgoing_websocket, "PATIENCE", 0.3)
    limits = [0, 100, *range(200, 400, 5)]  # before, in and after the answer to the handshake
    async with served(ticker) as behind, cutting_off(behind, limits) as port:
        ticks, restarts = await collect(port, 1000)
    assert ticks == list(range(1, 1001))
    assert len(restarts) >= len(limits)


async def test_a_server_that_falls_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing_websocket, "PATIENCE", 0.1)
    connections = count()

    @speaks("trio")
    async def silent_at_first(scope: Scope, receive: Receive, send: Send) -> None:
        if next(connections) < 2:
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                pass
        else:
            await ticker(scope, receive, send)

    async with served(silent_at_first) as port:
        ticks, restarts = await collect(port, 10)
    assert ticks == list(range(1, 11))
    assert all("TooSlowError" in str(restart.cause) for restart in restarts)


async def test_a_server_that_refuses_is_asked_again() -> None:
    connections = count()

    @speaks("trio")
    async def refusing_at_first(scope: Scope, receive: Receive, send: Send) -> None:
        if next(connections) < 3:
            await send({"type": "websocket.close"})
        else:
            await ticker(scope, receive, send)

    async with served(refusing_at_first) as port:
        ticks, restarts = await collect(port, 10)
    assert ticks == list(range(1, 11))
    assert ["ConnectionRejected" in str(restart.cause) for restart in restarts] == [True] * 3


async def test_a_feed_that_is_asked_to_stop_is_not_started_again() -> None:
    async with served(ticker) as port, open_actor_system("test") as system:
        ticks: list[int] = []
        collector = system.spawn(ChildSpec("collector", Collector), ticks, 10)
        feed = system.spawn(AT_ONCE, "127.0.0.1", port, Progress())
        await collector.join()
        feed.stop("the test")
        assert await feed.join() == Shutdown("the test")


async def test_the_pauses_between_attempts_grow_and_never_use_up_the_restarts(
    autojump_clock: trio.testing.MockClock,
) -> None:
    [listener] = open_tcp("127.0.0.1", 0)
    port = listener.getsockname()[1]
    listener.close()  # nobody listens here
    pauses: list[float] = []
    async with open_actor_system("test") as system:
        system.events.subscribe(ActorRestarted, lambda event: pauses.append(event.pause))
        feed = system.spawn(FEED, "127.0.0.1", port, Progress())
        await trio.sleep(3600)
        assert feed.alive
    assert pauses == sorted(pauses[:9]) + pauses[9:]
    assert all(30 <= pause <= 36 for pause in pauses[9:])


async def test_the_example_shows_that_no_tick_is_missing(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "greenroom")
    await outgoing_websocket.main()
    assert capsys.readouterr().out.splitlines() == [f"{n} of many" for n in range(1, 8)]
    restarts = [record for record in caplog.records if "restarted" in record.message]
    assert [record.exc_info for record in restarts] == [None, None]
    assert "time 1, in 0.1" in restarts[0].message
    assert "time 2, in 0.2" in restarts[1].message
