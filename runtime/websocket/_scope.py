"""A WebSocket as a scope actor: messages in, messages out.

`_session.py` decides; this only moves what it says between the mailbox and the connection.
"""

from typing import TYPE_CHECKING, final

from ...actors import Crash, ExitReason, Normal
from .._connected import CLIENT_CLOSED_REQUEST, ConnectedScope
from .._errors import ClientDisconnected, LocalProtocolError
from .._types import App, Message, Scope
from ..scopes import EVENTS, logger
from ._closing import INTERNAL_ERROR, NORMAL, RESTART, refusal_status
from ._session import WebSocketSession
from ._states import State

if TYPE_CHECKING:
    from .._connection import Connection


@final
class WebSocketScope(ConnectedScope):
    """One WebSocket from its upgrade request on."""

    __slots__ = ("_accepted", "session")

    def __init__(
        self, app: App, scope: Scope, session: WebSocketSession, connection: "Connection"
    ) -> None:
        super().__init__(app, scope, connection)
        self.session = session
        self._accepted = False
        self._log("handshake", 0)
        self.mailbox.put({"type": "websocket.connect"}, EVENTS)

    # What the connection tells.

    def data_received(self, data: bytes) -> None:
        """Queue the messages that `data` completes, and answer what needs no application."""
        session = self.session
        for message in session.receive_data(data):
            self._deliver(message)
        self._settle()

    def client_left(self) -> None:
        """Queue `websocket.disconnect`, unless one is there already."""
        connecting = self.session.state is State.CONNECTING
        for message in self.session.receive_eof():
            self._deliver(message)
            if connecting:
                self._log("reject", CLIENT_CLOSED_REQUEST)

    def close(self, code: int, reason: str = "") -> None:
        """Close from the server's side, and tell the application."""
        connecting = self.session.state is State.CONNECTING
        data, messages = self.session.fail(code, reason)
        if connecting:
            self._log("reject", refusal_status(code))
        for message in messages:
            self._deliver(message)
        self._transport.write(data)
        self._connection.state_changed()
        self._settle()

    def ping(self) -> None:
        """Ask the client for a sign of life."""
        self._transport.write(self.session.ping())

    def _deliver(self, message: Message) -> None:
        if message["type"] == "websocket.disconnect":
            self._disconnected = True
            if self._accepted:
                self._log("close", message["code"])
        self.mailbox.put(message, EVENTS)

    def _settle(self) -> None:
        session = self.session
        if session.outgoing:
            self._transport.write(session.data_to_send())
        if session.should_close:
            # RFC 6455 section 7.1.1: read on until the client hangs up, or what is still
            # unread here may cost it our close frame.
            self._transport.close(linger=True)

    # What the application does.

    def read_ready(self) -> None:
        """Let the client go on sending."""
        if self._disconnected and not self.mailbox.depth(EVENTS):
            raise LocalProtocolError(
                "receive() was called again after it gave websocket.disconnect, "
                "which is the last event of a WebSocket"
            )
        self._connection.resume()

    def send_nowait(self, message: Message) -> bool:
        """Write what `message` says; see `ScopeActor.send_nowait`."""
        session = self.session
        before = session.state
        data = session.send(message)
        if data:
            self._write(data)
        if session.state is not before:
            self._advanced(before, message)
        return not self._transport.congested

    def _advanced(self, before: State, message: Message) -> None:
        if before is State.CONNECTING:
            if self.session.state is State.OPEN:
                self._accepted = True
                self._log("accept", 101)
                self.data_received(b"")  # a client may have sent before it was accepted
            else:
                self._log("reject", message.get("status", 403))
        self._connection.state_changed()
        self._settle()

    @property
    def restartable(self) -> bool:
        """Whether an application that fails now could go on in place."""
        return self.session.state is State.OPEN

    def ended(self, reason: ExitReason) -> None:
        """Close what the application left open: 1000, after a crash 1011, when stopped 1012."""
        if self._transport.closed:
            return
        crashed = isinstance(reason, Crash) and not isinstance(reason.error, ClientDisconnected)
        state = self.session.state
        if crashed or state in (State.CONNECTING, State.DENYING):
            if state is State.CONNECTING:
                if isinstance(reason, Normal):
                    logger.error("the application returned from %s without an answer", self)
                self._log("reject", refusal_status(INTERNAL_ERROR))
            elif state is State.OPEN:
                self._log("close", INTERNAL_ERROR)
            self._transport.write(self.session.crash())
            self._settle()
        elif state is State.OPEN:
            self.close(NORMAL if isinstance(reason, Normal) else RESTART)
        self._connection.resume()  # so that the peer's answer to the close is seen
