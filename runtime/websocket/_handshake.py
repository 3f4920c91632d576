"""The opening handshake: is the request right, and what do we answer.

Source: RFC 6455 section 4.2.
"""

import re
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha1
from typing import Final, final

from .._errors import LocalProtocolError, RemoteProtocolError
from ..http import Headers, RequestHead, error_response
from ._deflate import Deflate, negotiate
from ._extensions import TOKEN, parse_extensions

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION: Final = b"13"

_is_key: Final = re.compile(rb"[A-Za-z0-9+/]{22}==").fullmatch
_is_token: Final = re.compile(TOKEN).fullmatch
_is_name: Final = re.compile(TOKEN.encode()).fullmatch
# RFC 9110 section 5.5: without CR, LF and NUL above all, which would end the field.
_is_value: Final = re.compile(rb"[\t -~\x80-\xff]*").fullmatch

# The handshake writes these itself; a second one would contradict it.
_OURS: Final = frozenset(
    {
        b"connection",
        b"content-length",
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-protocol",
        b"transfer-encoding",
        b"upgrade",
    }
)


@final
class Handshake:
    """A client's wish for a WebSocket, found to be right.

    Args:
        head: the request; `head.is_websocket` is true.
        per_message_deflate: whether to agree on compression if the client offers it.

    Raises:
        RemoteProtocolError: 426 if the client speaks another version of the protocol,
            400 for anything else that is wrong.
    """

    __slots__ = ("_key", "deflate", "head", "subprotocols")

    def __init__(self, head: RequestHead, *, per_message_deflate: bool) -> None:
        self.head = head
        # Section 4.2.1, items 1 and 2. A body would be taken for frames.
        if not head.is_websocket:
            raise RemoteProtocolError(400, "not a WebSocket handshake")
        if head.has_body:
            raise RemoteProtocolError(400, "WebSocket handshake with a body")
        versions = _values(head, b"sec-websocket-version")
        if versions != [_VERSION]:
            # Section 4.4: the answer names the version that we speak.
            raise RemoteProtocolError(426, "WebSocket version 13 is required")
        self._key = _read_key(_values(head, b"sec-websocket-key"))
        self.subprotocols = _read_subprotocols(_values(head, b"sec-websocket-protocol"))
        offered = b", ".join(_values(head, b"sec-websocket-extensions"))
        try:
            offers = parse_extensions(offered.decode("latin-1"))
        except ValueError:
            raise RemoteProtocolError(400, "malformed sec-websocket-extensions") from None
        self.deflate: Deflate | None = negotiate(offers) if per_message_deflate else None

    def accept(self, subprotocol: str | None, headers: Headers) -> bytes:
        """Give the response that opens the WebSocket.

        Raises:
            LocalProtocolError: `subprotocol` is none of the client's, or a header may not
                be sent, or not by the application.
        """
        lines = [
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-accept: ",
            b64encode(sha1(self._key + _GUID, usedforsecurity=False).digest()),
            b"\r\n",
        ]
        if subprotocol is not None:
            # Section 4.2.2, item 5: a client fails a connection with one it did not offer.
            if subprotocol not in self.subprotocols:
                raise LocalProtocolError(
                    f"subprotocol {subprotocol!r} of websocket.accept is none of those that the "
                    f"client offers: {self.subprotocols}"
                )
            lines += [b"sec-websocket-protocol: ", subprotocol.encode(), b"\r\n"]
        if self.deflate is not None:
            lines += [b"sec-websocket-extensions: ", self.deflate.answer.encode(), b"\r\n"]
        for name, value in headers:
            lines += [name, b": ", value, b"\r\n"]
        lines.append(b"\r\n")
        return b"".join(lines)


def refuse_handshake(
    error: RemoteProtocolError, headers: Iterable[tuple[bytes, bytes]] = ()
) -> bytes:
    """Give the response to a request that `WebSocketSession` raised `error` for."""
    fields = list(headers)
    if error.status == 426:
        # RFC 9110 section 15.5.22 and RFC 6455 section 4.4: say what would be right.
        fields += [(b"upgrade", b"websocket"), (b"sec-websocket-version", _VERSION)]
    return error_response(error.status, error.reason, fields)


def check_accept_headers(headers: object) -> Headers:
    """Give the headers of websocket.accept, names in lower case.

    Raises:
        LocalProtocolError: they are not pairs of bytes, not what may stand in a header,
            or the handshake's own.
    """
    checked: Headers = []
    try:
        pairs = [(bytes(memoryview(name)), bytes(memoryview(value))) for name, value in headers]  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise LocalProtocolError(
            "headers of websocket.accept must be pairs of bytes (ASGI, WebSocket, Accept)"
        ) from None
    for name, value in pairs:
        lower = name.lower()
        if not _is_name(name) or not _is_value(value):
            raise LocalProtocolError(
                f"header {name!r}: {value!r} of websocket.accept is not one that may be sent "
                "(RFC 9110 section 5)"
            )
        if lower in _OURS:
            raise LocalProtocolError(
                f"header {name!r} of websocket.accept belongs to the handshake itself; "
                "for sec-websocket-protocol there is the key 'subprotocol'"
            )
        checked.append((lower, value))
    return checked


def _values(head: RequestHead, wanted: bytes) -> list[bytes]:
    return [value for name, value in head.headers if name == wanted]


def _read_key(keys: list[bytes]) -> bytes:
    """Section 4.2.1, item 5: one key, 16 bytes in base64."""
    if len(keys) == 1 and _is_key(keys[0]):
        return keys[0]
    raise RemoteProtocolError(400, "one sec-websocket-key of 16 bytes in base64 is required")


def _read_subprotocols(values: list[bytes]) -> list[str]:
    """Section 4.2.1, item 8: names in order of the client's preference."""
    names = [
        name
        for value in values
        for item in value.decode("latin-1").split(",")
        if (name := item.strip(" \t"))
    ]
    if not all(_is_token(name) for name in names):
        raise RemoteProtocolError(400, "malformed sec-websocket-protocol")
    return names
