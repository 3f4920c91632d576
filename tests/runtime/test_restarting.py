"""Tests of restarts in place of raw ASGI applications: who is called again, and what goes on."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.serving import RawClient, Site, StartSite, close_code, get, open_websocket

from greenroom.actors import Crash, Normal, Shutdown, flatten
from greenroom.runtime import (
    ApplicationExited,
    CannotRestart,
    ClientDisconnected,
    Message,
    Receive,
    RestartedInPlace,
    Scope,
    Send,
    open_scopes,
    restarts_in_place,
    speaks,
)
from greenroom.runtime.restarting import EXTENSION, ScopeRestarts

# How to make an error, and whether another try may help.
ERRORS: list[tuple[Callable[[], Exception], bool]] = [
    (lambda: ValueError("any"), True),
    (lambda: OSError("no client's"), True),
    (lambda: ExceptionGroup("", [ValueError("alone in a group")]), True),
    (lambda: ExceptionGroup("", [CannotRestart(), ValueError("beside it")]), True),
    (CannotRestart, False),
    (ClientDisconnected, False),
    (lambda: ApplicationExited(1), False),
    (lambda: ExceptionGroup("", [ExceptionGroup("", [CannotRestart()])]), False),
]


# Few whole seconds, so that crashes often meet the edge of the period exactly.
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(ERRORS), st.integers(0, 9)), max_size=12),
    st.integers(0, 3),
    st.integers(1, 5),
)
def test_a_scope_goes_on_where_it_can_at_most_so_often_within_the_period(
    crashes: list[tuple[int, tuple[Callable[[], Exception], bool], int]],
    intensity: int,
    period: int,
) -> None:
    restarts = ScopeRestarts(intensity, period)
    now = 0
    times: list[int] = []
    for pause, (make, may_help), luck in crashes:
        now += pause
        error, possible = make(), luck > 0
        restart = restarts.after(error, now, possible=possible)
        recent = [then for then in times if then >= now - period]
        exhausted = possible and may_help and len(recent) >= intensity
        assert bool(getattr(error, "__notes__", [])) == exhausted
        if exhausted or not (possible and may_help):
            assert restart is None
            return
        times.append(now)
        assert restart == RestartedInPlace(Crash(flatten(error)), len(times))


@pytest.mark.parametrize("limits", [{"intensity": -1}, {"period": 0.0}])
def test_a_limit_that_makes_no_sense_is_refused_where_it_is_said(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(limits))):
        restarts_in_place(**limits)


# Over a server.


@speaks("trio")
@restarts_in_place(intensity=2)
async def resilient(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer texts with their number over all calls; fail, or end, when told to."""
    if EXTENSION not in scope["extensions"]:
        assert (await receive())["type"] == "websocket.connect"
        if scope["path"] == "/early":
            raise ValueError("not accepted yet")
        await send({"type": "websocket.accept"})
        scope["answers"] = 0
    while (message := await receive())["type"] == "websocket.receive":
        word = message["text"]
        match word:
            case "fail":
                raise ValueError("as told")
            case "exit":
                raise SystemExit(3)
            case "give up":
                raise CannotRestart
            case "close and fail":
                await send({"type": "websocket.close", "code": 4000})
                raise ValueError("as told")
            case _:
                scope["answers"] += 1
                await send_text(send, f"{scope['answers']} {word}")


async def send_text(send: Send, value: object) -> None:
    await send({"type": "websocket.send", "text": str(value)})


def messages_of(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def client_text(payload: str) -> bytes:
    """Make a client's text frame, masked with zeros."""
    data = payload.encode()
    assert len(data) < 126
    return bytes((0x81, 0x80 | len(data))) + bytes(4) + data


def server_text(payload: str) -> bytes:
    return bytes((0x81, len(payload))) + payload.encode()


HANDSHAKE = get(
    "/",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


async def open_raw(site: Site) -> RawClient:
    client = await site.connect()
    await client.send(HANDSHAKE)
    assert (await client.receive_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    return client


async def test_an_application_that_failed_goes_on_with_what_waits_and_the_client_sees_nothing(
    start_site: StartSite, caplog: pytest.LogCaptureFixture
) -> None:
    site = await start_site(resilient)
    async with await open_raw(site) as client:
        said = ("a", "fail", "b", "c", "fail", "d")
        await client.send(b"".join(map(client_text, said)))
        expected = b"".join(map(server_text, ("1 a", "2 b", "3 c", "4 d")))
        assert await client.receive_until(b"4 d") == expected  # and not a byte between them
    assert [text.rpartition(" ")[2] for text in messages_of(caplog, logging.WARNING)] == [
        "1)",
        "2)",
    ]
    failed = "the application failed in websocket / of 127.0.0.1"
    assert all(text.startswith(failed) for text in messages_of(caplog, logging.WARNING))
    assert messages_of(caplog, logging.ERROR) == []


async def test_a_thousandth_crash_is_survived_if_the_last_is_long_ago(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    restarts: list[RestartedInPlace] = []

    @restarts_in_place(intensity=1, period=10)
    async def fail_at_times(scope: Scope, receive: Receive, send: Send) -> None:
        if EXTENSION in scope.get("extensions", {}):
            restarts.append(scope["extensions"][EXTENSION])
        if len(restarts) < 1000:
            await trio.sleep(11)
            raise ValueError(len(restarts))

    async with open_scopes(fail_at_times) as scopes:
        assert isinstance(await scopes.open({"type": "chat"}, send=never).join(), Normal)
    assert [restart.count for restart in restarts] == list(range(1, 1001))
    assert [restart.cause.leaves[0].args for restart in restarts] == [(n,) for n in range(1000)]


async def never(message: Message) -> None:
    raise AssertionError(f"nobody should send {message}")


async def test_one_crash_too_many_closes_with_1011_and_says_why(
    start_site: StartSite, caplog: pytest.LogCaptureFixture
) -> None:
    site = await start_site(resilient)
    async with open_websocket(site.port) as websocket, open_websocket(site.port) as other:
        for _ in range(3):
            await websocket.send_message("fail")
        assert await close_code(websocket) == 1011
        await other.send_message("here")
        assert await other.get_message() == "1 here"
    (failure,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert failure.exc_info is not None
    assert failure.exc_info[1] is not None
    (note,) = failure.exc_info[1].__notes__
    assert "more than 2 restarts within 5 seconds" in note


async def test_an_application_that_fails_at_once_each_time_ends_soon() -> None:
    calls = 0

    @restarts_in_place(intensity=4)
    async def spin(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        raise ValueError(calls)

    async with open_scopes(spin) as scopes:
        reason = await scopes.open({"type": "chat"}, send=never).join()
    assert calls == 5
    assert isinstance(reason, Crash)
    assert reason.error.args == (5,)


async def test_an_application_that_always_fails_at_once_keeps_nobody_from_stopping_it() -> None:
    calls = 0

    @restarts_in_place(intensity=100)
    async def spin(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        raise ValueError("again")

    async with open_scopes(spin) as scopes:
        conversation = scopes.open({"type": "chat"}, send=never)
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        conversation.stop()
        assert isinstance(await conversation.join(), Crash | Shutdown)
    assert 5 < calls < 15


@pytest.mark.parametrize("word", ["exit", "give up"])
async def test_an_end_that_is_meant_is_none_to_restart_from(
    word: str, start_site: StartSite, caplog: pytest.LogCaptureFixture
) -> None:
    site = await start_site(resilient)
    async with open_websocket(site.port) as websocket:
        await websocket.send_message(word)
        assert await close_code(websocket) == 1011
    assert messages_of(caplog, logging.WARNING) == []


async def test_nothing_is_restarted_before_it_was_accepted_or_once_it_was_closed(
    start_site: StartSite, caplog: pytest.LogCaptureFixture
) -> None:
    site = await start_site(resilient)
    async with await site.connect() as client:
        await client.send(HANDSHAKE.replace(b"GET / ", b"GET /early "))
        assert (await client.receive_until(b"\r\n")).startswith(b"HTTP/1.1 500 ")
    async with open_websocket(site.port) as websocket:
        await websocket.send_message("close and fail")
        assert await close_code(websocket) == 4000
    assert messages_of(caplog, logging.WARNING) == []
    assert len(messages_of(caplog, logging.ERROR)) == 2


async def test_a_request_of_http_is_never_restarted(start_site: StartSite) -> None:
    calls = 0

    @speaks("trio")
    @restarts_in_place()
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        raise ValueError(calls)

    site = await start_site(fail)
    async with await site.connect() as client:
        assert (await client.ask(get("/", "Connection: close"))).startswith(b"HTTP/1.1 500 ")
    assert calls == 1


@pytest.mark.parametrize("protocol", ["http", "websocket", "lifespan"])
async def test_a_scope_of_asgi_is_never_restarted_by_who_cannot_know_how_far_it_has_come(
    protocol: str,
) -> None:
    calls = 0

    @restarts_in_place()
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        raise ValueError(calls)

    async with open_scopes(fail) as scopes:
        assert isinstance(await scopes.open({"type": protocol}, send=never).join(), Crash)
    assert calls == 1


async def test_an_application_without_the_mark_is_called_once(start_site: StartSite) -> None:
    calls = 0

    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        await send({"type": "websocket.accept"})
        raise ValueError(calls)

    site = await start_site(fail)
    async with open_websocket(site.port) as websocket:
        assert await close_code(websocket) == 1011
    assert calls == 1


@restarts_in_place()
class Held:
    """An application that fails when the test lets it go."""

    def __init__(self) -> None:
        self.calls = 0
        self.waits, self.go_on = trio.Event(), trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        await send({"type": "websocket.accept"})
        self.waits.set()
        await self.go_on.wait()
        raise ValueError(self.calls)


async def test_nothing_is_restarted_while_the_server_stops(start_site: StartSite) -> None:
    app = Held()
    site = await start_site(app)
    async with open_websocket(site.port) as websocket:
        await app.waits.wait()
        site.server.stop()
        assert await close_code(websocket) == 1012
        app.go_on.set()
    assert app.calls == 1


async def test_nothing_is_restarted_once_the_client_has_left(start_site: StartSite) -> None:
    app = Held()
    site = await start_site(app)
    async with open_websocket(site.port):
        await app.waits.wait()
    app.go_on.set()
    await trio.testing.wait_all_tasks_blocked()
    assert site.server.running() == []
    assert app.calls == 1


async def test_a_restarted_application_is_told_of_the_stop(start_site: StartSite) -> None:
    site = await start_site(resilient)
    async with open_websocket(site.port) as websocket:
        await websocket.send_message("fail")
        await websocket.send_message("back")
        assert await websocket.get_message() == "1 back"
        site.server.stop()
        assert await close_code(websocket) == 1012


async def test_a_failure_while_it_is_cancelled_is_the_end() -> None:
    calls = 0

    @restarts_in_place()
    async def fail_in_the_end(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        try:
            await receive()
        finally:
            raise ValueError("as it cleaned up")

    async with open_scopes(fail_in_the_end) as scopes:
        conversation = scopes.open({"type": "chat"}, send=never)
        await trio.testing.wait_all_tasks_blocked()
        conversation.stop()
        assert isinstance(await conversation.join(), Crash)
    assert calls == 1


async def test_a_conversation_goes_on_with_what_its_scope_holds() -> None:
    extensions: dict[str, Any] = {"chat": {}}
    replies: list[int] = []
    restarts: list[RestartedInPlace] = []

    @restarts_in_place()
    async def add(scope: Scope, receive: Receive, send: Send) -> None:
        assert "chat" in scope["extensions"]
        assert EXTENSION not in extensions  # which a server may share between its scopes
        if EXTENSION in scope["extensions"]:
            restarts.append(scope["extensions"][EXTENSION])
        while text := (await receive())["text"]:
            scope["total"] = scope.get("total", 0) + int(text)
            await send({"type": "chat.message", "total": scope["total"]})

    async def reply(message: Message) -> None:
        replies.append(message["total"])

    scope = {"type": "chat", "extensions": extensions}
    async with open_scopes(add) as scopes:
        conversation = scopes.open(scope, send=reply)
        for text in ("1", "two", "3", ""):
            await conversation.feed({"type": "chat.message", "text": text})
        assert isinstance(await conversation.join(), Normal)
    assert replies == [1, 4]
    ((error,),) = [restart.cause.leaves for restart in restarts]
    assert isinstance(error, ValueError)
    # The crash is not kept.
    assert scope["extensions"] == {"chat": {}}
