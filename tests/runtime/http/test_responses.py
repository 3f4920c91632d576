"""Responses: ASGI's rules, the framing that HTTP asks for, read back by h11."""

from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.runtime._errors import LocalProtocolError, UnexpectedMessage
from greenroom.runtime.http import (
    CONTINUE,
    Headers,
    RequestHead,
    ResponseWriter,
    error_response,
    render_date,
)

DEFAULTS = [(b"date", b"Sun, 06 Nov 1994 08:49:37 GMT"), (b"server", b"greenroom")]


def request(method: str = "GET", http_version: str = "1.1", keep_alive: bool = True) -> RequestHead:
    return RequestHead(method, b"/", "/", b"/", b"", http_version, [], keep_alive)


def start(status: object = 200, headers: object = ()) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def part(body: object = b"", more_body: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more_body}


def respond(head: RequestHead, *messages: dict[str, Any]) -> tuple[bytes, ResponseWriter]:
    writer = ResponseWriter(head)
    return b"".join([writer.send(message) for message in messages]), writer


# How a response is framed.


def test_head_leaves_together_with_the_first_part() -> None:
    writer = ResponseWriter(request())
    assert writer.send(start()) == b""
    assert not writer.started
    assert writer.send(part(b"hello")) == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
    assert writer.started
    assert writer.complete
    assert writer.keep_alive
    assert writer.status == 200


def test_body_in_several_parts_goes_in_chunks() -> None:
    writer = ResponseWriter(request())
    writer.send(start())
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    assert writer.send(part(b"hello, ", True)) == head + b"7\r\nhello, \r\n"
    assert writer.send(part(b"", True)) == b""
    assert writer.send(part(b"big world, big wor", True)) == b"12\r\nbig world, big wor\r\n"
    assert not writer.complete
    assert writer.send(part(b"ld")) == b"2\r\nld\r\n0\r\n\r\n"
    assert writer.complete


def test_empty_first_part_sends_the_head_alone_and_an_empty_last_part_ends() -> None:
    writer = ResponseWriter(request())
    writer.send(start(headers=[(b"content-type", b"text/event-stream")]))
    assert writer.send(part(b"", True)).endswith(b"transfer-encoding: chunked\r\n\r\n")
    assert writer.started
    assert writer.send(part()) == b"0\r\n\r\n"


def test_body_of_a_given_length_goes_as_it_is() -> None:
    data, writer = respond(
        request(),
        start(headers=[(b"Content-Length", b"5")]),
        part(b"he", True),
        part(b"", True),
        part(b"llo", True),
        part(),
    )
    assert data == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
    assert writer.keep_alive


def test_body_may_be_any_kind_of_bytes_and_may_be_missing() -> None:
    data, _ = respond(
        request(), start(), part(bytearray(b"he"), True), part(memoryview(b"y"), True), part()
    )
    assert data.endswith(b"2\r\nhe\r\n1\r\ny\r\n0\r\n\r\n")
    data, _ = respond(request(), {"type": "http.response.start", "status": 200})
    data, _ = respond(request(), start(), {"type": "http.response.body"})
    assert data == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def test_answer_to_head_has_the_head_of_the_answer_to_get_and_nothing_more() -> None:
    length = start(headers=[(b"content-length", b"5")])
    for messages in (
        [start(), part(b"hello")],
        [length, part(b"hello")],
        [length, part(b"")],
        [length, part(b"he", True), part(b"l")],
    ):
        data, writer = respond(request("HEAD"), *messages)
        assert data == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
        assert writer.complete
        assert writer.keep_alive


@pytest.mark.parametrize("status", [204, 304])
def test_status_without_content_has_none_whatever_the_application_says(status: int) -> None:
    # RFC 9110 sections 8.6, 15.3.5 and 15.4.5.
    for messages in (
        [start(status), part()],
        [start(status), part(b"hello")],
        [start(status, [(b"content-length", b"0")]), part()],
        [start(status, [(b"content-length", b"5")]), part(b"hel", True), part(b"lo")],
        [start(status, [(b"transfer-encoding", b"chunked")]), part(b"", True), part()],
    ):
        data, writer = respond(request(), *messages)
        assert data.endswith(b"\r\n\r\n")
        assert data.count(b"\r\n") == 2
        assert writer.keep_alive


def test_http_1_0_client_gets_no_chunks_but_a_close() -> None:
    data, writer = respond(
        request(http_version="1.0"), start(), part(b"he", True), part(b"llo", True), part()
    )
    assert data == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"
    assert not writer.keep_alive


def test_http_1_0_client_that_asks_for_it_may_go_on() -> None:
    data, writer = respond(request(http_version="1.0"), start(), part(b"hello"))
    assert b"\r\nconnection: keep-alive\r\n" in data
    assert writer.keep_alive


def test_connection_closes_when_either_side_asks() -> None:
    data, writer = respond(request(keep_alive=False), start(), part())
    assert b"\r\nconnection: close\r\n" in data
    assert not writer.keep_alive

    closing = start(headers=[(b"Connection", b"Close")])
    data, writer = respond(request(), closing, part())
    assert data.count(b"connection: close\r\n") == 1
    assert not writer.keep_alive

    writer = ResponseWriter(request())
    writer.send(start())
    writer.keep_alive = False  # the server stops
    assert b"\r\nconnection: close\r\n" in writer.send(part())


def test_application_cannot_keep_a_connection_that_closes() -> None:
    staying = start(headers=[(b"connection", b"keep-alive")])
    data, writer = respond(request(keep_alive=False), staying, part())
    assert b"keep-alive" not in data
    assert not writer.keep_alive


def test_other_connection_options_are_kept() -> None:
    headers = [(b"upgrade", b"h2c"), (b"connection", b"upgrade, keep-alive")]
    data, _ = respond(request(), start(426, headers), part())
    assert b"\r\nconnection: upgrade\r\n" in data
    assert b"keep-alive" not in data


def test_default_headers_give_way_to_the_applications() -> None:
    writer = ResponseWriter(request(), DEFAULTS)
    writer.send(start(headers=[(b"Server", b"mine")]))
    data = writer.send(part())
    assert b"\r\nserver: mine\r\n" in data
    assert b"greenroom" not in data
    assert data.count(b"\r\ndate: ") == 1


def test_repeated_headers_and_their_order_are_kept() -> None:
    headers = [(b"Set-Cookie", b"a=b"), (b"Vary", b"*"), (b"set-cookie", b"c=d")]
    data, _ = respond(request(), start(headers=iter(map(list, headers))), part())
    assert b"set-cookie: a=b\r\nvary: *\r\nset-cookie: c=d\r\n" in data


def test_status_without_a_phrase_keeps_the_space() -> None:
    # RFC 9112 section 4.
    assert respond(request(), start(299), part())[0].startswith(b"HTTP/1.1 299 \r\n")
    assert respond(request(), start(404), part())[0].startswith(b"HTTP/1.1 404 Not Found\r\n")


# What an application must not do. Nothing is written, and it may go on rightly.


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        (start(None), "status must be an int from 200 to 599, not None"),
        (start("200"), "status must be an int"),
        (start(200.0), "status must be an int"),
        (start(True), "status must be an int"),
        (start(101), "status must be an int"),
        (start(600), "status must be an int"),
        (start(headers=5), "headers must be pairs of bytes"),
        (start(headers={"a": "b"}), "headers must be pairs of bytes"),
        (start(headers=[(b"a",)]), "headers must be pairs of bytes"),
        (start(headers=[("a", b"b")]), "headers must be pairs of bytes"),
        (start(headers=[(b"a", "b")]), "headers must be pairs of bytes"),
        (start(headers=[(b"a", 5)]), "headers must be pairs of bytes"),
        (start(headers=[(b"a", None)]), "headers must be pairs of bytes"),
        (start(headers=[([], b"b")]), "headers must be pairs of bytes"),
        (start(headers=[(b"", b"b")]), "is not a token"),
        (start(headers=[(b"a b", b"c")]), "is not a token"),
        (start(headers=[(b"a:", b"c")]), "is not a token"),
        (start(headers=[(b"a\r\nb", b"c")]), "is not a token"),
        (start(headers=[(b"\xe9", b"c")]), "is not a token"),
        (start(headers=[(b":status", b"200")]), "is not a token"),
        (start(headers=[(b"a", b"b\r\nc: d")]), "control characters"),
        (start(headers=[(b"a", b"b\nc: d")]), "control characters"),
        (start(headers=[(b"a", b"b\rc: d")]), "control characters"),
        (start(headers=[(b"a", b"b\x00")]), "control characters"),
        (start(headers=[(b"connection", b"close\r\nc: d")]), "control characters"),
        (start(headers=[(b"content-length", b"+5")]), "content-length must be one number"),
        (start(headers=[(b"content-length", b"")]), "content-length must be one number"),
        (start(headers=[(b"content-length", b"5\r\n")]), "control characters"),
        (start(headers=[(b"content-length", b"5")] * 2), "content-length must be one number"),
        (start(headers=[(b"transfer-encoding", b"gzip")]), "transfer-encoding is up to"),
        (start(headers=[(b"transfer-encoding", b"chunked")] * 2), "transfer-encoding is up to"),
        (part(), "no message 'http.response.body'"),
        ({"type": "http.response.trailers"}, "no message 'http.response.trailers'"),
        ({"type": "websocket.send"}, "no message 'websocket.send'"),
        ({"type": []}, "no message"),
        ({}, "no message"),
    ],
)
def test_wrong_message_is_refused_by_its_rule_and_changes_nothing(
    message: dict[str, Any], rule: str
) -> None:
    writer = ResponseWriter(request())
    with pytest.raises(LocalProtocolError, match=rule):
        writer.send(message)
    assert writer.status == 0
    assert writer.keep_alive
    writer.send(start())
    assert writer.send(part(b"hello")) == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_header_values_may_be_any_kind_of_bytes(kind: type) -> None:
    headers = [(b"a", kind(b"b")), (b"connection", kind(b"close")), (b"connection", kind(b"c"))]
    headers.append((b"content-length", kind(b"5")))
    data, writer = respond(request(), start(headers=headers), part(b"hello"))
    assert b"\r\na: b\r\nconnection: c\r\ncontent-length: 5\r\n" in data
    assert not writer.keep_alive
    with pytest.raises(LocalProtocolError, match="control characters: b'c"):
        ResponseWriter(request()).send(start(headers=[(b"a", b"b"), (b"a", kind(b"c\n"))]))


@pytest.mark.parametrize("body", ["hello", None, 5, [b"hello"]])
def test_body_that_is_not_bytes_is_refused(body: object) -> None:
    writer = ResponseWriter(request())
    writer.send(start())
    with pytest.raises(LocalProtocolError, match="body must be bytes, not"):
        writer.send(part(body))
    assert not writer.started


def test_body_must_have_the_length_that_was_announced() -> None:
    writer = ResponseWriter(request())
    writer.send(start(headers=[(b"content-length", b"5")]))
    with pytest.raises(LocalProtocolError, match="longer than the content-length, by at least 1"):
        writer.send(part(b"hello!"))
    with pytest.raises(LocalProtocolError, match="ends before the content-length, 1 bytes"):
        writer.send(part(b"hell"))
    assert not writer.started
    writer.send(part(b"hell", True))
    with pytest.raises(LocalProtocolError, match="longer"):
        writer.send(part(b"oo", True))
    with pytest.raises(LocalProtocolError, match="ends before"):
        writer.send(part())
    assert writer.send(part(b"o")) == b"o"


def test_response_starts_once_and_ends_once() -> None:
    writer = ResponseWriter(request())
    writer.send(start())
    with pytest.raises(UnexpectedMessage, match="waiting for the first http"):
        writer.send(start())
    writer.send(part(b"a", True))
    with pytest.raises(UnexpectedMessage, match="in the middle of the response's body"):
        writer.send(start())
    writer.send(part())
    for message in (start(), part(), part(b"a", True)):
        with pytest.raises(UnexpectedMessage, match="past the end of the response"):
            writer.send(message)


# An application that crashes.


@pytest.mark.parametrize("messages", [[], [start(204, [(b"a", b"b")])]])
def test_crash_before_the_first_part_is_a_500(messages: list[dict[str, Any]]) -> None:
    writer = ResponseWriter(request(), DEFAULTS)
    for message in messages:
        writer.send(message)
    data = writer.fail()
    assert data.startswith(b"HTTP/1.1 500 Internal Server Error\r\ndate: ")
    assert data.endswith(b"\r\nconnection: close\r\n\r\nInternal Server Error")
    assert b"a: b" not in data
    assert (writer.status, writer.complete, writer.keep_alive) == (500, True, False)
    assert writer.fail() == b""


def test_answer_to_head_after_a_crash_has_no_body() -> None:
    data = ResponseWriter(request("HEAD")).fail()
    assert data.startswith(b"HTTP/1.1 500 ")
    assert data.endswith(b"\r\n\r\n")


def test_crash_in_the_middle_only_closes() -> None:
    writer = ResponseWriter(request())
    writer.send(start())
    writer.send(part(b"hel", True))
    assert writer.fail() == b""
    assert (writer.status, writer.complete, writer.keep_alive) == (200, True, False)
    with pytest.raises(UnexpectedMessage):
        writer.send(part())


def test_crash_after_the_end_changes_nothing() -> None:
    _, writer = respond(request(), start(), part())
    assert writer.fail() == b""
    assert writer.keep_alive


# What the server says itself.


def read(data: bytes, method: str = "GET", closed: bool = False) -> tuple[h11.Response, bytes]:
    """Let h11 read one response that ends where the data end."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    if closed:
        client.receive_data(b"")
    response = client.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert client.trailing_data[0] == b""
    return response, body


@pytest.mark.parametrize("status", [400, 408, 413, 414, 417, 426, 431, 500, 501, 503, 505])
def test_error_response_is_whole_and_closes(status: int) -> None:
    response, body = read(error_response(status, "why", DEFAULTS))
    assert response.status_code == status
    assert body == b"why"
    assert (b"connection", b"close") in list(response.headers)
    assert (b"server", b"greenroom") in list(response.headers)
    assert read(error_response(status))[1]


def test_continue_is_an_informational_response() -> None:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="POST", target="/", headers=[("host", "a")]))
    client.receive_data(CONTINUE)
    event = client.next_event()
    assert isinstance(event, h11.InformationalResponse)
    assert event.status_code == 100


def test_date_is_made_once_a_second() -> None:
    assert render_date(0.0) == b"Thu, 01 Jan 1970 00:00:00 GMT"
    assert render_date(784111777.2) is render_date(784111777.9)
    assert render_date(784111778.0) == b"Sun, 06 Nov 1994 08:49:38 GMT"


# Properties.

header_names = st.sampled_from([b"A", b"content-type", b"Set-Cookie", b"Server", b"x_1!"])
header_values = st.text(" \t!~:;,é", max_size=6).map(
    lambda value: value.encode("latin-1").strip(b" \t")
)
bodies = st.lists(st.binary(max_size=20) | st.just(b"0\r\n\r\n"), max_size=4)


@given(
    st.sampled_from(["GET", "HEAD", "POST"]),
    st.sampled_from(["1.0", "1.1"]),
    st.booleans(),
    st.sampled_from([200, 201, 204, 304, 404, 599]),
    st.lists(st.tuples(header_names, header_values), max_size=4),
    bodies,
    st.booleans(),
    st.booleans(),
)
def test_written_response_is_read_back_equal_by_another_parser(
    method: str,
    version: str,
    keep_alive: bool,
    status: int,
    headers: Headers,
    parts: list[bytes],
    gives_length: bool,
    ends_with_a_part: bool,
) -> None:
    writer = ResponseWriter(request(method, version, keep_alive), DEFAULTS)
    length = [(b"Content-Length", b"%d" % len(b"".join(parts)))] if gives_length else []
    ends_with_a_part = ends_with_a_part and bool(parts)
    messages = [start(status, headers + length), *(part(body, True) for body in parts)]
    if ends_with_a_part:
        messages[-1]["more_body"] = False
    else:
        messages.append(part())
    data = b"".join([writer.send(message) for message in messages])

    assert writer.complete
    response, body = read(data, method, closed=not writer.keep_alive)
    assert response.status_code == status
    assert body == (b"" if method == "HEAD" or status in (204, 304) else b"".join(parts))
    received = list(response.headers)
    framing = {b"content-length", b"transfer-encoding", b"connection"}
    names = {name.lower() for name, _ in headers}
    assert [field for field in received if field[0] not in framing] == [
        *((name.lower(), value) for name, value in headers),
        *(field for field in DEFAULTS if field[0] not in names),
    ]
    closes = (b"connection", b"close") in received
    assert writer.keep_alive is not closes
    assert keep_alive or closes


steps = st.lists(
    st.sampled_from(["start", "part", "empty", "last", "short", "bad start", "bad part", "fail"]),
    max_size=7,
)


@given(steps, st.booleans())
def test_refused_messages_leave_no_trace(names: list[str], gives_length: bool) -> None:
    length = [(b"content-length", b"2")] if gives_length else []
    messages: dict[str, dict[str, Any]] = {
        "start": start(headers=length),
        "part": part(b"a", True),
        "empty": part(b"", True),
        "last": part(b"a"),
        "short": part(),
        "bad start": start(0, [(b"connection", b"close")]),
        "bad part": part("a"),
    }
    writer, clean = ResponseWriter(request()), ResponseWriter(request())
    for name in names:
        if name == "fail":
            assert writer.fail() == clean.fail()
            continue
        try:
            data = writer.send(messages[name])
        except LocalProtocolError:
            continue  # `clean` never hears of it
        assert clean.send(messages[name]) == data
        assert (clean.state, clean.keep_alive, clean.status) == (
            writer.state,
            writer.keep_alive,
            writer.status,
        )
