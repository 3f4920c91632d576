"""What a careful reader must refuse, class by class of request smuggling.

Sources: RFC 9110 and RFC 9112, and the classes of PortSwigger's "HTTP Desync Attacks",
the HTTP Garden and h2o/llhttp advisories.
"""

import pytest

from greenroom.runtime._errors import RemoteProtocolError
from greenroom.runtime.http import Event, RequestHead, RequestParser


def outcome(data: bytes) -> tuple[list[Event], int]:
    """Give the events and the status of the error, 0 without."""
    try:
        return RequestParser().receive_data(data), 0
    except RemoteProtocolError as error:
        return list(error.events), error.status  # type: ignore[arg-type]


def refusal(data: bytes) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as failure:
        RequestParser().receive_data(data)
    assert not failure.value.events, "nothing of a refused head is delivered"
    return failure.value


def accepted(data: bytes) -> RequestHead:
    head = RequestParser().receive_data(data)[0]
    assert isinstance(head, RequestHead)
    return head


def with_line(line: bytes, body: bytes = b"") -> bytes:
    """Make a POST whose header section has `line`, with its line end, in the middle."""
    return b"POST / HTTP/1.1\r\nHost: a\r\n" + line + b"X: y\r\n\r\n" + body


# The request line. RFC 9112 section 3.

REFUSED_REQUEST_LINES = {
    b"GET / HTTP/1.1\n": 400,  # bare LF; section 2.2
    b"GET / HTTP/1.1\r\r\n": 400,  # bare CR; section 2.2
    b"GET /\r\r\n": 400,
    b"GET /a\rb HTTP/1.1\r\n": 400,
    b"GET /\r\n": 400,  # HTTP/0.9
    b"GET\r\n": 400,
    b" GET / HTTP/1.1\r\n": 400,
    b"GET  / HTTP/1.1\r\n": 400,  # two spaces
    b"GET /  HTTP/1.1\r\n": 400,
    b"GET / HTTP/1.1 \r\n": 400,
    b"GET\t/\tHTTP/1.1\r\n": 400,
    b"GET\x0b/\x0cHTTP/1.1\r\n": 400,
    b"GET /a b HTTP/1.1\r\n": 400,
    b"GET / http/1.1\r\n": 400,  # section 2.3: the name is case-sensitive
    b"GET / HTTP/1.10\r\n": 400,
    b"GET / HTTP/01.1\r\n": 400,
    b"GET / HTTP/1,1\r\n": 400,
    b"GET / HTTP/1\r\n": 400,
    b"GET / HTTP/+1.1\r\n": 400,
    b"GET / HTP/1.1\r\n": 400,
    b"GET / HTTP/0.9\r\n": 505,
    b"GET / HTTP/1.2\r\n": 505,
    b"GET / HTTP/1.9\r\n": 505,
    b"GET / HTTP/2.0\r\n": 505,
    b"GET / HTTP/3.0\r\n": 505,
    b"PRI * HTTP/2.0\r\n": 505,  # HTTP/2's preface; RFC 9113 section 3.4
    b"get / HTTP/1.1\r\n": 501,  # RFC 9110 section 9.1
    b"Get / HTTP/1.1\r\n": 501,
    b"G\x00ET / HTTP/1.1\r\n": 400,
    b"G(ET / HTTP/1.1\r\n": 400,
    b"GET: / HTTP/1.1\r\n": 400,
    b"G\xc3\x89T / HTTP/1.1\r\n": 400,
    b"GET /\x00 HTTP/1.1\r\n": 400,
    b"GET /\x7f HTTP/1.1\r\n": 400,
    b"GET /\x01 HTTP/1.1\r\n": 400,
    b"GET /caf\xc3\xa9 HTTP/1.1\r\n": 400,  # RFC 3986 section 2: to be percent-encoded
    b"GET /#top HTTP/1.1\r\n": 400,  # RFC 9112 section 3.2: targets have no fragment
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03": 400,  # TLS
    b"\r\n\r\nGET / HTTP/1.1\r\n": 400,  # section 2.2: one empty line is enough
    b"\nGET / HTTP/1.1\r\n": 400,
    b"\x00\r\n": 400,
}


@pytest.mark.parametrize("line", REFUSED_REQUEST_LINES)
def test_request_line_that_readers_could_take_differently_is_refused(line: bytes) -> None:
    # The line alone is enough: nobody has to wait for the rest.
    assert refusal(line).status == REFUSED_REQUEST_LINES[line]
    assert refusal(line + b"Host: a\r\n\r\n").status == REFUSED_REQUEST_LINES[line]


REFUSED_TARGETS = {
    b"GET *": 400,  # RFC 9112 section 3.2.4: only OPTIONS
    b"GET index.html": 400,
    b"GET example.org:80": 400,  # section 3.2.3: only CONNECT
    b"GET ?a=b": 400,
    b"GET \\a": 400,
    b"GET http:/a": 400,
    b"GET http:a": 400,
    b"GET http://": 400,  # RFC 9110 section 4.2.1
    b"GET http:///a": 400,
    b"GET http://:80/": 400,
    b"GET http://user@host/": 400,  # RFC 9110 section 4.2.4
    b"GET http://host:port/": 400,
    b"GET http://ho,st/": 400,
    b"GET ftp://host/": 400,
    b"GET javascript://host/": 400,
    b"GET *?": 400,
    b"OPTIONS **": 400,
    b"OPTIONS */a": 400,
    b"CONNECT example.org:80": 501,  # RFC 9110 section 9.3.6
    b"CONNECT /": 501,
    b"CONNECT http://example.org/": 501,
}


@pytest.mark.parametrize("start", REFUSED_TARGETS)
def test_target_of_the_wrong_form_is_refused(start: bytes) -> None:
    assert refusal(start + b" HTTP/1.1\r\nHost: a\r\n\r\n").status == REFUSED_TARGETS[start]


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        (b"/", "/", b"/", b""),
        (b"/a?b=c?d", "/a", b"/a", b"b=c?d"),
        (b"/caf%C3%A9/%2F?%20", "/café//", b"/caf%C3%A9/%2F", b"%20"),
        (b"/%FF%zz%", "/\ufffd%zz%", b"/%FF%zz%", b""),
        (b"//host/a", "//host/a", b"//host/a", b""),
        (b"/http://host/", "/http://host/", b"/http://host/", b""),
        (b"/a/../b/./%2e", "/a/../b/./.", b"/a/../b/./%2e", b""),
        (b'/"<>[]\\^`{|}?"<>[]\\^`{|}', '/"<>[]\\^`{|}', b'/"<>[]\\^`{|}', b'"<>[]\\^`{|}'),
    ],
)
def test_origin_form_is_split_and_decoded_but_never_normalized(
    target: bytes, path: str, raw_path: bytes, query: bytes
) -> None:
    head = accepted(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (head.target, head.path, head.raw_path, head.query_string) == (
        target,
        path,
        raw_path,
        query,
    )


@pytest.mark.parametrize(
    ("target", "host", "raw_path", "query"),
    [
        (b"http://example.org", b"example.org", b"/", b""),
        (b"HTTPS://example.org:8443/a?b", b"example.org:8443", b"/a", b"b"),
        (b"http://[::1]:80?b", b"[::1]:80", b"/", b"b"),
    ],
)
def test_absolute_form_replaces_the_host_header(
    target: bytes, host: bytes, raw_path: bytes, query: bytes
) -> None:
    head = accepted(b"GET " + target + b" HTTP/1.1\r\nA: b\r\nHost: other\r\n\r\n")
    assert head.headers == [(b"host", host), (b"a", b"b")]
    assert (head.raw_path, head.query_string) == (raw_path, query)


def test_options_may_ask_about_the_whole_server() -> None:
    assert accepted(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").raw_path == b"*"
    # RFC 9112 section 3.2.4: how a proxy that took "http://a" passes it on.
    assert accepted(b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n").raw_path == b"*"
    assert accepted(b"OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\n\r\n").raw_path == b"/"


# Field lines. RFC 9112 section 5, RFC 9110 section 5.5.

REFUSED_LINES = [
    b"A: b\n",  # bare LF
    b"A: b\rC: d\r\n",  # bare CR
    b"A: b\r\r\n",
    b"A: b\n\r\n",
    b"A: b\r\n c\r\n",  # obs-fold
    b"A: b\r\n\tc\r\n",
    b"A: b\r\n \r\n",
    b" A: b\r\n",
    b"A : b\r\n",  # space before the colon
    b"A\t: b\r\n",
    b"A b: c\r\n",
    b"A\r\n",  # no colon
    b"\x00\r\n",
    b": b\r\n",  # no name
    b"A\x00: b\r\n",
    b"A\x0b: b\r\n",
    b"A\xa0: b\r\n",
    b"A(: b\r\n",
    b"\xef\xbb\xbfA: b\r\n",
    b"A: b\x00\r\n",
    b"A: \x01b\r\n",
    b"A: b\x0b\r\n",
    b"A:\x0cb\r\n",
    b"A: b\x1f\r\n",
    b"A: b\x7f\r\n",
    b"A: b\x00Content-Length: 5\r\n",
]


@pytest.mark.parametrize("line", REFUSED_LINES)
def test_malformed_field_line_is_refused(line: bytes) -> None:
    assert refusal(with_line(line)).status == 400


@pytest.mark.parametrize("line", REFUSED_LINES)
def test_malformed_field_line_is_refused_before_the_head_ends(line: bytes) -> None:
    assert refusal(b"GET / HTTP/1.1\r\n" + line).status == 400


@pytest.mark.parametrize("line", REFUSED_LINES)
def test_malformed_field_line_is_refused_in_trailers_too(line: bytes) -> None:
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    events, status = outcome(chunked + line + b"\r\n")
    assert len(events) == 1
    assert status == 400


def test_field_values_keep_their_bytes_and_lose_the_whitespace_around() -> None:
    data = with_line(b"A: \t b\tc  d \t \r\nEmpty:\r\nBlank: \t\r\nLatin: \xe9\xff\r\na:B\r\n")
    assert accepted(data).headers[1:-1] == [
        (b"a", b"b\tc  d"),
        (b"empty", b""),
        (b"blank", b""),
        (b"latin", b"\xe9\xff"),
        (b"a", b"B"),
    ]


# Host. RFC 9112 section 3.2, RFC 9110 section 7.2.


@pytest.mark.parametrize(
    "host",
    [
        *[b"", b"a b", b"a,b", b"a@b", b"a/b", b"a:b", b"a:1:2", b"a:999999", b":80", b"[::1"],
        *[b"::1", b"http://a", b"a?b", b"a#b", b"a\\b", b"[a]", b"[]", b'"a"', b"a%", b"\xe9"],
    ],
)
def test_invalid_host_is_refused(host: bytes) -> None:
    assert refusal(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n").status == 400
    assert refusal(b"GET / HTTP/1.0\r\nHost: " + host + b"\r\n\r\n").status == 400


@pytest.mark.parametrize(
    "host", [b"a", b"a.b-c_d:80", b"127.0.0.1:8000", b"[::1]:8000", b"[::ffff:1.2.3.4]", b"a:"]
)
def test_valid_host_is_accepted(host: bytes) -> None:
    assert accepted(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n").headers == [(b"host", host)]


def test_host_is_there_once() -> None:
    assert refusal(b"GET / HTTP/1.1\r\nA: b\r\n\r\n").status == 400
    assert refusal(b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n").status == 400
    assert refusal(b"GET / HTTP/1.1\r\nHost: a\r\nHOST: a\r\n\r\n").status == 400
    assert refusal(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n").status == 400
    assert refusal(b"GET http://a/ HTTP/1.1\r\n\r\n").status == 400
    assert accepted(b"GET / HTTP/1.0\r\n\r\n").headers == []


# What frames the body. RFC 9112 section 6, RFC 9110 section 8.6.

REFUSED_FRAMING = {
    b"Content-Length: +5\r\n": 400,
    b"Content-Length: -5\r\n": 400,
    b"Content-Length: 5 5\r\n": 400,
    b"Content-Length: 5,5\r\n": 400,
    b"Content-Length: 5, 5\r\n": 400,
    b"Content-Length: 5,\r\n": 400,
    b"Content-Length: 0x5\r\n": 400,
    b"Content-Length: 5_0\r\n": 400,
    b"Content-Length: 5.0\r\n": 400,
    b"Content-Length: 5e0\r\n": 400,
    b"Content-Length: five\r\n": 400,
    b"Content-Length: \xb2\r\n": 400,  # a digit to str.isdigit
    b"Content-Length:\r\n": 400,
    b'Content-Length: "5"\r\n': 400,
    b"Content-Length: 9999999999999999999\r\n": 400,
    b"Content-Length: 18446744073709551621\r\n": 400,
    b"Content-Length: 5\r\nContent-Length: 5\r\n": 400,
    b"Content-Length: 5\r\nContent-Length: 6\r\n": 400,
    b"Content-Length: 5\r\ncontent-length: 0\r\n": 400,
    b"Content-Length: 5\r\nContent-Length:\r\n": 400,
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n": 400,  # CL.TE
    b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n": 400,  # TE.CL
    b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n": 400,
    b"Content-Length: 5\r\nTransfer-Encoding: identity\r\n": 400,
    b"Transfer-Encoding:\r\n": 400,
    b"Transfer-Encoding: identity\r\n": 400,
    b"Transfer-Encoding: xchunked\r\n": 400,
    b"Transfer-Encoding: chunkedx\r\n": 400,
    b"Transfer-Encoding: x chunked\r\n": 400,
    b"Transfer-Encoding: chunked;q=1\r\n": 400,
    b"Transfer-Encoding: 'chunked'\r\n": 400,
    b'Transfer-Encoding: "chunked"\r\n': 400,
    b"Transfer-Encoding: \xefchunked\r\n": 400,
    b"Transfer-Encoding: ,chunked\r\n": 400,
    b"Transfer-Encoding: chunked,\r\n": 400,
    b"Transfer-Encoding: chunked, identity\r\n": 400,
    b"Transfer-Encoding: chunked, chunked\r\n": 400,
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n": 400,
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n": 400,
    b"Transfer-Encoding: gzip\r\n": 400,
    b"Transfer-Encoding: gzip, chunked\r\n": 501,
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n": 501,
    b"Expect: 100-continue\r\nExpect: more\r\n": 417,
    b"Expect: something\r\n": 417,
}


@pytest.mark.parametrize("line", REFUSED_FRAMING)
def test_body_whose_length_readers_could_take_differently_is_refused(line: bytes) -> None:
    assert refusal(with_line(line, b"0\r\n\r\n")).status == REFUSED_FRAMING[line]


def test_http_1_0_has_no_transfer_encoding() -> None:
    # RFC 9112 section 6.1.
    line = b"Transfer-Encoding: chunked\r\n"
    assert refusal(b"POST / HTTP/1.0\r\n" + line + b"\r\n0\r\n\r\n").status == 400


@pytest.mark.parametrize(
    ("line", "length"),
    [
        (b"Content-Length: 5\r\n", 5),
        (b"content-length:5\r\n", 5),
        (b"Content-Length: \t 5 \t\r\n", 5),
        (b"Content-Length: 0005\r\n", 5),  # RFC 9110 section 8.6: digits, decimal
        (b"Content-Length: 0\r\n", 0),
        (b"Content_Length: 5\r\n", 0),  # another field
        (b"X-Content-Length: 5\r\nTransfer_Encoding: chunked\r\nTE: chunked\r\n", 0),
        (b"TRANSFER-ENCODING: CHUNKED\r\n", 5),
        (b"Transfer-Encoding:\tchunked\t\r\n", 5),
    ],
)
def test_body_is_as_long_as_the_one_valid_field_says(line: bytes, length: int) -> None:
    body = (
        b"5\r\nGET /\r\n0\r\n\r\n" if b"chunked" in line.lower() and length else b"GET /"[:length]
    )
    following = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
    events = RequestParser().receive_data(with_line(line, body + following))
    heads = [event for event in events if isinstance(event, RequestHead)]
    assert [head.raw_path for head in heads] == [b"/", b"/next"]
    assert heads[0].has_body is bool(length)


# Connection, Upgrade, Expect. RFC 9112 section 9, RFC 9110 sections 7.8 and 10.1.1.


@pytest.mark.parametrize(
    ("version", "lines", "keep_alive"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: keep-alive, Close\r\n", False),
        (b"1.1", b"Connection: keep-alive\r\nConnection: close\r\n", False),
        (b"1.1", b"Connection: closed, host\r\n", True),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
        (b"1.0", b"Connection: keep-alive, close\r\n", False),
    ],
)
def test_connection_is_kept_as_the_version_and_the_client_say(
    version: bytes, lines: bytes, keep_alive: bool
) -> None:
    head = accepted(b"GET / HTTP/" + version + b"\r\nHost: a\r\n" + lines + b"\r\n")
    assert head.keep_alive is keep_alive
    assert head.http_version == version.decode()


UPGRADE = b"Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"


@pytest.mark.parametrize(
    ("start", "lines", "is_websocket"),
    [
        (b"GET / HTTP/1.1\r\n", UPGRADE, True),
        (b"GET / HTTP/1.1\r\n", UPGRADE + b"Upgrade: h2c\r\nContent-Length: 0\r\n", True),
        (b"GET / HTTP/1.1\r\n", b"Upgrade: websocket\r\n", False),
        (b"GET / HTTP/1.1\r\n", b"Connection: upgrade\r\n", False),
        (b"GET / HTTP/1.1\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n", False),
        (b"GET / HTTP/1.1\r\n", b"Connection: upgrade\r\nUpgrade: xwebsocket\r\n", False),
        (b"GET / HTTP/1.0\r\n", UPGRADE, False),
        (b"POST / HTTP/1.1\r\n", UPGRADE, False),
        (b"HEAD / HTTP/1.1\r\n", UPGRADE, False),
    ],
)
def test_only_a_get_of_http_1_1_that_asks_twice_goes_on_with_websocket(
    start: bytes, lines: bytes, is_websocket: bool
) -> None:
    assert accepted(start + b"Host: a\r\n" + lines + b"\r\n").is_websocket is is_websocket


@pytest.mark.parametrize("line", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_websocket_handshake_with_a_body_is_refused(line: bytes) -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\n" + UPGRADE + line + b"\r\n"
    assert refusal(data).status == 400


@pytest.mark.parametrize(
    ("start", "lines", "expects"),
    [
        (b"POST / HTTP/1.1\r\n", b"Expect: 100-Continue\r\nContent-Length: 1\r\n", True),
        (b"POST / HTTP/1.1\r\n", b"Expect: 100-continue\r\n", False),  # MAY be omitted
        (b"POST / HTTP/1.1\r\n", b"Content-Length: 1\r\n", False),
        (b"POST / HTTP/1.0\r\n", b"Expect: 100-continue\r\nContent-Length: 1\r\n", False),
        (b"POST / HTTP/1.0\r\n", b"Expect: anything\r\nContent-Length: 1\r\n", False),
    ],
)
def test_client_that_expects_100_is_known(start: bytes, lines: bytes, expects: bool) -> None:
    head = accepted(start + b"Host: a\r\n" + lines + b"\r\n")
    assert head.expects_continue is expects


def test_reasons_never_repeat_what_the_client_sent() -> None:
    refused = [*map(with_line, REFUSED_LINES), *map(with_line, REFUSED_FRAMING)]
    for data in [*refused, b"GET /secret HTTP/9.9\r\n", b"GET /secret\n"]:
        assert "secret" not in refusal(data.replace(b"A", b"secret")).reason
