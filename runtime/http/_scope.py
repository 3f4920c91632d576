"""An HTTP request as a scope actor: body parts in, response messages out.

`_requests.py` and `_responses.py` decide; this only moves what they say between the mailbox
and the connection.
"""

from typing import TYPE_CHECKING, final

from ...actors import ExitReason, Killed, Normal, Shutdown
from .._connected import CLIENT_CLOSED_REQUEST, ConnectedScope
from .._errors import ClientDisconnected
from .._types import App, Message, Scope
from ..scopes import EVENTS, logger
from ._events import RequestHead
from ._responses import CONTINUE, ResponseWriter

if TYPE_CHECKING:
    from .._connection import Connection


@final
class HttpScope(ConnectedScope):
    """One request and its response."""

    __slots__ = (
        "_awaits_continue",
        "_last_part",
        "_refused",
        "request_complete",
        "writer",
    )

    def __init__(self, app: App, scope: Scope, head: RequestHead, connection: "Connection") -> None:
        super().__init__(app, scope, connection)
        self.request_complete = False
        self.writer = ResponseWriter(head, connection.site.default_headers)
        self._awaits_continue = head.expects_continue
        self._last_part: Message | None = None
        self._refused = False

    # What the connection tells.

    def body_received(self, data: bytes) -> None:
        """Queue a part of the request's body."""
        self._awaits_continue = False
        self._last_part = {"type": "http.request", "body": data, "more_body": True}
        self.mailbox.put(self._last_part, EVENTS)

    def body_ended(self) -> None:
        """Mark the last part of the body as such, or queue an empty last one."""
        self._awaits_continue = False
        self.request_complete = True
        if self._last_part is not None and self.mailbox.depth(EVENTS):
            self._last_part["more_body"] = False
        else:
            self.mailbox.put({"type": "http.request", "body": b"", "more_body": False}, EVENTS)
        self._last_part = None

    def client_left(self) -> None:
        """Queue `http.disconnect`, once."""
        if not self._disconnected:
            self._disconnected = True
            self.mailbox.put({"type": "http.disconnect"}, EVENTS)

    def refused(self, status: int) -> bool:
        """Learn that nobody waits for its answer any more; tell whether one has begun."""
        begun = self.writer.started
        self._refused = True
        self.client_left()
        self._log("response", self.writer.status if begun else status)
        return begun

    # What the application does.

    def read_ready(self) -> None:
        """Let the client go on: with its body, with the next part, or with nothing more."""
        if self._disconnected:
            # Asked again after the end, ASGI servers repeat the last event.
            self.mailbox.put({"type": "http.disconnect"}, EVENTS)
            return
        if self._awaits_continue and not self.writer.started:
            self._awaits_continue = False
            self._transport.write(CONTINUE)
        self._connection.resume()

    def send_nowait(self, message: Message) -> bool:
        """Write what `message` says; see `ScopeActor.send_nowait`."""
        if not self.request_complete and not self.writer.started:
            # RFC 9112 section 9.3: a body that nobody reads can't be told from a request.
            self.writer.keep_alive = False
        data = self.writer.send(message)
        if self._transport.closed or self._refused:
            raise ClientDisconnected
        if data:
            self._write(data)
        if self.writer.complete:
            self._response_ended()
        return not self._transport.congested

    def _response_ended(self) -> None:
        if self.mailbox.wake is not None:
            self.client_left()  # somebody waits for the end of the exchange, and this is it
        else:
            self._disconnected = True
        self._log("response", self.writer.status)
        self._connection.response_ended(self)

    def ended(self, reason: ExitReason) -> None:
        """Answer 500 if the application gave no complete response."""
        if self.writer.complete or self._refused:
            return
        begun = self.writer.started
        if self._transport.closed:
            if not isinstance(reason, Shutdown | Killed):
                self._log("response", self.writer.status if begun else CLIENT_CLOSED_REQUEST)
            return
        returned = isinstance(reason, Normal)
        if returned and not self._disconnected:
            logger.error("the application returned from %s without a complete response", self)
        self._transport.write(self.writer.fail())
        if returned and self._disconnected and not begun:
            self.writer.status = CLIENT_CLOSED_REQUEST
        self._response_ended()
