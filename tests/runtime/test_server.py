import errno
import logging
import signal
import socket
import ssl
import struct
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from tests.runtime.serving import RawClient, StartSite, get, open_websocket

from greenroom.runtime import (
    Access,
    LifespanFailed,
    Receive,
    Scope,
    Send,
    ServerConfig,
    StoppedAtStart,
    open_tcp,
    open_unix,
    serve,
)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4001})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def test_a_unix_socket_is_served_and_its_scopes_name_no_client(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    scopes: list[Scope] = []

    async def record(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await hello(scope, receive, send)

    path = str(tmp_path / "greenroom.sock")
    config = ServerConfig(lifespan="off")
    run = partial(serve, record, listeners=open_unix(path), config=config)
    server = await nursery.start(run)
    async with RawClient(await trio.open_unix_socket(path)) as client:
        assert (await client.ask(get("/", "Connection: close"))).endswith(b"hello")
    assert scopes[0]["client"] is None
    assert scopes[0]["server"] == (path, None)
    assert path in server.addresses[0]


async def test_tls_is_served_and_its_scopes_say_so(nursery: trio.Nursery) -> None:
    scopes: list[Scope] = []

    async def record(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await hello(scope, receive, send)

    authority = trustme.CA()
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(ours)
    theirs = ssl.create_default_context()
    authority.configure_trust(theirs)
    [listener] = open_tcp("127.0.0.1", 0)
    port = listener.getsockname()[1]
    config = ServerConfig(lifespan="off")
    await nursery.start(
        partial(serve, record, listeners=[listener], config=config, ssl_context=ours)
    )
    async with await trio.open_tcp_stream("127.0.0.1", port) as plain:
        await plain.send_all(get())  # no TLS at all: dropped, and nobody else minds
        assert not (await plain.receive_some()).startswith(b"HTTP")
    stream = trio.SSLStream(
        await trio.open_tcp_stream("127.0.0.1", port), theirs, server_hostname="localhost"
    )
    async with RawClient(stream) as client:
        assert (await client.ask(get("/", "Connection: close"))).endswith(b"hello")
    assert scopes[0]["scheme"] == "https"


async def test_every_request_and_every_step_of_a_websocket_is_told_once(
    start_site: StartSite,
) -> None:
    told: list[Access] = []
    site = await start_site(hello, on_access=told.append)
    async with await site.connect() as client:
        await client.ask(get("/page", "Connection: close"))
    async with open_websocket(site.port, "/socket"):
        await trio.testing.wait_all_tasks_blocked()
    while site.server.connections:
        await trio.testing.wait_all_tasks_blocked()
    assert [(access.scope["path"], access.step, access.status) for access in told] == [
        ("/page", "response", 200),
        ("/socket", "handshake", 0),
        ("/socket", "accept", 101),
        ("/socket", "close", 4001),
    ]
    assert all(access.seconds >= 0 for access in told)


async def test_headers_that_pass_for_those_of_a_proxy_are_dropped(start_site: StartSite) -> None:
    scopes: list[Scope] = []

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await hello(scope, receive, send)

    site = await start_site(note)
    mixed = ("X_Real_IP: ::1", "X-Real-IP: 203.0.113.9", "_: 1")
    async with await site.connect() as client:
        await client.ask(get("/", "Connection: close", *mixed))
    headers = [(b"X_Real_IP", b"::1"), (b"x-real-ip", b"203.0.113.9")]
    async with open_websocket(site.port, "/socket", headers=headers):
        pass
    for scope in scopes:
        assert [value for name, value in scope["headers"] if b"real" in name] == [b"203.0.113.9"]
    assert [scope["type"] for scope in scopes] == ["http", "websocket"]


@pytest.mark.parametrize("half", [False, True], ids=["closes", "sends no more"])
@pytest.mark.parametrize(("begun", "status"), [(False, 499), (True, 200)])
async def test_a_request_whose_client_leaves_is_told_with_what_was_sent(
    begun: bool, status: int, half: bool, start_site: StartSite
) -> None:
    async def wait_for_the_end(_scope: Scope, receive: Receive, send: Send) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"part", "more_body": True})
        asked.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    asked = trio.Event()
    told: list[Access] = []
    site = await start_site(wait_for_the_end, on_access=told.append)
    async with await site.connect() as client:
        await client.send(get("/"))
        await asked.wait()
        if half:
            assert isinstance(client.stream, trio.SocketStream)
            await client.stream.send_eof()
            while await client.receive_some():
                pass
    while site.server.connections or site.server.scopes:
        await trio.testing.wait_all_tasks_blocked()
    assert [(access.step, access.status) for access in told] == [("response", status)]


async def test_running_out_of_descriptors_only_delays_new_connections(
    start_site: StartSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site = await start_site(hello)
    accept = socket.socket._accept  # type: ignore[attr-defined]
    refusals = 2

    def refuse_at_first(listener: socket.socket) -> Any:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "_accept", refuse_at_first)
    monkeypatch.setattr("greenroom.runtime.server.TICK", 0.01)
    async with await site.connect() as client:
        assert (await client.ask(get("/", "Connection: close"))).endswith(b"hello")
    assert "can't accept a connection now" in caplog.text


async def test_the_lifespan_surrounds_the_scopes_and_each_gets_a_copy_of_its_state(
    nursery: trio.Nursery,
) -> None:
    states: list[dict[str, Any]] = []
    steps: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["pool"] = "shared"
            steps.append("started")
            await send({"type": "lifespan.startup.complete"})
            await receive()
            steps.append("stopped")
            await send({"type": "lifespan.shutdown.complete"})
            return
        states.append(scope["state"])
        scope["state"]["mine"] = len(states)
        await hello(scope, receive, send)

    [listener] = open_tcp("127.0.0.1", 0)
    port = listener.getsockname()[1]
    async with trio.open_nursery() as serving:
        server = await serving.start(partial(serve, app, listeners=[listener]))
        assert steps == ["started"]
        for _ in range(2):
            async with RawClient(await trio.open_tcp_stream("127.0.0.1", port)) as client:
                await client.ask(get("/", "Connection: close"))
        server.stop()
    assert steps == ["started", "stopped"]
    assert states == [{"pool": "shared", "mine": 1}, {"pool": "shared", "mine": 2}]


async def test_an_application_that_refuses_to_start_is_not_served() -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    [listener] = open_tcp("127.0.0.1", 0)
    with pytest.raises(LifespanFailed, match="no database"):
        await serve(refuse, listeners=[listener])
    assert listener.fileno() == -1


async def test_a_lifespan_that_does_not_end_is_cancelled_at_the_deadline(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    async def stuck(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        config = ServerConfig(graceful_timeout=10)
        server = await nursery.start(partial(serve, stuck, listeners=[], config=config))
        began = trio.current_time()
        server.stop()
    assert trio.current_time() - began == pytest.approx(10)
    assert "lifespan did not end in time" in caplog.text


async def test_a_signal_while_the_application_starts_up_ends_the_server_at_once() -> None:
    starting = trio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        starting.set()
        await trio.sleep_forever()

    async def stop_when_starting() -> None:
        await starting.wait()
        signal.raise_signal(signal.SIGTERM)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_when_starting)
        with pytest.raises(StoppedAtStart):
            await serve(slow, listeners=[], signals=[signal.SIGTERM])


async def test_a_client_that_resets_before_tls_begins_harms_nobody(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(ours)
    [listener] = open_tcp("127.0.0.1", 0)
    address = listener.getsockname()
    config = ServerConfig(lifespan="off")
    await nursery.start(
        partial(serve, hello, listeners=[listener], config=config, ssl_context=ours)
    )
    for _ in range(20):
        with socket.create_connection(address) as client:
            linger = struct.pack("ii", 1, 0)  # closing sends a reset
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await trio.testing.wait_all_tasks_blocked()
    theirs = ssl.create_default_context()
    authority.configure_trust(theirs)
    stream = trio.SSLStream(
        await trio.open_tcp_stream(*address), theirs, server_hostname="localhost"
    )
    async with RawClient(stream) as client:
        assert (await client.ask(get("/", "Connection: close"))).endswith(b"hello")


async def test_a_second_stop_waits_for_nobody(
    start_site: StartSite, autojump_clock: trio.testing.MockClock
) -> None:
    async def forever(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep_forever()

    site = await start_site(forever, graceful_timeout=3600)
    client = site.connect_in_memory()
    await client.send(get())
    await trio.testing.wait_all_tasks_blocked()
    began = trio.current_time()
    site.server.stop()
    site.server.stop()
    await client.receive_all()
    assert trio.current_time() - began < 60


async def test_a_stop_refuses_new_connections(start_site: StartSite) -> None:
    go_on = trio.Event()

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await hello(scope, receive, send)

    site = await start_site(wait)
    async with await site.connect() as client:
        await client.send(get())
        await trio.testing.wait_all_tasks_blocked()
        site.server.stop()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(OSError, match="all attempts to connect"):
            await site.connect()
        go_on.set()
        assert (await client.receive_all()).endswith(b"hello")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"lifespan": "maybe"}, "lifespan"),
        ({"root_path": "mount/"}, "root_path"),
        ({"graceful_timeout": -1}, "graceful_timeout"),
        ({"keep_alive_timeout": float("nan")}, "keep_alive_timeout"),
        ({"websocket_ping_interval": 0}, "websocket_ping_interval"),
        ({"request_timeout": 0}, "request_timeout"),
        ({"application_close_timeout": -1}, "application_close_timeout"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ServerConfig(**settings)


async def test_a_fault_of_one_connection_is_not_the_servers(
    start_site: StartSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong while one client's bytes are taken in, the others go on."""
    site = await start_site(hello)
    async with await site.connect() as neighbour, await site.connect() as client:
        await neighbour.send(get())
        await neighbour.receive_until(b"hello")
        with monkeypatch.context() as patch:
            patch.setattr("greenroom.runtime._connection.Connection._take", lambda *_: 1 / 0)
            await client.send(get())
            assert await client.receive_all() == b""
        await neighbour.send(get())
        await neighbour.receive_until(b"hello")
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
