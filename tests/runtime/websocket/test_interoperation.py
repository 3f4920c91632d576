"""What another implementation's client sends, the session receives, and the other way round.

The client is the sans-IO protocol of `websockets`: its own framing, masking, compression
and closing handshake, with no code of ours in it.
"""

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State as ClientState
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from greenroom.runtime.http import RequestHead
from greenroom.runtime.websocket import WebSocketSession

Message = dict[str, Any]

# How a client may ask for compression; None does not ask.
OFFERS = [
    None,
    {},
    {"client_max_window_bits": True},
    {"client_max_window_bits": 9, "server_max_window_bits": 9},
    {"server_max_window_bits": 12, "compress_settings": {"level": 1, "memLevel": 1}},
    {"client_no_context_takeover": True, "server_no_context_takeover": True},
]


def head_of(request: Request) -> RequestHead:
    """Give what the HTTP parser makes of a client's request."""
    fields = request.headers.raw_items()
    headers = [(name.lower().encode(), value.encode()) for name, value in fields]
    return RequestHead("GET", b"/", "/", b"/", b"", "1.1", headers, is_websocket=True)


def connect(offer: dict[str, Any] | None) -> tuple[ClientProtocol, WebSocketSession]:
    """Shake hands."""
    extensions = None if offer is None else [ClientPerMessageDeflateFactory(**offer)]
    client = ClientProtocol(
        parse_uri("ws://example.org/"),
        extensions=extensions,
        subprotocols=[Subprotocol("chat"), Subprotocol("echo")],
        max_size=None,
    )
    request = client.connect()
    client.send_request(request)
    client.data_to_send()
    headers = [
        (name.lower().encode(), value.encode()) for name, value in request.headers.raw_items()
    ]
    session = WebSocketSession(
        RequestHead("GET", b"/chat", "/chat", b"/chat", b"", "1.1", headers, is_websocket=True)
    )
    client.receive_data(session.send({"type": "websocket.accept", "subprotocol": "echo"}))
    [response] = client.events_received()
    assert isinstance(response, Response)
    assert response.status_code == 101
    assert client.state is ClientState.OPEN
    assert client.subprotocol == "echo"
    assert len(client.extensions) == (offer is not None)
    return client, session


def client_bytes(client: ClientProtocol) -> bytes:
    return b"".join(client.data_to_send())


messages = st.lists(
    st.text(max_size=300)
    | st.binary(max_size=300)
    | st.integers(0, 5000).map("héllo ".__mul__)
    | st.integers(0, 70_000).map(bytes),
    max_size=5,
)


@settings(deadline=None)
@given(messages, st.sampled_from(OFFERS), st.integers(0, 2**32))
def test_the_session_receives_what_a_client_sends(
    wanted: list[str | bytes], offer: dict[str, Any] | None, seed: int
) -> None:
    chance = random.Random(seed)
    client, session = connect(offer)
    stream = b""
    pings: list[bytes] = []
    for message in wanted:
        payload = message.encode() if isinstance(message, str) else message
        begin = client.send_text if isinstance(message, str) else client.send_binary
        cuts = sorted(chance.randint(0, len(payload)) for _ in range(chance.randrange(4)))
        edges = list(pairwise([0, *cuts, len(payload)]))
        for number, (start, stop) in enumerate(edges):
            send = client.send_continuation if number else begin
            send(payload[start:stop], fin=number == len(edges) - 1)
            if chance.random() < 0.5:
                pings.append(b"%d" % len(pings))
                client.send_ping(pings[-1])
        stream += client_bytes(client)
    told: list[Message] = []
    size = chance.randint(1, 3000)
    for at in range(0, len(stream), size):
        told += session.receive_data(stream[at : at + size])
    assert told == [
        {"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message}
        for message in wanted
    ]
    client.receive_data(session.data_to_send())
    pongs = client.events_received()
    assert [(pong.opcode, bytes(pong.data)) for pong in pongs if isinstance(pong, Frame)] == [
        (Opcode.PONG, ping) for ping in pings
    ]


@settings(deadline=None)
@given(messages, st.sampled_from(OFFERS))
def test_a_client_receives_what_the_session_sends(
    wanted: list[str | bytes], offer: dict[str, Any] | None
) -> None:
    client, session = connect(offer)
    for message in wanted:
        key = "text" if isinstance(message, str) else "bytes"
        client.receive_data(session.send({"type": "websocket.send", key: message}))
        client.receive_data(session.ping())
    received = [frame for frame in client.events_received() if isinstance(frame, Frame)]
    assert [
        bytes(frame.data).decode() if frame.opcode is Opcode.TEXT else bytes(frame.data)
        for frame in received
        if frame.opcode is not Opcode.PING
    ] == wanted
    if wanted:
        assert session.awaiting_pong
        assert session.receive_data(client_bytes(client)) == []
        assert not session.awaiting_pong
    assert client.parser_exc is None


@pytest.mark.parametrize("offer", OFFERS)
def test_compression_that_was_agreed_on_is_used_both_ways(offer: dict[str, Any] | None) -> None:
    client, session = connect(offer)
    text = "to be or not to be " * 500
    sent = session.send({"type": "websocket.send", "text": text})
    client.send_text(text.encode())
    received = client_bytes(client)
    assert (len(sent) < 200) == (len(received) < 200) == (offer is not None)
    assert session.receive_data(received) == [{"type": "websocket.receive", "text": text}]


def test_a_client_closes_and_both_sides_are_closed() -> None:
    client, session = connect(None)
    client.send_close(4000, "au revoir")
    [told] = session.receive_data(client_bytes(client))
    assert told == {"type": "websocket.disconnect", "code": 4000, "reason": "au revoir"}
    client.receive_data(session.data_to_send())
    assert client.close_rcvd == Close(4000, "au revoir")
    assert session.should_close


def test_the_application_closes_and_both_sides_are_closed() -> None:
    client, session = connect(None)
    client.receive_data(session.send({"type": "websocket.close", "code": 4000, "reason": "tschüß"}))
    assert client.close_rcvd == Close(4000, "tschüß")
    [told] = session.receive_data(client_bytes(client))
    assert told == {"type": "websocket.disconnect", "code": 4000, "reason": "tschüß"}
    assert session.should_close


def test_both_close_at_once_and_each_is_told_the_others_code() -> None:
    client, session = connect(None)
    client.send_close(4001)
    crossing = client_bytes(client)
    client.receive_data(session.send({"type": "websocket.close", "code": 4002}))
    assert [told["code"] for told in session.receive_data(crossing)] == [4001]
    assert client.close_rcvd == Close(4002, "")
    assert not session.outgoing


def test_a_denied_client_sees_the_response() -> None:
    client = ClientProtocol(parse_uri("ws://example.org/"))
    request = client.connect()
    client.send_request(request)
    headers = [
        (name.lower().encode(), value.encode()) for name, value in request.headers.raw_items()
    ]
    session = WebSocketSession(
        RequestHead("GET", b"/", "/", b"/", b"", "1.1", headers, is_websocket=True)
    )
    client.receive_data(session.send({"type": "websocket.close"}))
    client.receive_eof()
    [response] = client.events_received()
    assert isinstance(response, Response)
    assert response.status_code == 403
