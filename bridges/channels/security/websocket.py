"""Which pages may open a WebSocket here: the check of the `Origin` header.

Browsers let a page of any site open a WebSocket to any other, and send that site's
cookies along. The `Origin` header tells where the page came from.

Source: RFC 6455 section 10.2, and the patterns of Django's `ALLOWED_HOSTS`.
"""

from collections.abc import Iterable
from typing import Any, ClassVar
from urllib.parse import ParseResult, urlparse

from django.conf import settings
from django.utils.http import is_same_domain

from ....runtime import App, Receive, Scope, Send
from ....runtime.flavours import Flavour
from ...asyncio import call_app
from ..generic.websocket import AsyncWebsocketConsumer

__all__ = ["AllowedHostsOriginValidator", "OriginValidator", "WebsocketDenier"]

DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


class OriginValidator:
    """Refuse WebSockets from pages of other sites than `allowed_origins`.

    A pattern is `*` for any page, `example.com` for one host, `.example.com` for a domain
    with what is below it, or `https://example.com:8443` with scheme and port, which then
    have to be the same; 80 and 443 need not be written out. A connection without `Origin`,
    which no browser makes, passes only if `*` is allowed.
    """

    greenroom_flavour: ClassVar[Flavour] = "both"

    def __init__(self, application: App, allowed_origins: Iterable[str]) -> None:
        self.application = application
        self.allowed_origins = allowed_origins

    @property
    def _path_routing(self) -> bool:
        return getattr(self.application, "_path_routing", False) is True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Pass the connection on, or refuse it; the client then sees HTTP 403.

        Raises:
            ValueError: the scope is no WebSocket's.
        """
        if scope["type"] != "websocket":
            raise ValueError("You cannot use OriginValidator on a non-WebSocket connection")
        origin = None
        for name, value in scope.get("headers", ()):
            if name == b"origin":
                try:
                    origin = urlparse(value.decode("latin1"))
                except ValueError:  # such as "http://[": it came from no page
                    origin = urlparse("null")
        application = self.application if self.valid_origin(origin) else WebsocketDenier.as_asgi()
        return await call_app(application, scope, receive, send)

    def valid_origin(self, parsed_origin: ParseResult | None) -> bool:
        """Tell whether a page from there may connect; None is a missing header."""
        if parsed_origin is None and "*" not in self.allowed_origins:
            return False
        return self.validate_origin(parsed_origin)

    def validate_origin(self, parsed_origin: ParseResult | None) -> bool:
        """Tell whether any of the allowed origins matches."""
        return any(
            pattern == "*" or self.match_allowed_origin(parsed_origin, pattern)
            for pattern in self.allowed_origins
        )

    def match_allowed_origin(self, parsed_origin: ParseResult | None, pattern: str) -> bool:
        """Tell whether one allowed origin matches."""
        if parsed_origin is None:
            return False
        try:
            return self._matches(parsed_origin, pattern.lower())
        except ValueError:  # a port that is no number, or half a bracket: no page's origin
            return False

    def _matches(self, origin: ParseResult, pattern: str) -> bool:
        wanted = urlparse(pattern)
        if not wanted.scheme:
            # A bare host is no URL: without "//" it would be parsed as a path.
            host = urlparse(f"//{pattern}").hostname or pattern
            return origin.hostname is not None and is_same_domain(origin.hostname, host)
        return (
            origin.hostname is not None
            and wanted.hostname is not None
            and origin.scheme == wanted.scheme
            and self.get_origin_port(origin) == self.get_origin_port(wanted)
            and is_same_domain(origin.hostname, wanted.hostname)
        )

    def get_origin_port(self, origin: ParseResult) -> int | None:
        """Give the port of an origin: the one it names, or its scheme's.

        Raises:
            ValueError: what it names is no port.
        """
        return origin.port if origin.port is not None else DEFAULT_PORTS.get(origin.scheme)


def AllowedHostsOriginValidator(application: App) -> OriginValidator:  # noqa: N802
    """Refuse WebSockets from pages of other hosts than `settings.ALLOWED_HOSTS`.

    With DEBUG and an empty list, pages of this machine may connect. The setting is read
    once, here.
    """
    allowed_hosts = settings.ALLOWED_HOSTS
    if settings.DEBUG and not allowed_hosts:
        allowed_hosts = ["localhost", "127.0.0.1", "[::1]"]
    return OriginValidator(application, allowed_hosts)


class WebsocketDenier(AsyncWebsocketConsumer):
    """Refuses every WebSocket."""

    greenroom_flavour: ClassVar[Flavour] = "both"
    channel_layer_alias = ""

    async def connect(self) -> None:
        """Close before accepting: the client sees HTTP 403."""
        await self.close()
