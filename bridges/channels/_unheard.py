"""What a consumer sends although nobody will read it: ignored, for a while.

A handler can't know that its client has just left, and a message of a group may come
between a consumer's own `close()` and its `disconnect`. Code written for Channels does not
catch what a server raises then, since daphne raises nothing.

Source: the ASGI specification 2.4, where `send` to a client that has left raises a
subclass of OSError of the server's own; daphne, which ignores it.
"""

import logging
from typing import Final, final

from ...runtime import ClientDisconnected, LocalProtocolError
from ...runtime._types import Message

# A handler that sends in a loop without end has to end some day; one that does not is
# through long before.
MAX_UNHEARD: Final = 100

LEFT: Final = "the client has left"
CLOSED: Final = "the consumer has closed the connection"
ENDED: Final = "the consumer has ended"

# The last message of a consumer that ends its WebSocket; a denial's unless there is more.
ENDING: Final = frozenset({"websocket.close", "websocket.http.response.body"})
IGNORED_AFTER_CLOSE: Final = frozenset({"websocket.send", "websocket.close"})

logger = logging.getLogger("greenroom.channels")


@final
class Unheard:
    """What one consumer sends and nobody reads.

    Args:
        asgi: the scope is one of ASGI's own, whose `send` raises an OSError of the
            server's choice after the client has left.
    """

    __slots__ = ("_asgi", "_count", "client_left", "since")

    def __init__(self, *, asgi: bool) -> None:
        self._asgi = asgi
        self._count = 0
        self.since: str | None = None  # what the consumer did to be unheard
        self.client_left = False  # its last message was received, maybe not handled yet

    def covers(self, message: Message) -> bool:
        """Tell whether `message` must not be sent, because of what the consumer has done.

        Raises:
            ClientDisconnected: so it was for 100 messages already.
        """
        if self.since is None:
            return False
        if self.since is CLOSED and message.get("type") not in IGNORED_AFTER_CLOSE:
            return False  # a mistake, which the server shall name
        self.ignore(message, self.since)
        return True

    def excuses(self, error: Exception, message: Message) -> bool:
        """Tell whether `error` of sending `message` says no more than that the client has left.

        Raises:
            ClientDisconnected: so it was for 100 messages already.
        """
        if not isinstance(error, ClientDisconnected):
            # uvicorn raises a RuntimeError once the websocket.disconnect was received.
            late = self.client_left and not isinstance(error, LocalProtocolError)
            if not (self._asgi and (late or isinstance(error, OSError))):
                return False
        self.ignore(message, LEFT, error)
        return True

    def ignore(self, message: Message, reason: str, error: Exception | None = None) -> None:
        """Count a message that is not sent.

        Raises:
            ClientDisconnected: it is one too many.
        """
        if self._count >= MAX_UNHEARD:
            raise ClientDisconnected
        self._count += 1
        logger.debug("%s is ignored: %s", message.get("type"), reason, exc_info=error)

    def begin_anew(self) -> None:
        """Count from 0: a handler was ended, and others, such as `disconnect`, shall not be."""
        self._count = 0

    def sent(self, message: Message) -> None:
        """Note that a message of a type in `ENDING` was sent."""
        if not message.get("more_body"):
            self.since = CLOSED
