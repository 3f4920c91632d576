"""Whom a proxy speaks for: what may be believed, whatever a client has written before."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import takewhile
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.runtime import ServerConfig
from greenroom.runtime._forwarded import MOST_HOPS, ForwardedHeader, TrustedProxies
from greenroom.runtime._types import Address

NETWORKS: Final = ("10.0.0.0/8", "192.0.2.1", "2001:db8:a::/48")
PEER: Final = ("10.0.0.1", 40000)
HEADERS: Final[tuple[ForwardedHeader, ...]] = ("x-forwarded-for", "forwarded")

INSIDE: Final = [*map(ip_address, ("10.0.0.2", "10.255.0.3", "192.0.2.1", "2001:db8:a::5"))]
OUTSIDE: Final = [*map(ip_address, ("203.0.113.7", "192.0.2.2", "2001:db8:b::7", "::1"))]
NOBODY: Final = (
    *("unknown", "_hidden", "-", "localhost", "client.example", "*", "unix", "unix:"),
    *("10.0.0", "10.0.0.256", "010.0.0.2", "10.0.0.02", "0x0a000002", "167772162", "10.0.0.2/8"),
    *("10.0.0.2:", "10.0.0.2:65536", "10.0.0.2:-1", "10.0.0.2:+1", "10.0.0.2:http", "10.0.0.2:1:2"),
    *("fe80::1%eth0", "[fe80::1%eth0]:80", "2001:db8:a::5%0", "[2001:db8:a::5", "2001:db8:a::5]"),
    *(
        "[2001:db8:a::5]80",
        "2001:db8:a:::5",
        "[]",
        "[]:80",
        ":80",
        "[10.0.0.2]",
        "10.0.0.2 203.0.113.7",
    ),
    *("10.0.0.2\x00", "10.0.0.2\t10.0.0.3", "10.0.0.\xb2", "\xff", "10.0.0.2\r\n", "10.0.0.2\n"),
    *("[10.0.0.2]", "'10.0.0.2'", "10.0.0.2;", "for=10.0.0.2", '"', "0" * 65 + "10.0.0.2"),
)


@dataclass(frozen=True)
class Entry:
    """One entry of a list, as it is written and as it is meant."""

    text: str
    address: tuple[str, int] | None = None
    trusted: bool = False


def spellings(address: IPv4Address | IPv6Address, port: int | None) -> list[str]:
    """Give the ways to write an address that mean the same."""
    if isinstance(address, IPv4Address):
        bare = [f"::ffff:{address}"]
        enclosed = [str(address), f"[::ffff:{address}]"]
    else:
        bare = [str(address), address.exploded, str(address).upper()]
        enclosed = [f"[{text}]" for text in bare]
    return [*bare, *enclosed] if port is None else [f"{text}:{port}" for text in enclosed]


def entries_of(
    addresses: Iterable[IPv4Address | IPv6Address], *, trusted: bool
) -> st.SearchStrategy[Entry]:
    return st.sampled_from(
        [
            Entry(text, (str(address), port or 0), trusted)
            for address in addresses
            for port in (None, 0, 443, 65535)
            for text in spellings(address, port)
        ]
    )


inside = entries_of(INSIDE, trusted=True)
outside = entries_of(OUTSIDE, trusted=False)
nobody = st.sampled_from(NOBODY).map(Entry)
# What a client may have sent: anything, or what looks like entries of a proxy.
junk = st.one_of(
    st.text(st.characters(codec="latin-1"), max_size=30),
    st.lists(st.one_of(inside, outside, nobody).map(lambda entry: entry.text)).map(",".join),
)
cuts = st.sets(st.integers(0, 6))
separators = st.sampled_from([",", ", ", " ,\t"])


def lines(name: str, texts: list[str], separator: str, cuts: set[int]) -> list[tuple[bytes, bytes]]:
    """Make the header of a list, a new line of it after each of `cuts`, among other headers."""
    groups: list[list[str]] = [[]]
    for at, text in enumerate(texts):
        groups[-1].append(text)
        if at in cuts:
            groups.append([])
    headers = [(b"host", b"localhost")]
    for group in groups:
        headers.append((name.encode(), separator.join(group).encode("latin-1")))
        headers.append((b"x-forwarded-host", b"10.0.0.9"))
    return headers


def client_of(headers: list[tuple[bytes, bytes]], header: ForwardedHeader = HEADERS[0]) -> Address:
    client, _ = TrustedProxies(NETWORKS, header).find_client(headers, PEER, secure=False)
    return client


def scheme_of(*headers: tuple[bytes, bytes], secure: bool = False, **names: Any) -> str:
    _, found = TrustedProxies(NETWORKS, **names).find_client([*headers], PEER, secure=secure)
    return "https" if found else "http"


# X-Forwarded-For.


@given(st.lists(st.one_of(inside, inside, outside, nobody), max_size=6), separators, cuts)
def test_the_client_is_the_last_one_known_of_the_chain(
    entries: list[Entry], separator: str, cuts: set[int]
) -> None:
    # The model: who is named from the end on without a gap, up to the first not trusted.
    named = [*takewhile(lambda entry: entry.address, reversed(entries))]
    untrusted = [entry for entry in named if not entry.trusted]
    expected = [PEER, *(entry.address for entry in untrusted[:1] or named[-1:])][-1]
    texts = [entry.text for entry in entries]
    assert client_of(lines("x-forwarded-for", texts, separator, cuts)) == expected


@given(junk, outside, st.lists(inside, max_size=5), separators, cuts)
def test_what_a_client_wrote_before_its_own_address_changes_nothing(
    spoofed: str, client: Entry, hops: list[Entry], separator: str, cuts: set[int]
) -> None:
    texts = [spoofed, client.text, *(hop.text for hop in hops)]
    assert client_of(lines("x-forwarded-for", texts, separator, cuts)) == client.address


@given(junk, separators, cuts)
def test_anything_gives_a_client_with_an_address_and_a_port(
    text: str, separator: str, cuts: set[int]
) -> None:
    for name in HEADERS:
        client = client_of(lines(name, text.split(","), separator, cuts), name)
        assert client is not None
        host, port = client
        assert str(ip_address(host)) == host
        assert port is not None
        assert 0 <= port <= 65535


@given(nobody)
def test_an_entry_that_is_no_address_tells_of_nobody(entry: Entry) -> None:
    assert client_of([(b"x-forwarded-for", entry.text.encode("latin-1"))]) == PEER


@pytest.mark.parametrize("value", [b"", b",", b" , ,\t"])
def test_an_empty_list_tells_of_nobody(value: bytes) -> None:
    assert client_of([(b"x-forwarded-for", value)]) == PEER


def test_empty_entries_are_none() -> None:
    assert client_of([(b"x-forwarded-for", b"203.0.113.7,, 10.0.0.2, ,")]) == ("203.0.113.7", 0)


@pytest.mark.parametrize("hop", [b"10.0.0.2", b"::ffff:10.0.0.2"])
def test_of_an_endless_list_the_end_counts(hop: bytes) -> None:
    client = b"203.0.113.7"
    for spoofed in (b"10.9.9.9, " * 6500, b"," * 65000, b"9" * 65000, b"[" * 65000):
        one_line = [(b"x-forwarded-for", b"%b, %b, %b" % (spoofed, client, hop))]
        assert client_of(one_line) == (client.decode(), 0)
    hops = [b"10.0.%d.1" % count for count in range(200)]
    many_lines = [(b"x-forwarded-for", hop) for hop in hops]
    assert client_of(many_lines) == (hops[-MOST_HOPS].decode(), 0)


def test_what_is_longer_than_an_address_or_what_a_proxy_adds_is_neither() -> None:
    for length, client in [(40, ("203.0.113.7", 0)), (80, PEER)]:
        node = b"203.0.113.7:_" + b"x" * length
        assert client_of([(b"x-forwarded-for", node)]) == client
    for length, client in [(4000, ("203.0.113.7", 0)), (4096, PEER)]:
        element = b"for=203.0.113.7;host=" + b"x" * length
        assert client_of([(b"forwarded", element)], "forwarded") == client


def test_a_header_with_underscores_is_another_one() -> None:
    assert client_of([(b"x_forwarded_for", b"203.0.113.7")]) == PEER


# Forwarded.

proto = st.sampled_from(["", ";proto=https", ";Proto=http", '; proto="wss"', ";proto=gopher"])
# A proxy may hand on the Host of the client, quoted.
hosts = st.one_of(
    st.sampled_from(
        ["a.example", "a,b", ", for=10.9.9.9", ";for=10.9.9.9;x=", ', for="10.9.9.9', "\\", '"']
    ),
    st.text('for=, ;10.9"\\', max_size=12),
)


@st.composite
def elements(draw: st.DrawFn, entries: st.SearchStrategy[Entry]) -> Entry:
    entry = draw(entries)
    name = draw(st.sampled_from(["for", "For", "FOR"]))
    host = draw(hosts).replace("\\", "\\\\").replace('"', '\\"')
    shown = f'host="{host}"'
    before, after = draw(
        st.sampled_from([("", ""), ("by=_x;", ""), (f"{shown};", ""), ("", f";{shown}")])
    )
    mark = '"' if draw(st.booleans()) else ""
    text = f"{before}{name}={mark}{entry.text}{mark}{after}{draw(proto)}"
    return Entry(text, entry.address, entry.trusted)


@given(junk | hosts, elements(outside), st.lists(elements(inside), max_size=5), separators, cuts)
def test_what_a_client_wrote_before_changes_nothing_in_forwarded(
    spoofed: str, client: Entry, hops: list[Entry], separator: str, cuts: set[int]
) -> None:
    texts = [spoofed, client.text, *(hop.text for hop in hops)]
    headers = lines("forwarded", texts, separator, cuts)
    assert client_of(headers, "forwarded") == client.address


@pytest.mark.parametrize(
    ("value", "client", "scheme"),
    [
        # RFC 7239 section 4 has these.
        ('For="[2001:db8:cafe::17]:4711"', ("2001:db8:cafe::17", 4711), "http"),
        ("for=192.0.2.60;proto=https;by=203.0.113.43", ("192.0.2.60", 0), "https"),
        ("for=192.0.2.43, for=198.51.100.17", ("198.51.100.17", 0), "http"),
        ('for="_gazonk"', PEER, "http"),
        # A port may be an alias.
        ('for="198.51.100.17:_x.1"', ("198.51.100.17", 0), "http"),
        # The scheme is that of the element which names the client, and of no other.
        ("for=198.51.100.17;proto=https, for=10.0.0.2;proto=http", ("198.51.100.17", 0), "https"),
        ("for=198.51.100.17, for=10.0.0.2;proto=https", ("198.51.100.17", 0), "http"),
        ("for=unknown;proto=https, for=10.0.0.2", ("10.0.0.2", 0), "https"),
        ("proto=https", PEER, "https"),
        ("for=198.51.100.17,;", ("198.51.100.17", 0), "http"),
        # What is no element ends the search.
        ("for=198.51.100.17, for", PEER, "http"),
        ("for=198.51.100.17, for=", PEER, "http"),
        ("for=198.51.100.17, 10.0.0.2", PEER, "http"),
        ("for=198.51.100.17;for=198.51.100.18", PEER, "http"),
        ('for="198.51.100.17', PEER, "http"),
        ('for=""', PEER, "http"),
        ("for=198.51.100.17 for=10.0.0.2", PEER, "http"),
    ],
)
def test_an_element_of_forwarded_is_read_as_its_rfc_says(
    value: str, client: Address, scheme: str
) -> None:
    header = (b"forwarded", value.encode())
    assert client_of([header], "forwarded") == client
    assert scheme_of(header, header="forwarded") == scheme


def test_only_the_named_one_of_the_two_lists_is_read() -> None:
    headers = [
        (b"forwarded", b"for=203.0.113.8;proto=https"),
        (b"x-forwarded-for", b"203.0.113.7"),
        (b"x-forwarded-proto", b"https"),
    ]
    assert client_of(headers) == ("203.0.113.7", 0)
    assert client_of(headers[:1]) == PEER
    assert client_of(headers, "forwarded") == ("203.0.113.8", 0)
    assert client_of(headers[1:], "forwarded") == PEER
    assert scheme_of(headers[0]) == "http"
    assert scheme_of(*headers[1:], header="forwarded") == "http"


# X-Forwarded-Proto.


@pytest.mark.parametrize(
    ("values", "scheme"),
    [
        ([b"https"], "https"),
        ([b"HTTPS"], "https"),
        ([b"wss"], "https"),
        ([b"http"], "http"),
        ([b"ws"], "http"),
        ([b"https, http"], "http"),  # the last is the nearest proxy's
        ([b"http", b"https"], "https"),
    ],
)
@pytest.mark.parametrize("secure", [False, True])
def test_the_scheme_is_the_one_that_the_nearest_proxy_tells(
    values: list[bytes], scheme: str, secure: bool
) -> None:
    headers = [(b"x-forwarded-proto", value) for value in values]
    assert scheme_of(*headers, secure=secure) == scheme


@pytest.mark.parametrize("value", [b"", b"on", b"https,", b"https\x00", b"http:", b"h" * 65000])
@pytest.mark.parametrize("secure", [False, True])
def test_another_scheme_changes_nothing(value: bytes, secure: bool) -> None:
    found = scheme_of((b"x-forwarded-proto", value), secure=secure)
    assert found == ("https" if secure else "http")


# Who is trusted.


@pytest.mark.parametrize(
    ("names", "peers", "others"),
    [
        ([], [], [("127.0.0.1", 1), ("::1", 1), None]),
        ("", [], [("127.0.0.1", 1), None]),
        ("127.0.0.1, ::1", [("127.0.0.1", 1), ("::1", 1)], [("127.0.0.2", 1), None]),
        (["10.0.0.0/8"], [("10.9.8.7", 1), ("::ffff:10.9.8.7", 1)], [("11.0.0.1", 1)]),
        (["::ffff:10.0.0.0/104"], [("10.9.8.7", 1), ("::ffff:10.9.8.7", 1)], [("11.0.0.1", 1)]),
        (["::ffff:10.0.0.1"], [("10.0.0.1", 1)], [("10.0.0.2", 1)]),
        (["fe80::/10"], [("fe80::1%eth0", 1)], [("fec0::1", 1), ("not an address", 1)]),
        (["::/0"], [("2001:db8::1", 1)], [("10.0.0.1", 1), ("::ffff:10.0.0.1", 1)]),
        (["unix"], [None, ("/run/nginx.sock", None)], [("127.0.0.1", 1)]),
        (["127.0.0.1"], [], [("127.0.0.1", None)]),  # a Unix socket that is bound to that name
        (["*"], [None, ("203.0.113.7", 1), ("not an address", 1)], []),
    ],
)
def test_a_peer_is_trusted_by_address_network_or_the_lack_of_one(
    names: list[str] | str, peers: list[Address], others: list[Address]
) -> None:
    proxies = TrustedProxies(names)
    assert bool(proxies) == bool([*names])
    assert all(proxies.trusts(peer) for peer in peers)
    assert not any(proxies.trusts(peer) for peer in others)


def test_a_star_trusts_every_peer_and_nobody_whom_a_peer_names() -> None:
    headers = [(b"x-forwarded-for", b"203.0.113.6, 203.0.113.7, 10.0.0.2")]
    for names, client in [
        ("*", "10.0.0.2"),
        ("*,10.0.0.0/8", "203.0.113.7"),
        ("*,0.0.0.0/0", "203.0.113.6"),
    ]:
        found, _ = TrustedProxies(names).find_client(headers, None, secure=False)
        assert found == (client, 0)


def test_a_hop_over_a_unix_socket_is_trusted_as_such_peers_are() -> None:
    headers = [(b"x-forwarded-for", b"203.0.113.7, unix:")]
    for names, client in [("unix", ("203.0.113.7", 0)), ("127.0.0.1", None)]:
        found, _ = TrustedProxies(names).find_client(headers, None, secure=False)
        assert found == client


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("localhost", "does not appear to be an IPv4 or IPv6 network"),
        ("10.0.0.1/8", "has host bits set"),
        ("010.0.0.1", "does not appear"),
        ("10.0.0.1:80", "does not appear"),
        ("fe80::1%eth0", "without its zone"),
        ("/run/nginx.sock", "does not appear"),
        ("**", "does not appear"),
    ],
)
def test_what_is_no_address_is_refused_by_the_configuration(name: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^forwarded_allow_ips has '.*{why}"):
        ServerConfig(forwarded_allow_ips=["127.0.0.1", name])
    with pytest.raises(ValueError, match=why):
        ServerConfig(forwarded_allow_ips=f"127.0.0.1, {name}")


def test_an_unknown_header_is_refused_by_the_configuration() -> None:
    with pytest.raises(ValueError, match="forwarded_header is 'x-real-ip'"):
        ServerConfig(forwarded_header="x-real-ip")  # type: ignore[arg-type]
