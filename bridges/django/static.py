"""Static files in development, found as `django.contrib.staticfiles` finds them.

For production let a web server or a storage do it, as Django's documentation says.
"""

from typing import cast, final
from urllib.parse import urlparse

from django.contrib.staticfiles.handlers import StaticFilesHandlerMixin
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest, HttpResponseBase

from ...runtime import App, Receive, Scope, Send
from ...runtime.restarting import carry_mark
from ..asyncio import call_app
from ._sync_handler import SyncChain, SyncHandler


@final
class StaticFiles:
    """An ASGI application that serves what is below `STATIC_URL`, and leaves the rest to another.

    May be awaited under trio and under asyncio; `application` may be of either.
    """

    greenroom_flavour = "both"

    def __init__(self, application: App) -> None:
        self.application = application
        self._files = _FilesChain()
        self._handler = SyncHandler(self._files)
        carry_mark(application, self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a static file, or pass the scope on."""
        if scope["type"] == "http" and self._files._should_handle(scope["path"]):
            await self._handler(scope, receive, send)
        else:
            await call_app(self.application, scope, receive, send)


@final
class _FilesChain(StaticFilesHandlerMixin, SyncChain):  # type: ignore[misc]  # Django's two differ
    """Answers every request with a static file, or with 404, without any middleware."""

    def __init__(self) -> None:
        self.base_url = urlparse(self.get_base_url())
        # A path that leads outside is answered with 400; Django's own would let it crash.
        self._serve = convert_exception_to_response(self.serve)

    def get_response(self, request: HttpRequest) -> HttpResponseBase:
        """Find the file that `request` names."""
        return cast("HttpResponseBase", self._serve(request))
