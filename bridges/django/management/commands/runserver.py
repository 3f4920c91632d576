"""`manage.py runserver`, serving `ASGI_APPLICATION` on Greenroom's server.

All else is Django's own command: its options, checks, banner and autoreload.
"""

from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands.runserver import Command as RunserverCommand
from django.utils.module_loading import import_string

from .....runtime import App
from ..._development import DevelopmentServer
from ...static import StaticFiles


class Command(RunserverCommand):
    """Django's `runserver` with another server inside.

    A subclass may override `get_application`.
    """

    help = "Starts a lightweight development server for HTTP and WebSocket."
    server_cls = DevelopmentServer  # type: ignore[assignment] # its shape, not its descendant

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the options of Django's command; `--nothreading` changes nothing here."""
        super().add_arguments(parser)
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
        super().handle(*args, **options)

    def inner_run(self, *args: Any, **options: Any) -> None:
        """Run the server, in the process that autoreload starts anew after a change."""
        # Told to use threads, Django would derive a class of its own from `server_cls`.
        super().inner_run(*args, **{**options, "use_threading": False})

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
