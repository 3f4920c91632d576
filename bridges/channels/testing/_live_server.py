"""The project's server in a thread of the test process, with a trio run of its own.

The same process, so that nothing has to be pickled, settings and databases are the test's,
an error at the start is raised in the test, and a layer in memory reaches the consumers.
"""

import logging
import sys
import threading
import traceback
from contextlib import ExitStack
from functools import partial
from typing import Final, final

import trio
from django.apps import apps
from django.db import connections

from ....runtime import App, Server, ServerConfig, open_tcp
from ...asyncio import serve
from ...django._shared_connections import connections_to_lend, lend
from ...django.static import StaticFiles
from ..routing import get_default_application
from ._thread import with_threads_of_their_own

# Seconds. A start may import half a project, and wait for a pool of connections.
START_WITHIN: Final = 60.0
STOP_WITHIN: Final = 5.0
MARGIN: Final = 2.0  # beyond, for what only takes a moment

logger = logging.getLogger("greenroom.channels.testing")


def default_application() -> App:
    """Give the project's application, with its static files if it has that app."""
    application = get_default_application()
    if apps.is_installed("django.contrib.staticfiles"):
        return StaticFiles(application)
    return application


@final
class LiveServer:
    """A running server: `url` and `ws_url` are where it is.

    Handlers run in threads of their own. A database in memory they share with the thread
    that has started the server; any other they connect to by themselves, and find there
    what was committed. They keep no connection after a handler, which would be in the way
    when the test's database is deleted.
    """

    def __init__(self, application: App, host: str = "localhost") -> None:
        self._application = with_threads_of_their_own(application)
        self.host = host
        self.port = 0
        self._server: Server | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="live server", daemon=True)
        self._lending = ExitStack()

    @property
    def url(self) -> str:
        """Where its pages are."""
        return f"http://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        """Where its WebSockets are."""
        return f"ws://{self.host}:{self.port}"

    def __str__(self) -> str:
        return self.url

    def start(self) -> None:
        """Start, and wait until connections are accepted.

        Raises:
            Exception: what the application has raised while it started.
            RuntimeError: that took more than a minute.
        """
        self._listeners = open_tcp(self.host, 0)
        self.port = self._listeners[0].getsockname()[1]
        for alias in connections:
            connections[alias]  # one in memory that nobody has used yet is lent as well
        self._lending.enter_context(lend(connections_to_lend()))
        self._thread.start()
        if not self._started.wait(START_WITHIN):
            self._stop_soon()
            self._lending.close()
            raise RuntimeError(
                f"the application did not start within {START_WITHIN:g} seconds: "
                "its lifespan has not said that startup is complete"
            )
        if self._error is not None:
            self._lending.close()
            error, self._error = self._error, None
            raise error

    def stop(self) -> None:
        """Stop gracefully, and wait for the end, a few seconds at most.

        Raises:
            RuntimeError: something does not end; the text names it.
        """
        try:
            self._stop_soon()
            self._thread.join(STOP_WITHIN + MARGIN)
            if self._thread.is_alive():
                raise RuntimeError(self._describe_hanging())
        finally:
            self._lending.close()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _stop_soon(self) -> None:
        if self._token is not None:
            try:
                self._token.run_sync_soon(self._stop)
            except trio.RunFinishedError:
                return

    def _describe_hanging(self) -> str:
        lines = [f"The live server did not end within {STOP_WITHIN + MARGIN:g} seconds."]
        if self._server is not None:
            lines += [f"Still running: {scope}" for scope in self._server.running()]
        frames = sys._current_frames()
        for thread in threading.enumerate():
            if thread is not self._thread and not thread.name.startswith("greenroom-"):
                continue
            stack = traceback.extract_stack(frames.get(thread.ident or 0))
            if stack and not stack[-1].filename.endswith("_pool.py"):  # else it waits for work
                lines += [f"Thread {thread.name!r} is here:", *traceback.format_list(stack[-3:])]
        return "\n".join(lines)

    # -- in its thread

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:  # noqa: BLE001 -- raised in the test
            while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            self._error = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        config = ServerConfig(graceful_timeout=STOP_WITHIN)
        async with trio.open_nursery() as self._nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._server = await self._nursery.start(
                partial(serve, self._application, listeners=self._listeners, config=config)
            )
            self._started.set()

    def _stop(self) -> None:
        if self._server is not None:
            self._server.stop()
        elif self._nursery is not None:
            self._nursery.cancel_scope.cancel()
