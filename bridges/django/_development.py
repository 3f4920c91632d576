"""Greenroom's server in the shape that Django's `runserver` asks of a server.

`runserver` does everything around it: system checks, the warning about migrations, the
banner, and autoreload, for which it runs the server outside the main thread of a process
that ends when a file has changed.

Imports the bridge to asyncio, whose `serve` hosts the loop that projects expect.
"""

import logging
import signal
import threading
from functools import partial
from typing import Final, final

import trio

from ...runtime import (
    Access,
    App,
    CannotListen,
    Scope,
    Server,
    ServerConfig,
    WebSocketLimits,
    open_tcp,
)
from ..asyncio import serve

# Seconds, as with `greenroom run --reload`. Long enough for consumers to say goodbye, short
# enough to save a file again.
STOP_WITHIN: Final = 3.0
MARGIN: Final = 1.0  # seconds beyond, for what only takes a moment

WEBSOCKET_STEPS: Final = {"accept": "CONNECT", "reject": "REJECT", "close": "DISCONNECT"}

logger = logging.getLogger("django.server")


@final
class DevelopmentServer:
    """A server class for `runserver`, whose application is ASGI's.

    Args:
        address: host and port; the host tells whether that is IPv6.
        websocket_limits: what one WebSocket may ask for.
    """

    def __init__(self, address: tuple[str, int], websocket_limits: WebSocketLimits) -> None:
        host, port = address
        try:
            self._listeners = open_tcp(host, port)
        except CannotListen as error:
            raise OSError(str(error)) from error  # what `runserver` prints and ends with
        self.server_port: int = self._listeners[0].getsockname()[1]
        self._config = ServerConfig(
            graceful_timeout=STOP_WITHIN, websocket_limits=websocket_limits, on_access=log_access
        )
        self._application: App
        self._nursery: trio.Nursery
        self._server: Server | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._ended = threading.Event()

    def set_app(self, application: App) -> None:
        """Take the application."""
        self._application = application

    def serve_forever(self) -> None:
        """Serve until `stop`; in the main thread also until SIGINT or SIGTERM."""
        try:
            trio.run(self._serve)
        finally:
            self._ended.set()

    def stop(self) -> None:
        """Stop gracefully, from another thread, and wait for the end; a few seconds at most."""
        if self._token is None:
            return  # nobody was served yet
        try:
            self._token.run_sync_soon(self._stop)
        except trio.RunFinishedError:
            return
        if not self._ended.wait(STOP_WITHIN + MARGIN):
            logger.warning("The server did not end within %g seconds.", STOP_WITHIN + MARGIN)

    async def _serve(self) -> None:
        in_main_thread = threading.current_thread() is threading.main_thread()
        async with trio.open_nursery() as self._nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._server = await self._nursery.start(
                partial(
                    serve,
                    self._application,
                    listeners=self._listeners,
                    config=self._config,
                    signals=(signal.SIGINT, signal.SIGTERM) if in_main_thread else (),
                )
            )

    def _stop(self) -> None:
        if self._server is None:
            self._nursery.cancel_scope.cancel()  # the application is still starting
        else:
            self._server.stop()


def log_access(access: Access) -> None:
    """Log what happened to one scope, in the words that users of Channels know."""
    level = logging.INFO
    if access.step == "response" and access.status >= 400:
        level = logging.ERROR if access.status >= 500 else logging.WARNING
    elif access.step == "reject":
        level = logging.WARNING
    logger.log(level, describe_access(access), extra={"status_code": access.status})


def describe_access(access: Access) -> str:
    """Say in one line what happened to one scope.

    >>> scope = {"type": "http", "method": "GET", "path": "/", "client": ("127.0.0.1", 5)}
    >>> describe_access(Access(scope, 200, "response", 0.1))
    'HTTP GET / 200 [0.10, 127.0.0.1:5]'
    """
    scope = access.scope
    client = scope.get("client")
    peer = f"{client[0]}:{client[1]}" if client else "-"
    if scope["type"] == "websocket":
        return f"WebSocket {WEBSOCKET_STEPS[access.step]} {_target(scope)} [{peer}]"
    line = f"HTTP {scope['method']} {_target(scope)} {access.status}"
    return f"{line} [{access.seconds:.2f}, {peer}]"


def _target(scope: Scope) -> str:
    """Give the path as the client wrote it, where no line break can hide."""
    raw_path: bytes | None = scope.get("raw_path")
    path = scope["path"] if raw_path is None else raw_path.decode("latin-1")
    query = scope.get("query_string", b"").decode("latin-1")
    return f"{path}?{query}" if query else path
