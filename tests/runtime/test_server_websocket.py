import asyncio
import logging
from typing import Any

import pytest
import trio
import trio.testing
import trio_websocket
from tests.runtime.serving import RawClient, StartSite, open_websocket, site_starter
from websockets.sync.client import connect as connect_with_websockets

from greenroom.runtime import Access, Message, Receive, Scope, Send, WebSocketLimits

ACCEPT = {"type": "websocket.accept"}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept, and send back whatever comes."""
    assert (await receive())["type"] == "websocket.connect"
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        answer = {key: message[key] for key in ("text", "bytes") if message.get(key) is not None}
        await send({"type": "websocket.send", **answer})


class Recorder:
    """An application that accepts, and keeps every event."""

    def __init__(self) -> None:
        self.events: list[Message] = []
        self.ended = trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        while True:
            self.events.append(await receive())
            if self.events[-1]["type"] == "websocket.disconnect":
                self.ended.set()
                return


def upgrade(path: str = "/", *headers: str) -> bytes:
    """Make the head of a handshake; the key is RFC 6455's own example."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def text(payload: str) -> bytes:
    """Make a client's text frame, masked with zeros."""
    data = payload.encode()
    assert len(data) < 126
    return bytes((0x81, 0x80 | len(data))) + bytes(4) + data


async def open_raw(client: RawClient, *headers: str) -> None:
    await client.send(upgrade("/", *headers))
    assert (await client.receive_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")


async def test_texts_and_bytes_come_back_also_empty_ones(start_site: StartSite) -> None:
    site = await start_site(echo)
    async with open_websocket(site.port) as websocket:
        for message in ("hello", "", b"\x00\xff", b"", "ü" * 40_000, b"x" * 200_000):
            await websocket.send_message(message)
            assert await websocket.get_message() == message


async def test_compressed_messages_come_back(start_site: StartSite) -> None:
    site = await start_site(echo)

    def talk() -> tuple[list[str | bytes], list[str]]:
        with connect_with_websockets(f"ws://127.0.0.1:{site.port}/") as websocket:
            received = []
            for message in ("hello " * 1000, b"\x01" * 5000, ""):
                websocket.send(message)
                received.append(websocket.recv())
            return received, [each.name for each in websocket.protocol.extensions]

    received, extensions = await trio.to_thread.run_sync(talk)
    assert received == ["hello " * 1000, b"\x01" * 5000, ""]
    assert extensions == ["permessage-deflate"]


async def test_the_scope_says_what_was_asked(start_site: StartSite) -> None:
    scopes: list[Scope] = []

    async def record(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await send({**ACCEPT, "subprotocol": "b", "headers": [(b"x-answer", b"42")]})
        await receive()
        await receive()

    site = await start_site(record)
    async with open_websocket(site.port, "/chat/?a=1", subprotocols=["a", "b"]) as websocket:
        assert websocket.subprotocol == "b"
        assert (b"x-answer", b"42") in websocket.handshake_headers
    [scope] = scopes
    assert scope["type"] == "websocket"
    assert scope["scheme"] == "ws"
    assert scope["path"] == "/chat/"
    assert scope["query_string"] == b"a=1"
    assert scope["subprotocols"] == ["a", "b"]
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert "websocket.http.response" in scope["extensions"]
    assert "method" not in scope


async def test_the_application_learns_the_clients_close_code_and_reason(
    start_site: StartSite,
) -> None:
    recorder = Recorder()
    site = await start_site(recorder)
    async with open_websocket(site.port) as websocket:
        await websocket.aclose(4321, "bye")
    await recorder.ended.wait()
    assert recorder.events[-1] == {"type": "websocket.disconnect", "code": 4321, "reason": "bye"}


async def test_the_client_learns_the_applications_close_code_and_reason(
    start_site: StartSite,
) -> None:
    async def leave(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await send({"type": "websocket.close", "code": 4000, "reason": "enough"})

    site = await start_site(leave)
    async with open_websocket(site.port) as websocket:
        with pytest.raises(trio_websocket.ConnectionClosed) as closed:
            await websocket.get_message()
    assert closed.value.reason is not None
    assert (closed.value.reason.code, closed.value.reason.reason) == (4000, "enough")


async def test_a_client_that_vanishes_is_a_disconnect_with_1006(start_site: StartSite) -> None:
    recorder = Recorder()
    site = await start_site(recorder)
    async with await site.connect() as client:
        await open_raw(client)
    await recorder.ended.wait()
    assert recorder.events[-1]["code"] == 1006


async def test_a_refused_handshake_is_403(start_site: StartSite) -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close"})

    site = await start_site(refuse)
    async with await site.connect() as client:
        assert (await client.ask(upgrade())).startswith(b"HTTP/1.1 403 ")


async def test_a_denial_response_reaches_the_client(start_site: StartSite) -> None:
    async def deny(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "websocket.http.response.start", "status": 404, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"no such room"})

    site = await start_site(deny)
    async with await site.connect() as client:
        answer = await client.ask(upgrade())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b"no such room")


async def test_a_wrong_version_of_the_protocol_is_answered_by_426(start_site: StartSite) -> None:
    site = await start_site(echo)
    async with await site.connect() as client:
        answer = await client.ask(upgrade().replace(b"Version: 13", b"Version: 8"))
    assert answer.startswith(b"HTTP/1.1 426 ")
    assert b"sec-websocket-version: 13" in answer


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x83\x80" + bytes(4), 1002),  # opcode 3 is reserved
        (b"\x81\x01a", 1002),  # a client's frame must be masked
        (b"\x81\x82" + bytes(4) + b"\xc3\x28", 1007),
        (b"\x82\xfe\x08\x00" + bytes(4), 1009),  # announces 2048 bytes
    ],
)
async def test_a_broken_frame_closes_with_the_code_for_it(
    start_site: StartSite, frame: bytes, code: int
) -> None:
    recorder = Recorder()
    limits = WebSocketLimits(max_message_size=1024)
    site = await start_site(recorder, websocket_limits=limits)
    async with await site.connect() as client:
        await open_raw(client)
        answer = await client.ask(frame)
    assert answer[0] == 0x88
    assert int.from_bytes(answer[2:4], "big") == code
    await recorder.ended.wait()
    assert recorder.events[-1]["code"] == code


async def raise_value_error() -> None:
    raise ValueError("broken")


async def raise_asyncio_cancelled() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("fail", [raise_value_error, raise_asyncio_cancelled])
async def test_a_crash_closes_with_1011_is_logged_once_and_touches_nobody_else(
    start_site: StartSite, caplog: pytest.LogCaptureFixture, fail: Any
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/crash":
            await send(ACCEPT)
            await fail()
        await echo(scope, receive, send)

    site = await start_site(app)
    async with open_websocket(site.port) as neighbour:
        async with open_websocket(site.port, "/crash") as websocket:
            with pytest.raises(trio_websocket.ConnectionClosed) as closed:
                await websocket.get_message()
        await neighbour.send_message("still here")
        assert await neighbour.get_message() == "still here"
    assert closed.value.reason is not None
    assert closed.value.reason.code == 1011
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "websocket /crash of 127.0.0.1" in errors[0].getMessage()


async def test_a_crash_before_the_handshake_is_answered_is_500(start_site: StartSite) -> None:
    async def crash(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("early")

    site = await start_site(crash)
    async with await site.connect() as client:
        answer = await client.ask(upgrade())
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"early" not in answer


async def test_an_application_that_leaves_a_websocket_open_closes_it_with_1000(
    start_site: StartSite,
) -> None:
    async def return_early(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)

    site = await start_site(return_early)
    async with await site.connect() as client:
        await open_raw(client)
        frame = await client.receive_until(b"\x03\xe8")
    assert frame[0] == 0x88


async def test_messages_that_come_before_the_handshake_is_answered_are_not_lost(
    start_site: StartSite,
) -> None:
    go_on = trio.Event()

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await echo(scope, receive, send)

    site = await start_site(late)
    async with await site.connect() as client:
        await client.send(upgrade() + text("early"))
        await trio.testing.wait_all_tasks_blocked()
        await client.send(text("bird"))
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
        await client.receive_until(b"\x81\x05early\x81\x04bird")


async def test_an_application_that_does_not_receive_holds_its_client_back_and_loses_nothing(
    start_site: StartSite, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    go_on = trio.Event()
    received: list[str] = []
    count = 2000

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await receive()
        await go_on.wait()
        received.extend([(await receive())["text"] for _ in range(count)])
        await send({"type": "websocket.close"})

    site = await start_site(slow)
    client = site.connect_in_memory()
    await open_raw(client)
    sent = 0

    async def flood() -> None:
        nonlocal sent
        for number in range(count):
            await client.send(text(str(number)))
            sent += 1

    nursery.start_soon(flood)
    await trio.testing.wait_all_tasks_blocked()
    assert sent < 100
    go_on.set()
    await client.receive_until(b"\x03\xe8")
    assert received == [str(number) for number in range(count)]


async def test_a_client_that_does_not_read_holds_its_application_back(
    start_site: StartSite, autojump_clock: trio.testing.MockClock
) -> None:
    sent = 0

    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(ACCEPT)
        while True:
            await send({"type": "websocket.send", "bytes": b"x" * 10_000})
            sent += 1

    site = await start_site(talk)
    client = site.connect_in_memory()
    await client.send(upgrade())
    await trio.testing.wait_all_tasks_blocked()
    assert 1 <= sent <= 20


async def test_a_client_that_pings_and_does_not_read_is_not_read_either(
    start_site: StartSite, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    site = await start_site(echo)
    client = site.connect_in_memory()
    await open_raw(client)
    ping = b"\x89\xfd" + bytes(4) + b"p" * 125
    sent = 0

    async def flood() -> None:
        nonlocal sent
        for _ in range(3000):
            await client.send(ping)
            sent += 1

    nursery.start_soon(flood)
    await trio.testing.wait_all_tasks_blocked()
    assert sent * 127 < 150_000
    answered = 0
    while answered < 3000 * 127:
        answered += len(await client.receive_some())


async def test_a_close_frame_reaches_a_client_that_is_still_sending(start_site: StartSite) -> None:
    site = await start_site(echo)
    async with await site.connect() as client:
        await open_raw(client)
        await client.send(b"\x83\x80" + bytes(4) + text("x") * 5000)
        answer = await client.receive_until(b"\x03\xea")
        assert answer[0] == 0x88
        await client.send(text("x") * 5000)


async def test_receiving_after_the_disconnect_names_the_rule(
    start_site: StartSite, caplog: pytest.LogCaptureFixture
) -> None:
    ended = trio.Event()

    async def too_often(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        try:
            for _ in range(3):
                await receive()
        finally:
            ended.set()

    site = await start_site(too_often)
    async with await site.connect() as client:
        await open_raw(client)
    await ended.wait()
    await trio.testing.wait_all_tasks_blocked()
    assert "after it gave websocket.disconnect" in caplog.text


async def test_a_silent_client_is_pinged_and_closed_if_it_does_not_answer(
    start_site: StartSite, autojump_clock: trio.testing.MockClock
) -> None:
    recorder = Recorder()
    site = await start_site(recorder, websocket_ping_interval=20, websocket_ping_timeout=10)
    client = site.connect_in_memory()
    await open_raw(client)
    began = trio.current_time()
    ping = await client.receive_until(b"\x01")
    assert ping[0] == 0x89
    assert 20 <= trio.current_time() - began <= 22
    close = await client.receive_until(b"keepalive ping timeout")
    assert int.from_bytes(close[2:4], "big") == 1011
    assert 30 <= trio.current_time() - began <= 33
    await recorder.ended.wait()


async def test_a_client_that_answers_pings_stays(
    start_site: StartSite, autojump_clock: trio.testing.MockClock
) -> None:
    site = await start_site(echo, websocket_ping_interval=20)
    client = site.connect_in_memory()
    await open_raw(client)
    for _ in range(10):
        ping = await client.receive_some()
        assert ping[0] == 0x89
        await client.send(b"\x8a" + bytes((0x80 | ping[1],)) + bytes(4) + ping[2:])
    await client.send(text("alive"))
    await client.receive_until(b"alive")


async def test_a_client_that_is_not_read_is_not_taken_for_silent(
    start_site: StartSite, autojump_clock: trio.testing.MockClock
) -> None:
    received = 0

    async def busy(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal received
        await send(ACCEPT)
        await receive()
        await trio.sleep(600)
        while (await receive())["type"] == "websocket.receive":
            received += 1

    site = await start_site(busy, websocket_ping_interval=20, websocket_ping_timeout=10)
    client = site.connect_in_memory()
    await open_raw(client)
    await client.send(text("x") * 60)
    async with trio.open_nursery() as nursery:

        async def answer_pings() -> None:
            while True:
                ping = await client.receive_some()
                assert ping[0] == 0x89
                await client.send(b"\x8a" + bytes((0x80 | ping[1],)) + bytes(4) + ping[2:])

        nursery.start_soon(answer_pings)
        await trio.sleep(700)
        assert received == 60
        nursery.cancel_scope.cancel()


async def test_a_websocket_that_is_never_accepted_is_refused_in_the_end(
    start_site: StartSite,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:
    events: list[str] = []

    async def undecided(scope: Scope, receive: Receive, send: Send) -> None:
        while not events or events[-1] != "websocket.disconnect":
            events.append((await receive())["type"])

    site = await start_site(undecided, websocket_connect_timeout=20)
    client = site.connect_in_memory()
    began = trio.current_time()
    assert (await client.ask(upgrade("/room"))).startswith(b"HTTP/1.1 503 ")
    assert 20 <= trio.current_time() - began <= 35
    assert events == ["websocket.connect", "websocket.disconnect"]
    assert "websocket /room of 127.0.0.1:5000 was not accepted in time" in caplog.text


@pytest.mark.parametrize("limit", [10, None])
async def test_an_application_that_goes_on_after_its_client_is_named_and_cancelled_in_the_end(
    limit: float | None,
    start_site: StartSite,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:
    lives: list[float] = []

    async def busy(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        while (await receive())["type"] != "websocket.disconnect":
            pass
        began = trio.current_time()
        try:
            await trio.sleep(3600 if scope["path"] == "/stuck" else 8)
        finally:
            lives.append(round(trio.current_time() - began))

    site = await start_site(busy, application_close_timeout=limit)
    for path in ("/prompt", "/stuck"):
        async with site.connect_in_memory() as client:
            await client.send(upgrade(path))
            await client.receive_until(b"\r\n\r\n")
    await trio.sleep(4000)
    assert site.server.scopes == 0
    if limit is None:
        assert lives == [8, 3600]
        assert caplog.records == []
    else:
        assert lives[0] == 8
        assert 10 <= lives[1] <= 12
        [record] = caplog.records
        assert record.levelname == "WARNING"
        assert "websocket /stuck of 127.0.0.1:5000 goes on" in record.getMessage()


async def test_a_client_that_does_not_answer_a_close_is_dropped(
    start_site: StartSite, autojump_clock: trio.testing.MockClock
) -> None:
    async def leave(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await send({"type": "websocket.close"})

    site = await start_site(leave, close_timeout=10)
    client = site.connect_in_memory()
    await open_raw(client)
    began = trio.current_time()
    await client.receive_all()
    assert 10 <= trio.current_time() - began <= 12


async def test_a_stop_closes_with_1012_and_tells_the_application(start_site: StartSite) -> None:
    recorder = Recorder()
    site = await start_site(recorder)
    async with open_websocket(site.port) as websocket:
        site.server.stop()
        with pytest.raises(trio_websocket.ConnectionClosed) as closed:
            await websocket.get_message()
    assert closed.value.reason is not None
    assert closed.value.reason.code == 1012
    await recorder.ended.wait()
    assert recorder.events[-1]["code"] == 1012


async def test_cancelling_the_server_closes_with_1012_too() -> None:
    async with trio.open_nursery() as nursery:
        site = await site_starter(nursery)(Recorder())
        async with await site.connect() as client:
            await open_raw(client)
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                frame = await client.receive_all()
    assert frame[0] == 0x88
    assert int.from_bytes(frame[2:4], "big") == 1012


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("/at-once", [("reject", 500)]),
        ("/accepted", [("accept", 101), ("close", 1011)]),
        ("/late", [("reject", 503)]),
        ("/left", [("reject", 499)]),
    ],
)
async def test_websocket_that_fails_is_told_once(
    path: str,
    steps: list[tuple[str, int]],
    start_site: StartSite,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def crash(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        await receive()
        match scope["path"]:
            case "/accepted":
                await send({"type": "websocket.accept"})
            case "/late" | "/left":
                await receive()
        raise RuntimeError("crash")

    asked = trio.Event()
    told: list[Access] = []
    site = await start_site(crash, on_access=told.append)
    client = site.connect_in_memory()
    await client.send(upgrade(path))
    await asked.wait()
    if path != "/left":
        await client.receive_all()
    await client.stream.aclose()
    while site.server.connections or site.server.scopes:
        await trio.testing.wait_all_tasks_blocked()
    assert [(access.step, access.status) for access in told] == [("handshake", 0), *steps]
