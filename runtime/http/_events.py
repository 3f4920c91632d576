"""What a client's bytes mean: the head of a request, pieces of its body, its end."""

from dataclasses import dataclass
from typing import Final, TypeAlias, final

Headers: TypeAlias = list[tuple[bytes, bytes]]


@final
@dataclass(slots=True)
class RequestHead:
    """The request line and the header fields of one request, found to be unambiguous.

    Attributes:
        method: in capitals, such as "GET".
        target: the request target as it came.
        path: `raw_path` percent-decoded. Bytes that are not UTF-8 become U+FFFD, as in
            uvicorn and daphne; whoever needs them reads `raw_path`.
        raw_path: the path as it came, without the query; "*" for `OPTIONS *`.
        query_string: what follows the first "?", as it came.
        http_version: "1.0" or "1.1".
        headers: in the order they came, names in lower case, values without the
            whitespace around them. There is at most one `host`, and it is valid.
        keep_alive: the client will reuse the connection.
        is_websocket: the client asks to go on with WebSocket. The parser stops there;
            whether the handshake is right in the rest is for the WebSocket side to say.
        expects_continue: the client waits for a 100 before it sends the body.
        has_body: at least one `BodyChunk` or a chunked body follows.
    """

    method: str
    target: bytes
    path: str
    raw_path: bytes
    query_string: bytes
    http_version: str
    headers: Headers
    keep_alive: bool = True
    is_websocket: bool = False
    expects_continue: bool = False
    has_body: bool = False


@final
@dataclass(slots=True)
class BodyChunk:
    """Some bytes of the request's body, never none, cut wherever the network cut them."""

    data: bytes


@final
class EndOfRequest:
    """The request is complete. There is one such event, `END_OF_REQUEST`; compare with `is`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "END_OF_REQUEST"


END_OF_REQUEST: Final = EndOfRequest()

Event: TypeAlias = RequestHead | BodyChunk | EndOfRequest
