"""A test case with the project's server behind it, for browsers and other real clients."""

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

from django.test import TransactionTestCase, modify_settings
from django.utils.functional import classproperty

from ....runtime import App
from ...django.static import StaticFiles
from ..routing import get_default_application
from ._live_server import LiveServer

__all__ = ["ChannelsLiveServerTestCase"]


class ChannelsLiveServerTestCase(TransactionTestCase):
    """A `TransactionTestCase` during which the project is served on a free port.

    ```python
    class ChatTests(ChannelsLiveServerTestCase):
        def test_two_browsers(self):
            self.driver.get(self.live_server_url + "/chat/lobby/")
    ```

    The server is Greenroom's, in a thread of this process, for all tests of a class. So
    errors of the project's start fail the class by themselves, nothing is pickled, mocks and
    overridden settings apply to it, and databases in memory work: all of them are shared, as
    in Django's own `LiveServerTestCase`.

    At the end of the class it stops, within a few seconds: WebSockets that are left open are
    closed with code 1012, and a handler that does not end is named by a `RuntimeError`.

    Attributes:
        live_server_url: where the pages are, such as "http://localhost:40123", without a slash
            at the end.
        live_server_ws_url: where the WebSockets are: the same with "ws://".
        host: the name under which the server is reached, "localhost"; added to `ALLOWED_HOSTS`.
        serve_static: whether static files are found and served as by `runserver`: True.
        static_wrapper: what serves them: it is called with the application and gives another.
        ProtocolServerProcess: ignored, with a warning where it is set: there is no process to
            choose a class for.
    """

    host = "localhost"
    serve_static = True
    static_wrapper: ClassVar[Callable[[Any], Any]] = StaticFiles
    ProtocolServerProcess: ClassVar[Any] = None

    _live_server: ClassVar[LiveServer]

    @classproperty
    def live_server_url(cls) -> str:  # noqa: N805
        """Where the pages are, without a slash at the end."""
        return cls._live_server.url

    @classproperty
    def live_server_ws_url(cls) -> str:  # noqa: N805
        """Where the WebSockets are, without a slash at the end."""
        return cls._live_server.ws_url

    @classproperty
    def _port(cls) -> int:  # noqa: N805
        return cls._live_server.port

    @classmethod
    def get_application(cls) -> App:
        """Give the application that is served: that of `settings.ASGI_APPLICATION`.

        Raises:
            ImproperlyConfigured: there is none; the text tells why.
        """
        return get_default_application()

    @classmethod
    def setUpClass(cls) -> None:
        """Start the server, for all tests of the class.

        Raises:
            Exception: what the project has raised while it started.
            ImproperlyConfigured: there is no application; the text tells why.
            TypeError: `get_application` gave something that is none, or `static_wrapper` did.
            OSError: `host` is no address of this machine.
            RuntimeError: the application's lifespan has not said within a minute that it has
                started.
        """
        super().setUpClass()
        if cls.ProtocolServerProcess is not None:
            warnings.warn(
                f"{cls.__qualname__}.ProtocolServerProcess is ignored: the server runs in a "
                "thread of the test process. Override get_application() to serve something else, "
                "and setUpClass() to prepare it.",
                stacklevel=2,
            )
        allowed = modify_settings(ALLOWED_HOSTS={"append": cls.host})
        allowed.enable()
        cls.addClassCleanup(allowed.disable)
        application = cls._callable("get_application()", cls.get_application())
        if cls.serve_static and cls.static_wrapper is not None:
            application = cls._callable("static_wrapper", cls.static_wrapper(application))
        server = LiveServer(application, cls.host)
        server.start()
        cls._live_server = server
        cls.addClassCleanup(server.stop)

    @classmethod
    def _callable(cls, source: str, application: Any) -> App:
        if callable(application):
            return application  # type: ignore[no-any-return]
        hint = "; has it no `return`?" if application is None else ""
        raise TypeError(
            f"{cls.__qualname__}.{source} must give an ASGI application, such as "
            f"`ProtocolTypeRouter(...)`, and gave {application!r}{hint}"
        )
