"""`manage.py runserver`, serving `ASGI_APPLICATION` on Greenroom's server.

All else is Django's own command: its options, checks, banner and autoreload. The server
stops gracefully before its process ends, also when a file has changed. The options beside
Django's are those of daphne's command, with their names.

A project's own `runserver` may subclass `Command`:

```python
from greenroom.bridges.django.management.commands import runserver

class Command(runserver.Command):
    def get_application(self, options):
        return Traced(super().get_application(options))

    def log_action(self, protocol, action, details):
        if details["path"] != "/health":
            super().log_action(protocol, action, details)
```
"""

import logging
import math
import sys
from importlib.metadata import version
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands.runserver import Command as RunserverCommand

from .....runtime import (
    Access,
    App,
    ApplicationNotLoaded,
    ServerConfig,
    WebSocketLimits,
    load_application,
)
from ..._access_log import action_of, log_action
from ..._autoreload import is_child, run_parent, stopping_first, watch_files_of
from ..._development import MARGIN, STOP_WITHIN, DevelopmentServer, Mounted
from ...static import StaticFiles

# The second of each is daphne's: a project that comes from there keeps its limits.
SIZES: Final = {
    "websocket_max_message_size": (
        "GREENROOM_WEBSOCKET_MAX_MESSAGE_SIZE",
        "DAPHNE_WEBSOCKET_MAX_MESSAGE_SIZE",
    ),
    "websocket_max_frame_size": (
        "GREENROOM_WEBSOCKET_MAX_FRAME_SIZE",
        "DAPHNE_WEBSOCKET_MAX_FRAME_SIZE",
    ),
}
DEFAULT_SIZE: Final = WebSocketLimits().max_message_size
UNLIMITED: Final = 1 << 60  # bytes, as a limit that nobody reaches
HANDSHAKE_TIMEOUT: Final = 5.0  # seconds, daphne's default

logger = logging.getLogger("django.server")


class Command(RunserverCommand):
    """Django's `runserver` with another server inside; made to be subclassed.

    Attributes:
        server_cls: a subclass of `DevelopmentServer`.
    """

    help = "Starts a lightweight development server for HTTP and WebSocket."
    server_cls: Any = DevelopmentServer  # Django's is of another kind
    _config: ServerConfig
    _server: DevelopmentServer | None = None

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the options of Django's command; `--nothreading` matters with `--noasgi` only."""
        super().add_arguments(parser)
        parser.add_argument(
            "--noasgi",
            action="store_false",
            dest="use_asgi",
            help="Runs Django's own WSGI server rather than the ASGI server.",
        )
        parser.add_argument(
            "--http_timeout",
            "--http-timeout",
            type=float,
            metavar="SECONDS",
            help="Seconds in which a request must be answered, else the client gets a 503, or what "
            "was begun is cut off. Without it, as long as it takes.",
        )
        parser.add_argument(
            "--websocket_handshake_timeout",
            "--websocket-handshake-timeout",
            type=float,
            default=HANDSHAKE_TIMEOUT,
            metavar="SECONDS",
            help="Seconds in which a WebSocket must be accepted, else the client gets a 503; 0 for "
            f"no limit. Without it, {HANDSHAKE_TIMEOUT:g}.",
        )
        parser.add_argument(
            "--websocket-max-message-size",
            type=int,
            metavar="BYTES",
            help="Bytes of a WebSocket message; more closes with 1009; 0 for no limit. Without it "
            f"the setting {' or '.join(SIZES['websocket_max_message_size'])} counts, "
            f"or {DEFAULT_SIZE}.",
        )
        parser.add_argument(
            "--websocket-max-frame-size",
            type=int,
            metavar="BYTES",
            help="Bytes of a WebSocket frame; more closes with 1009; 0 for no limit. Without it "
            f"the setting {' or '.join(SIZES['websocket_max_frame_size'])} counts, or there is "
            "no limit but that of messages.",
        )
        if apps.is_installed("django.contrib.staticfiles"):
            parser.add_argument(
                "--nostatic",
                action="store_false",
                dest="use_static_handler",
                help="Tells Django to NOT automatically serve static files at STATIC_URL.",
            )
            parser.add_argument(
                "--insecure",
                action="store_true",
                dest="insecure_serving",
                help="Allows serving static files even if DEBUG is False.",
            )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command."""
        if options["use_asgi"]:
            if not getattr(settings, "ASGI_APPLICATION", None):
                raise CommandError(
                    "You have not set ASGI_APPLICATION, which is needed to run the server."
                )
            _check_server_cls(self.server_cls)
            self._config = self.get_server_config(options)
        super().handle(*args, **options)

    def get_server_config(self, options: dict[str, Any]) -> ServerConfig:
        """Give how the server treats its connections, from options and settings.

        Raises:
            CommandError: one of them is no number of seconds or bytes; its name is told.
        """
        handshake_timeout = seconds("--websocket_handshake_timeout", options)
        return ServerConfig(
            request_timeout=seconds("--http_timeout", options),
            graceful_timeout=STOP_WITHIN,
            websocket_connect_timeout=math.inf if handshake_timeout is None else handshake_timeout,
            websocket_limits=websocket_limits(options),
            on_access=self._log_access,
        )

    def run(self, **options: Any) -> None:
        """Run the server, with autoreload if wanted."""
        if not options["use_reloader"] or not options["use_asgi"]:
            super().run(**options)
        elif is_child():
            with stopping_first(self._stop_server, self._hurry_server):
                super().run(**options)
        else:
            sys.exit(run_parent(STOP_WITHIN + 2 * MARGIN, kill_hurried_after=STOP_WITHIN))

    def _stop_server(self) -> None:
        if self._server is not None:
            self._server.stop()

    def _hurry_server(self) -> None:
        if self._server is not None:
            self._server.hurry()

    def inner_run(self, *args: Any, **options: Any) -> None:
        """Run the server, in the process that autoreload starts anew after a change."""
        if options["use_asgi"]:
            self.server_cls = self._make_server
            # Told to use threads, Django would derive a class of its own from `server_cls`.
            options["use_threading"] = False
        else:
            self.server_cls = RunserverCommand.server_cls
        try:
            super().inner_run(*args, **options)
        except CommandError as error:
            if not (options["use_reloader"] and is_child()):
                raise
            # Out of Django's thread it would come with a traceback; autoreload goes on.
            self.stderr.write(f"{type(error).__name__}: {error}")
            return
        # Django says this after KeyboardInterrupt, which the server takes for itself.
        if options["use_asgi"] and options.get("shutdown_message"):
            self.stdout.write(options["shutdown_message"])

    def _make_server(self, address: tuple[str, int], *_args: object, **_options: object) -> Any:
        """Make the server, where Django calls a class of its own."""
        self._server = type(self).server_cls(address, self._config)
        return self._server

    def on_bind(self, server_port: int) -> None:
        """Say what is served, and where."""
        if self._server is not None:
            self.stdout.write(
                f"Greenroom {version('greenroom')} serves {settings.ASGI_APPLICATION} "
                "over HTTP and WebSocket."
            )
        super().on_bind(server_port)

    def get_handler(self, *args: Any, **options: Any) -> Any:
        """Give what the server serves."""
        if options["use_asgi"]:
            return self.get_application(options)
        handler = super().get_handler(*args, **options)
        if _serves_static_files(options):
            from django.contrib.staticfiles.handlers import StaticFilesHandler

            return StaticFilesHandler(handler)
        return handler

    def get_application(self, options: dict[str, Any]) -> App:
        """Give the application that `ASGI_APPLICATION` names, with static files in front of it.

        Raises:
            CommandError: it can't be imported, or is none; the message tells why, after the
                traceback of the project's own code if that has raised.
        """
        module, _, name = settings.ASGI_APPLICATION.rpartition(".")
        try:
            application = load_application(f"{module}:{name}", factory=None, app_dir=None)
        except ApplicationNotLoaded as error:
            if error.__cause__ is not None:
                self.stderr.write(error.traceback())
                watch_files_of(error.__cause__)
            raise CommandError(
                f"ASGI_APPLICATION is {settings.ASGI_APPLICATION!r}, and can't be served: "
                f"{error.why}"
            ) from error
        root_path = (settings.FORCE_SCRIPT_NAME or "").rstrip("/")
        if root_path:
            application = Mounted(application, root_path)
        return StaticFiles(application) if _serves_static_files(options) else application

    def _log_access(self, access: Access) -> None:
        try:
            self.log_action(*action_of(access))
        except Exception:  # the server must not fail for a line of its log
            logger.exception("log_action() failed")

    def log_action(self, protocol: str, action: str, details: dict[str, Any]) -> None:
        """Log one line about a request or a WebSocket.

        Args:
            protocol: "http" or "websocket".
            action: "complete" of a request; of a WebSocket "connecting", then "connected"
                and "disconnected", or "rejected".
            details: `path` with its query, `client`, `status` (of a WebSocket 101, the status
                that it was rejected with, or its close code), `time_taken` in seconds, and
                the `method` of a request.
        """
        log_action(protocol, action, details)


def _serves_static_files(options: dict[str, Any]) -> bool:
    # The options exist where `django.contrib.staticfiles` is installed.
    wanted = options.get("use_static_handler", False)
    return bool(wanted and (settings.DEBUG or options.get("insecure_serving", False)))


def _check_server_cls(server_cls: Any) -> None:
    if not (isinstance(server_cls, type) and issubclass(server_cls, DevelopmentServer)):
        raise CommandError(
            f"server_cls of this runserver must be a subclass of {DevelopmentServer.__name__} in "
            f"{__name__}; it is {server_cls!r}"
        )


def seconds(option: str, options: dict[str, Any]) -> float | None:
    """Give the seconds of an option, None where there is no limit.

    Raises:
        CommandError: they are negative.
    """
    given: float | None = options[option.removeprefix("--")]
    if given is None:
        return None
    if not given >= 0:  # NaN is not, either
        raise CommandError(f"{option} must be a number of seconds, 0 or more; it is {given:g}")
    return given or None


def websocket_limits(options: dict[str, Any]) -> WebSocketLimits:
    """Give the limits of a WebSocket: those of the options, else the settings'.

    Raises:
        CommandError: one that counts is no number of bytes.
    """
    message_size = _size("websocket_max_message_size", options)
    return WebSocketLimits(
        max_message_size=DEFAULT_SIZE if message_size is None else message_size or UNLIMITED,
        max_frame_size=_size("websocket_max_frame_size", options) or None,
    )


def _size(name: str, options: dict[str, Any]) -> int | None:
    sources = {f"--{name.replace('_', '-')}": options.get(name)}
    sources.update((setting, getattr(settings, setting, None)) for setting in SIZES[name])
    for source, size in sources.items():
        if size is None:
            continue
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise CommandError(
                f"{source} must be a number of bytes, or 0 for no limit; it is {size!r}"
            )
        return size
    return None
