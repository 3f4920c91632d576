"""`greenroom run`: serve one application until it is told to stop.

Exit status: 0 after a stop that was asked for, 1 if the application or its address is at
fault, 2 if the command line is.
"""

import gc
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import click
import trio

from ...runtime import (
    ApplicationNotLoaded,
    CannotListen,
    LifespanFailed,
    Server,
    StoppedAtStart,
    last_resort,
    load_application,
    open_inherited,
    open_tcp,
    open_unix,
)
from ...runtime._errors import sole
from ...runtime.listeners import close_all, remove_stale
from ...runtime.reloading import Handover, run_reloading, stop_with_parent
from ..asyncio import serve
from ._logging import configure_logging, settle_logging
from ._options import (
    Given,
    check_usage,
    graceful_timeout,
    server_config,
    ssl_context,
    watched_files,
    with_options,
)

# Keeps its arguments, from which `--reload` makes the child's command line.
_ARGUMENTS: Final = "greenroom.arguments"

# A reloaded server that overruns its graceful timeout by this many seconds is killed.
KILL_MARGIN: Final = 5.0

logger = logging.getLogger("greenroom.command")


class _Run(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)


@click.command(cls=_Run)
@click.argument("app")
@with_options
@click.pass_context
def run(context: click.Context, /, app: str, **given: Any) -> None:
    """Serve APP, named as module:attribute, until SIGINT or SIGTERM.

    Such as: greenroom run project.asgi:application --port 8080
    """
    check_usage(given)
    configure_logging(given["log_level"])
    try:
        with _listening(given) as listeners:
            if given["reload"] and given["handover"] is None:
                _run_parent(context.meta[_ARGUMENTS], listeners, given)
            else:
                _run_server(app, listeners, given)
    except CannotListen as error:
        raise click.ClickException(str(error)) from error


def _run_parent(arguments: list[str], listeners: list[socket.socket], given: Given) -> None:
    # The child must not fail for what can be said here, at once and once.
    server_config(given)
    ssl_context(given)
    watched = watched_files(given)
    kill_after = graceful_timeout(given) + KILL_MARGIN
    logger.info("watching %s for changes", ", ".join(map(str, watched.folders)))

    def command(handover: Handover) -> list[str]:
        warnings = [f"-W{option}" for option in sys.warnoptions]
        # -P: the current folder is not put on sys.path; --app-dir is, by `load_application`.
        module = ["-P", "-m", "greenroom", "run", f"--handover={handover}"]
        return [sys.executable, *warnings, *module, *arguments]

    async def main() -> None:
        await run_reloading(command, listeners, watched, kill_after=kill_after)

    trio.run(main)


def _run_server(target: str, listeners: list[socket.socket], given: Given) -> None:
    config = server_config(given)
    context = ssl_context(given)
    handover: Handover | None = given["handover"]
    signals = [signal.SIGINT, signal.SIGTERM]
    if handover is not None:
        # Ctrl+C reaches parent and child alike; the parent then asks with SIGTERM, and
        # a second signal would cut the stop short.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signals.remove(signal.SIGINT)
    try:
        app = load_application(target, factory=given["factory"], app_dir=given["app_dir"])
    except ApplicationNotLoaded as error:
        click.echo(error.traceback(), err=True, nl=False)
        raise click.ClickException(f"{error}{_of_settings(error)}") from error
    settle_logging()

    start = partial(
        serve,
        app,
        listeners=listeners,
        config=config,
        ssl_context=context,
        signals=signals,
    )

    async def main() -> None:
        async with trio.open_nursery() as watching:
            if handover is not None:
                watching.start_soon(stop_with_parent, handover)
            async with trio.open_nursery() as serving:
                server: Server = await serving.start(start)
                _announce(target, server)
                watching.start_soon(_arm_last_resort, server, config.graceful_timeout)
            watching.cancel_scope.cancel()

    try:
        trio.run(main)
    except (LifespanFailed, StoppedAtStart, ExceptionGroup) as error:
        failure = sole(error)
        if isinstance(failure, StoppedAtStart):
            logger.info("%s", failure)
            return
        if not isinstance(failure, LifespanFailed):
            raise
        if failure.__cause__ is not None:
            click.echo("".join(traceback.format_exception(failure.__cause__)), err=True, nl=False)
        raise click.ClickException(str(failure)) from error


def _of_settings(error: ApplicationNotLoaded) -> str:
    """Tell where a missing module was named, if that was in the environment."""
    settings = os.environ.get("DJANGO_SETTINGS_MODULE")
    missing = getattr(error.__cause__, "name", None)
    if settings and missing and f"{settings}.".startswith(f"{missing}."):
        return f"; the environment variable DJANGO_SETTINGS_MODULE is {settings!r}"
    return ""


async def _arm_last_resort(server: Server, graceful_timeout: float) -> None:
    await server.wait_stopping()
    last_resort.arm(graceful_timeout + last_resort.MARGIN, server.running)
    await server.wait_urged()
    last_resort.arm(last_resort.MARGIN, server.running)


def _announce(target: str, server: Server) -> None:
    # What start-up made stays: the collector need not look at it again and again, which
    # took 5 to 16 % of a busy server's time.
    gc.collect()
    gc.freeze()
    logger.info(
        "greenroom %s serves %s on %s (Ctrl+C stops it)",
        version("greenroom"),
        target,
        " and ".join(server.addresses),
    )


@contextmanager
def _listening(given: Given) -> Iterator[list[socket.socket]]:
    """Open what the options name, and close it; a Unix socket's file goes with it."""
    handover: Handover | None = given["handover"]
    uds: str | None = given["uds"] if handover is None else None
    listeners: list[socket.socket] = []
    try:
        if handover is not None:
            for fd in handover.listeners:
                listeners += open_inherited(fd)
        else:
            for fd in given["fd"]:
                listeners += open_inherited(fd)
            if uds is not None:
                listeners += open_unix(uds, backlog=given["backlog"])
            host, port = given["host"], given["port"]
            if not listeners or host is not None or port is not None:
                host = "127.0.0.1" if host is None else host
                listeners += open_tcp(host, 8000 if port is None else port, given["backlog"])
        yield listeners
    finally:
        close_all(listeners)
        if uds is not None:
            _remove(uds)


def _remove(uds: str) -> None:
    try:
        remove_stale(uds)
    except CannotListen as error:
        logger.debug("the Unix socket stays: %s", error)
