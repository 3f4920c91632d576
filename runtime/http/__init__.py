"""HTTP/1.1 as bytes on one side and ASGI `http` messages on the other. Never waits."""

from ._events import END_OF_REQUEST as END_OF_REQUEST
from ._events import BodyChunk as BodyChunk
from ._events import EndOfRequest as EndOfRequest
from ._events import Event as Event
from ._events import Headers as Headers
from ._events import RequestHead as RequestHead

__all__ = ["END_OF_REQUEST", "BodyChunk", "EndOfRequest", "Event", "Headers", "RequestHead"]
