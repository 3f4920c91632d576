"""Whom a proxy speaks for: the client's address and scheme, as the proxy's headers tell them.

A client can send these headers as well. So nothing is believed but what a trusted peer says,
and a list is read from its end, to which each proxy adds whom it was asked by:

```
 X-Forwarded-For: 10.9.9.9, 203.0.113.7, 10.0.0.2         from the peer 10.0.0.1
                  │         │            └ written by 10.0.0.1, which is trusted
                  │         └ written by 10.0.0.2, which is trusted: the client
                  └ written by the client: never read
```

A proxy that writes one header hands on another as it came. So only one list is read, the one
that the configuration names, and never a second where the first is missing.

Sans-IO. Source: RFC 7239 for `Forwarded`; no specification has the others, but every proxy.
"""

import re
from collections.abc import Collection
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, Literal, TypeAlias, final

from ._types import Address
from .http import Headers

ForwardedHeader: TypeAlias = Literal["x-forwarded-for", "forwarded"]
FORWARDED_HEADERS: Final = ("x-forwarded-for", "forwarded")

# Who is on this machine, as whoever reaches its loopback or its Unix sockets is.
LOCAL_PROXIES: Final = "127.0.0.1,::1,unix"

MOST_HOPS: Final = 32  # entries read of one list; no request comes through more proxies
LONGEST_NODE: Final = 64  # bytes of an address with its port; 53 for the longest there is
LONGEST_ELEMENT: Final = 4096  # bytes that one proxy adds to `Forwarded`
KNOWN_NODES: Final = 1024  # addresses that need not be parsed again

# IPv4 or bracketed IPv6 with or without a port, or bare IPv6. RFC 7239 section 6: a port may
# be a secret of the proxy's. No zone: it says something on the machine that wrote it alone.
NODE: Final = re.compile(
    rb"(?:([0-9.]++)|\[([0-9A-Fa-f:.]++)\])(?::(?:([0-9]{1,5})|_[A-Za-z0-9._\-]++))?"
    rb"|([0-9A-Fa-f:.]++)"
)
# RFC 7239 section 4, where a value with a colon or a bracket has to be quoted and often is
# not, as spaces may not stand here and often do.
PAIR: Final = re.compile(
    rb"[ \t]*+(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]++)="
    rb"(?:\"((?:[^\"\\]|\\.)*+)\"|([!#$%&'*+\-.^_`|~0-9A-Za-z:\[\]]++)))?+[ \t]*+(?:;|\Z)"
)
SECURE: Final = {b"https": True, b"wss": True, b"http": False, b"ws": False}

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPNetwork: TypeAlias = IPv4Network | IPv6Network
Node: TypeAlias = tuple[Address, bool]  # an address, or None for none, and whether it is trusted


@final
class TrustedProxies:
    """Who is believed, and which of the headers.

    >>> proxies = TrustedProxies(["10.0.0.0/8"])
    >>> headers = [(b"x-forwarded-for", b"10.9.9.9, 203.0.113.7, 10.0.0.2")]
    >>> proxies.find_client(headers, ("10.0.0.1", 40000), secure=False)
    (('203.0.113.7', 0), False)

    Args:
        names: addresses, networks, "unix" and "*", as `ServerConfig` explains them; one
            string is split at its commas.
        header: which list of clients is read.

    Raises:
        ValueError: one of `names` is nothing of that, or `header` is unknown.
    """

    __slots__ = ("_everybody", "_header", "_look_up", "_networks", "_unix")

    def __init__(self, names: Collection[str], header: ForwardedHeader = "x-forwarded-for") -> None:
        if header not in FORWARDED_HEADERS:
            raise ValueError(
                f"forwarded_header is {header!r}; it must be 'x-forwarded-for' or 'forwarded'"
            )
        split = names.split(",") if isinstance(names, str) else names
        found = {name.strip() for name in split} - {""}
        self._everybody = "*" in found
        self._unix = bool(found & {"*", "unix"})
        self._networks = [_network(name) for name in sorted(found - {"*", "unix"})]
        self._header = header.encode()
        self._look_up = lru_cache(KNOWN_NODES)(self._parse)

    def __bool__(self) -> bool:
        return self._unix or bool(self._networks)

    def trusts(self, peer: Address) -> bool:
        """Tell whether a connection from `peer` is one from a proxy that is believed."""
        if self._everybody:
            return True
        if peer is None or peer[1] is None:
            return self._unix
        try:
            return self._is_trusted(_unmapped(ip_address(peer[0])))
        except ValueError:
            return False

    def find_client(self, headers: Headers, peer: Address, *, secure: bool) -> tuple[Address, bool]:
        """Give the client of a request, and whether it speaks TLS, as far as they are known.

        Of a chain the last one who is known is the client: the first who is not trusted, or
        else the farthest that is told. A port that nobody tells is 0.

        Args:
            headers: of a request from `peer`, which must be trusted.
            peer: who is at the other end of the connection.
            secure: whether the connection is one over TLS.
        """
        wanted = self._header
        values: list[bytes] = []
        proto = b""
        for name, value in headers:
            if name == wanted:
                values.append(value)
            elif name == b"x-forwarded-proto":
                proto = value
        if proto and wanted != b"forwarded":
            # One that adds its own adds it to the end.
            proto = proto.rpartition(b",")[2].strip(b" \t").lower()
            secure = SECURE.get(proto, secure)
        if not values:
            return peer, secure
        # RFC 9110 section 5.3: several lines are one list. What is left over from a list
        # that is too long is no entry of it, and ends the search as any other garbage.
        entries = b",".join(values).rsplit(b",", MOST_HOPS)
        if wanted == b"forwarded":
            return self._walk_elements(entries, peer, secure)
        client = peer
        for entry in reversed(entries):
            entry = entry.strip(b" \t")
            if not entry:
                continue  # RFC 9110 section 5.6.1.2: empty elements are ignored
            client, trusted = self._step(entry, client)
            if not trusted:
                break
        return client, secure

    def _walk_elements(
        self, pieces: list[bytes], peer: Address, secure: bool
    ) -> tuple[Address, bool]:
        client, client_secure = peer, secure
        element = b""
        for piece in reversed(pieces):
            # A comma may be quoted. The shortest end of the list that is an element is the
            # last one: within quotes a quote is escaped, which it can't be outside of them.
            element = piece + element
            if len(element) > LONGEST_ELEMENT:
                break
            pairs = _pairs(element)
            if pairs is None:
                if b'"' not in element:
                    break
                element = b"," + element
                continue
            element = b""
            if not pairs:
                continue
            # Each proxy tells in one element by whom and how it was asked.
            client_secure = SECURE.get(pairs.get(b"proto", b"").lower(), secure)
            client, trusted = self._step(pairs.get(b"for", b"?"), client)
            if not trusted:
                break
        return client, client_secure

    def _step(self, entry: bytes, client: Address) -> Node:
        """Go from `client`, a trusted hop, to whom it names; tell whether to go on from there."""
        if len(entry) > LONGEST_NODE:
            return client, False
        address, trusted = self._look_up(entry)
        return address or client, trusted

    def _parse(self, entry: bytes) -> Node:
        if entry == b"unix:":  # nginx of who is connected over a Unix socket
            return None, self._unix
        node = NODE.fullmatch(entry)
        if node is None:
            return None, False  # "unknown", an alias, garbage
        ipv4, ipv6, digits, bare = node.groups()
        try:
            if ipv4:
                address: IPAddress = IPv4Address(ipv4.decode())
            else:
                address = _unmapped(IPv6Address((ipv6 or bare).decode()))
        except ValueError:
            return None, False
        port = int(digits or 0)
        if port > 65535:
            return None, False
        return (str(address), port), self._is_trusted(address)

    def _is_trusted(self, address: IPAddress) -> bool:
        return any(address in network for network in self._networks)


def _network(name: str) -> IPNetwork:
    if "%" in name:
        raise ValueError(f"forwarded_allow_ips has {name!r}; give the address without its zone")
    try:
        network = ip_network(name)
    except ValueError as error:
        raise ValueError(
            f"forwarded_allow_ips has {name!r}; it must have addresses, networks,"
            f" 'unix' or '*' ({error})"
        ) from None
    first = _unmapped(network.network_address)
    if first.version < network.version and network.prefixlen >= 96:
        return IPv4Network((int(first), network.prefixlen - 96))
    return network


def _unmapped(address: IPAddress) -> IPAddress:
    """Give the IPv4 address that a socket for both versions shows as `::ffff:192.0.2.1`."""
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _pairs(element: bytes) -> dict[bytes, bytes] | None:
    """Read an element of `Forwarded`; give None if it is none.

    >>> _pairs(b'For="[2001:db8::7]:4711";proto=https')
    {b'for': b'[2001:db8::7]:4711', b'proto': b'https'}
    """
    pairs: dict[bytes, bytes] = {}
    at = 0
    while at < len(element):
        pair = PAIR.match(element, at)
        if pair is None:
            return None
        at = pair.end()
        name, quoted, plain = pair.groups()
        if name is None:
            continue
        name = name.lower()
        if name in pairs:  # RFC 7239 section 4: once per element
            return None
        pairs[name] = quoted if plain is None else plain
    return pairs
