"""Greenroom's server in the shape that Django's `runserver` asks of a server.

`runserver` does everything around it: system checks, the warning about migrations, the
banner, and autoreload, for which it runs the server outside the main thread of a process
that ends when a file has changed.

Imports the bridge to asyncio, whose `serve` hosts the loop that projects expect.
"""

import atexit
import logging
import signal
import threading
from functools import partial
from typing import Final, final

import trio

from ...runtime import Access, App, CannotListen, Scope, Server, ServerConfig, open_tcp
from ..asyncio import serve

# Seconds. Long enough to say goodbye to a browser's tabs, short enough to save a file again.
STOP_WITHIN: Final = 2.0

WEBSOCKET_STEPS: Final = {"accept": "CONNECT", "reject": "REJECT", "close": "DISCONNECT"}

logger = logging.getLogger("django.server")


@final
class DevelopmentServer:
    """A server class for `runserver`, whose application is ASGI's.

    The process may end while it runs in another thread: clients are told first.

    Args:
        address: host and port; the host tells whether that is IPv6.
    """

    def __init__(self, address: tuple[str, int], *_: object, **__: object) -> None:
        host, port = address
        try:
            self._listeners = open_tcp(host, port)
        except CannotListen as error:
            raise OSError(str(error)) from error  # what `runserver` prints and ends with
        self.server_port: int = self._listeners[0].getsockname()[1]
        self._application: App
        self._server: Server | None = None
        self._token: trio.lowlevel.TrioToken
        self._stopped = threading.Event()

    def set_app(self, application: App) -> None:
        """Take the application."""
        self._application = application

    def serve_forever(self) -> None:
        """Serve until a signal comes, or the process ends."""
        atexit.register(self._say_goodbye)
        try:
            trio.run(self._serve)
        finally:
            self._stopped.set()
            atexit.unregister(self._say_goodbye)

    async def _serve(self) -> None:
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self._server = await nursery.start(
                partial(
                    serve,
                    self._application,
                    listeners=self._listeners,
                    config=ServerConfig(graceful_timeout=STOP_WITHIN, on_access=log_access),
                    signals=(signal.SIGINT, signal.SIGTERM) if in_main_thread else (),
                )
            )

    def _say_goodbye(self) -> None:
        if self._server is not None:
            self._token.run_sync_soon(self._server.stop)
            self._stopped.wait(STOP_WITHIN)


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
