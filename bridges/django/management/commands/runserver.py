"""`manage.py runserver`, serving `ASGI_APPLICATION` on Greenroom's server.

All else is Django's own command: its options, checks, banner and autoreload. The server
stops gracefully before its process ends, also when a file has changed.
"""

import sys
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands.runserver import Command as RunserverCommand
from django.utils.module_loading import import_string

from .....runtime import App, WebSocketLimits
from ..._autoreload import is_child, run_parent, stopping_first
from ..._development import MARGIN, STOP_WITHIN, DevelopmentServer
from ...static import StaticFiles

SIZE_OPTION: Final = "--websocket-max-message-size"
# The second is daphne's: a project that comes from there keeps its limit.
SIZE_SETTINGS: Final = (
    "GREENROOM_WEBSOCKET_MAX_MESSAGE_SIZE",
    "DAPHNE_WEBSOCKET_MAX_MESSAGE_SIZE",
)
DEFAULT_SIZE: Final = WebSocketLimits().max_message_size


class Command(RunserverCommand):
    """Django's `runserver` with another server inside.

    A subclass may override `get_application`.
    """

    help = "Starts a lightweight development server for HTTP and WebSocket."
    _websocket_limits = WebSocketLimits()
    _server: DevelopmentServer | None = None

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the options of Django's command; `--nothreading` changes nothing here."""
        super().add_arguments(parser)
        parser.add_argument(
            SIZE_OPTION,
            type=int,
            metavar="BYTES",
            help="Bytes of a WebSocket message; more closes with 1009. Without it the setting "
            f"{SIZE_SETTINGS[0]} counts, or {SIZE_SETTINGS[1]}, or {DEFAULT_SIZE}.",
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
        if not getattr(settings, "ASGI_APPLICATION", None):
            raise CommandError(
                "You have not set ASGI_APPLICATION, which is needed to run the server."
            )
        self._websocket_limits = websocket_limits(options["websocket_max_message_size"])
        super().handle(*args, **options)

    def run(self, **options: Any) -> None:
        """Run the server, with autoreload if wanted."""
        if not options["use_reloader"]:
            super().run(**options)
        elif is_child():
            with stopping_first(self._stop_server):
                super().run(**options)
        else:
            sys.exit(run_parent(kill_after=STOP_WITHIN + 2 * MARGIN))

    def _stop_server(self) -> None:
        if self._server is not None:
            self._server.stop()

    def inner_run(self, *args: Any, **options: Any) -> None:
        """Run the server, in the process that autoreload starts anew after a change."""
        # Told to use threads, Django would derive a class of its own from `server_cls`.
        super().inner_run(*args, **{**options, "use_threading": False})

    def server_cls(  # type: ignore[override] # Django only calls it
        self, address: tuple[str, int], *_args: object, **_options: object
    ) -> DevelopmentServer:
        """Make the server, as Django does of its own class."""
        self._server = DevelopmentServer(address, self._websocket_limits)
        return self._server

    def get_handler(self, *_args: Any, **options: Any) -> Any:
        """Give the application to serve, with static files in front where they are wanted."""
        application = self.get_application(options)
        if options.get("use_static_handler") and (settings.DEBUG or options["insecure_serving"]):
            return StaticFiles(application)
        return application

    def get_application(self, _options: dict[str, Any]) -> App:
        """Import the application that `ASGI_APPLICATION` names."""
        try:
            application: App = import_string(settings.ASGI_APPLICATION)
        except ImportError as error:
            raise ImproperlyConfigured(
                f"ASGI_APPLICATION is {settings.ASGI_APPLICATION!r}, and that can't be "
                f"imported: {error}"
            ) from error
        return application


def websocket_limits(given: int | None) -> WebSocketLimits:
    """Give the limits of a WebSocket: those `given` with the option, else the settings'.

    Raises:
        CommandError: the one that counts is no number of bytes.
    """
    sources = {SIZE_OPTION: given}
    sources.update((name, getattr(settings, name, None)) for name in SIZE_SETTINGS)
    for name, size in sources.items():
        if size is None:
            continue
        if not isinstance(size, int) or size < 1:
            raise CommandError(f"{name} must be a number of bytes, 1 or more; it is {size!r}")
        return WebSocketLimits(max_message_size=size)
    return WebSocketLimits()
