"""A connection's bytes as requests: bodies, several requests, limits, and any cuts."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import h11
import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from greenroom.runtime._errors import RemoteProtocolError
from greenroom.runtime.http import (
    END_OF_REQUEST,
    BodyChunk,
    RequestHead,
    RequestLimits,
    RequestParser,
)

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

Outcome = tuple[list[object], tuple[int, str] | None]


def parse(pieces: list[bytes], limits: RequestLimits | None = None) -> Outcome:
    """Feed the pieces; give the events, bodies joined, and the error that ended it."""
    parser = RequestParser(limits or RequestLimits())
    events: list[object] = []
    error = None
    for piece in pieces:
        try:
            events += parser.receive_data(piece)
        except RemoteProtocolError as failure:
            events += failure.events
            error = (failure.status, failure.reason)
            break
    return joined(events), error


def joined(events: list[object]) -> list[object]:
    result: list[object] = []
    for event in events:
        if isinstance(event, BodyChunk):
            assert event.data
            if result and isinstance(result[-1], bytes):
                result[-1] += event.data
            else:
                result.append(event.data)
        else:
            result.append(event)
    return result


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def refusal(data: bytes, limits: RequestLimits | None = None) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as failure:
        RequestParser(limits or RequestLimits()).receive_data(data)
    return failure.value


# Bodies.


def test_body_of_known_length_comes_as_it_arrives() -> None:
    parser = RequestParser()
    assert len(parser.receive_data(POST + b"he")) == 2
    assert not parser.idle
    assert parser.receive_data(b"l") == [BodyChunk(b"l")]
    assert parser.receive_data(b"lo") == [BodyChunk(b"lo"), END_OF_REQUEST]
    assert parser.idle


def test_chunks_that_arrive_together_are_one_event() -> None:
    body = b'5\r\nhello\r\n1;a=b\r\n,\r\n0006 ; q="\\";" ;z\r\n world\r\n000\r\nTrailer: x\r\n\r\n'
    events = RequestParser().receive_data(CHUNKED + body)
    assert events[1:] == [BodyChunk(b"hello, world"), END_OF_REQUEST]


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE", b"X-OWN"])
def test_every_method_may_have_a_body(method: bytes) -> None:
    # RFC 9110 section 9.3.1: a server that ignores it takes the body for the next request.
    events, error = parse([POST.replace(b"POST", method) + b"GET /" + GET])
    assert error is None
    assert [event for event in events if not isinstance(event, RequestHead)] == [
        b"GET /",
        END_OF_REQUEST,
        END_OF_REQUEST,
    ]


def test_trailers_are_dropped_and_mean_nothing() -> None:
    trailers = b"Host: evil\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n"
    events, error = parse([CHUNKED + b"0\r\n" + trailers + GET])
    assert error is None
    assert [type(event) for event in events[2:]] == [RequestHead, type(END_OF_REQUEST)]
    first, second = events[0], events[2]
    assert isinstance(first, RequestHead)
    assert isinstance(second, RequestHead)
    assert first.headers == [(b"host", b"a"), (b"transfer-encoding", b"chunked")]
    assert second.headers == [(b"host", b"a")]


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"x\r\n",
        b"0x5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"-5\r\nhello\r\n",
        b"5_0\r\n",
        b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"5\t\r\nhello\r\n",
        b"5\x00\r\nhello\r\n",
        b"5\nhello\r\n",  # bare LF
        b"5\r\r\nhello\r\n",
        b"5\rX\nhello\r\n",
        b"5,\r\nhello\r\n",
        b"00000000000000005\r\nhello\r\n",  # 17 digits
        b"10000000000000005\r\nhello\r\n",
        # Extensions: a reader that skips to LF, or to CR, sees another end of the line.
        b"5;\r\nhello\r\n",
        b"5;a\nhello\r\n",
        b"5;a\rX\nhello\r\n",
        b"5;a\r\r\nhello\r\n",
        b"5;\x00\r\nhello\r\n",
        b"5;a=\r\nhello\r\n",
        b"5;=a\r\nhello\r\n",
        b"5;a=b c\r\nhello\r\n",
        b'5;a="\r\nhello\r\n',
        b'5;a="\n"\r\nhello\r\n',
        b'5;a="b"c\r\nhello\r\n',
        b"5;a;\r\nhello\r\n",
        b"5 a\r\nhello\r\n",
        b"5;" + b"a" * 2000 + b"\r\nhello\r\n",
        b"5;" + b"a" * 2000,  # known before the line ends
        # The end of a chunk.
        b"5\r\nhello\n",
        b"5\r\nhello\r0",
        b"5\r\nhello0\r\n",
        b"5\r\nhello, world\r\n",
        b"5\r\nhello\r\r\n",
        # The last chunk and the trailers.
        b"0\n\r\n",
        b"0\r\n\n",
        b"0\r\nGET / HTTP/1.1\r\n",
        b"0\r\nA : b\r\n",
    ],
)
def test_chunk_that_readers_could_take_differently_is_refused(body: bytes) -> None:
    error = refusal(CHUNKED + body)
    assert error.status == 400
    assert END_OF_REQUEST not in error.events


def test_chunks_need_not_be_large_but_their_lines_may_not_outweigh_them() -> None:
    small = b"1\r\nx\r\n" * 20_000
    assert parse([CHUNKED + small + b"0\r\n\r\n"])[1] is None
    padded = b"1;" + b"a" * 200 + b"\r\nx\r\n"
    assert parse([CHUNKED + padded * 20 + b"0\r\n\r\n"])[1] is None
    assert refusal(CHUNKED + padded * 200).status == 400


def test_trailer_section_has_the_limits_of_a_head() -> None:
    limits = RequestLimits(max_head_size=1000, max_headers=10)
    assert refusal(CHUNKED + b"0\r\n" + b"A: b\r\n" * 11, limits).status == 431
    assert refusal(CHUNKED + b"0\r\nA: " + b"b" * 1000, limits).status == 431
    assert parse([CHUNKED + b"0\r\n" + b"A: b\r\n" * 10 + b"\r\n"], limits)[1] is None


# Several requests on one connection.


def test_pipelined_requests_come_in_order() -> None:
    events, error = parse([GET + POST + b"hello" + CHUNKED + b"1\r\nx\r\n0\r\n\r\n" + GET])
    assert error is None
    assert [event for event in events if not isinstance(event, RequestHead)] == [
        END_OF_REQUEST,
        b"hello",
        END_OF_REQUEST,
        b"x",
        END_OF_REQUEST,
        END_OF_REQUEST,
    ]


def test_what_was_parsed_before_a_fault_is_not_lost() -> None:
    error = refusal(POST + b"hello" + GET + b"nonsense\r\n")
    assert [type(event) for event in error.events] == [
        RequestHead,
        BodyChunk,
        type(END_OF_REQUEST),
        RequestHead,
        type(END_OF_REQUEST),
    ]


def test_parser_that_failed_stays_failed() -> None:
    parser = RequestParser()
    with pytest.raises(RemoteProtocolError) as first:
        parser.receive_data(GET + b"nonsense\r\n")
    with pytest.raises(RemoteProtocolError) as second:
        parser.receive_data(GET)
    assert (second.value.status, second.value.reason) == (first.value.status, first.value.reason)
    assert second.value.events == ()
    assert not parser.idle


def test_nothing_is_read_after_a_request_that_closes() -> None:
    # RFC 9112 section 9.6.
    closing = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    parser = RequestParser()
    assert len(parser.receive_data(closing + GET + b"nonsense\r\n")) == 2
    assert parser.receive_data(GET) == []
    assert not parser.idle


def test_one_empty_line_before_each_request_is_ignored() -> None:
    # RFC 9112 section 2.2.
    events, error = parse([b"\r\n" + GET + b"\r\n" + GET + b"\r\n\r\n"])
    assert len(events) == 4
    assert error is not None


def test_parsing_stops_at_a_websocket_handshake() -> None:
    parser = RequestParser()
    events = parser.receive_data(GET + UPGRADE + b"\x81\x85")
    assert isinstance(events[-1], RequestHead)
    assert events[-1].is_websocket
    assert parser.trailing_data == b"\x81\x85"
    assert parser.receive_data(b"more") == []
    assert parser.trailing_data == b"\x81\x85more"
    assert not parser.idle


def test_parser_is_idle_between_requests_only() -> None:
    parser = RequestParser()
    assert parser.idle
    parser.receive_data(GET[:1])
    assert not parser.idle
    assert parser.trailing_data == b""
    parser.receive_data(GET[1:-1])
    assert not parser.idle
    parser.receive_data(GET[-1:])
    assert parser.idle
    assert parser.receive_data(b"") == []


# Limits. They are exact, and found whether or not the rest has come.

SMALL = RequestLimits(max_head_size=100, max_headers=3, max_request_line=40)


def request_line(size: int) -> bytes:
    return b"GET /" + b"a" * (size - 16) + b" HTTP/1.1\r\n"


def test_request_line_has_a_limit() -> None:
    rest = b"Host: a\r\n\r\n"
    assert len(request_line(40)) == 40
    assert parse([request_line(40) + rest], SMALL)[1] is None
    assert refusal(request_line(41) + rest, SMALL).status == 414
    assert refusal(b"a" * 40, SMALL).status == 414
    assert parse([b"a" * 39], SMALL) == ([], None)


def test_head_has_a_limit() -> None:
    start = b"GET / HTTP/1.1\r\nHost: a\r\nA: "
    whole = start + b"b" * (100 - len(start) - 4) + b"\r\n\r\n"
    assert len(whole) == 100
    assert parse([whole], SMALL)[1] is None
    assert refusal(whole.replace(b"A: ", b"A: b"), SMALL).status == 431
    assert refusal((start + b"b" * 100)[:100], SMALL).status == 431
    assert parse([whole[:99]], SMALL) == ([], None)


def test_number_of_fields_has_a_limit() -> None:
    start = b"GET / HTTP/1.1\r\nHost: a\r\n"
    assert parse([start + b"A: b\r\n" * 2 + b"\r\n"], SMALL)[1] is None
    assert refusal(start + b"A: b\r\n" * 3 + b"\r\n", SMALL).status == 431
    assert refusal(start + b"A: b\r\n" * 3, SMALL).status == 431


@pytest.mark.parametrize("name", ["max_head_size", "max_headers", "max_request_line"])
def test_limit_below_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        RequestLimits(**{name: 0})


# Properties.

places = st.lists(st.integers(0, 500), max_size=8)


@dataclass
class Request:
    """What a careful client sends, and what must come out of it."""

    head: list[tuple[bytes, bytes]]
    path: bytes
    body: list[bytes] | bytes | None

    def encoded(self) -> bytes:
        fields = [(b"Host", b"a"), *self.head]
        content = b""
        if isinstance(self.body, bytes):
            fields.append((b"Content-Length", b"%d" % len(self.body)))
            content = self.body
        elif self.body is not None:
            fields.append((b"Transfer-Encoding", b"chunked"))
            content = b"".join(b"%X\r\n%b\r\n" % (len(part), part) for part in self.body)
            content += b"0\r\n\r\n"
        lines = b"".join(b"%b: %b\r\n" % field for field in fields)
        return b"POST " + self.path + b" HTTP/1.1\r\n" + lines + b"\r\n" + content


names = st.text("aB-_!~1", min_size=1, max_size=5).map(lambda name: b"X" + name.encode())
values = st.text(' \t!~:,;"é', max_size=8).map(lambda value: value.encode("latin-1").strip(b" \t"))
# Bodies that look like heads, chunks and line ends.
contents = st.lists(
    st.sampled_from([b"\r", b"\n", b"0\r\n\r\n", b"x", GET]), min_size=1, max_size=4
).map(b"".join)
requests = st.builds(
    Request,
    st.lists(st.tuples(names, values), max_size=3),
    st.text("/a%41?;*", max_size=6).map(lambda path: b"/" + path.encode()),
    st.none() | contents | st.just(b"") | st.lists(contents, max_size=3),
)


@given(st.lists(requests, max_size=3), places)
def test_what_a_client_sends_the_parser_yields(sent: list[Request], cuts: list[int]) -> None:
    events, error = parse(cut(b"".join(request.encoded() for request in sent), cuts))
    assert error is None
    for request in sent:
        head = events.pop(0)
        assert isinstance(head, RequestHead)
        assert head.target == request.path
        expected = [(name.lower(), value) for name, value in request.head]
        assert head.headers[1 : 1 + len(expected)] == expected
        body = request.body if isinstance(request.body, bytes) else b"".join(request.body or [])
        assert head.has_body is (bool(body) or isinstance(request.body, list))
        if body:
            assert events.pop(0) == body
        assert events.pop(0) is END_OF_REQUEST
    assert not events


# Pieces of requests, right and wrong, in any order: most of it is an error soon.
pieces = st.lists(
    st.sampled_from([b"GET / HTTP/1.1\r\n", b"POST /a HTTP/1.1\r\n", b"Host: a\r\n", b"\r\n"])
    | st.sampled_from([GET, POST, CHUNKED, UPGRADE, b"hello", b"5\r\nhello\r\n", b"0\r\n\r\n"])
    | st.sampled_from([b"\r", b"\n", b" ", b":", b"\x00", b";", b"a" * 30, b"HTTP/1.1"])
    | st.sampled_from([b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"A: b\r\n"])
    | st.sampled_from([b"Connection: close\r\n", b" fold\r\n", b"A : b\r\n", b"A: b\n", b"\x16"]),
    max_size=10,
).map(b"".join)


@example(GET[:-2] + b"A: b\n\r\n\r\n", [len(GET) + 3])
@example(request_line(41), [40])
@given(pieces, places)
def test_however_the_bytes_are_cut_the_events_and_the_error_are_the_same(
    data: bytes, cuts: list[int]
) -> None:
    for limits in (RequestLimits(), SMALL):
        whole = parse([data], limits)
        assert parse(cut(data, cuts), limits) == whole
        assert parse([data[i : i + 1] for i in range(len(data))], limits) == whole


Read = list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]]


def read_by_greenroom(data: bytes) -> Read:
    events, _ = parse([data])
    complete: Read = []
    body = b""
    for event in events:
        if isinstance(event, RequestHead):
            head, body = event, b""
        elif isinstance(event, bytes):
            body = event
        else:
            complete.append((head.method.encode(), head.target, head.headers, body))
    return complete


def read_by_h11(data: bytes) -> Read:
    server = h11.Connection(h11.SERVER)
    server.receive_data(data)
    complete: Read = []
    while True:
        try:
            event = server.next_event()
        except h11.RemoteProtocolError:
            return complete
        if isinstance(event, h11.Request):
            head, body = event, b""
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            complete.append((head.method, head.target, list(head.headers), body))
            server.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            server.send(h11.EndOfMessage())
            if server.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                return complete
            server.start_next_cycle()
        else:
            return complete


class HttptoolsReader:
    """What httptools calls back, gathered."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.complete: Read = []
        self.on_message_begin()

    def on_message_begin(self) -> None:
        self.target = self.body = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, target: bytes) -> None:
        self.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.head = (self.target, self.headers)
        self.headers = []  # what comes now are trailers

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete.append((self.parser.get_method(), *self.head, self.body))


def read_by_httptools(data: bytes) -> Read:
    reader = HttptoolsReader()
    # What was complete before an error counts.
    with contextlib.suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
        reader.parser.feed_data(data)
    return reader.complete


@pytest.mark.parametrize("read", [read_by_h11, read_by_httptools])
@given(sent=st.lists(requests, max_size=2), more=pieces)
def test_what_is_accepted_means_the_same_to_other_readers(
    read: Callable[[bytes], Read], sent: list[Request], more: bytes
) -> None:
    data = b"".join(request.encoded() for request in sent) + more
    ours = read_by_greenroom(data)
    assert ours == read(data)[: len(ours)]


@given(pieces)
def test_body_and_trailing_bytes_are_never_lost(data: bytes) -> None:
    # Whatever follows an upgrade is handed on exactly.
    parser = RequestParser()
    parser.receive_data(UPGRADE + data)
    assert parser.trailing_data == data


@given(st.binary(max_size=60), places)
def test_any_bytes_give_events_or_a_protocol_error(data: bytes, cuts: list[int]) -> None:
    for start in (b"", b"GET / HTTP/1.1\r\n", CHUNKED):
        assert parse(cut(start + data, cuts)) == parse([start + data])
