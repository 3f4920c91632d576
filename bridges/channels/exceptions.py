"""The exceptions that consumers raise, and those that are raised at them."""

from ...runtime.layers import ChannelFull as ChannelFull
from ...runtime.layers import InvalidChannelLayerError as InvalidChannelLayerError

__all__ = [
    "AcceptConnection",
    "ChannelFull",
    "DenyConnection",
    "InvalidChannelLayerError",
    "MessageTooLarge",
    "RequestAborted",
    "RequestTimeout",
    "StopConsumer",
]


class StopConsumer(Exception):
    """Raised by any handler of a consumer to end it, without an error."""


class AcceptConnection(Exception):
    """Raised in `connect` of a websocket consumer to accept the connection."""


class DenyConnection(Exception):
    """Raised in `connect` of a websocket consumer to refuse the connection."""


class RequestAborted(Exception):
    """Raised when a request was aborted; for code that catches it, nothing here raises it."""


class RequestTimeout(RequestAborted):
    """Raised when a request took too long; for code that catches it, nothing here raises it."""


class MessageTooLarge(Exception):
    """Raised when a message is too large; for code that catches it, nothing here raises it."""
