"""One client's connection: bytes become events in mailboxes, and the other way round.

Plain state, no task. Requests on one connection are answered one after the other; a
pipelined one waits here, and the socket unread, until its turn (RFC 9112 section 9.3.2).
An upgrade hands the connection to its WebSocket for good.
"""

import logging
from collections import deque
from typing import Final, TypeAlias, final

from ._errors import RemoteProtocolError
from ._site import Site
from ._transport import Transport
from ._types import Address, Scope
from .http import BodyChunk, RequestHead, RequestParser, error_response
from .http._heads import without_underscores
from .http._scope import HttpScope
from .scopes import EVENTS, describe
from .websocket import State, WebSocketSession, refuse_handshake
from .websocket._closing import INTERNAL_ERROR, RESTART, TRY_AGAIN_LATER
from .websocket._scope import WebSocketScope

UNREAD_EVENTS: Final = 32  # events an application may leave unread before its socket is
UNREAD_BYTES: Final = 262_144  # the same in bytes

logger = logging.getLogger("greenroom.server")

Event: TypeAlias = object  # RequestHead, BodyChunk, EndOfRequest or RemoteProtocolError


@final
class Connection:
    """A receiver of one transport's bytes."""

    __slots__ = (
        "_answers_unread",
        "_backlog",
        "_client",
        "_parser",
        "_paused",
        "_proxies",
        "_read_at",
        "_scope",
        "_secure",
        "_server",
        "_since",
        "_unread",
        "_waiting",
        "_websocket",
        "site",
        "transport",
    )

    def __init__(
        self,
        site: Site,
        transport: Transport,
        client: Address,
        server: Address,
        *,
        secure: bool = False,
    ) -> None:
        self.site = site
        self.transport = transport
        self._client = client
        self._server = server
        self._secure = secure
        # Set if the peer is a proxy that is trusted to tell for whom it asks.
        self._proxies = site.proxies if site.proxies and site.proxies.trusts(client) else None
        self._parser = RequestParser(site.config.request_limits)
        self._scope: HttpScope | None = None  # the request being answered
        self._websocket: WebSocketScope | None = None
        self._backlog: deque[Event] | None = None  # what came behind it
        self._unread = 0  # bytes that the running application has not asked for yet
        self._paused = False  # the application has enough to read
        self._answers_unread = False  # the client has enough to read
        self._since = site.now  # when the present phase of waiting began
        self._waiting = 0  # bytes that waited for the client to read at the last look
        self._read_at = site.now  # when there was last seen to be a change in that
        site.connections.add(self)

    def __str__(self) -> str:
        running = self._websocket or self._scope
        if running is not None:
            return str(running)
        return (
            "a connection"
            if self._client is None
            else "a connection of {}:{}".format(*self._client)
        )

    # What the transport tells.

    def data_received(self, data: bytes) -> None:
        """Parse `data` into events, and hand them to the scope they belong to."""
        try:
            if self._websocket is not None:
                self._receive_in_websocket(self._websocket, data)
            else:
                self._receive_requests(data)
        except Exception:
            # Whatever it is, it is a fault of ours, and the other connections go on.
            logger.exception("the server failed at what came from %s", self)
            self.transport.abort()

    def _receive_in_websocket(self, websocket: WebSocketScope, data: bytes) -> None:
        self._since = self.site.now
        websocket.data_received(data)
        self._unread += len(data)
        waiting = websocket.mailbox.depth(EVENTS)
        if self._unread > UNREAD_BYTES or waiting > UNREAD_EVENTS:
            self._hold_back(waiting)
        if self.transport.congested and not self._answers_unread:
            # A client that pings and never reads must not fill our memory with pongs.
            self._answers_unread = True
            self.transport.pause_reading()
            self.transport.wake_when_writable(self._answers_read)

    def _answers_read(self) -> None:
        self._answers_unread = False
        if not self._paused:
            self.transport.resume_reading()

    def _receive_requests(self, data: bytes) -> None:
        if self._parser.idle:
            self._since = self.site.now
        try:
            events: list[Event] = [*self._parser.receive_data(data)]
        except RemoteProtocolError as error:
            events = [*error.events, error]
        if self._backlog:
            self._backlog.extend(events)
        else:
            self._take(deque(events))

    def _hold_back(self, waiting: int) -> None:
        """Stop reading, if the application really has something to read first."""
        if waiting and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def eof_received(self) -> None:
        """Learn that the client sends no more: it left, or waits for the last answer."""
        if self._websocket is not None:
            self._websocket.client_left()
            self.transport.close()
        elif self._scope is not None:
            self._scope.client_left()
            self._scope.writer.keep_alive = False
        else:
            self.transport.close()

    def connection_lost(self) -> None:
        """Tell whoever is served here that the client has gone."""
        self.site.connections.discard(self)
        self._backlog = None
        if self._websocket is not None:
            self._websocket.client_left()
            self.site.client_left(self._websocket)
        elif self._scope is not None:
            self._scope.client_left()

    # Requests.

    def _take(self, events: deque[Event]) -> None:
        while events:
            event = events[0]
            scope = self._scope
            if scope is not None and scope.request_complete:
                self._backlog = events  # behind a request that is still being answered
                self._hold_back(len(events))
                return
            events.popleft()
            if isinstance(event, RequestHead):
                self._begin(event)
                if self._websocket is not None:
                    return
            elif isinstance(event, RemoteProtocolError):
                self._refuse(event.status, event.reason)
                return
            elif scope is not None:
                if isinstance(event, BodyChunk):
                    scope.body_received(event.data)
                    self._unread += len(event.data)
                    if self._unread > UNREAD_BYTES:
                        self._hold_back(scope.mailbox.depth(EVENTS))
                else:
                    scope.body_ended()
        self._backlog = None

    def _begin(self, head: RequestHead) -> None:
        if head.is_websocket:
            self._begin_websocket(head)
            return
        scope = self._describe(head, "http")
        scope["method"] = head.method
        actor = HttpScope(self.site.app, scope, head, self)
        if self.site.stopping:
            actor.writer.keep_alive = False
        self._scope = actor
        self._unread = 0
        self.site.start(actor)

    def _begin_websocket(self, head: RequestHead) -> None:
        scope = self._describe(head, "websocket")
        try:
            session = WebSocketSession(
                head, self.site.config.websocket_limits, self.site.default_headers
            )
        except RemoteProtocolError as error:
            answer = refuse_handshake(error, self.site.default_headers)
            self._end_with_answer(answer, error.status, error.reason, describe(scope))
            return
        scope["subprotocols"] = session.subprotocols
        scope["extensions"] = {"websocket.http.response": {}}
        actor = WebSocketScope(self.site.app, scope, session, self)
        self._websocket = actor
        self._unread = 0
        self._since = self.site.now
        self.site.start(actor)
        early = self._parser.trailing_data
        del self._parser
        if early:
            self.data_received(early)
        if self.site.stopping:
            actor.close(RESTART, "the server is stopping")

    def _describe(self, head: RequestHead, kind: str) -> Scope:
        root_path = self.site.config.root_path
        client, secure = self._client, self._secure
        if self._proxies is not None:
            client, secure = self._proxies.find_client(head.headers, client, secure=secure)
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": head.http_version,
            "scheme": ("http" if kind == "http" else "ws") + ("s" if secure else ""),
            # The whole path, mount point included, as ASGI 2.4 words it.
            "path": root_path + head.path,
            "raw_path": root_path.encode() + head.raw_path,
            "query_string": head.query_string,
            "root_path": root_path,
            "headers": without_underscores(head.headers),
            "client": client,
            "server": self._server,
            "state": self.site.state.copy(),
            "extensions": {},
        }

    def _refuse(self, status: int, reason: str) -> None:
        """Answer a request that can't be served, as far as that is still possible."""
        scope = self._scope
        if scope is not None:
            # Its answer may have begun: the fault is in its body, or it took too long.
            self._scope = None
            if scope.refused(status):
                self.transport.abort()
                return
        self._end_with(status, reason)

    def _end_with(self, status: int, reason: str) -> None:
        self._end_with_answer(
            error_response(status, reason, self.site.default_headers), status, reason, self
        )

    def _end_with_answer(self, answer: bytes, status: int, reason: str, who: object) -> None:
        logger.info("refused %s: %d %s", who, status, reason)
        self.transport.write(answer)
        self._close(linger=True)

    def response_ended(self, scope: HttpScope) -> None:
        """Go on with the next request, or close."""
        if self._scope is not scope:
            return
        self._scope = None
        self._since = self.site.now
        if not scope.writer.keep_alive or not scope.request_complete:
            self._close(linger=True)
            return
        self._unread = 0
        if self._backlog:
            self._take(self._backlog)
        self.resume()

    def state_changed(self) -> None:
        """Measure from now how long the WebSocket's present state lasts."""
        self._since = self.site.now

    def resume(self) -> None:
        """Read again, where reading was held back and nothing waits any more."""
        self._unread = 0
        if self._paused and not self._backlog:
            self._paused = False
            if not self._answers_unread:
                self.transport.resume_reading()

    def _close(self, *, linger: bool = False) -> None:
        self._since = self.site.now
        self._backlog = None
        self.transport.close(linger=linger)

    # What the server's clock and its stop tell.

    def check(self, now: float) -> None:
        """Close what has waited too long, and ping who has been silent."""
        config = self.site.config
        websocket = self._websocket
        scope = self._scope
        limit = config.request_timeout
        if limit is not None and scope is not None and now - scope.began > limit:
            logger.warning("%s was not answered in time", scope)
            self._refuse(503, "the application took too long to answer")
            self.site.stop(scope)
            return
        if self._still_writing(now):
            return
        waited = now - self._since
        if websocket is not None:
            match websocket.session.state:
                case State.OPEN:
                    self._check_alive(websocket, now)
                case State.CONNECTING | State.DENYING:
                    if waited > config.websocket_connect_timeout:
                        logger.warning("%s was not accepted in time", websocket)
                        websocket.close(TRY_AGAIN_LATER)
                case _:
                    if waited > config.close_timeout:
                        self.transport.abort()
        elif self.transport.closing:
            if waited > config.close_timeout:
                self.transport.abort()
        elif scope is None:
            if self._parser.idle:
                if waited > config.keep_alive_timeout:
                    self._close()
            elif waited > config.head_timeout:
                self._end_with(408, "the request took too long to arrive")

    def _still_writing(self, now: float) -> bool:
        """Tell whether the client has yet to read something; drop it if it has stopped to."""
        waiting = self.transport.waiting
        if waiting == 0:
            self._waiting = 0
            return False
        if waiting != self._waiting:
            self._waiting = waiting
            self._read_at = now
        elif now - self._read_at > self.site.config.write_timeout:
            logger.info("%s reads nothing any more and is dropped", self)
            self.transport.abort()
        if self._websocket is None or self._websocket.session.state is not State.OPEN:
            self._since = now  # what follows is measured from the last byte
        return True

    def _check_alive(self, websocket: WebSocketScope, now: float) -> None:
        config = self.site.config
        interval = config.websocket_ping_interval
        if self._paused or self._answers_unread:
            self._since = now  # what a client says while it is not read is no silence
        silent = now - self._since
        if interval is None or silent < interval:
            return
        if not websocket.session.awaiting_pong:
            websocket.ping()
        elif silent >= interval + config.websocket_ping_timeout:
            websocket.close(INTERNAL_ERROR, "keepalive ping timeout")

    def shut_down(self) -> None:
        """Serve nobody new, and ask whoever is served to come to an end."""
        if self._websocket is not None:
            self._websocket.close(RESTART, "the server is stopping")
        elif self._scope is not None:
            self._scope.writer.keep_alive = False
        else:
            self._close()
