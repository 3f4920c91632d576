"""Which application serves a connection: by its protocol, its path, or its channel's name.

Routers only pass a connection on, so they may be awaited under trio as under asyncio.

Source: `channels.routing` 4.3 and Django's URL patterns. Unlike there, a WebSocket whose
path has no route is answered with HTTP 404 where the server can do that, instead of
an error with a traceback for every stray client.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar, TypeAlias

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.urls.exceptions import Resolver404
from django.urls.resolvers import (
    LocalePrefixPattern,
    RegexPattern,
    RoutePattern,
    URLPattern,
    URLResolver,
)

from ...runtime import App, Receive, Scope, Send
from ...runtime.flavours import Flavour
from ..asyncio import call_app
from ._refusal import answer_lifespan, is_refusable, refuse

__all__ = ["ChannelNameRouter", "ProtocolTypeRouter", "URLRouter", "get_default_application"]

Pattern: TypeAlias = RoutePattern | RegexPattern | LocalePrefixPattern


def get_default_application() -> App:
    """Give the application that `settings.ASGI_APPLICATION` names.

    Raises:
        ImproperlyConfigured: there is no such setting, or no such application.
    """
    try:
        path, name = settings.ASGI_APPLICATION.rsplit(".", 1)
    except (AttributeError, ValueError):
        raise ImproperlyConfigured("Cannot find ASGI_APPLICATION setting.") from None
    try:
        module = import_module(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"Cannot import ASGI_APPLICATION module {path!r}") from error
    try:
        application: App = getattr(module, name)
    except AttributeError:
        raise ImproperlyConfigured(
            f"Cannot find {name!r} in ASGI_APPLICATION module {path}"
        ) from None
    return application


class ProtocolTypeRouter:
    """Route by the scope's `type`: `{"http": ..., "websocket": ..., "telegram": ...}`."""

    greenroom_flavour: ClassVar[Flavour] = "both"

    def __init__(self, application_mapping: Mapping[str, App]) -> None:
        self.application_mapping = application_mapping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Pass the connection on.

        What has no application is refused, as a path without a route is; the lifespan of a
        server is then answered here.

        Raises:
            ValueError: no application is mapped to this type, and it is no server's.
        """
        protocol = scope["type"]
        application = self.application_mapping.get(protocol)
        if application is not None:
            return await call_app(application, scope, receive, send)
        error = f"No application configured for scope type {protocol!r}"
        if "asgi" in scope and protocol == "lifespan":
            return await answer_lifespan(receive, send)
        if is_refusable(scope):
            return await refuse(error, scope, receive, send)
        raise ValueError(error)


class ChannelNameRouter:
    """Route scopes of type `channel`, those of workers, by the name of their channel."""

    greenroom_flavour: ClassVar[Flavour] = "both"

    def __init__(self, application_mapping: Mapping[str, App]) -> None:
        self.application_mapping = application_mapping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Pass the scope on.

        Raises:
            ValueError: the scope has no channel, or no application is mapped to it.
        """
        if "channel" not in scope:
            raise ValueError(
                "ChannelNameRouter got a scope without a 'channel' key. Did you make sure it's "
                "only being used for 'channel' type messages?"
            )
        application = self.application_mapping.get(scope["channel"])
        if application is None:
            raise ValueError(f"No application configured for channel name {scope['channel']!r}")
        return await call_app(application, scope, receive, send)


class URLRouter:
    """Route by path, with Django's `path()` and `re_path()`; the first match counts.

    The application gets a copy of the scope with `url_route`, a dict of the `args` and
    `kwargs` that the patterns captured. Routers nest: an inner one matches what the outer
    one's pattern left over.

    Raises:
        ImproperlyConfigured: a route is an `include()`.
        ValueError: a nested router stands behind a pattern that cannot be a prefix.
    """

    greenroom_flavour: ClassVar[Flavour] = "both"
    _path_routing = True

    def __init__(self, routes: Sequence[URLPattern | URLResolver]) -> None:
        self.routes: Sequence[Any] = routes
        self._patterns = {route: _pattern_of(route) for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Pass the connection on to the first route that matches.

        Where none does the client gets 404, or 403 for a WebSocket of a server that can't
        deny one with a response; a warning in the log names the path.

        Raises:
            Resolver404: none does, and an outer router may have another route.
            ValueError: none does, and it is no server's scope; or it has no path.
        """
        nested = "path_remaining" in scope
        path = scope["path_remaining"] if nested else scope.get("path")
        if path is None:
            raise ValueError("No 'path' key in connection scope, cannot route URLs")
        root = "" if nested else scope.get("root_path", "")
        if root and not path.startswith(root):
            return await self._find_nothing(path, scope, receive, send)
        path = path.removeprefix(root).lstrip("/")
        outer = scope.get("url_route", {})
        for route in self.routes:
            pattern = self._patterns.get(route)
            if pattern is None:  # it was added to the list afterwards
                pattern = self._patterns[route] = _pattern_of(route)
            match = pattern.match(path)
            if not match:
                continue
            rest, args, kwargs = match
            url_route = {
                "args": (*outer.get("args", ()), *args),
                "kwargs": {**outer.get("kwargs", {}), **kwargs, **route.default_args},
            }
            inner = dict(scope, path_remaining=rest, url_route=url_route)
            try:
                return await call_app(route.callback, inner, receive, send)
            except Resolver404:
                continue  # nothing below that route matched
        if nested:
            raise Resolver404({"path": path})
        return await self._find_nothing(path, scope, receive, send)

    async def _find_nothing(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        error = f"No route found for path {path!r}."
        if not is_refusable(scope):
            raise ValueError(error)
        await refuse(error, scope, receive, send)


def _pattern_of(route: URLPattern | URLResolver) -> Pattern:
    """Give the pattern that a path has to match: one of its beginning, before a router."""
    if isinstance(route, URLResolver):
        raise ImproperlyConfigured(
            f"{route}: include() is not supported in URLRouter. Use nested URLRouter "
            "instances instead."
        )
    pattern: Pattern = route.pattern
    if getattr(route.callback, "_path_routing", False) is not True:
        return pattern
    # Not the text of the pattern: it may be a translation, in the language of the moment.
    for kind, attribute in ((RoutePattern, "_route"), (RegexPattern, "_regex")):
        if isinstance(pattern, kind):
            return type(pattern)(getattr(pattern, attribute), pattern.name, is_endpoint=False)
    raise ValueError(f"{route}: a URLRouter cannot stand behind a {type(pattern).__name__}")
