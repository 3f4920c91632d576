"""What an application sends becomes a response in bytes. Sans-IO.

Source: the ASGI specification 3.0, "HTTP", Response Start and Response Body; RFC 9110 and
RFC 9112 for what the bytes may be.
"""

import re
from collections.abc import Iterable, Sequence
from email.utils import formatdate
from enum import StrEnum
from functools import lru_cache
from http import HTTPStatus
from typing import Final, final

from .._errors import LocalProtocolError, UnexpectedMessage
from .._types import Message
from ._events import Headers, RequestHead
from ._heads import CONTENT_LENGTH, TOKEN, members

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"

# RFC 9110 section 2.5: the version is the sender's own, also in answers to HTTP/1.0.
STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b" % (status.value, status.phrase.encode("ascii"))
    for status in HTTPStatus
}

NAME: Final = re.compile(TOKEN)
VALUE_CHARACTERS: Final = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
SPECIAL: Final = frozenset((b"connection", b"content-length", b"transfer-encoding"))


@final
class State(StrEnum):
    """How far a response is; the values go on with "while the scope is"."""

    WAITING = "waiting for http.response.start"
    HELD = "waiting for the first http.response.body"  # the head waits to leave with it
    STREAMING = "in the middle of the response's body"
    COMPLETE = "past the end of the response"


NEXT: Final[dict[str, dict[State, State]]] = {
    "http.response.start": {State.WAITING: State.HELD},
    # With `more_body` false or missing, COMPLETE follows.
    "http.response.body": {State.HELD: State.STREAMING, State.STREAMING: State.STREAMING},
}


@final
class ResponseWriter:
    """The response to one request.

    The head is held until the first part of the body, so that both leave in one write, and
    a crash in between still becomes a 500. An empty first part with `more_body` sends it.

    What HTTP decides, the writer does: `content-length` for a body in one part, chunks for
    one in several, no content after HEAD and in 204 and 304 whatever the application says,
    `connection`. A `content-length` that the application gives is held against its body.

    Args:
        head: the request.
        default_headers: fields for a response that has no such fields of its own, such as
            `date` and `server`; names in lower case. They are trusted.

    Attributes:
        state: how far the response is.
        status: what the application, or `fail`, answered; 0 before.
        keep_alive: the connection may be used again afterwards. The owner may clear it
            before the head has left, to close gracefully.
    """

    __slots__ = (
        "_chunked",
        "_default_headers",
        "_headers",
        "_is_head",
        "_newer",
        "_remaining",
        "_without_content",
        "keep_alive",
        "state",
        "status",
    )

    def __init__(
        self, head: RequestHead, default_headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        self.state = State.WAITING
        self.status = 0
        self.keep_alive = head.keep_alive
        self._is_head = head.method == "HEAD"
        self._newer = head.http_version == "1.1"
        self._default_headers = default_headers
        self._headers: Headers = []
        self._remaining: int | None = None  # of what `content-length` announced
        self._without_content = False
        self._chunked = False

    @property
    def started(self) -> bool:
        """Whether the head has been given out, so that the answer can't change any more."""
        return self.state is State.STREAMING or self.state is State.COMPLETE

    @property
    def complete(self) -> bool:
        """Whether the last byte of the response has been given out."""
        return self.state is State.COMPLETE

    def send(self, message: Message) -> bytes:
        """Take the application's next message, and give what is to be written now.

        Raises:
            LocalProtocolError: the message breaks a rule, which the text names.
        """
        kind = message.get("type")
        try:
            following = NEXT[kind][self.state]  # type: ignore[index]
        except (KeyError, TypeError):
            raise UnexpectedMessage(self.state.value, str(kind)) from None
        if following is State.HELD:
            self._take_start(message)
            self.state = State.HELD
            return b""
        body = message.get("body", b"")
        if not isinstance(body, bytes):
            if not isinstance(body, (bytearray, memoryview)):
                raise LocalProtocolError(
                    f"http.response.body: body must be bytes, not {type(body).__name__}"
                )
            body = bytes(body)
        last = not message.get("more_body", False)
        return self._write_body(body, last)

    def fail(self) -> bytes:
        """Give what is to be written after the application crashed or returned.

        That is a 500 if nothing has left yet. Otherwise nothing: an incomplete response can
        only be marked by closing the connection, so `keep_alive` becomes false, unless the
        response was complete.
        """
        if self.state is State.COMPLETE:
            return b""
        started = self.started
        self.state = State.COMPLETE
        self.keep_alive = False
        if started:
            return b""
        self.status = 500
        answer = error_response(500, headers=self._default_headers)
        return answer[: answer.index(b"\r\n\r\n") + 4] if self._is_head else answer

    def _take_start(self, message: Message) -> None:
        """Check `message` wholly before any of it is kept."""
        status = message.get("status")
        # 1xx announce another response, and the rest of them is no status (RFC 9110 section 15).
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise LocalProtocolError(
                f"http.response.start: status must be an int from 200 to 599, not {status!r}"
            )
        headers, special = _checked(message.get("headers", ()))
        length = special.get(b"content-length")
        if length is not None and not CONTENT_LENGTH.fullmatch(length):
            raise LocalProtocolError(
                f"http.response.start: content-length must be one number, not {length!r}"
            )
        coding = special.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            raise LocalProtocolError(
                f"http.response.start: transfer-encoding is up to the server, not {coding!r}"
            )
        connection = special.get(b"connection")
        if connection is not None:
            # RFC 9110 section 7.6.1. Whether the connection stays is ours to say, and the
            # application's to refuse; other options, such as "upgrade" in a 426, are kept.
            options = members(connection)
            if b"close" in options:
                self.keep_alive = False
            options -= {b"close", b"keep-alive"}
            headers += [(b"connection", option) for option in sorted(options)]
        self.status = status
        self._headers = headers
        # RFC 9110 sections 15.3.5 and 15.4.5. A 204 MUST NOT, a 304 need not have a
        # content-length (section 8.6), and frameworks put a wrong 0 there.
        self._without_content = status in (204, 304)
        if length is not None and not self._without_content:
            self._headers.append((b"content-length", length))
            self._remaining = int(length)

    def _write_body(self, body: bytes, last: bool) -> bytes:
        silent = self._without_content or self._is_head
        if self._remaining is not None and not silent:
            if len(body) > self._remaining:
                raise LocalProtocolError(
                    "http.response.body: the body is longer than the content-length,"
                    f" by at least {len(body) - self._remaining} bytes"
                )
            if last and len(body) < self._remaining:
                raise LocalProtocolError(
                    "http.response.body: the body ends before the content-length,"
                    f" {self._remaining - len(body)} bytes too early"
                )
            self._remaining -= len(body)
        head = b"" if self.started else self._render_head(len(body), last)
        self.state = State.COMPLETE if last else State.STREAMING
        if silent:
            return head
        if not self._chunked:
            return head + body if head else body
        end = LAST_CHUNK if last else b""
        if not body:
            return head + end  # an empty chunk would be the last
        return b"%b%x\r\n%b\r\n%b" % (head, len(body), body, end)

    def _render_head(self, size: int, last: bool) -> bytes:
        """Give the head, now that the first part, of `size` bytes, tells how to frame it."""
        headers = self._headers
        # RFC 9112 section 4: the reason phrase may be empty, the space before it not.
        lines = [STATUS_LINES.get(self.status) or b"HTTP/1.1 %d " % self.status]
        lines += map(b": ".join, headers)
        if self._default_headers:
            given = dict(headers)
            lines += [b": ".join(field) for field in self._default_headers if field[0] not in given]
        if self._remaining is None and not self._without_content:
            if last:
                lines.append(b"content-length: %d" % size)
            elif self._newer:
                self._chunked = True
                lines.append(b"transfer-encoding: chunked")
            else:
                # RFC 9112 section 6.1: HTTP/1.0 knows no chunks; the end is the close.
                self.keep_alive = False
        # RFC 9112 section 9.3.
        if not self.keep_alive:
            lines.append(b"connection: close")
        elif not self._newer:
            lines.append(b"connection: keep-alive")
        lines.append(b"\r\n")
        return b"\r\n".join(lines)


def _checked(headers: Iterable[tuple[bytes, bytes]]) -> tuple[Headers, dict[bytes, bytes]]:
    """Check header fields, and part from them those that frame the message.

    Raises:
        LocalProtocolError: a name or a value is not bytes, or has characters that none
            may have.
    """
    plain: Headers = []
    special: dict[bytes, bytes] = {}
    values: list[bytes] = []
    try:
        for name, value in headers:
            lowered = _field_name(name)
            values.append(value)
            if lowered not in SPECIAL:
                plain.append((lowered, value))
            elif lowered in special:
                special[lowered] += b", " + value
            else:
                special[lowered] = b"" + value  # bytes of whatever is like bytes
        stray = b"".join(values).translate(None, VALUE_CHARACTERS)
    except (TypeError, ValueError) as error:
        raise LocalProtocolError(
            f"http.response.start: headers must be pairs of bytes, not {headers!r}"
        ) from error
    if stray:
        # RFC 9110 section 5.5. CR and LF would let a value begin a header of its own.
        culprit = next(v for v in map(bytes, values) if v.translate(None, VALUE_CHARACTERS))
        raise LocalProtocolError(
            f"http.response.start: a header's value has control characters: {culprit!r}"
        )
    return plain, special


@lru_cache(maxsize=512)
def _field_name(name: bytes) -> bytes:
    """Check a header's name and put it in lower case; an application has few different ones."""
    if not NAME.fullmatch(name):
        raise LocalProtocolError(f"http.response.start: header name {name!r} is not a token")
    return name.lower()


def error_response(
    status: int, reason: str = "", headers: Iterable[tuple[bytes, bytes]] = ()
) -> bytes:
    """Give a whole response that the server makes itself, before it closes the connection.

    Args:
        status: from 400 on.
        reason: one line for the client; without it, the status in words.
        headers: more fields, such as `date`; trusted.

    >>> print(error_response(400, "no Host header").decode().replace(chr(13), ""))
    HTTP/1.1 400 Bad Request
    content-type: text/plain; charset=utf-8
    content-length: 14
    connection: close
    <BLANKLINE>
    no Host header
    """
    body = (reason or HTTPStatus(status).phrase).encode()
    lines = [STATUS_LINES[status], *map(b": ".join, headers)]
    lines += [b"content-type: text/plain; charset=utf-8", b"content-length: %d" % len(body)]
    lines += [b"connection: close", b"", body]
    return b"\r\n".join(lines)


def render_date(now: float) -> bytes:
    """Give the value of a `date` field, made once in each second.

    Args:
        now: seconds since 1970, as `time.time()` counts them.

    >>> render_date(784111777.9)
    b'Sun, 06 Nov 1994 08:49:37 GMT'
    """
    return _render_second(int(now))


@lru_cache(maxsize=1)
def _render_second(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode("ascii")  # RFC 9110 section 5.6.7
