"""A drop-in for `django.core.asgi`: `get_asgi_application()` for Greenroom's server, and others.

```python
import os

from greenroom.bridges.django.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
application = get_asgi_application()
```

Which of Django's two chains answers a request is decided by its view: a synchronous one
is answered within one thread, see `_sync_handler.py`; an asynchronous one by Django's own
handler on the asyncio loop. Both answer both correctly, so where the path does not tell,
as with a urlconf that a middleware chooses, nothing but time is lost.
"""

from collections.abc import Iterable
from functools import cached_property, lru_cache
from typing import Any, cast, final

import django
from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.handlers.asgi import get_script_prefix
from django.urls import Resolver404, URLPattern, URLResolver, get_resolver
from django.utils import translation

from ...runtime import App, Receive, Scope, Send
from ..asyncio import call_app
from ._async_handler import AsyncHandler
from ._sync_handler import SyncChain, SyncHandler


def get_asgi_application() -> "DjangoHandler":
    """Set Django up, and give its pages as one ASGI application.

    It may be awaited under trio and under asyncio, so it runs on any ASGI server.
    Middleware is instantiated once for each kind of view that is asked for.
    """
    django.setup(set_prefix=False)
    return DjangoHandler()


@final
class DjangoHandler:
    """Django as an ASGI application; made by `get_asgi_application`."""

    greenroom_flavour = "both"

    def __init__(self) -> None:
        self._sync = SyncHandler(SyncChain())

    @cached_property
    def _async(self) -> App:
        return cast("App", AsyncHandler())

    # Its result is typed as Any because Django's `path()` says that it takes views only.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Answer one HTTP request.

        Raises:
            ValueError: `scope` is of another protocol.
        """
        if scope["type"] != "http":
            raise ValueError(f"Django can only handle ASGI/HTTP connections, not {scope['type']}.")
        if _leads_to_async_view(scope):
            await call_app(self._async, scope, receive, send)
        else:
            await self._sync(scope, receive, send)


def _leads_to_async_view(scope: Scope) -> bool:
    try:
        if not _has_async_views(settings.ROOT_URLCONF):
            return False
        return iscoroutinefunction(_find_view(scope))
    except Exception:  # noqa: BLE001 -- the chain meets it again, and answers with Django's page
        return False


@lru_cache
def _has_async_views(urlconf: Any) -> bool:
    """Tell whether any view of `urlconf` is async; most projects need not look at each path."""
    return _any_async(get_resolver(urlconf).url_patterns)


def _any_async(patterns: Iterable[URLPattern | URLResolver]) -> bool:
    return any(
        _any_async(each.url_patterns)
        if isinstance(each, URLResolver)
        else iscoroutinefunction(each.callback)
        for each in patterns
    )


def _find_view(scope: Scope) -> object:
    path = scope["path"].removeprefix(get_script_prefix(scope))
    resolver = get_resolver(settings.ROOT_URLCONF)
    try:
        return resolver.resolve(path).func
    except Resolver404:
        # `i18n_patterns` match only in the language that a middleware would activate.
        language = translation.get_language_from_path(path)
        if language is None:
            raise
        with translation.override(language):
            return resolver.resolve(path).func
