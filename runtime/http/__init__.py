r"""HTTP/1.1 as bytes on one side and ASGI `http` messages on the other. Never waits.

>>> parser = RequestParser()
>>> head, end = parser.receive_data(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n")
>>> writer = ResponseWriter(head)
>>> writer.send({"type": "http.response.start", "status": 200})
b''
>>> writer.send({"type": "http.response.body", "body": b"hello"})
b'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello'
"""

from ._events import END_OF_REQUEST as END_OF_REQUEST
from ._events import BodyChunk as BodyChunk
from ._events import EndOfRequest as EndOfRequest
from ._events import Event as Event
from ._events import Headers as Headers
from ._events import RequestHead as RequestHead
from ._requests import RequestLimits as RequestLimits
from ._requests import RequestParser as RequestParser
from ._responses import CONTINUE as CONTINUE
from ._responses import ResponseWriter as ResponseWriter
from ._responses import error_response as error_response
from ._responses import render_date as render_date

__all__ = [
    "CONTINUE",
    "END_OF_REQUEST",
    "BodyChunk",
    "EndOfRequest",
    "Event",
    "Headers",
    "RequestHead",
    "RequestLimits",
    "RequestParser",
    "ResponseWriter",
    "error_response",
    "render_date",
]
