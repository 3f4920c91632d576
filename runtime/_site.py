"""What all connections of one server share: the application, the rules, the clock."""

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, final

import trio

from ..actors import ActorRef, DynamicSupervisor
from ._forwarded import ForwardedHeader, TrustedProxies
from ._types import App, Scope
from .http import Headers, RequestLimits, render_date
from .lifespan import LifespanMode
from .scopes import SCOPE_SPEC, ScopeActor
from .websocket import WebSocketLimits

if TYPE_CHECKING:
    from ._connection import Connection


logger = logging.getLogger("greenroom.server")

TIMEOUTS: Final = (
    "keep_alive_timeout",
    "head_timeout",
    "write_timeout",
    "graceful_timeout",
    "websocket_connect_timeout",
    "websocket_ping_timeout",
    "close_timeout",
)


@final
@dataclass(frozen=True, slots=True)
class Access:
    """What is told of one finished request or one step of a WebSocket, for access logs.

    Args:
        scope: the ASGI scope.
        status: the HTTP status of the answer, 499 if the client left before it had begun,
            101 for an accepted WebSocket, the close code for an ended one, and 0 while it
            is only asked for.
        step: "response" of a request; of a WebSocket "handshake", then "accept" and
            "close", or "reject".
        seconds: since the scope began.
    """

    scope: Scope
    status: int
    step: str
    seconds: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """How a server treats its connections; times in seconds, sizes in bytes.

    Args:
        root_path: where a proxy mounts the application; put in front of each path.
        forwarded_allow_ips: the proxies that are believed when they tell who the client is
            and whether it speaks TLS: addresses and networks, "unix" for peers that have no
            address, as those of a Unix socket, "*" for every peer; or one string of them,
            with commas. None by default: a proxy that was not told to write these headers
            hands on what a client wrote. "*" is for peers alone: the last entry of a list
            counts then, or the last before those of the networks that are named beside it.
        forwarded_header: where proxies tell it: "x-forwarded-for", with the scheme in
            X-Forwarded-Proto, or "forwarded", which has both. The other one is not read.
        lifespan: "on" asks for ASGI's lifespan and fails without it, "off" never asks,
            "auto" asks and goes on without.
        keep_alive_timeout: an idle connection is closed after this; 5, as uvicorn's, is
            longer than the pause between the requests of one page.
        head_timeout: the head of a request must be complete within this; 10 bounds what
            a client that sends a byte at a time can hold.
        write_timeout: a client that has something to read and reads none of it for this
            long is dropped; 60, as nginx's `send_timeout`.
        request_timeout: a request must be answered to the last byte within this, or its
            application is cancelled: the client gets a 503, or the rest of an answer that
            has begun is cut off. None, the default, lets streams go on for ever. Looked at
            once a second.
        graceful_timeout: a stop takes no longer than this in all. Four fifths are for
            scopes to end, the rest for the application's lifespan.
        websocket_connect_timeout: the application has this long to accept a WebSocket, else
            the client gets a 503; 20, as daphne's.
        websocket_ping_interval: an open WebSocket is pinged when this long nothing came
            from it; None never pings. 20 keeps the usual proxies (60) from closing it.
        application_close_timeout: the application of a WebSocket has this long to end after
            its client has left; then it is cancelled, with a warning that names it. 10 is
            daphne's. None waits for ever, as for requests, whose work may have to be done
            whether or not somebody still waits for the answer.
        websocket_ping_timeout: closed with 1011 if the ping is not answered within this.
        close_timeout: a peer has this long to answer a close, after the last byte has left.
        request_limits: sizes of a request's head.
        websocket_limits: sizes of messages, and compression.
        server_header: value of the `server` header, None for none.
        date_header: whether responses say `date`, as RFC 9110 section 6.6.1 asks.
        on_access: called, in the trio thread, with each `Access`; it must not raise.
    """

    root_path: str = ""
    forwarded_allow_ips: Collection[str] = ()
    forwarded_header: ForwardedHeader = "x-forwarded-for"
    lifespan: LifespanMode = "auto"
    keep_alive_timeout: float = 5.0
    head_timeout: float = 10.0
    write_timeout: float = 60.0
    request_timeout: float | None = None
    graceful_timeout: float = 30.0
    websocket_connect_timeout: float = 20.0
    websocket_ping_interval: float | None = 20.0
    websocket_ping_timeout: float = 20.0
    application_close_timeout: float | None = 10.0
    close_timeout: float = 10.0
    request_limits: RequestLimits = field(default_factory=RequestLimits)
    websocket_limits: WebSocketLimits = field(default_factory=WebSocketLimits)
    server_header: str | None = "greenroom"
    date_header: bool = True
    on_access: Callable[[Access], None] | None = None

    def __post_init__(self) -> None:
        if self.lifespan not in ("auto", "on", "off"):
            raise ValueError(f"lifespan is {self.lifespan!r}; it must be 'auto', 'on' or 'off'")
        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            raise ValueError(
                f"root_path is {self.root_path!r}; it must begin with a slash and end with none"
            )
        TrustedProxies(self.forwarded_allow_ips, self.forwarded_header)  # or a ValueError
        for name in TIMEOUTS:
            if not getattr(self, name) >= 0:  # NaN is not, either
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be 0 or more")
        for name, absence in (
            ("request_timeout", "no limit"),
            ("application_close_timeout", "no limit"),
            ("websocket_ping_interval", "no pings"),
        ):
            seconds = getattr(self, name)
            if seconds is not None and not seconds > 0:
                raise ValueError(
                    f"{name} is {seconds!r}; it must be positive, or None for {absence}"
                )


@final
class Site:
    """One running server's shared state; connections hold a reference to it."""

    __slots__ = (
        "app",
        "config",
        "connections",
        "default_headers",
        "left",
        "now",
        "proxies",
        "running",
        "state",
        "stopping",
        "supervisor",
    )

    def __init__(
        self, app: App, config: ServerConfig, state: dict[str, Any], supervisor: DynamicSupervisor
    ) -> None:
        self.app = app
        self.config = config
        self.proxies = TrustedProxies(config.forwarded_allow_ips, config.forwarded_header)
        self.state = state
        self.supervisor = supervisor
        self.connections: set[Connection] = set()
        self.running: dict[ScopeActor, ActorRef[Any]] = {}
        self.left: dict[ScopeActor, float] = {}  # running without a client, since when
        self.stopping = False
        self.tick()

    def tick(self) -> None:
        """Take the time; called every second, so that no message has to."""
        self.now = trio.current_time()
        headers: Headers = []
        if self.config.date_header:
            headers.append((b"date", render_date(time.time())))
        if self.config.server_header is not None:
            headers.append((b"server", self.config.server_header.encode("latin-1")))
        self.default_headers = headers

    def start(self, actor: ScopeActor) -> None:
        """Start a scope's actor, supervised."""
        self.running[actor] = self.supervisor.start_child(SCOPE_SPEC, actor)

    def stop(self, actor: ScopeActor) -> None:
        """Cancel a scope's application, if it runs still."""
        ref = self.running.get(actor)
        if ref is not None:
            ref.stop()

    def client_left(self, actor: ScopeActor) -> None:
        """Note that a scope's application has no client any more, if it runs still."""
        if actor in self.running:
            self.left[actor] = self.now

    def ended(self, actor: ScopeActor) -> None:
        """Forget a scope whose application has ended."""
        del self.running[actor]
        self.left.pop(actor, None)

    def check(self) -> None:
        """Cancel what goes on for too long after its client has left."""
        limit = self.config.application_close_timeout
        if limit is None:
            return
        for actor, since in list(self.left.items()):
            if self.now - since > limit:
                del self.left[actor]
                logger.warning(
                    "%s goes on %.0f seconds after its client has left, and is cancelled",
                    actor,
                    self.now - since,
                )
                self.stop(actor)

    def log_access(self, scope: Scope, status: int, step: str, began: float) -> None:
        """Tell `on_access`, if anybody wants to know."""
        on_access = self.config.on_access
        if on_access is not None:
            on_access(Access(scope, status, step, trio.current_time() - began))
