"""Django's users in the scope of a connection: who it is, logging in and out.

The work is done in a thread, since it reads the session and the user from a database.

Source: `channels.auth` 4.3, and `django.contrib.auth`. As in Django, and unlike there, a
session made under an older secret key of `SECRET_KEY_FALLBACKS` is still good.
"""

from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
    load_backend,
    user_logged_in,
    user_logged_out,
)
from django.utils.crypto import constant_time_compare
from django.utils.functional import LazyObject

from ...runtime import App, Receive, Scope, Send
from ...runtime.flavours import Flavour
from ..asyncio import call_app
from ._ended_sessions import tell_ended
from .db import database_sync_to_async
from .middleware import BaseMiddleware
from .sessions import CookieMiddleware, SessionMiddleware

__all__ = [
    "AuthMiddleware",
    "AuthMiddlewareStack",
    "UserLazyObject",
    "get_user",
    "login",
    "logout",
]


async def get_user(scope: Scope) -> Any:
    """Give the user of the scope's session, or an `AnonymousUser`.

    A session whose user has changed the password since is emptied.

    Raises:
        ValueError: the scope has no session.
    """
    if "session" not in scope:
        raise ValueError(
            "Cannot find session in scope. You should wrap your consumer in SessionMiddleware."
        )
    session = scope["session"]
    if getattr(session, "session_key", "") is None and SESSION_KEY not in session:
        return _anonymous()  # the client has no session: there is nothing to look up
    return await database_sync_to_async(load_user)(session)


def load_user(session: Any) -> Any:
    """Give the user of a session, or an `AnonymousUser`; in a thread that may wait."""
    try:
        user_id = _get_user_session_key(session)
        backend_path = session[BACKEND_SESSION_KEY]
    except KeyError:
        return _anonymous()
    if backend_path not in settings.AUTHENTICATION_BACKENDS:
        return _anonymous()
    user = load_backend(backend_path).get_user(user_id)
    if user is None:
        return _anonymous()
    if hasattr(user, "get_session_auth_hash") and not _hash_is_good(session, user):
        session.flush()
        return _anonymous()
    return user


def _hash_is_good(session: Any, user: Any) -> bool:
    session_hash = session.get(HASH_SESSION_KEY)
    if not session_hash:
        return False
    if constant_time_compare(session_hash, user.get_session_auth_hash()):
        return True
    fallbacks = getattr(user, "get_session_auth_fallback_hash", tuple)
    return any(constant_time_compare(session_hash, older) for older in fallbacks())


def _anonymous() -> Any:
    # Imported late: Django's models cannot be imported before its apps are ready.
    from django.contrib.auth.models import AnonymousUser

    return AnonymousUser()


async def login(scope: Scope, user: Any, backend: str | None = None) -> None:
    """Log `user` in: note it in the session and put it into `scope["user"]`.

    Save the session afterwards, unless an HTTP response follows that does.

    Args:
        scope: of the connection; it needs a session.
        user: the user, or None for the one in the scope.
        backend: dotted path of the authentication backend, where the settings have several.

    Raises:
        ValueError: no session, no user, or several backends and none was chosen.
    """
    if "session" not in scope:
        raise ValueError(
            "Cannot find session in scope. You should wrap your consumer in SessionMiddleware."
        )
    await database_sync_to_async(_login)(scope, user, backend)


def _login(scope: Scope, user: Any, backend: str | None) -> None:
    session = scope["session"]
    if user is None:
        user = scope.get("user")
    if user is None:
        raise ValueError("User must be passed as an argument or must be present in the scope.")
    session_hash = user.get_session_auth_hash() if hasattr(user, "get_session_auth_hash") else ""
    if SESSION_KEY in session:
        same_user = _get_user_session_key(session) == user.pk
        if not same_user or (
            session_hash
            and not constant_time_compare(session.get(HASH_SESSION_KEY, ""), session_hash)
        ):
            session.flush()  # nobody shall see what another user did in this session
    else:
        session.cycle_key()  # a session fixed by somebody before the login is worth nothing
    backend = _choose_backend(user, backend)
    session[SESSION_KEY] = user._meta.pk.value_to_string(user)
    session[BACKEND_SESSION_KEY] = backend
    session[HASH_SESSION_KEY] = session_hash
    scope["user"] = user
    user_logged_in.send(sender=user.__class__, request=None, user=user)


def _choose_backend(user: Any, backend: str | None) -> str:
    chosen: str | None = backend or getattr(user, "backend", None)
    if chosen is not None:
        return chosen
    backends: list[str] = settings.AUTHENTICATION_BACKENDS
    if len(backends) != 1:
        raise ValueError(
            "You have multiple authentication backends configured and therefore must provide "
            "the `backend` argument or set the `backend` attribute on the user."
        )
    return backends[0]


async def logout(scope: Scope) -> None:
    """Log the user of the scope's session out, and empty the session.

    Raises:
        ValueError: the scope has no session.
    """
    if "session" not in scope:
        raise ValueError(
            "Login cannot find session in scope. You should wrap your consumer in "
            "SessionMiddleware."
        )
    await database_sync_to_async(_logout)(scope)


def _logout(scope: Scope) -> None:
    user = scope.get("user")
    if user is not None and getattr(user, "is_authenticated", True):
        user_logged_out.send(sender=user.__class__, request=None, user=user)
    session = scope["session"]
    key = getattr(session, "session_key", None)
    session.flush()
    tell_ended(key, by=session)
    if "user" in scope:
        scope["user"] = _anonymous()


def _get_user_session_key(session: Any) -> Any:
    """Give the primary key of the session's user, as a value of its type."""
    return get_user_model()._meta.pk.to_python(session[SESSION_KEY])


class UserLazyObject(LazyObject):  # type: ignore[type-arg]  # not subscriptable at run time
    """The user of a scope before it has been looked up: using it is an error."""

    def _setup(self) -> None:
        raise ValueError("Accessing scope user before it is ready.")


class AuthMiddleware(BaseMiddleware):
    """Put the session's user into the scope, under `user`; needs `SessionMiddleware` outside."""

    greenroom_flavour: ClassVar[Flavour] = "both"

    def populate_scope(self, scope: Scope) -> None:
        """Put a user into the scope that `resolve_scope` will look up.

        Raises:
            ValueError: the scope has no session.
        """
        if "session" not in scope:
            raise ValueError(
                "AuthMiddleware cannot find session in scope. SessionMiddleware must be above it."
            )
        if "user" not in scope:
            scope["user"] = UserLazyObject()

    async def resolve_scope(self, scope: Scope) -> None:
        """Look the user up, so that code which must not wait can use it."""
        if isinstance(scope["user"], UserLazyObject):
            scope["user"]._wrapped = await get_user(scope)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Pass a scope with a user on to the inner application."""
        scope = dict(scope)
        self.populate_scope(scope)
        await self.resolve_scope(scope)
        return await call_app(self.inner, scope, receive, send)


def AuthMiddlewareStack(inner: App) -> CookieMiddleware:  # noqa: N802
    """Put cookies, the session and the user into the scope."""
    return CookieMiddleware(SessionMiddleware(AuthMiddleware(inner)))
