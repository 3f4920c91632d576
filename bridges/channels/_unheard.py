"""What a consumer sends although nobody will read it: ignored, for a while.

A handler can't know that its client has just left, and a message of a group may come
between a consumer's own `close()` and its `disconnect`. Code written for Channels does not
catch what a server raises then, since daphne raises nothing.

Source: the ASGI specification 2.4, where `send` to a client that has left raises a
subclass of OSError of the server's own; daphne, which ignores it.
"""

import logging
from typing import Final, final

from ...runtime import ClientDisconnected, LocalProtocolError, Message

# A handler that sends in a loop without end has to end some day; one that does not is
# through long before.
MAX_UNHEARD: Final = 100

LEFT: Final = "the client has left"
CLOSED: Final = "the consumer has closed the connection"
ENDED: Final = "the consumer has ended"

# What a consumer begins its WebSocket with, and what it ends it with; a denial's body does
# so unless there is more of it.
TURNING: Final = frozenset({"websocket.accept", "websocket.close", "websocket.http.response.body"})
IGNORED_AFTER_CLOSE: Final = frozenset({"websocket.send", "websocket.close"})

logger = logging.getLogger("greenroom.channels")


@final
class Unheard:
    """What one consumer sends and nobody reads.

    Args:
        asgi: the scope is one of ASGI's own, whose `send` raises an OSError of the
            server's choice after the client has left.
    """

    __slots__ = ("_accepted", "_asgi", "_count", "client_left", "since")

    def __init__(self, *, asgi: bool) -> None:
        self._asgi = asgi
        self._count = 0
        self._accepted = False
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
        """Note that a message of a type in `TURNING` was sent."""
        if message["type"] == "websocket.accept":
            self._accepted = True
        elif not message.get("more_body"):
            self.since = CLOSED

    @property
    def restartable(self) -> bool:
        """Whether a consumer that fails now could go on in place, as far as it has told.

        A WebSocket has to be accepted by then.
        """
        begun = self._accepted or not self._asgi
        return begun and self.since is None and not self.client_left
