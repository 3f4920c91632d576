"""Greenroom's server in the shape that Django's `runserver` asks of a server.

`runserver` does everything around it: system checks, the warning about migrations, the
banner, and autoreload, for which it runs the server outside the main thread of a process
that ends when a file has changed.

Imports the bridge to asyncio, whose `serve` hosts the loop that projects expect.
"""

import logging
import signal
import sys
import threading
import time
import traceback
from contextlib import ExitStack, suppress
from functools import partial
from typing import Final, final

import trio
from django.core.management.base import CommandError

from ...runtime import (
    App,
    CannotListen,
    LifespanFailed,
    Receive,
    Scope,
    Send,
    Server,
    ServerConfig,
    StoppedAtStart,
    last_resort,
    open_tcp,
)
from ...runtime._errors import sole
from ...runtime.restarting import carry_mark
from ..asyncio import call_app, serve

# Seconds, as with `greenroom run --reload`. Long enough for consumers to say goodbye, short
# enough to save a file again.
STOP_WITHIN: Final = 3.0
LOOK_UP: Final = 0.1
MARGIN: Final = 1.0  # seconds beyond, for what only takes a moment

logger = logging.getLogger("django.server")


class DevelopmentServer:
    """A server class for `runserver`, whose application is ASGI's; made to be subclassed.

    Args:
        address: host and port; the host tells whether that is IPv6.
        config: how it treats its connections.
    """

    def __init__(self, address: tuple[str, int], config: ServerConfig) -> None:
        host, port = address
        try:
            self._listeners = open_tcp(host, port)
        except (CannotListen, ValueError) as error:
            raise OSError(str(error)) from error  # what `runserver` prints and ends with
        self.server_port: int = self._listeners[0].getsockname()[1]
        self._config = config
        self._application: App
        self._nursery: trio.Nursery
        self._server: Server | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._ended = threading.Event()

    def set_app(self, application: App) -> None:
        """Take the application."""
        self._application = application

    def serve_forever(self) -> None:
        """Serve until `stop`; in the main thread also until SIGINT or SIGTERM.

        Raises:
            CommandError: the application's start-up or shutdown failed.
        """
        try:
            trio.run(self._serve)
        except ExceptionGroup as error:
            failure = sole(error)
            if isinstance(failure, StoppedAtStart):
                return
            if not isinstance(failure, LifespanFailed):
                raise
            if failure.__cause__ is not None:
                traceback.print_exception(failure.__cause__, file=sys.stderr)
            raise CommandError(str(failure)) from error
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
        seconds = self._config.graceful_timeout + MARGIN
        deadline = time.monotonic() + seconds
        # Now and then the thread looks up: the handler of a signal that came just before it
        # began to wait, and was to hurry the server, would run at the end of the wait.
        while not self._ended.wait(LOOK_UP):
            if time.monotonic() > deadline:
                logger.warning("The server did not end within %g seconds.", seconds)
                return

    def hurry(self) -> None:
        """Let the stop wait for nobody any more; callable by a signal's handler."""
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._stop)

    async def _serve(self) -> None:
        in_main_thread = threading.current_thread() is threading.main_thread()
        start = partial(
            serve,
            self._application,
            listeners=self._listeners,
            config=self._config,
            signals=(signal.SIGINT, signal.SIGTERM) if in_main_thread else (),
        )
        async with trio.open_nursery() as watching:
            async with trio.open_nursery() as self._nursery:
                self._token = trio.lowlevel.current_trio_token()
                self._server = await self._nursery.start(start)
                if in_main_thread:  # elsewhere the parent of autoreload ends the process
                    watching.start_soon(self._end_at_last, self._server)
            watching.cancel_scope.cancel()

    async def _end_at_last(self, server: Server) -> None:
        """End the process if the server can't; called off with it, since its caller may go on."""
        with ExitStack() as armed:
            await server.wait_stopping()
            seconds = self._config.graceful_timeout + last_resort.MARGIN
            armed.callback(last_resort.arm(seconds, server.running))
            await server.wait_urged()
            armed.callback(last_resort.arm(last_resort.MARGIN, server.running))
            await trio.sleep_forever()

    def _stop(self) -> None:
        if self._server is None:
            self._nursery.cancel_scope.cancel()  # the application is still starting
        else:
            self._server.stop()


@final
class Mounted:
    """An ASGI application below a path, which Django's settings call `FORCE_SCRIPT_NAME`.

    Nobody has taken that path off before the development server, so it is in `path` already.
    """

    greenroom_flavour = "both"

    def __init__(self, application: App, root_path: str) -> None:
        self._application = application
        self._root_path = root_path
        carry_mark(application, self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the scope on, which the server has just made, with its `root_path`."""
        if scope["type"] in ("http", "websocket"):
            scope["root_path"] = self._root_path
        await call_app(self._application, scope, receive, send)
