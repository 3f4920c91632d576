"""Cookies and Django's sessions in the scope of a connection.

Source: `channels.sessions` 4.3, and Django's `SessionMiddleware`. As in Django, and unlike
there, no row is made for a session that is empty.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from http.cookies import SimpleCookie
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.core.exceptions import SuspiciousOperation
from django.http import parse_cookie
from django.utils.encoding import force_str
from django.utils.functional import SimpleLazyObject
from django.utils.http import http_date

from ...runtime import App, Message, Receive, Scope, Send
from ...runtime.flavours import Flavour
from ..asyncio import call_app
from .db import database_sync_to_async
from .middleware import BaseMiddleware

__all__ = [
    "CookieMiddleware",
    "InstanceSessionWrapper",
    "SessionMiddleware",
    "SessionMiddlewareStack",
]


class CookieMiddleware(BaseMiddleware):
    """Put the request's cookies into the scope, as a dict under `cookies`."""

    greenroom_flavour: ClassVar[Flavour] = "both"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Pass a scope with cookies on to the inner application.

        Raises:
            ValueError: the scope has no headers.
        """
        if "headers" not in scope:
            raise ValueError(
                "CookieMiddleware was passed a scope that did not have a headers key (make sure "
                "it is only passed HTTP or WebSocket connections)"
            )
        cookies: dict[str, str] = {}
        for name, value in scope["headers"]:
            if name == b"cookie":
                cookies = parse_cookie(value.decode("latin1"))
                break
        return await call_app(self.inner, dict(scope, cookies=cookies), receive, send)

    @classmethod
    def set_cookie(
        cls,
        message: Message,
        key: str,
        value: str = "",
        max_age: float | None = None,
        expires: datetime | str | float | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool | None = False,
        httponly: bool | None = False,
        samesite: str | None = "lax",
    ) -> None:
        """Add a `Set-Cookie` header to a message that has headers.

        `max_age` is in seconds from now. `expires` is a time; a naive one is in UTC.

        Raises:
            AssertionError: `samesite` is none of "strict", "lax", "none" or None.
        """
        cookies: SimpleCookie = SimpleCookie()
        cookies[key] = force_str(value)
        cookie = cookies[key]
        if isinstance(expires, datetime):
            if expires.tzinfo is None:
                expires = expires.replace(tzinfo=UTC)
            # A second more, since the time until then was cut to whole seconds.
            remaining = expires - datetime.now(UTC)
            max_age = max(0, remaining.days * 86400 + remaining.seconds + 1)
            cookie["expires"] = http_date(max(expires.timestamp(), time.time()))
        elif expires is not None:
            cookie["expires"] = expires
        if max_age is not None:
            cookie["max-age"] = int(max_age)
            if not cookie["expires"]:
                cookie["expires"] = http_date(time.time() + max_age)
        if path is not None:
            cookie["path"] = path
        if domain is not None:
            cookie["domain"] = domain
        if secure:
            cookie["secure"] = True
        if httponly:
            cookie["httponly"] = True
        if samesite is not None:
            if samesite.lower() not in ("strict", "lax", "none"):
                raise AssertionError("samesite must be either 'strict', 'lax' or 'none'")
            cookie["samesite"] = samesite
        header = (b"Set-Cookie", cookies.output(header="").strip().encode())
        message["headers"] = [*message.get("headers", ()), header]

    @classmethod
    def delete_cookie(
        cls, message: Message, key: str, path: str | None = "/", domain: str | None = None
    ) -> None:
        """Add a `Set-Cookie` header that makes a browser forget a cookie."""
        cls.set_cookie(
            message,
            key,
            max_age=0,
            path=path,
            domain=domain,
            expires="Thu, 01-Jan-1970 00:00:00 GMT",
        )


class _Saved(NamedTuple):
    """What the cookie of a saved session needs."""

    key: str
    max_age: int | None


class InstanceSessionWrapper:
    """The session of one connection: it is in the scope, and saved when a response starts."""

    # The messages on which a changed session is saved, and those that can carry its cookie.
    save_message_types: ClassVar[list[str]] = ["http.response.start"]
    cookie_response_message_types: ClassVar[list[str]] = ["http.response.start"]

    def __init__(self, scope: Scope, send: Send) -> None:
        self.cookie_name: str = settings.SESSION_COOKIE_NAME
        self.session_store: Callable[[str | None], SessionBase] = import_module(
            settings.SESSION_ENGINE
        ).SessionStore
        self.scope = dict(scope)
        self.activated = "session" not in scope  # an outer middleware's session stays
        if self.activated:
            if "cookies" not in scope:
                raise ValueError(
                    "No cookies in scope - SessionMiddleware needs to run inside of "
                    "CookieMiddleware."
                )
            self.scope["session"] = SimpleLazyObject(self._open_session)
        self.real_send = send

    async def resolve_session(self) -> None:
        """Open the session now, instead of at its first use, as middleware of others asks for."""
        if self.activated:
            self.scope["session"] = self._open_session()

    def _open_session(self) -> SessionBase:
        return self.session_store(self.scope["cookies"].get(self.cookie_name))

    @property
    def saves(self) -> bool:
        """Whether any message of this scope's protocol can make the session be saved."""
        prefix = f"{self.scope.get('type', '')}."
        types = (*self.save_message_types, *self.cookie_response_message_types)
        return self.activated and any(name.startswith(prefix) for name in types)

    async def send(self, message: Message) -> None:
        """Send a message of the application, with the session saved and its cookie added."""
        if (
            self.activated
            and message["type"] in self.save_message_types
            and message.get("status", 200) != 500
        ):
            session = self.scope["session"]
            carries_cookie = message["type"] in self.cookie_response_message_types
            if session.modified or settings.SESSION_SAVE_EVERY_REQUEST:
                if not session.is_empty():
                    saved = await self.save_session()
                    if carries_cookie:
                        self._set_cookie(message, saved)
                elif carries_cookie and self.cookie_name in self.scope["cookies"]:
                    CookieMiddleware.delete_cookie(
                        message,
                        self.cookie_name,
                        path=settings.SESSION_COOKIE_PATH,
                        domain=settings.SESSION_COOKIE_DOMAIN,
                    )
        await self.real_send(message)

    async def save_session(self) -> _Saved:
        """Save the session, in a thread.

        Raises:
            SuspiciousOperation: the session was deleted meanwhile, as by a logout elsewhere.
        """
        saved: _Saved = await database_sync_to_async(self._save)()
        return saved

    def _save(self) -> _Saved:
        session: SessionBase = self.scope["session"]
        at_browser_close = session.get_expire_at_browser_close()
        max_age = None if at_browser_close else session.get_expiry_age()
        try:
            session.save()
        except UpdateError:
            raise SuspiciousOperation(
                "The request's session was deleted before the request completed. The user may "
                "have logged out in a concurrent request, for example."
            ) from None
        assert session.session_key is not None
        return _Saved(session.session_key, max_age)

    def _set_cookie(self, message: Message, saved: _Saved) -> None:
        CookieMiddleware.set_cookie(
            message,
            self.cookie_name,
            saved.key,
            max_age=saved.max_age,
            domain=settings.SESSION_COOKIE_DOMAIN,
            path=settings.SESSION_COOKIE_PATH,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=settings.SESSION_COOKIE_HTTPONLY,
            samesite=settings.SESSION_COOKIE_SAMESITE or None,
        )


class SessionMiddleware(BaseMiddleware):
    """Put Django's session into the scope, under `session`; needs `CookieMiddleware` outside.

    The session is loaded when it is first used. It is saved when an HTTP response
    starts; code behind a WebSocket saves what it changes itself.
    """

    greenroom_flavour: ClassVar[Flavour] = "both"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Pass a scope with a session on to the inner application.

        Raises:
            ValueError: the scope has no cookies.
        """
        wrapper = InstanceSessionWrapper(scope, send)
        # A `send` that has nothing to do is left out of the way of every message.
        through = wrapper.send if wrapper.saves else send
        return await call_app(self.inner, wrapper.scope, receive, through)


def SessionMiddlewareStack(inner: App) -> CookieMiddleware:  # noqa: N802
    """Put cookies and the session into the scope."""
    return CookieMiddleware(SessionMiddleware(inner))
