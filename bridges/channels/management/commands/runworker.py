"""`manage.py runworker`: serve named channels in a process of its own.

It ends with status 0 after SIGINT or SIGTERM: no more messages are taken, running handlers
have `--graceful-timeout` seconds, and what is left then is cancelled and named. A second
signal does not wait.

With `--reload` a parent process runs it again whenever a source file has changed. That is
an option, unlike with `runserver`, because a worker's job may be a long one, and saving a
file cancels it.
"""

import logging
import os
import signal
import sys
import threading
from argparse import SUPPRESS, ArgumentTypeError
from collections.abc import Iterable
from math import inf
from pathlib import Path
from typing import Any, ClassVar, Final

import trio
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.autoreload import get_child_arguments

from .....runtime.layers import InMemoryChannelLayer
from .....runtime.reloading import Handover, Watch, run_reloading
from ... import DEFAULT_CHANNEL_LAYER
from ..._layers_of_others import require_channel_name
from ...layers import InvalidChannelLayerError, channel_layers, get_channel_layer
from ...routing import ChannelNameRouter, ProtocolTypeRouter, get_default_application
from ...worker import GRACEFUL_TIMEOUT, Worker

# Seconds, as with `greenroom run --reload`: short enough to save a file again.
RELOAD_GRACEFUL_TIMEOUT: Final = 3.0
KILL_MARGIN: Final = 5.0  # beyond it; the child ends itself before that, if it can

logger = logging.getLogger("django.channels.worker")


def number_of_instances(text: str) -> int:
    """Read the value of `--concurrency`.

    Raises:
        ArgumentTypeError: it is no whole number, or below 1.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ArgumentTypeError(f"it must be a whole number, 1 or more, not {text!r}")
    return number


def seconds(text: str) -> float:
    """Read a time.

    Raises:
        ArgumentTypeError: it is no number of seconds, 0 or more.
    """
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number < inf:
        raise ArgumentTypeError(f"it must be a number of seconds, 0 or more, not {text!r}")
    return number


class Command(BaseCommand):
    """Runs a worker for the channels that are named.

    A subclass may set `worker_class`, which is called with the arguments of Channels'
    own: `application`, `channels` and `channel_layer`.
    """

    help = "Handles the messages that are sent to named channels."
    leave_locale_alone = True
    worker_class: ClassVar[Any] = Worker

    verbosity: int
    channel_layer: Any

    def add_arguments(self, parser: CommandParser) -> None:
        """Take Channels' options, and some more."""
        super().add_arguments(parser)
        parser.add_argument(
            "--layer",
            default=DEFAULT_CHANNEL_LAYER,
            metavar="ALIAS",
            help="The channel layer to receive from, by its alias in CHANNEL_LAYERS.",
        )
        parser.add_argument(
            "--concurrency",
            type=number_of_instances,
            default=1,
            metavar="N",
            help="Messages of one channel that are handled at once, each by a consumer of its "
            "own, which has its own state; they no longer end in order. The default is 1, which "
            "keeps their order and one consumer's state. Handlers that are no coroutines also "
            "need threads: GREENROOM_THREADS.",
        )
        parser.add_argument(
            "--graceful-timeout",
            type=seconds,
            metavar="SECONDS",
            help="What running handlers have to end in after SIGTERM or SIGINT. The default is "
            f"{GRACEFUL_TIMEOUT:g}, below the 30 after which Kubernetes and Heroku kill (Docker: "
            f"10), and {RELOAD_GRACEFUL_TIMEOUT:g} with --reload.",
        )
        parser.add_argument(
            "--reload",
            action="store_true",
            help="Start anew when a Python file below the current folder or BASE_DIR has changed.",
        )
        # Set by --reload for the process that it starts: a pipe that ends with the parent.
        parser.add_argument("--lifeline", type=int, help=SUPPRESS)
        parser.add_argument("channels", nargs="+", help="Names of the channels to serve.")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run the command."""
        self.verbosity = options.get("verbosity", 1)
        alias = options.get("layer") or DEFAULT_CHANNEL_LAYER
        self.channel_layer = self._get_layer(alias)
        for channel in options["channels"]:
            self._check_name(channel)
        reload = options.get("reload", False)
        timeout = options.get("graceful_timeout")
        if timeout is None:
            timeout = RELOAD_GRACEFUL_TIMEOUT if reload else GRACEFUL_TIMEOUT
        lifeline = options.get("lifeline")
        if reload and lifeline is None:
            reload_forever(kill_after=timeout + KILL_MARGIN)
            return
        try:
            application = get_default_application()
        except ImproperlyConfigured as error:
            if error.__cause__ is not None:
                raise  # a module that can't be imported, whose traceback tells why
            raise CommandError(str(error)) from error
        missing = without_consumer(application, options["channels"])
        if missing:
            raise CommandError(
                f"ASGI_APPLICATION has no consumer for {', '.join(map(repr, missing))}, so what "
                "is sent there would be lost. Name it in the ChannelNameRouter below 'channel' of "
                "the ProtocolTypeRouter."
            )
        logger.info("Running worker for channels %s", options["channels"])
        worker = self.worker_class(
            application=application,
            channels=options["channels"],
            channel_layer=self.channel_layer,
        )
        # Not arguments, since a class that was written for Channels does not take them.
        worker.concurrency = options.get("concurrency", 1)
        worker.graceful_timeout = timeout
        if lifeline is not None:
            # Ctrl+C reaches parent and child alike; the parent then asks with SIGTERM, and
            # a second signal would cut the stop short.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            worker.signals = (signal.SIGTERM,)
            stop_with_parent(lifeline)
        worker.run()

    def _get_layer(self, alias: str) -> Any:
        try:
            layer = get_channel_layer(alias)
        except InvalidChannelLayerError as error:
            cause = "" if error.__cause__ is None else f": {error.__cause__}"
            raise CommandError(f"{error}{cause}") from error
        if layer is None:
            if not channel_layers.configs:
                raise CommandError("You do not have any CHANNEL_LAYERS configured.")
            known = ", ".join(map(repr, channel_layers.configs))
            raise CommandError(f"CHANNEL_LAYERS has no layer {alias!r}; it has {known}.")
        if is_in_memory(layer):
            raise CommandError(
                f"The channel layer {alias!r} is in memory, so no other process can send to this "
                "worker. Use a layer that processes share, such as channels_redis, or serve the "
                "channels in the server's own process, with serve_channels of "
                "greenroom.bridges.channels.worker."
            )
        return layer

    def _check_name(self, channel: str) -> None:
        try:
            require_channel_name(self.channel_layer, channel)
        except TypeError as error:
            raise CommandError(f"{channel!r} is no name of a channel: {error}") from error


def without_consumer(application: Any, channels: Iterable[str]) -> list[str]:
    """Give those of `channels` of which it is plain to see that nothing handles them."""
    if type(application) is not ProtocolTypeRouter:
        return []
    inner = application.application_mapping.get("channel")
    if inner is None:
        return list(channels)
    if type(inner) is not ChannelNameRouter:
        return []
    return [name for name in channels if name not in inner.application_mapping]


def is_in_memory(layer: Any) -> bool:
    """Tell whether a layer is Greenroom's or Channels' own for one process."""
    theirs = ("channels.layers", "InMemoryChannelLayer")
    return isinstance(layer, InMemoryChannelLayer) or any(
        (cls.__module__, cls.__qualname__) == theirs for cls in type(layer).__mro__
    )


def reload_forever(kill_after: float) -> None:
    """Run this command line in a child process, and again after each change of a source."""
    folders = {Path.cwd().resolve()}
    base = getattr(settings, "BASE_DIR", None)
    if base is not None:
        folders.add(Path(base).resolve())
    watched = Watch(tuple(sorted(folders)))
    reports = logging.getLogger("greenroom.reload")
    if not reports.hasHandlers():
        reports.addHandler(logging.StreamHandler(sys.stderr))
        reports.setLevel(logging.INFO)

    def command(handover: Handover) -> list[str]:
        return [*get_child_arguments(), f"--lifeline={handover.lifeline}"]

    async def main() -> None:
        await run_reloading(command, (), watched, kill_after=kill_after)

    trio.run(main)


def stop_with_parent(lifeline: int) -> None:
    """Have this process stop, as with SIGTERM, once the parent is gone."""

    def wait() -> None:
        while os.read(lifeline, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
