"""The client and the scheme that a proxy tells: uvicorn beside Greenroom."""

import asyncio
from typing import Any, Final, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from greenroom.runtime import ServerConfig
from greenroom.runtime._forwarded import TrustedProxies
from greenroom.runtime._types import Address

Kind = Literal["http", "websocket"]
Headers = list[tuple[bytes, bytes]]
Found = tuple[Address, str]

TRUSTED: Final = "127.0.0.1, ::1, 10.0.0.0/8, 2001:db8:a::/48"
ADDRESSES: Final = (
    *("127.0.0.1", "::1", "10.0.0.1", "10.255.0.3", "2001:db8:a::5"),
    *("127.0.0.2", "11.0.0.1", "203.0.113.7", "2001:db8:b::5"),
)


def ours(trusted: str, kind: Kind, headers: Headers, peer: Address) -> Found:
    proxies = TrustedProxies(trusted)
    client, secure = peer, False
    if proxies.trusts(peer):
        client, secure = proxies.find_client(headers, peer, secure=False)
    return client, ("http" if kind == "http" else "ws") + "s" * secure


def theirs(trusted: str, kind: Kind, headers: Headers, peer: Address) -> Found:
    scopes: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)

    scheme = "http" if kind == "http" else "ws"
    scope: Any = {"type": kind, "scheme": scheme, "headers": headers, "client": peer}
    asyncio.run(ProxyHeadersMiddleware(app, trusted)(scope, None, None))  # type: ignore[arg-type]
    return scopes[0]["client"], scopes[0]["scheme"]


def with_port(address: str, port: int | None) -> str:
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


entries = st.builds(with_port, st.sampled_from(ADDRESSES), st.sampled_from([None, None, 0, 443]))
for_lines = st.lists(
    st.lists(entries, min_size=1, max_size=4).map(
        lambda texts: (b"x-forwarded-for", ", ".join(texts).encode())
    ),
    max_size=3,
)
proto_lines = st.lists(
    st.sampled_from([b"http", b"https", b"on", b""]).map(lambda text: (b"x-forwarded-proto", text)),
    max_size=1,
)
others = st.just([(b"forwarded", b"for=10.0.0.9;proto=https"), (b"x-real-ip", b"10.0.0.9")])
kinds: st.SearchStrategy[Kind] = st.sampled_from(["http", "websocket"])
peers = st.sampled_from(ADDRESSES).map(lambda address: (address, 40000))


@given(st.sampled_from([TRUSTED, "127.0.0.1", ""]), kinds, for_lines, proto_lines, others, peers)
def test_what_careful_proxies_tell_is_read_as_uvicorn_reads_it(
    trusted: str, kind: Kind, fors: Headers, protos: Headers, others: Headers, peer: Address
) -> None:
    headers = [*fors, *others, *protos]
    assert ours(trusted, kind, headers, peer) == theirs(trusted, kind, headers, peer)


@given(kinds, entries, proto_lines, peers)
def test_with_one_entry_a_star_means_the_same(
    kind: Kind, entry: str, protos: Headers, peer: Address
) -> None:
    headers = [(b"x-forwarded-for", entry.encode()), *protos]
    assert ours("*", kind, headers, peer) == theirs("*", kind, headers, peer)


LOCAL: Final = ("127.0.0.1", 40000)

# What differs, and why: the value of X-Forwarded-For from LOCAL, and both clients.
CLIENTS: Final[dict[str, tuple[str, str, Address, Address]]] = {
    "a star trusts peers only, or a client could put itself behind another address": (
        *("*", "10.9.9.9, 203.0.113.7"),
        *(("203.0.113.7", 0), ("10.9.9.9", 0)),
    ),
    "what is no address is no client": ("127.0.0.1", "unknown", LOCAL, ("unknown", 0)),
    "so the hop before it is the last one known": (
        *(TRUSTED, "10.9.9.9, x, 10.0.0.2"),
        *(("10.0.0.2", 0), ("x", 0)),
    ),
    "a port that no client can have makes no address": (
        *("127.0.0.1", "203.0.113.7:99999"),
        *(LOCAL, ("203.0.113.7", 99999)),
    ),
    "a zone says nothing on another machine": (
        *("127.0.0.1", "fe80::1%eth0"),
        *(LOCAL, ("fe80::1%eth0", 0)),
    ),
    "empty entries of a list are to be ignored": (
        *("127.0.0.1", "203.0.113.7, "),
        *(("203.0.113.7", 0), LOCAL),
    ),
    "one address has one spelling": (
        *("127.0.0.1", "2001:DB8:0::7"),
        *(("2001:db8::7", 0), ("2001:DB8:0::7", 0)),
    ),
    "an IPv4 address is one, however a socket for both shows it": (
        *("127.0.0.1, 10.0.0.0/8", "203.0.113.7, ::ffff:10.0.0.2"),
        *(("203.0.113.7", 0), ("::ffff:10.0.0.2", 0)),
    ),
}


@pytest.mark.parametrize("why", CLIENTS)
def test_another_client_is_told_where(why: str) -> None:
    trusted, value, here, there = CLIENTS[why]
    headers = [(b"x-forwarded-for", value.encode())]
    assert ours(trusted, "http", headers, LOCAL) == (here, "http")
    assert theirs(trusted, "http", headers, LOCAL) == (there, "http")


@pytest.mark.parametrize(
    ("kind", "value", "here", "there"),
    [
        ("http", b"wss", "https", "wss"),  # an HTTP scope has http or https
        ("http", b"HTTPS", "https", "http"),  # schemes have no case
        ("http", b"http, https", "https", "http"),  # the nearest proxy's word is the last
    ],
)
def test_another_scheme_is_told_where(kind: Kind, value: bytes, here: str, there: str) -> None:
    headers = [(b"x-forwarded-proto", value)]
    assert ours("127.0.0.1", kind, headers, LOCAL) == (LOCAL, here)
    assert theirs("127.0.0.1", kind, headers, LOCAL) == (LOCAL, there)


def test_peers_of_a_unix_socket_are_trusted_by_name_not_by_a_star_alone() -> None:
    headers = [(b"x-forwarded-for", b"203.0.113.7")]
    for trusted in ("*", "unix"):
        assert ours(trusted, "http", headers, None)[0] == ("203.0.113.7", 0)
    assert theirs("*", "http", headers, None)[0] == ("203.0.113.7", 0)
    assert theirs("unix", "http", headers, None)[0] is None


def test_a_name_or_a_network_with_a_typo_is_refused_instead_of_trusting_nobody() -> None:
    for name in ("localhost", "10.0.0.1/8"):
        with pytest.raises(ValueError, match="forwarded_allow_ips"):
            ServerConfig(forwarded_allow_ips=name)
        assert theirs(name, "http", [(b"x-forwarded-for", b"203.0.113.7")], LOCAL)[0] == LOCAL
