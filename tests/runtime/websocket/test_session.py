"""The life of one WebSocket: any sequence of steps obeys the table and ends once."""

import gc
import tracemalloc
from collections.abc import Callable, Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from greenroom.runtime import ClientDisconnected, LocalProtocolError, UnexpectedMessage
from greenroom.runtime.http import RequestHead
from greenroom.runtime.websocket import State, WebSocketLimits, WebSocketSession
from greenroom.runtime.websocket._session import MAX_EARLY
from greenroom.runtime.websocket._states import NEXT, advance

Message = dict[str, Any]

ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close"}
START = {"type": "websocket.http.response.start", "status": 404, "headers": []}
BODY = {"type": "websocket.http.response.body", "body": b"no such room"}
MORE = {**BODY, "more_body": True}
HELLO = {"type": "websocket.send", "text": "hello"}

HEAD = RequestHead(
    "GET",
    b"/",
    "/",
    b"/",
    b"",
    "1.1",
    [(b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="), (b"sec-websocket-version", b"13")],
    is_websocket=True,
)


def opened(max_message_size: int = 1 << 20) -> WebSocketSession:
    session = WebSocketSession(HEAD, WebSocketLimits(max_message_size))
    session.send(ACCEPT)
    return session


def client_frame(opcode: Opcode, data: bytes = b"") -> bytes:
    return Frame(opcode, data).serialize(mask=True)


def client_close(code: int, reason: bytes = b"") -> bytes:
    return client_frame(Opcode.CLOSE, code.to_bytes(2, "big") + reason)


def server_frames(data: bytes) -> list[tuple[Opcode, bytes]]:
    """Read our frames with the reader of another implementation."""
    frames = []
    position = 0

    def read_exact(size: int) -> Generator[None, None, bytes]:
        nonlocal position
        assert position + size <= len(data), "cut short"
        position += size
        return data[position - size : position]
        yield

    while position < len(data):
        with pytest.raises(StopIteration) as stop:
            next(Frame.parse(read_exact, mask=False))
        frames.append((stop.value.value.opcode, bytes(stop.value.value.data)))
    return frames


def disconnect(code: int, reason: str = "") -> Message:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


# The usual ways.


def test_messages_travel_both_ways_and_carry_one_key() -> None:
    session = opened()
    data = client_frame(Opcode.TEXT, b"hi") + client_frame(Opcode.BINARY, b"\x00\xff")
    assert session.receive_data(data) == [
        {"type": "websocket.receive", "text": "hi"},
        {"type": "websocket.receive", "bytes": b"\x00\xff"},
    ]
    assert not session.outgoing
    assert session.send(HELLO) == b"\x81\x05hello"
    assert session.send({"type": "websocket.send", "bytes": b"\x00\xff"}) == b"\x82\x02\x00\xff"


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        ({"text": ""}, b"\x81\x00"),
        ({"bytes": b""}, b"\x82\x00"),
        ({"text": "x", "bytes": None}, b"\x81\x01x"),
        ({"text": None, "bytes": bytearray(b"x")}, b"\x82\x01x"),
        ({"bytes": memoryview(b"xyz")[1:]}, b"\x82\x02yz"),
        ({"text": "é"}, b"\x81\x02\xc3\xa9"),
    ],
)
def test_empty_messages_and_every_kind_of_bytes_are_sent(message: Message, frame: bytes) -> None:
    assert opened().send({"type": "websocket.send", **message}) == frame


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"text": None},
        {"text": None, "bytes": None},
        {"text": "x", "bytes": b"x"},
        {"text": "", "bytes": b""},
        {"text": b"x"},
        {"bytes": "x"},
        {"text": 5},
        {"text": "\ud800"},
    ],
)
def test_a_message_that_is_not_one_text_or_one_bytes_is_refused(message: Message) -> None:
    session = opened()
    with pytest.raises(LocalProtocolError, match=r"websocket\.send"):
        session.send({"type": "websocket.send", **message})
    assert session.send(HELLO) == b"\x81\x05hello"


def test_a_ping_is_answered_at_once_and_a_pong_is_noted_only_if_it_is_ours() -> None:
    session = opened()
    assert session.receive_data(client_frame(Opcode.PING, b"are you?")) == []
    assert session.data_to_send() == b"\x8a\x08are you?"
    assert session.data_to_send() == b""
    [(opcode, payload)] = server_frames(session.ping())
    assert opcode is Opcode.PING
    assert session.awaiting_pong
    session.receive_data(client_frame(Opcode.PONG, b"unasked"))
    assert session.awaiting_pong
    session.receive_data(client_frame(Opcode.PONG, payload))
    assert not session.awaiting_pong
    assert server_frames(session.ping()) != [(opcode, payload)]


def test_no_ping_before_the_handshake_is_answered_and_after_the_close() -> None:
    session = WebSocketSession(HEAD)
    assert session.ping() == b""
    session.send(ACCEPT)
    session.send(CLOSE)
    assert session.ping() == b""
    assert not session.awaiting_pong


# How it ends.


def test_a_clients_close_is_repeated_to_it_and_told_to_the_application() -> None:
    session = opened()
    after = client_frame(Opcode.TEXT, b"too late") + client_frame(Opcode.PING)
    assert session.receive_data(client_close(4001, b"bye") + after) == [disconnect(4001, "bye")]
    assert session.data_to_send() == b"\x88\x05\x0f\xa1bye"
    assert session.should_close
    assert session.receive_data(after) == []
    assert session.receive_eof() == []


def test_a_close_without_a_code_is_1005_and_is_answered_without_one() -> None:
    session = opened()
    assert session.receive_data(client_frame(Opcode.CLOSE)) == [disconnect(1005)]
    assert session.data_to_send() == b"\x88\x00"


def test_an_application_that_closes_is_told_when_the_client_has_answered() -> None:
    session = opened()
    assert session.send({**CLOSE, "code": 4321, "reason": "enough"}) == b"\x88\x08\x10\xe1enough"
    assert session.state is State.CLOSING
    assert not session.should_close
    crossing = client_frame(Opcode.TEXT, b"crossing") + client_frame(Opcode.PING)
    assert session.receive_data(crossing) == []
    assert session.receive_data(client_close(4321)) == [disconnect(4321)]
    assert not session.outgoing
    assert session.should_close


@pytest.mark.parametrize(
    "message", [{}, {"code": None, "reason": None}, {"code": 1000, "reason": ""}]
)
def test_a_close_without_a_code_sends_1000(message: Message) -> None:
    assert opened().send({**CLOSE, **message}) == b"\x88\x02\x03\xe8"


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        ({"code": 0}, "close code 0"),
        ({"code": 999}, "7.4"),
        ({"code": 1005}, "7.4"),
        ({"code": 1006}, "7.4"),
        ({"code": 1015}, "7.4"),
        ({"code": 2999}, "7.4"),
        ({"code": 5000}, "7.4"),
        ({"code": True}, "7.4"),
        ({"code": "1000"}, "int"),
        ({"reason": b"x"}, "str"),
        ({"reason": "x" * 124}, "124 bytes in UTF-8, more than 123"),
        ({"reason": "é" * 62}, "5.5"),
        ({"reason": "\ud800"}, "surrogates"),
    ],
)
def test_a_close_that_may_not_be_sent_names_its_rule_and_changes_nothing(
    message: Message, rule: str
) -> None:
    session = opened()
    with pytest.raises(LocalProtocolError, match=rule):
        session.send({**CLOSE, **message})
    assert session.send(HELLO) == b"\x81\x05hello"


def test_pongs_that_were_not_taken_yet_leave_before_a_close() -> None:
    closes: list[Callable[[WebSocketSession], bytes]] = [
        lambda session: session.send(CLOSE),
        lambda session: session.fail(1012)[0],
        WebSocketSession.crash,
    ]
    for close in closes:
        session = opened()
        session.receive_data(client_frame(Opcode.PING, b"1"))
        opcodes = [opcode for opcode, _ in server_frames(close(session))]
        assert opcodes == [Opcode.PONG, Opcode.CLOSE]
        assert session.data_to_send() == b""


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x05Hello", 1002),
        (client_frame(Opcode.TEXT, b"\xff"), 1007),
        (b"\x81\xff" + (1 << 40).to_bytes(8, "big"), 1009),
    ],
    ids=["unmasked", "no UTF-8", "too big"],  # not the bytes, which a random mask changes
)
def test_a_fault_of_the_client_closes_with_its_code(data: bytes, code: int) -> None:
    session = opened()
    [first, last] = session.receive_data(client_frame(Opcode.TEXT, b"before") + data)
    assert first == {"type": "websocket.receive", "text": "before"}
    assert (last["type"], last["code"]) == ("websocket.disconnect", code)
    [(opcode, payload)] = server_frames(session.data_to_send())
    assert opcode is Opcode.CLOSE
    assert payload == code.to_bytes(2, "big") + last["reason"].encode()
    assert session.should_close
    assert session.receive_data(client_frame(Opcode.TEXT, b"after")) == []


def test_a_connection_that_is_lost_is_1006_once() -> None:
    session = opened()
    assert session.receive_eof() == [disconnect(1006)]
    assert session.receive_eof() == []
    assert session.should_close


def test_a_client_that_does_not_answer_a_close_is_1006() -> None:
    session = opened()
    session.send({**CLOSE, "code": 4000})
    assert session.receive_eof() == [disconnect(1006)]


def test_a_client_that_answers_a_close_with_nonsense_is_1006_and_is_not_answered() -> None:
    session = opened()
    session.send(CLOSE)
    assert session.receive_data(b"\xff\xff") == [disconnect(1006)]
    assert not session.outgoing
    assert session.should_close


def test_a_server_that_fails_it_tells_both_sides_its_code() -> None:
    session = opened()
    assert session.fail(1012, "restart") == (
        b"\x88\x09\x03\xf4restart",
        [disconnect(1012, "restart")],
    )
    assert not session.should_close
    assert session.receive_data(client_close(1012)) == []
    assert session.should_close
    with pytest.raises(ClientDisconnected):
        session.send(HELLO)


def test_a_crash_is_1011_when_open_and_500_before() -> None:
    assert opened().crash() == b"\x88\x02\x03\xf3"
    session = WebSocketSession(HEAD, default_headers=[(b"server", b"x")])
    assert session.crash().startswith(b"HTTP/1.1 500 Internal Server Error\r\nserver: x\r\n")
    assert session.should_close


@pytest.mark.parametrize(("code", "status"), [(1011, 500), (1012, 503), (1013, 503)])
def test_a_server_that_fails_a_waiting_handshake_answers_with_a_status(
    code: int, status: int
) -> None:
    session = WebSocketSession(HEAD)
    data, messages = session.fail(code)
    assert data.startswith(b"HTTP/1.1 %d " % status)
    assert messages == [disconnect(code)]


# Before it is open.


def test_close_before_accept_is_403_and_the_lost_connection_tells_the_application() -> None:
    session = WebSocketSession(HEAD, default_headers=[(b"server", b"x")])
    answer = session.send({**CLOSE, "code": 4000})
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\nserver: x\r\n")
    assert b"connection: close\r\n" in answer
    assert session.should_close
    assert session.receive_eof() == [disconnect(1006)]


def test_a_denial_is_the_applications_own_response_and_the_last_of_the_connection() -> None:
    session = WebSocketSession(HEAD, default_headers=[(b"server", b"x")])
    answer = session.send({**START, "headers": [(b"x-why", b"full")]})
    assert session.state is State.DENYING
    answer += session.send(MORE)
    assert session.state is State.DENYING
    answer += session.send(BODY)
    assert session.should_close
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    for field in (b"x-why: full", b"server: x", b"connection: close"):
        assert field + b"\r\n" in answer
    assert answer.endswith(b"no such room\r\n0\r\n\r\n")
    assert session.receive_eof() == [disconnect(1006)]


def test_a_denial_that_is_refused_leaves_the_handshake_waiting() -> None:
    session = WebSocketSession(HEAD)
    with pytest.raises(LocalProtocolError):
        session.send({**START, "status": "404"})
    assert session.state is State.CONNECTING
    assert session.send(ACCEPT)


def test_a_crash_after_a_denial_began_is_still_a_500_if_nothing_was_written() -> None:
    session = WebSocketSession(HEAD)
    assert session.send(START) == b""
    assert session.crash().startswith(b"HTTP/1.1 500 ")
    session = WebSocketSession(HEAD)
    session.send(START)
    assert session.send(MORE)
    assert session.crash() == b""
    assert session.should_close


def test_what_a_client_sends_too_early_is_kept_until_it_is_accepted() -> None:
    session = WebSocketSession(HEAD)
    early = client_frame(Opcode.TEXT, b"early")
    assert session.receive_data(early[:3]) == []
    assert session.receive_data(early[3:]) == []
    session.send(ACCEPT)
    assert session.receive_data(b"") == [{"type": "websocket.receive", "text": "early"}]


def test_a_client_that_sends_too_much_too_early_is_refused() -> None:
    session = WebSocketSession(HEAD)
    assert session.receive_data(bytes(MAX_EARLY)) == []
    assert session.receive_data(b"x") == [disconnect(1006)]
    assert session.data_to_send().startswith(b"HTTP/1.1 400 ")
    assert session.should_close
    with pytest.raises(ClientDisconnected):
        session.send(ACCEPT)


# What an application may not do.


@pytest.mark.parametrize(
    ("before", "message", "state"),
    [
        ([], HELLO, "connecting"),
        ([], BODY, "connecting"),
        ([ACCEPT], ACCEPT, "open"),
        ([ACCEPT], START, "open"),
        ([ACCEPT, CLOSE], HELLO, "closing"),
        ([ACCEPT, CLOSE], CLOSE, "closing"),
        ([CLOSE], ACCEPT, "closed"),
        ([CLOSE], CLOSE, "closed"),
        ([START], ACCEPT, "denying"),
        ([START], CLOSE, "denying"),
        ([START, BODY], BODY, "closed"),
        ([], {"type": "websocket.connect"}, "connecting"),
        ([ACCEPT], {"type": "http.response.start", "status": 200}, "open"),
    ],
)
def test_a_message_out_of_order_is_refused_by_name_and_state(
    before: list[Message], message: Message, state: str
) -> None:
    session = WebSocketSession(HEAD)
    for step in before:
        session.send(step)
    now = session.state
    with pytest.raises(UnexpectedMessage, match=rf"{message['type']}.*{state}") as failure:
        session.send(message)
    assert failure.value.message_type == message["type"]
    assert session.state is now


@pytest.mark.parametrize("message", [{}, {"type": None}, {"type": 5}, {"type": []}])
def test_a_message_without_a_type_is_refused(message: Message) -> None:
    for session in (WebSocketSession(HEAD), opened()):
        with pytest.raises(LocalProtocolError, match="'type'"):
            session.send(message)


def test_sending_after_the_client_left_is_a_disconnect_and_no_fault_of_the_application() -> None:
    for message in (HELLO, CLOSE, ACCEPT, START, BODY):
        session = opened()
        session.receive_eof()
        with pytest.raises(ClientDisconnected):
            session.send(message)
    with pytest.raises(UnexpectedMessage):
        session.send({"type": "websocket.unknown"})


def test_the_table_knows_what_follows_a_lost_connection_in_every_state() -> None:
    for state in State:
        assert any(key[0] is state for key in NEXT)
    assert advance(State.OPEN, "websocket.close") is State.CLOSING


# Any sequence of steps, beside a model that keeps the history and asks it.

APPLICATION = [
    ACCEPT,
    ACCEPT,
    HELLO,
    {"type": "websocket.send"},
    {"type": "websocket.send", "bytes": b"x" * 200},
    CLOSE,
    {**CLOSE, "code": 4000, "reason": "enough"},
    {**CLOSE, "code": 1006},
    START,
    MORE,
    BODY,
    {"type": "websocket.unknown"},
]
CLIENT = {
    "text": client_frame(Opcode.TEXT, b"hi"),
    "ping": client_frame(Opcode.PING, b"ping"),
    "close": client_close(4002, b"left"),
    "fault": b"\xff\xff",
}
steps = st.lists(
    st.tuples(st.just("application"), st.sampled_from(APPLICATION))
    | st.tuples(st.just("client"), st.sampled_from(sorted(CLIENT)))
    | st.sampled_from([("eof", None), ("ping", None), ("fail", 1012), ("crash", None)]),
    max_size=12,
)
AFTER: dict[str, set[str]] = {
    "waiting": {"websocket.accept", "websocket.close", "websocket.http.response.start"},
    "denying": {"websocket.http.response.body"},
    "open": {"websocket.send", "websocket.close"},
    "ended": set(),
}
KNOWN = set().union(*AFTER.values())


def is_well_formed(message: Message) -> bool:
    return message != {"type": "websocket.send"} and message.get("code") != 1006


class Model:
    """What a WebSocket is, told from what happened to it."""

    def __init__(self) -> None:
        self.stage = "waiting"
        self.ended_by = ""
        self.peer_may_answer = False
        self.told: list[Message] = []  # what the application must have been told
        self.listens = True  # until it was told of the end, or crashed
        self.early: list[str] = []

    def tell(self, message: Message) -> None:
        if self.listens:
            self.told.append(message)
            self.listens = message["type"] != "websocket.disconnect"

    def end(self, by: str) -> None:
        if self.stage != "ended":
            self.peer_may_answer = self.stage == "open" and by in ("application", "server")
            self.stage, self.ended_by = "ended", by

    def application(self, message: Message) -> type[Exception] | None:
        """Take a message; give the error that it must meet."""
        kind = message["type"]
        if kind not in AFTER[self.stage]:
            late = self.ended_by not in ("", "application") and kind in KNOWN
            return ClientDisconnected if late else UnexpectedMessage
        if not is_well_formed(message) and self.stage == "open":
            return LocalProtocolError
        if kind == "websocket.accept":
            self.stage = "open"
        elif kind.endswith("start"):
            self.stage = "denying"
        elif kind == "websocket.close" or (kind.endswith("body") and "more_body" not in message):
            self.end("application")
        return None

    def client(self, what: str) -> None:
        if self.stage == "waiting":
            self.early.append(what)
            return
        for kind in [*self.early, what]:
            if self.stage == "open" and kind == "text":
                self.tell({"type": "websocket.receive", "text": "hi"})
            elif self.stage == "open" and kind in ("close", "fault"):
                fault = disconnect(1002, "reserved bit is set")
                self.tell(disconnect(4002, "left") if kind == "close" else fault)
                self.end("client")
            elif self.peer_may_answer and kind in ("close", "fault"):
                self.tell(disconnect(4002, "left") if kind == "close" else disconnect(1006))
                self.peer_may_answer = False
        self.early = []


def run(
    session: WebSocketSession, model: Model, kind: str, what: Any
) -> tuple[bytes, list[Message]]:
    """Take one step in both; give what was written and told."""
    if kind == "application":
        wanted = model.application(what)
        if wanted is None:
            return session.send(what), []
        before = session.state
        with pytest.raises(wanted) as failure:
            session.send(what)
        assert type(failure.value) is wanted
        assert session.state is before
        return b"", []
    if kind == "client":
        model.client(what)
        told = session.receive_data(CLIENT[what])
        return session.data_to_send(), told
    if kind == "eof":
        model.tell(disconnect(1006))
        model.end("loss")
        model.peer_may_answer = False
        return b"", session.receive_eof()
    if kind == "ping":
        return session.ping(), []
    if kind == "fail":
        model.tell(disconnect(what))
        model.end("server")
        return session.fail(what)
    model.listens = False
    model.end("server")
    return session.crash(), []


@given(steps)
def test_any_sequence_of_steps_is_told_once_written_in_order_and_refused_by_the_rules(
    sequence: list[tuple[str, Any]],
) -> None:
    session = WebSocketSession(HEAD)
    model = Model()
    wire = b""
    told: list[Message] = []
    for kind, what in sequence:
        written, messages = run(session, model, kind, what)
        wire += written
        told += messages
        assert session.should_close == (model.stage == "ended" and not model.peer_may_answer)
    told += session.receive_eof()
    model.tell(disconnect(1006))
    assert told == model.told
    ends = [message["type"] for message in told].count("websocket.disconnect")
    assert ends == 1 or (ends == 0 and ("crash", None) in sequence)

    # Nothing was written after the end, whichever it was.
    assert session.data_to_send() == session.ping() == session.crash() == b""
    assert wire.count(b"HTTP/1.1 ") <= 1
    if wire.startswith(b"HTTP/1.1 101 "):
        opcodes = [opcode for opcode, _ in server_frames(wire.partition(b"\r\n\r\n")[2])]
        assert Opcode.CLOSE not in opcodes[:-1]


@given(st.lists(st.binary(max_size=60), max_size=6), st.integers(1, 200))
def test_random_bytes_never_raise_and_end_in_a_close_frame_or_data(
    pieces: list[bytes], limit: int
) -> None:
    session = opened(limit)
    told: list[Message] = []
    for piece in pieces:
        told += session.receive_data(piece)
    frames = server_frames(session.data_to_send())
    assert all(opcode in (Opcode.PONG, Opcode.CLOSE) for opcode, _ in frames)
    assert session.should_close == any(opcode is Opcode.CLOSE for opcode, _ in frames)
    assert session.should_close == any(m["type"] == "websocket.disconnect" for m in told)
    told += session.receive_eof()
    assert [m["type"] for m in told].count("websocket.disconnect") == 1
    assert told[-1]["type"] == "websocket.disconnect"


# What it costs to be idle.


def test_an_idle_session_takes_less_than_a_kilobyte() -> None:
    offer = ClientProtocol(parse_uri("ws://example.org/")).connect().headers.raw_items()
    headers = [(name.lower().encode(), value.encode()) for name, value in offer]
    headers.append((b"sec-websocket-extensions", b"permessage-deflate"))

    def idle() -> WebSocketSession:
        session = WebSocketSession(
            RequestHead("GET", b"/", "/", b"/", b"", "1.1", list(headers), is_websocket=True)
        )
        session.send(ACCEPT)
        session.receive_data(client_frame(Opcode.TEXT, b"hi"))
        session.receive_data(client_frame(Opcode.PING, b"hi"))
        session.data_to_send()
        return session

    idle()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        sessions = [idle() for _ in range(200)]
        each = (tracemalloc.get_traced_memory()[0] - before) / len(sessions)
    finally:
        tracemalloc.stop()
    assert each < 1000
