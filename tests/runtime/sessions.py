"""Sessions of clients and applications as data, played over the real server in virtual time.

An application plays its acts one after the other, whatever comes of them, and the client its
own. What each was told is kept, for those who judge it.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeAlias

import trio
import trio.testing
from hypothesis import strategies as st
from tests.runtime.serving import get

from greenroom.actors.testing import simulate
from greenroom.runtime import (
    App,
    ClientDisconnected,
    LocalProtocolError,
    Message,
    Receive,
    Scope,
    Send,
    ServerConfig,
    _pump,
    serve,
)

Act: TypeAlias = Literal[
    "receive",  # one event
    "start",  # of a response
    "part",  # of its body
    "last",  # the last one
    "accept",
    "send",
    "close",
    "pause",  # a second
    "fail",
]


@dataclass(frozen=True)
class Session:
    """One connection with one scope.

    Args:
        kind: the type of the scope.
        acts: what the application does.
        drains: whether it receives then until it is told that this is the end.
        deeds: what a WebSocket's client does after its handshake: "ping", "close", "garbage",
            "leave", "pause", or a text to send.
        body: what a client of HTTP sends in its request.
        cuts: where its bytes are cut.
        leaves: whether it leaves before the last piece.
    """

    kind: Literal["http", "websocket"]
    acts: tuple[Act, ...] = ()
    drains: bool = True
    deeds: tuple[str, ...] = ()
    body: bytes = b""
    cuts: tuple[int, ...] = ()
    leaves: bool = False


@dataclass
class Told:
    """What the two sides of one session were told."""

    events: list[str] = field(default_factory=list)
    """Types of what the application received; "http.request" is followed by + if there is more."""
    outcomes: list[tuple[Act, str]] = field(default_factory=list)
    """What came of each act that sends: "sent", "refused" or "gone"."""
    wire: bytes = b""
    """All that the client read."""
    calls: int = 0
    """How often the application was called."""


CALM = Session("http", ("receive", "start", "last"))


# The application's side.

_PREFIXES = {"http": "http.response", "websocket": "websocket.http.response"}


def message_of(act: Act, kind: str) -> Message:
    """Give what an application sends."""
    match act:
        case "start":
            return {"type": f"{_PREFIXES[kind]}.start", "status": 200}
        case "part" | "last":
            body, more_body = act.encode(), act == "part"
            return {"type": f"{_PREFIXES[kind]}.body", "body": body, "more_body": more_body}
        case "send":
            return {"type": "websocket.send", "text": "text"}
        case _:
            return {"type": f"websocket.{act}"}


class Failure(Exception):
    """Raised by an application that is to fail."""


async def perform(session: Session, told: Told, receive: Receive, send: Send) -> None:
    """Play the application of a session."""
    for act in session.acts:
        match act:
            case "receive":
                await take(told, receive)
            case "pause":
                await trio.sleep(1)
            case "fail":
                raise Failure
            case _:
                told.outcomes.append((act, await outcome_of(send, message_of(act, session.kind))))
    while session.drains and not is_over(told):
        await take(told, receive)


async def outcome_of(send: Send, message: Message) -> str:
    try:
        await send(message)
    except LocalProtocolError:
        return "refused"
    except ClientDisconnected:
        return "gone"
    return "sent"


async def take(told: Told, receive: Receive) -> None:
    """Receive one event, unless the last one was told."""
    if not is_over(told):
        event = await receive()
        told.events.append(event["type"] + ("+" if event.get("more_body") else ""))


def is_over(told: Told) -> bool:
    return bool(told.events) and told.events[-1].endswith(".disconnect")


# The client's side.

MASK = bytes(4)
FRAMES = {
    "ping": b"\x89\x80" + MASK,
    "close": b"\x88\x82" + MASK + b"\x03\xe8",
    "garbage": b"\xff\x80" + MASK,
}
UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
PATIENCE = 100.0  # seconds, which is more than any of the server's


async def visit(
    session: Session, path: str, told: Told, stream: trio.abc.Stream, gap: float
) -> None:
    """Play the client of a session, and read until the server closes."""
    async with stream:
        with trio.move_on_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_all, told, stream)
                talk = ask if session.kind == "http" else converse
                if not await talk(session, path, stream, gap):
                    nursery.cancel_scope.cancel()


async def ask(session: Session, path: str, stream: trio.abc.Stream, gap: float) -> bool:
    """Send a request in pieces; tell whether an answer is awaited."""
    headers = f"Content-Length: {len(session.body)}", "Connection: close"
    request = get(path, *headers) + session.body
    cuts = sorted({cut % len(request) for cut in session.cuts})
    pieces = [request[begin:end] for begin, end in zip([0, *cuts], [*cuts, None], strict=True)]
    for piece in pieces[:-1] if session.leaves else pieces:
        await go(stream, piece)
        await trio.sleep(gap)
    return not session.leaves


async def converse(session: Session, path: str, stream: trio.abc.Stream, gap: float) -> bool:
    """Open a WebSocket, do what is to be done, and close it; tell whether an answer is awaited."""
    await go(stream, get(path, *UPGRADE))
    for deed in session.deeds:
        await trio.sleep(gap)
        match deed:
            case "leave":
                return False
            case "pause":
                await trio.sleep(1)
            case _:
                await go(stream, FRAMES.get(deed) or text_frame(deed))
    await trio.sleep(10)
    await go(stream, FRAMES["close"])
    return True


def text_frame(text: str) -> bytes:
    return bytes((0x81, 0x80 | len(text))) + MASK + text.encode()


async def go(stream: trio.abc.Stream, data: bytes) -> None:
    """Send, if somebody still listens."""
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        await trio.lowlevel.checkpoint()


async def read_all(told: Told, stream: trio.abc.Stream) -> None:
    while data := await stream.receive_some(65536):
        told.wire += data


# Both.

CONFIG = ServerConfig(
    lifespan="off", date_header=False, server_header=None, websocket_ping_interval=None
)


def play(
    sessions: Sequence[Session],
    choices: Sequence[int] = (),
    *,
    gap: float = 0,
    application: App | None = None,
) -> list[Told]:
    """Let the clients of some sessions come at once, and tell what everybody was told.

    A gap between what clients do, in which applications do all that they can, makes what
    comes of it the same for all schedules.
    """
    tolds = [Told() for _ in sessions]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        at = int(scope["path"][1:])
        tolds[at].calls += 1
        await perform(sessions[at], tolds[at], receive, send)

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            run = partial(serve, application or app, listeners=[], config=CONFIG)
            server = await nursery.start(run)
            async with trio.open_nursery() as clients:
                for at, session in enumerate(sessions):
                    ours, theirs = trio.testing.memory_stream_pair()
                    nursery.start_soon(server.serve_stream, theirs, ("127.0.0.1", 5000 + at))
                    clients.start_soon(visit, session, f"/{at}", tolds[at], ours, gap)
            server.stop()

    with without_sockets():
        simulate(scenario, choices=choices)
    return tolds


@contextmanager
def without_sockets() -> Iterator[None]:
    """Have the server open none for itself, so that all its time is virtual; and log nothing."""
    available, _pump.AVAILABLE = _pump.AVAILABLE, False  # type: ignore[misc]
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        _pump.AVAILABLE = available  # type: ignore[misc]


# What is drawn.

acts_of: dict[str, list[Act]] = {
    "http": ["receive", "start", "part", "last", "pause", "fail", "send"],
    "websocket": ["receive", "accept", "send", "send", "close", "start", "last", "pause", "fail"],
}
deeds = ["text", "text", "ping", "pause", "close", "garbage", "leave"]


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    """Draw sessions of which most begin as they should."""
    kind: Literal["http", "websocket"] = draw(st.sampled_from(["http", "websocket"]))
    first: list[Act] = ["receive", "start"] if kind == "http" else ["receive", "accept"]
    begin = draw(st.sampled_from([first, first, first[:1], []]))
    return Session(
        kind,
        (*begin, *draw(st.lists(st.sampled_from(acts_of[kind]), max_size=4))),
        draw(st.booleans()),
        tuple(draw(st.lists(st.sampled_from(deeds), max_size=4))),
        draw(st.sampled_from([b"", b"body"])),
        tuple(draw(st.lists(st.integers(0, 80), max_size=2))),
        draw(st.booleans()),
    )
