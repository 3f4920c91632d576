"""Is this the head of a request, and does it mean the same to everybody who reads it?

Two HTTP implementations that read one message differently let a request be smuggled past
the first one. So whatever two careful readers could take differently is refused here,
also where the RFCs allow a repair. Each rule names its section.

Source: RFC 9110 (semantics), RFC 9112 (HTTP/1.1), RFC 3986 (URIs).
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from .._errors import RemoteProtocolError
from ._events import Headers, RequestHead

CHUNKED: Final = -1  # stands in for the number of bytes of a body that tells its own end

# RFC 9110 section 5.6.2: tchar. Possessive repeats (`++`) never backtrack.
TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"

# RFC 9112 section 3: single spaces, CRLF. Methods are case-sensitive (RFC 9110 section 9.1)
# and ASGI names them in capitals, so others would turn into methods they are not. Targets
# are visible ASCII; browsers send some characters raw that RFC 3986 would have encoded,
# such as "|", but "#" starts a fragment, which no form of target has.
REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Z]++) ([!\"$-~]++) HTTP/1\.([01])\r\n")
# RFC 9110 section 5.5: values are visible characters, bytes above 0x7F, and between them
# spaces and tabs. `^` with MULTILINE holds after every LF.
FIELD: Final = re.compile(rb"^(" + TOKEN + rb"):[ \t]*+([\t -~\x80-\xff]*+)\r\n", re.MULTILINE)

# RFC 9110 section 7.2: uri-host [":" port]. RFC 3986 section 3.2.2 would allow two things
# more: "%41", which no DNS name has, and a comma, which here is what became of two Host
# lines. An empty host names no `http` resource (RFC 9110 section 4.2.1), and userinfo ("@")
# has no place in Host.
HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9\-._~!$&'()*+;=]++|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?"
)
ABSOLUTE_FORM: Final = re.compile(rb"(?:http|https)://([^/?]*+)(/[^?]*+)?(\?.*+)?", re.IGNORECASE)

# RFC 9110 section 8.6: one or more digits, so neither signs nor "_" nor the list "5, 5",
# which is also what two lines are taken for. Nineteen digits are more than any body has.
CONTENT_LENGTH: Final = re.compile(rb"[0-9]{1,18}")


def bad_request(reason: str) -> RemoteProtocolError:
    """Make the error for what is malformed or ambiguous: 400."""
    return RemoteProtocolError(400, reason)


def parse_fields(data: bytes, start: int, stop: int, most: int) -> Headers:
    """Read the field lines of `data[start:stop]`, which begins a line and ends with an LF.

    Names and values are as they came, except for whitespace before the value. The regular
    expression takes whole lines only, so if there are as many matches as LFs, then every
    line is one field; if not, the lines are looked at one by one to say what is wrong.

    Raises:
        RemoteProtocolError: a line is no field, or there are more than `most`.
    """
    fields: Headers = FIELD.findall(data, start, stop)
    if len(fields) > most or len(fields) != data.count(b"\n", start, stop):
        raise _first_fault(data[start:stop].split(b"\n")[:-1], most)
    return fields


def _first_fault(lines: Iterable[bytes], most: int) -> RemoteProtocolError:
    for count, line in enumerate(lines, start=1):
        if count > most:
            # RFC 6585 section 5.
            return RemoteProtocolError(431, "too many header fields")
        if not FIELD.fullmatch(line + b"\n"):
            return bad_request(_what_is_wrong(line))
    raise AssertionError("every line is a field")


def _what_is_wrong(line: bytes) -> str:
    """Say why `line`, cut off before its LF, is not a field line."""
    name, colon, _ = line.partition(b":")
    if not line.endswith(b"\r"):
        # RFC 9112 section 2.2 lets a recipient take a bare LF; not all do.
        return "a header line ends with LF alone"
    if line.startswith((b" ", b"\t")):
        # RFC 9112 section 5.2 (obs-fold), and section 2.2 for the first line.
        return "a header line starts with whitespace"
    if b"\r" in line[:-1]:
        # RFC 9112 section 2.2: bare CR is invalid.
        return "CR alone in a header line"
    if not colon:
        return "a header line has no colon"
    if name.endswith((b" ", b"\t")):
        # RFC 9112 section 5.1: 400 is a MUST.
        return "whitespace between a header's name and its colon"
    if not re.fullmatch(TOKEN, name):
        return "a header's name is not a token"
    # RFC 9110 section 5.5: CR, LF and NUL are dangerous, other control characters invalid.
    return "a control character in a header's value"


def refused_request_line(line: bytes) -> RemoteProtocolError:
    """Say why `line`, which ends with an LF, is not a request line."""
    if not line.endswith(b"\r\n"):
        return bad_request("the request line ends with LF alone")
    parts = line[:-2].split(b" ")
    if len(parts) == 2:
        # HTTP/0.9 has neither version nor header fields.
        return bad_request("the request line names no HTTP version")
    if len(parts) != 3:
        # RFC 9112 section 3: exactly one space; being lenient here is said to be dangerous.
        return bad_request("the request line is not method, target, version")
    method, target, version = parts
    if not re.fullmatch(rb"HTTP/[0-9]\.[0-9]", version):
        return bad_request("malformed HTTP version")
    if version not in (b"HTTP/1.0", b"HTTP/1.1"):
        # RFC 9110 section 15.6.6. HTTP/2's preface ends here too. No HTTP/1.2 was ever
        # published, so what a proxy took it for is unknown.
        return RemoteProtocolError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    if not re.fullmatch(TOKEN, method):
        return bad_request("the method is not a token")
    if REQUEST_LINE.fullmatch(b"GET " + target + b" HTTP/1.1\r\n"):
        # RFC 9110 section 9.1: unrecognized methods are answered by 501.
        return RemoteProtocolError(501, "a method is written in capitals")
    return bad_request("the request target has a character that no target may have")


def make_head(method: str, target: bytes, minor: bytes, fields: Headers) -> tuple[RequestHead, int]:
    """Make the head of a request out of its parts, and tell how long its body is.

    Args:
        method: in capitals.
        target: visible ASCII without "#".
        minor: the digit after "HTTP/1.".
        fields: as `parse_fields` gave them.

    Returns:
        The head, and the number of bytes of the body, or `CHUNKED`.

    Raises:
        RemoteProtocolError: the target, Host, or what frames the body is invalid or
            ambiguous.
    """
    headers = [(name.lower(), value.rstrip(b" \t")) for name, value in fields]
    found = dict(headers)
    if len(found) != len(headers):
        found = combined(headers)
    newer = minor == b"1"

    host = found.get(b"host")
    if host is None:
        if newer:
            raise bad_request("no Host header")  # RFC 9112 section 3.2
    elif not is_host(host):
        raise bad_request("invalid or repeated Host header")  # RFC 9112 section 3.2
    if target.startswith(b"/") and method != "CONNECT":
        # RFC 9112 section 3.2.1, origin-form. "//host/" is a path like any other.
        raw_path, _, query_string = target.partition(b"?")
    else:
        authority, raw_path, query_string = split_target(method, target)
        if authority is not None:
            # RFC 9112 section 3.2.2: a server MUST ignore Host and take the target's.
            headers = [field for field in headers if field[0] != b"host"]
            headers.insert(0, (b"host", authority))

    length = body_length(found.get(b"content-length"), found.get(b"transfer-encoding"), newer)
    connection = members(found.get(b"connection", b""))
    upgrades = (
        newer  # RFC 9110 section 7.8: from HTTP/1.0, Upgrade MUST be ignored
        and method == "GET"  # RFC 6455 section 4.1
        and b"upgrade" in connection
        and b"websocket" in members(found.get(b"upgrade", b""))
    )
    if upgrades and length:
        # RFC 9110 section 7.8: the new protocol begins after the body; a proxy might look
        # for it right after the head.
        raise bad_request("a WebSocket handshake has no body")
    expects_continue = False
    # RFC 9110 section 10.1.1: from HTTP/1.0, Expect MUST be ignored.
    if newer and b"expect" in found:
        if members(found[b"expect"]) != {b"100-continue"}:
            raise RemoteProtocolError(417, "the only known expectation is 100-continue")
        expects_continue = length != 0

    path = raw_path.decode("ascii") if b"%" not in raw_path else decode_path(raw_path)
    head = RequestHead(
        method,
        target,
        path,
        raw_path,
        query_string,
        "1.1" if newer else "1.0",
        headers,
        # RFC 9112 section 9.3.
        b"close" not in connection and (newer or b"keep-alive" in connection),
        upgrades,
        expects_continue,
        length != 0,
    )
    return head, length


def combined(headers: Headers) -> dict[bytes, bytes]:
    """Join the values of fields with one name.

    RFC 9110 section 5.3: several lines are one list. For Host and Content-Length, which
    are no lists, the result is no valid value.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        found[name] = found[name] + b", " + value if name in found else value
    return found


def without_underscores(headers: Headers) -> Headers:
    """Give the headers whose names have no `_`, as nginx, daphne and Django drop the others.

    Where headers become variables, as in CGI and in Django's `META`, `x_real_ip` and
    `x-real-ip` are one, and only of the second a proxy makes sure that it is true.

    >>> without_underscores([(b"x_real_ip", b"::1"), (b"x-real-ip", b"203.0.113.9")])
    [(b'x-real-ip', b'203.0.113.9')]
    """
    if b"_" not in b"".join([name for name, _ in headers]):
        return headers
    return [field for field in headers if b"_" not in field[0]]


# Most clients send the same few values.
@lru_cache(maxsize=64)
def is_host(value: bytes) -> bool:
    """Tell whether `value` may stand in a Host header, or as the authority of a target."""
    return HOST.fullmatch(value) is not None


@lru_cache(maxsize=64)
def members(value: bytes) -> frozenset[bytes]:
    """Give the members of a comma-separated list, in lower case.

    >>> sorted(members(b"Upgrade,, keep-alive"))
    [b'keep-alive', b'upgrade']
    """
    return frozenset(member.strip(b" \t") for member in value.lower().split(b",")) - {b""}


def decode_path(raw_path: bytes) -> str:
    """Undo percent-encoding; what is not UTF-8 becomes U+FFFD.

    >>> decode_path(b"/caf%C3%A9/100%/%FF")
    '/café/100%/�'
    """
    return unquote_to_bytes(raw_path).decode("utf-8", "replace")


def split_target(method: str, target: bytes) -> tuple[bytes | None, bytes, bytes]:
    """Split a target that is no plain path into authority, if it names one, path and query.

    >>> split_target("GET", b"http://example.org?room=1")
    (b'example.org', b'/', b'room=1')
    >>> split_target("OPTIONS", b"*")
    (None, b'*', b'')

    Raises:
        RemoteProtocolError: the target has none of the forms that the method may have.
    """
    if method == "CONNECT":
        # RFC 9112 section 3.2.3, RFC 9110 section 9.3.6: this is no tunnel.
        raise RemoteProtocolError(501, "CONNECT is not for origin servers")
    if target == b"*" and method == "OPTIONS":
        return None, target, b""  # RFC 9112 section 3.2.4, asterisk-form
    absolute = ABSOLUTE_FORM.fullmatch(target)
    if absolute is None:
        raise bad_request("the request target has none of the forms that this method may have")
    authority, path, query = absolute.groups(b"")
    if not is_host(authority):
        raise bad_request("invalid host in the request target")  # RFC 9110 section 4.2
    if not path and not query and method == "OPTIONS":
        path = b"*"  # RFC 9112 section 3.2.4
    return authority, path or b"/", query[1:]


def body_length(length: bytes | None, coding: bytes | None, newer: bool) -> int:
    """Tell how many bytes of body follow a head, or `CHUNKED`.

    Args:
        length: all of Content-Length, comma-separated, or None.
        coding: all of Transfer-Encoding, comma-separated, or None.
        newer: the request is HTTP/1.1, not 1.0.

    Raises:
        RemoteProtocolError: RFC 9112 section 6.3 has no answer, or more than one.
    """
    if coding is None:
        if length is None:
            return 0
        if not CONTENT_LENGTH.fullmatch(length):
            raise bad_request("invalid or repeated Content-Length header")
        return int(length)
    if length is not None:
        # RFC 9112 section 6.3, item 3: "might indicate an attempt to perform request
        # smuggling"; section 6.1 lets a server reject it.
        raise bad_request("both Content-Length and Transfer-Encoding")
    if not newer:
        # RFC 9112 section 6.1: the framing is faulty.
        raise bad_request("Transfer-Encoding in an HTTP/1.0 request")
    if coding.lower() == b"chunked":
        return CHUNKED
    codings = [item.strip(b" \t") for item in coding.lower().split(b",")]
    if codings.pop() == b"chunked" and b"chunked" not in codings and b"" not in codings:
        # RFC 9112 section 6.1: an unknown coding is answered by 501.
        raise RemoteProtocolError(501, "the only known transfer coding is chunked")
    # RFC 9112 section 6.3, item 4: if chunked is not the last, nobody knows the length.
    # Section 6.1: it is applied once; section 7: it has no parameters.
    raise bad_request("chunked must be the last transfer coding, once")
