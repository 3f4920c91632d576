"""A client's bytes become requests. Sans-IO; `_heads.py` decides what a head means.

The parser is our own: to refuse everything that two readers could take differently, each
byte has to be looked at in front of any other parser, and then little is left for that one.

However the bytes are cut, the same requests come out, and the same error at the same place.
Everything is therefore decided by whole lines, in their order, and never by what happens
to have arrived.

Source: RFC 9112.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from .._errors import RemoteProtocolError
from ._events import END_OF_REQUEST, BodyChunk, Event, Headers
from ._heads import (
    CHUNKED,
    REQUEST_LINE,
    TOKEN,
    bad_request,
    make_head,
    parse_fields,
    refused_request_line,
)

# RFC 9112 section 7.1: the size, in at most 16 hexadecimal digits, and extensions, which
# are to be ignored but must be well-formed: a reader that stops looking at ";" disagrees
# with one that does not. (Only single characters are repeated possessively: Python before
# 3.11.5 mismatches possessive groups. The line's limit bounds what backtracking costs.)
QUOTED: Final = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'  # RFC 9110 section 5.6.4
CHUNK_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})"
    rb"(?:[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?)*"
    rb"\r\n" % (TOKEN, TOKEN, QUOTED)
)
MAX_CHUNK_LINE: Final = 1024

# How many bytes of chunk lines may come beyond what the chunks' sizes explain: each line
# has 16 free and two for each byte of data. Go's net/http has the same guard.
MAX_CHUNK_OVERHEAD: Final = 16 * 1024


@final
@dataclass(frozen=True, slots=True)
class RequestLimits:
    """How much of a request is read before anybody has agreed to it.

    Args:
        max_head_size: bytes of one head, from the request line to the empty line; of the
            trailer section too. 64 KiB, as uvicorn has it. Beyond it: 431.
        max_headers: fields of one head. 100, as Apache has it. Beyond it: 431.
        max_request_line: bytes of the request line. RFC 9112 section 3 asks for 8,000 at
            least; long queries are common enough for twice that. Beyond it: 414.

    Raises:
        ValueError: one of them is less than 1.
    """

    max_head_size: int = 64 * 1024
    max_headers: int = 100
    max_request_line: int = 16 * 1024

    def __post_init__(self) -> None:
        for name in ("max_head_size", "max_headers", "max_request_line"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be at least 1")


@final
class RequestParser:
    r"""One connection's requests, one after the other.

    After a head with `is_websocket` the parser stops, and `trailing_data` is what follows.
    After a request that is not `keep_alive` it ignores what follows.

    >>> parser = RequestParser()
    >>> head, end = parser.receive_data(b"GET /chat/ HTTP/1.1\r\nHost: example.org\r\n\r\n")
    >>> head.path, end, parser.idle
    ('/chat/', END_OF_REQUEST, True)
    """

    __slots__ = (
        "_buffer",
        "_events",
        "_failure",
        "_fields",
        "_left",
        "_limits",
        "_line",
        "_line_room",
        "_overhead",
        "_pieces",
        "_reuse",
        "_room",
        "_skipped_line",
        "_step",
    )

    def __init__(self, limits: RequestLimits = RequestLimits()) -> None:
        self._limits = limits
        self._line_room = min(limits.max_request_line, limits.max_head_size)
        self._buffer = b""  # arrived, but not understood yet: always less than a line
        self._step: _Step = RequestParser._read_request_line  # what comes next
        self._failure: RemoteProtocolError | None = None
        self._skipped_line = False
        self._line: tuple[str, bytes, bytes] = ("", b"", b"")  # method, target, minor version
        self._fields: Headers = []
        self._room = 0  # bytes that the head or the trailer section may still have
        self._left = 0  # bytes that the body or the chunk still has
        self._overhead = 0
        self._reuse = True
        self._events: list[Event] = []  # of this call to receive_data
        self._pieces: list[bytes] = []  # of the body, out of the same call to receive_data

    @property
    def idle(self) -> bool:
        """Whether the next byte would begin a new request."""
        return self._step is RequestParser._read_request_line and not self._buffer

    @property
    def trailing_data(self) -> bytes:
        """What came after a head with `is_websocket`; empty while there is no such head."""
        return self._buffer if self._step is RequestParser._keep else b""

    def receive_data(self, data: bytes) -> list[Event]:
        """Take bytes from the client, and give all the events that they complete.

        Raises:
            RemoteProtocolError: the client broke the protocol. `events` holds what came
                before. From then on every call raises the error again, without events.
        """
        if self._failure is not None:
            raise RemoteProtocolError(self._failure.status, self._failure.reason)
        if self._buffer:
            data = self._buffer + data
        events = self._events = []
        position = 0
        size = len(data)
        try:
            while position < size:
                after = self._step(self, data, position)
                if after == position:
                    break
                position = after
        except RemoteProtocolError as failure:
            self._failure = failure
            self._step = RequestParser._ignore
            if self._pieces:
                self._flush_body()
            raise RemoteProtocolError(failure.status, failure.reason, events) from None
        self._buffer = data[position:]
        if self._pieces:
            self._flush_body()
        return events

    # The steps. Each takes what it can of `data` from `position` on, and returns where it
    # stopped; nothing taken means that more bytes are needed. RFC 9112 section 2.1.

    def _read_request_line(self, data: bytes, position: int) -> int:
        line = REQUEST_LINE.match(data, position)
        if line is None:
            return self._read_no_request_line(data, position)
        stop = line.end()
        size = stop - position
        if size > self._line_room:
            raise _line_too_long()
        method, target, minor = line.groups()
        self._line = (method.decode("ascii"), target, minor)
        self._room = self._limits.max_head_size - size
        self._fields = []
        self._step = RequestParser._read_head
        return stop

    def _read_no_request_line(self, data: bytes, position: int) -> int:
        """Find out why there is no request line: bytes are missing, or wrong."""
        if data[position] == 0x16:
            raise bad_request("this looks like TLS, and the port speaks plain HTTP")
        if data.startswith(b"\r\n", position) and not self._skipped_line:
            # RFC 9112 section 2.2: ignore at least one empty line before a request.
            self._skipped_line = True
            return position + 2
        line_feed = data.find(b"\n", position, position + self._line_room)
        if line_feed >= 0:
            raise refused_request_line(data[position : line_feed + 1])
        if len(data) - position >= self._line_room:
            raise _line_too_long()
        return position

    def _read_head(self, data: bytes, position: int) -> int:
        position, complete = self._read_fields(data, position)
        if not complete:
            return position
        head, length = make_head(*self._line, self._fields)
        self._events.append(head)
        self._fields = []
        self._left = length
        self._reuse = head.keep_alive
        if head.is_websocket:
            self._step = RequestParser._keep
        elif length == CHUNKED:
            self._overhead = 0
            self._step = RequestParser._read_chunk_line
        elif length:
            self._step = RequestParser._read_body
        else:
            self._end_request()
        return position

    def _read_fields(self, data: bytes, position: int) -> tuple[int, bool]:
        """Take the whole lines that are there; tell where that ends, and if it was the last.

        Lines are checked as they come, so that a client that never sends the empty line,
        for example because it ends its lines with LF alone, is told so at once.
        """
        limit = position + self._room
        if data.startswith(b"\r\n", position, limit):
            return position + 2, True
        last_line_feed = data.rfind(b"\n", position, limit)
        if last_line_feed >= 0:
            end = data.find(b"\r\n\r\n", position, last_line_feed + 1)
            stop = last_line_feed + 1 if end < 0 else end + 2
            most = self._limits.max_headers - len(self._fields)
            self._fields += parse_fields(data, position, stop, most)
            if end >= 0:
                return stop + 2, True
            self._room -= stop - position
            position = stop
        if len(data) - position >= self._room:
            raise RemoteProtocolError(431, "the header section is too large")  # RFC 6585 section 5
        return position, False

    def _read_body(self, data: bytes, position: int) -> int:
        position = self._take_body(data, position)
        if not self._left:
            self._end_request()
        return position

    def _read_chunk_line(self, data: bytes, position: int) -> int:
        line_feed = data.find(b"\n", position, position + MAX_CHUNK_LINE)
        if line_feed < 0:
            if len(data) - position >= MAX_CHUNK_LINE:
                raise bad_request("a chunk's size line is too long")
            return position
        stop = line_feed + 1
        line = CHUNK_LINE.fullmatch(data, position, stop)
        if line is None:
            raise bad_request("a chunk's size line is malformed")
        self._left = int(line[1], 16)
        # RFC 9112 section 7.1.1: limit what extensions may cost.
        self._overhead = max(0, self._overhead + stop - position - 16 - 2 * self._left)
        if self._overhead > MAX_CHUNK_OVERHEAD:
            raise bad_request("too many bytes around too few of the body")
        if self._left:
            self._step = RequestParser._read_chunk
        else:
            self._room = self._limits.max_head_size
            self._step = RequestParser._read_trailers
        return stop

    def _read_chunk(self, data: bytes, position: int) -> int:
        position = self._take_body(data, position)
        if not self._left:
            self._step = RequestParser._read_chunk_end
        return position

    def _read_chunk_end(self, data: bytes, position: int) -> int:
        end = data[position : position + 2]
        if end == b"\r\n":
            self._step = RequestParser._read_chunk_line
            return position + 2
        if end == b"\r":
            return position
        raise bad_request("a chunk is longer than its size")

    def _read_trailers(self, data: bytes, position: int) -> int:
        # RFC 9112 section 7.1.2: trailer fields may be discarded, and never merged into
        # the head: a Content-Length or Host among them has no meaning.
        position, complete = self._read_fields(data, position)
        if complete:
            self._fields = []
            self._end_request()
        return position

    def _keep(self, _data: bytes, position: int) -> int:
        return position

    def _ignore(self, data: bytes, _position: int) -> int:
        # RFC 9112 section 9.6: no requests are processed after one that said "close".
        return len(data)

    # What the steps share.

    def _take_body(self, data: bytes, position: int) -> int:
        piece = data[position : position + self._left]
        self._left -= len(piece)
        self._pieces.append(piece)
        return position + len(piece)

    def _flush_body(self) -> None:
        self._events.append(BodyChunk(b"".join(self._pieces)))
        self._pieces = []

    def _end_request(self) -> None:
        if self._pieces:
            self._flush_body()
        self._events.append(END_OF_REQUEST)
        self._skipped_line = False
        self._step = RequestParser._read_request_line if self._reuse else RequestParser._ignore


_Step: TypeAlias = Callable[[RequestParser, bytes, int], int]


def _line_too_long() -> RemoteProtocolError:
    return RemoteProtocolError(414, "the request line is too long")  # RFC 9110 section 15.5.15
