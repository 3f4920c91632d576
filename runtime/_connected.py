"""What the scopes of one connection have in common: whom they write to, and when to wait."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from ._types import App, Scope
from .scopes import ScopeActor

if TYPE_CHECKING:
    from ._connection import Connection


# For logs only, as nginx has it: there is no client to see it.
CLIENT_CLOSED_REQUEST: Final = 499


class ConnectedScope(ScopeActor):
    """A scope whose client is at the other end of a connection."""

    __slots__ = ("_connection", "_disconnected", "_transport", "began")

    def __init__(self, app: App, scope: Scope, connection: "Connection") -> None:
        super().__init__(app, scope)
        self.began = trio.current_time()
        self._connection = connection
        self._transport = connection.transport
        self._disconnected = False  # the application's last event is, or will be, the disconnect

    @property
    def congested(self) -> bool:
        """Whether a sender should wait for the client to read."""
        return self._transport.congested

    def wake_writer_with(self, wake: Callable[[], object]) -> None:
        """Call `wake` once when the client has read enough, or has gone."""
        self._transport.wake_when_writable(wake)

    def _write(self, data: bytes) -> None:
        self._transport.write(data)
        self.budget -= len(data) >> 12

    def _log(self, step: str, status: int) -> None:
        self._connection.site.log_access(self.scope, status, step, self.began)
