"""A server behind a proxy, over real sockets: whom its scopes, its access log and its log name."""

import logging
import ssl
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from tests.runtime.serving import RawClient, StartSite, get, open_websocket

from greenroom.runtime import (
    Access,
    App,
    Receive,
    RequestLimits,
    Scope,
    Send,
    ServerConfig,
    open_tcp,
    open_unix,
    serve,
)

FOR = "X-Forwarded-For: 10.9.9.9, 203.0.113.7:5000"
HTTPS = "X-Forwarded-Proto: https"
CLOSE = "Connection: close"
SEEN = ("203.0.113.7", 5000)


class Recorder:
    """An application that keeps its scopes, and says hello in both protocols."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "hello"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    @property
    def seen(self) -> list[tuple[Any, str]]:
        return [(scope["client"], scope["scheme"]) for scope in self.scopes]


async def crash(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("it breaks")


async def test_a_request_is_the_client_s_and_its_headers_stay(start_site: StartSite) -> None:
    app = Recorder()
    told: list[Access] = []
    site = await start_site(app, forwarded_allow_ips=["127.0.0.1"], on_access=told.append)
    async with await site.connect() as client:
        await client.ask(get("/", FOR, HTTPS, "X-Forwarded-Host: example.com", CLOSE))
    assert app.seen == [(SEEN, "https")]
    assert app.scopes[0]["server"] == ("127.0.0.1", site.port)
    assert app.scopes[0]["headers"] == [
        (b"host", b"localhost"),
        (b"x-forwarded-for", b"10.9.9.9, 203.0.113.7:5000"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"example.com"),
        (b"connection", b"close"),
    ]
    assert [access.scope["client"] for access in told] == [SEEN]


async def test_each_request_of_a_connection_has_a_client_of_its_own(
    start_site: StartSite,
) -> None:
    app = Recorder()
    site = await start_site(app, forwarded_allow_ips=["127.0.0.1"])
    async with await site.connect() as client:
        await client.send(get("/", FOR) + get("/", "X-Forwarded-For: 203.0.113.8", HTTPS))
        await client.ask(get("/", CLOSE))
        host, port = client.stream.socket.getsockname()  # type: ignore[attr-defined]
    assert app.seen == [
        (SEEN, "http"),
        (("203.0.113.8", 0), "https"),
        ((host, port), "http"),
    ]


async def test_a_websocket_is_the_client_s(start_site: StartSite) -> None:
    app = Recorder()
    told: list[Access] = []
    site = await start_site(app, forwarded_allow_ips=["127.0.0.1"], on_access=told.append)
    headers = [(b"X-Forwarded-For", b"203.0.113.7"), (b"X-Forwarded-For", b"127.0.0.1")]
    proto = (b"X-Forwarded-Proto", b"https")
    async with open_websocket(site.port, headers=[*headers, proto]) as websocket:
        assert await websocket.get_message() == "hello"
    assert app.seen == [(("203.0.113.7", 0), "wss")]
    assert {access.scope["client"] for access in told} == {("203.0.113.7", 0)}


async def test_with_forwarded_chosen_that_header_counts(start_site: StartSite) -> None:
    app = Recorder()
    site = await start_site(app, forwarded_allow_ips="127.0.0.1", forwarded_header="forwarded")
    async with await site.connect() as client:
        element = 'Forwarded: for="[2001:db8::7]:5000";proto=https'
        await client.ask(get("/", FOR, element, "X-Forwarded-Proto: http", CLOSE))
    assert app.seen == [(("2001:db8::7", 5000), "https")]


@pytest.mark.parametrize("settings", [{}, {"forwarded_allow_ips": ["10.0.0.0/8", "unix"]}])
async def test_nobody_else_is_believed(start_site: StartSite, settings: dict[str, Any]) -> None:
    app = Recorder()
    site = await start_site(app, **settings)
    async with await site.connect() as client:
        await client.ask(get("/", FOR, HTTPS, "Forwarded: for=203.0.113.7;proto=https", CLOSE))
    async with open_websocket(site.port, headers=[(b"X-Forwarded-For", b"203.0.113.7")]):
        pass
    assert [(client[0], scheme) for client, scheme in app.seen] == [
        ("127.0.0.1", "http"),
        ("127.0.0.1", "ws"),
    ]


@pytest.mark.parametrize(
    ("trusted", "seen"),
    [("unix", (SEEN, "https")), ("*", (SEEN, "https")), ("127.0.0.1", (None, "http"))],
)
async def test_a_peer_over_a_unix_socket_is_trusted_by_name(
    nursery: trio.Nursery, tmp_path: Path, trusted: str, seen: tuple[Any, str]
) -> None:
    app = Recorder()
    path = str(tmp_path / "greenroom.sock")
    config = ServerConfig(lifespan="off", forwarded_allow_ips=trusted)
    await nursery.start(partial(serve, app, listeners=open_unix(path), config=config))
    async with RawClient(await trio.open_unix_socket(path)) as client:
        await client.ask(get("/", FOR, HTTPS, CLOSE))
    handshake = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    async with RawClient(await trio.open_unix_socket(path)) as client:
        key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
        await client.send(get("/", FOR, HTTPS, *handshake, key))
        assert (await client.receive_until(b"\x81\x05hello")).startswith(b"HTTP/1.1 101 ")
    client_seen, scheme = seen
    assert app.seen == [seen, (client_seen, scheme.replace("http", "ws"))]


async def test_a_proxy_over_tls_tells_of_a_client_without_it(nursery: trio.Nursery) -> None:
    app = Recorder()
    authority = trustme.CA()
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(ours)
    theirs = ssl.create_default_context()
    authority.configure_trust(theirs)
    [listener] = open_tcp("127.0.0.1", 0)
    port = listener.getsockname()[1]
    config = ServerConfig(lifespan="off", forwarded_allow_ips=["127.0.0.1"])
    await nursery.start(partial(serve, app, listeners=[listener], config=config, ssl_context=ours))
    for headers in ([FOR, "X-Forwarded-Proto: http"], [FOR]):
        plain = await trio.open_tcp_stream("127.0.0.1", port)
        stream = trio.SSLStream(plain, theirs, server_hostname="localhost")
        async with RawClient(stream) as client:
            await client.ask(get("/", *headers, CLOSE))
    assert app.seen == [(SEEN, "http"), (SEEN, "https")]


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded"])
@pytest.mark.parametrize(
    "value",
    [
        b"unknown",
        b"203.0.113.7%eth0",
        b"0203.0.113.7",
        b"[::1",
        b"\xff\xfe",
        b'for="',
        b"for=203.0.113.7\t;;;=",
        b"203.0.113.7, " * 5000 + b"unknown",
        b"," * 65_000,
        b'"' * 65_000,
        b'for="' + b"\\," * 32_000,
        b";" * 65_000,
    ],
)
async def test_garbage_from_a_proxy_is_answered_as_its_own_request(
    start_site: StartSite, header: Any, value: bytes
) -> None:
    app = Recorder()
    site = await start_site(
        app,
        forwarded_allow_ips=["127.0.0.1"],
        forwarded_header=header,
        request_limits=RequestLimits(max_head_size=100_000),
    )
    async with await site.connect() as client:
        line = header.encode() + b": " + value
        request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + line + b"\r\n\r\n"
        assert (await client.ask(request)).endswith(b"hello")
    [(address, scheme)] = app.seen
    assert (address[0], scheme) == ("127.0.0.1", "http")


@pytest.mark.parametrize("character", [b"\x00", b"\r", b"\n", b"\x0b", b"\x1b", b"\x7f"])
async def test_a_control_character_in_the_header_is_refused_before_it_is_read(
    start_site: StartSite, character: bytes
) -> None:
    app = Recorder()
    site = await start_site(app, forwarded_allow_ips=["127.0.0.1"])
    async with await site.connect() as client:
        line = b"X-Forwarded-For: 203.0.113.7" + character + b"x"
        answer = await client.ask(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert app.scopes == []


@pytest.mark.parametrize(
    ("app", "lines", "logged"),
    [
        (crash, [], "http GET /broken of 203.0.113.7:5000"),
        (
            Recorder(),
            ["Upgrade: websocket", "Connection: Upgrade"],  # and no version
            "refused websocket /broken of 203.0.113.7:5000: 426",
        ),
    ],
)
async def test_the_log_names_the_client(
    start_site: StartSite,
    caplog: pytest.LogCaptureFixture,
    app: App,
    lines: list[str],
    logged: str,
) -> None:
    site = await start_site(app, forwarded_allow_ips=["127.0.0.1"])
    with caplog.at_level(logging.INFO):
        async with await site.connect() as client:
            await client.ask(get("/broken", FOR, *(lines or [CLOSE])))
    assert logged in caplog.text
    assert "127.0.0.1" not in caplog.text
