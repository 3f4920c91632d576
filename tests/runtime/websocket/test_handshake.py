"""Which requests open a WebSocket, and what the answer says."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.runtime import LocalProtocolError, RemoteProtocolError
from greenroom.runtime.http import Headers, RequestHead
from greenroom.runtime.websocket import State, WebSocketLimits, WebSocketSession, refuse_handshake

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455 section 1.3
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def head(*more: tuple[bytes, bytes], key: bytes = KEY, version: bytes = b"13") -> RequestHead:
    headers: Headers = [
        (b"host", b"example.org"),
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-key", key),
        (b"sec-websocket-version", version),
        *more,
    ]
    return RequestHead("GET", b"/", "/", b"/", b"", "1.1", headers, is_websocket=True)


def accepted(session: WebSocketSession, **message: Any) -> tuple[bytes, dict[bytes, bytes]]:
    """Accept, and give the status line and the headers of the answer."""
    lines = session.send({"type": "websocket.accept", **message}).split(b"\r\n")
    assert lines[-2:] == [b"", b""]
    fields = [(name, value) for name, _, value in (line.partition(b": ") for line in lines[1:-2])]
    assert len({name for name, _ in fields}) == len(fields)
    return lines[0], dict(fields)


def test_the_example_of_the_rfc_is_answered_as_it_says() -> None:
    session = WebSocketSession(head())
    assert accepted(session) == (
        b"HTTP/1.1 101 Switching Protocols",
        {b"upgrade": b"websocket", b"connection": b"Upgrade", b"sec-websocket-accept": ACCEPT},
    )
    assert session.state is State.OPEN


@pytest.mark.parametrize(
    "key",
    [b"", b"x", KEY[:-1], KEY + b"=", KEY[:-4], b"dGhlIHNhbXBsZSBub25j!Q==", b"d" * 24, KEY * 2],
)
def test_a_key_that_is_not_16_bytes_in_base64_is_400(key: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as failure:
        WebSocketSession(head(key=key))
    assert failure.value.status == 400


def test_two_keys_or_none_are_400() -> None:
    with pytest.raises(RemoteProtocolError):
        WebSocketSession(head((b"sec-websocket-key", KEY)))
    request = head()
    request.headers = [pair for pair in request.headers if pair[0] != b"sec-websocket-key"]
    with pytest.raises(RemoteProtocolError):
        WebSocketSession(request)


@pytest.mark.parametrize("version", [b"", b"8", b"12", b"13, 8", b"014", b"x"])
def test_another_version_is_426_and_the_answer_names_ours(version: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as failure:
        WebSocketSession(head(version=version))
    response = refuse_handshake(failure.value, [(b"server", b"x")])
    assert response.startswith(b"HTTP/1.1 426 Upgrade Required\r\nserver: x\r\n")
    assert b"sec-websocket-version: 13\r\n" in response
    assert b"upgrade: websocket\r\n" in response
    assert b"connection: close\r\n" in response


def test_two_versions_are_426() -> None:
    for more in (b"8", b"13"):
        with pytest.raises(RemoteProtocolError) as failure:
            WebSocketSession(head((b"sec-websocket-version", more)))
        assert failure.value.status == 426


def test_another_fault_is_answered_without_a_version() -> None:
    response = refuse_handshake(RemoteProtocolError(400, "no"))
    assert response.startswith(b"HTTP/1.1 400 ")
    assert b"sec-websocket-version" not in response


def test_a_handshake_with_a_body_is_400_because_the_body_would_be_taken_for_frames() -> None:
    request = head()
    request.has_body = True
    with pytest.raises(RemoteProtocolError, match="body"):
        WebSocketSession(request)


def test_a_request_without_an_upgrade_is_400() -> None:
    request = head()
    request.is_websocket = False
    with pytest.raises(RemoteProtocolError) as failure:
        WebSocketSession(request)
    assert failure.value.status == 400


def test_malformed_extensions_and_subprotocols_are_400() -> None:
    for name in (b"sec-websocket-extensions", b"sec-websocket-protocol"):
        with pytest.raises(RemoteProtocolError) as failure:
            WebSocketSession(head((name, b"a b")))
        assert failure.value.status == 400


# Subprotocols.


def test_subprotocols_are_those_of_all_fields_in_order() -> None:
    name = b"sec-websocket-protocol"
    session = WebSocketSession(head((name, b"chat.v2, chat"), (name, b",echo,")))
    assert session.subprotocols == ["chat.v2", "chat", "echo"]
    assert WebSocketSession(head()).subprotocols == []


def test_the_accepted_subprotocol_is_one_of_the_clients() -> None:
    session = WebSocketSession(head((b"sec-websocket-protocol", b"chat, echo")))
    for wrong in ("other", "CHAT", "", 5):
        with pytest.raises(LocalProtocolError, match="subprotocol"):
            session.send({"type": "websocket.accept", "subprotocol": wrong})
    _, headers = accepted(session, subprotocol="echo")
    assert headers[b"sec-websocket-protocol"] == b"echo"


# Headers of websocket.accept.


def test_headers_of_accept_are_sent_and_go_before_the_default_ones() -> None:
    session = WebSocketSession(head(), default_headers=[(b"server", b"greenroom"), (b"date", b"D")])
    _, headers = accepted(session, headers=[(b"X-Room", b"caf\xe9 one"), [b"Server", b"mine"]])
    assert headers[b"x-room"] == b"caf\xe9 one"
    assert headers[b"server"] == b"mine"
    assert headers[b"date"] == b"D"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x", b"a\r\nset-cookie: b")],
        [(b"x", b"a\nb")],
        [(b"x", b"a\x00")],
        [(b"x\r\ny", b"a")],
        [(b"x y", b"a")],
        [(b"", b"a")],
        [("x", "a")],
        [(b"x", None)],
        [(b"x", 5)],
        [(b"x",)],
        [b"xy"],
        5,
        [(b"Connection", b"close")],
        [(b"upgrade", b"h2c")],
        [(b"sec-websocket-accept", b"x")],
        [(b"Sec-WebSocket-Protocol", b"chat")],
        [(b"sec-websocket-extensions", b"x")],
        [(b"transfer-encoding", b"chunked")],
        [(b"content-length", b"0")],
    ],
)
def test_headers_that_may_not_be_sent_are_refused_and_the_handshake_still_waits(
    headers: object,
) -> None:
    session = WebSocketSession(head())
    with pytest.raises(LocalProtocolError):
        session.send({"type": "websocket.accept", "headers": headers})
    assert session.state is State.CONNECTING
    assert accepted(session)[0].startswith(b"HTTP/1.1 101")


@given(st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=8)), max_size=3))
def test_no_header_of_accept_begins_another_line(headers: Headers) -> None:
    session = WebSocketSession(head())
    try:
        answer = session.send({"type": "websocket.accept", "headers": headers})
    except LocalProtocolError:
        return
    assert answer.count(b"\r\n") == answer.count(b"\n") == answer.count(b"\r") == 5 + len(headers)
    assert b"\x00" not in answer


# Compression.


def test_compression_is_agreed_on_unless_it_is_switched_off() -> None:
    offer = (b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits")
    _, headers = accepted(WebSocketSession(head(offer)))
    assert headers[b"sec-websocket-extensions"].startswith(b"permessage-deflate; ")
    off = WebSocketLimits(per_message_deflate=False)
    _, headers = accepted(WebSocketSession(head(offer), off))
    assert b"sec-websocket-extensions" not in headers


def test_a_limit_of_no_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="max_message_size is 0"):
        WebSocketLimits(max_message_size=0)
