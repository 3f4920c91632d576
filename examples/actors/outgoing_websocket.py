"""A WebSocket to somebody else's server that always finds its way back, and misses nothing.

When the connection breaks, the feed crashes. Its supervisor waits a little, longer each time,
and starts the next incarnation, which asks for what comes after the last tick that was passed on.

    python examples/actors/outgoing_websocket.py
"""

from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import trio
from trio_websocket import ConnectionClosed, HandshakeError, wrap_client_stream

from greenroom.actors import (
    INFINITY,
    Actor,
    Backoff,
    ChildSpec,
    Context,
    ExitReason,
    open_actor_system,
)
from greenroom.runtime import Receive, Scope, Send, open_tcp, serve, speaks

SUBSCRIBERS = "subscribers of the feed"
PATIENCE = 10.0  # seconds; a server that is silent for longer is taken for gone


@dataclass(frozen=True)
class Tick:
    """What the members of the group `SUBSCRIBERS` are told."""

    number: int
    text: str


@dataclass
class Progress:
    last: int = 0


@dataclass
class Feed(Actor[NoReturn]):
    host: str
    port: int
    progress: Progress  # an argument of `spawn`: every incarnation gets the same one

    async def run(self, ctx: Context) -> None:
        with trio.fail_after(PATIENCE):
            stream = await trio.open_tcp_stream(self.host, self.port)
        # trio-websocket leaves a stream open that the server closed first: this one is ours.
        async with stream, trio.open_nursery() as nursery:
            path = f"/?after={self.progress.last}"
            with trio.fail_after(PATIENCE):
                websocket = await wrap_client_stream(nursery, stream, self.host, path)
            async with websocket:
                while True:
                    with trio.fail_after(PATIENCE):
                        message = await websocket.get_message()
                    number, _, text = str(message).partition(" ")
                    # Nothing can come between these two lines, neither a crash nor a
                    # cancellation: there is no `await`. So each tick is passed on once.
                    ctx.groups.send(SUBSCRIBERS, Tick(int(number), text))
                    self.progress.last = int(number)


FEED = ChildSpec(
    "feed",
    Feed,
    backoff=Backoff(first=0.1, longest=30, reset_after=60),
    intensity=INFINITY,
    expected=(OSError, trio.TooSlowError, HandshakeError, ConnectionClosed),
)


@dataclass
class Printer(Actor[Tick]):
    """A subscriber, until it has had enough."""

    enough: int

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        ctx.groups.join(SUBSCRIBERS, ctx.self)

    async def receive(self, tick: Tick) -> None:
        print(tick.number, tick.text)
        if tick.number >= self.enough:
            self.ctx.stop()


@speaks("trio")
async def unreliable(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for somebody else's server: it breaks off after three ticks."""
    assert scope["type"] == "websocket"  # so it has no lifespan
    await send({"type": "websocket.accept"})
    after = int(scope["query_string"].removeprefix(b"after="))
    for number in range(after + 1, after + 4):
        await send({"type": "websocket.send", "text": f"{number} of many"})
    await send({"type": "websocket.close", "code": 1011, "reason": "a bad day"})


async def main() -> None:
    async with trio.open_nursery() as nursery:
        listeners = open_tcp("127.0.0.1", 0)
        host, port = listeners[0].getsockname()
        server = await nursery.start(partial(serve, unreliable, listeners=listeners))
        async with open_actor_system("ticker") as system:
            printer = system.spawn(ChildSpec("printer", Printer), 7)
            system.spawn(FEED, host, port, Progress())
            await printer.join()
        server.stop()


if __name__ == "__main__":
    trio.run(main)
