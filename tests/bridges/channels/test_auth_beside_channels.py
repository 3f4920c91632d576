"""Users in the scope, beside those of Channels: each state of a session, and what is done to it."""

import asyncio
from collections.abc import Iterator
from itertools import product
from typing import Any, Final

import channels.auth
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    user_logged_in,
    user_logged_out,
)
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.db import connections
from django.test import override_settings

from greenroom.bridges.channels import auth

BOTH: Final[tuple[Any, Any]] = (channels.auth, auth)
BACKEND: Final = "django.contrib.auth.backends.ModelBackend"
OTHER: Final = "django.contrib.auth.backends.AllowAllUsersModelBackend"

STATES: Final = [
    "no session",
    "empty",
    "cart",
    "ada",
    "bob",
    "bad hash",
    "no hash",
    "other backend",
    "gone",
]


@pytest.fixture
def users(database: None) -> dict[str, User]:
    return {name: User.objects.create_user(name, password=name) for name in ("ada", "bob")}


@pytest.fixture
def told() -> Iterator[list[Any]]:
    told: list[Any] = []

    def logged_in(sender: Any, request: Any, user: Any, **_: Any) -> None:
        told.append(("in", sender, request, str(user)))

    def logged_out(sender: Any, request: Any, user: Any, **_: Any) -> None:
        told.append(("out", sender, request, str(user)))

    user_logged_in.connect(logged_in)
    user_logged_out.connect(logged_out)
    yield told
    user_logged_in.disconnect(logged_in)
    user_logged_out.disconnect(logged_out)


def open_session(state: str, users: dict[str, User]) -> SessionStore:
    session = SessionStore()
    if state != "empty":
        session["cart"] = 1
        if state != "cart":
            user = users["bob" if state == "bob" else "ada"]
            session[SESSION_KEY] = "9999" if state == "gone" else str(user.pk)
            session[BACKEND_SESSION_KEY] = OTHER if state == "other backend" else BACKEND
            if state != "no hash":
                good = user.get_session_auth_hash()
                session[HASH_SESSION_KEY] = "bad" if state == "bad hash" else good
        session.save()
    return session


def outcome(module: Any, users: dict[str, User], told: list[Any], state: str, action: Any) -> Any:
    """Do it, and give all that somebody may see of it."""
    scope: dict[str, Any] = {"type": "websocket"}
    key = None
    if state != "no session":
        scope["session"] = open_session(state, users)
        key = scope["session"].session_key
    name, user, backend, in_scope = action
    if in_scope is not None:
        scope["user"] = users[in_scope] if in_scope in users else AnonymousUser()
    del told[:]
    result: Any

    async def main() -> Any:
        arguments = {
            "get_user": (scope,),
            "login": (scope, users.get(user), backend),
            "logout": (scope,),
        }[name]
        try:
            return await getattr(module, name)(*arguments)
        finally:
            await sync_to_async(connections.close_all)()

    try:
        result = asyncio.run(main())
        result = (type(result), str(result))
    except Exception as error:  # noqa: BLE001
        result = (type(error), str(error))
    session = scope.get("session")
    seen: Any = None
    if session is not None:
        new = session.session_key
        seen = (
            "same" if new == key else "none" if new is None else "new",
            dict(session.items()),
            session.modified,
            key is not None and session.exists(key),
        )
    return result, str(scope.get("user", "nobody")), type(scope.get("user")), seen, list(told)


ACTIONS: Final = [
    ("get_user", None, None, None),
    *product(["login"], ["ada", "bob", None], [None, OTHER], [None, "ada", "anonymous"]),
    *product(["logout"], [None], [None], [None, "ada", "anonymous"]),
]


@pytest.mark.parametrize("backends", [[BACKEND], [BACKEND, OTHER]])
@pytest.mark.parametrize("state", STATES)
def test_users_are_found_logged_in_and_out_as_by_channels(
    users: dict[str, User], told: list[Any], state: str, backends: list[str]
) -> None:
    with override_settings(AUTHENTICATION_BACKENDS=backends):
        for action in ACTIONS:
            theirs, ours = (outcome(module, users, told, state, action) for module in BOTH)
            assert theirs == ours, action


class Recorded:
    """An application that tells what is in its scope."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append((str(scope["user"]), scope["user"].is_authenticated, sorted(scope)))


@pytest.mark.parametrize("given", [None, "plain", "lazy", "nested"])
@pytest.mark.parametrize("override", [None, "resolve", "resolve after", "populate"])
@pytest.mark.parametrize("state", ["no session", "cart", "ada"])
def test_middleware_fills_the_scope_as_that_of_channels(
    users: dict[str, User], given: str | None, override: str | None, state: str
) -> None:
    def visit(module: Any) -> Any:
        base: Any = module.AuthMiddleware

        class Resolves(base):  # type: ignore[misc]
            async def resolve_scope(self, scope: Any) -> None:
                if override == "resolve after":
                    await super().resolve_scope(scope)
                    scope["extra"] = str(scope["user"])
                else:
                    scope["user"]._wrapped = users["bob"]

        class Populates(base):  # type: ignore[misc]
            def populate_scope(self, scope: Any) -> None:
                super().populate_scope(scope)
                scope["populated"] = True

        chosen = {None: base, "populate": Populates}.get(override, Resolves)
        inner = Recorded()
        scope: dict[str, Any] = {"type": "websocket"}
        if state != "no session":
            scope["session"] = open_session(state, users)
        app = chosen(inner)
        if given == "plain":
            scope["user"] = users["ada"]
        elif given == "lazy":
            scope["user"] = module.UserLazyObject()
        elif given == "nested":
            app = base(app)
        before = set(scope)
        try:
            asyncio.run(run(app, scope))
        except Exception as error:  # noqa: BLE001
            return type(error), str(error)
        assert set(scope) == before  # a copy was passed on
        return inner.seen

    async def run(app: Any, scope: Any) -> None:
        try:
            await app(scope, None, None)
        finally:
            await sync_to_async(connections.close_all)()

    theirs, ours = (visit(module) for module in BOTH)
    assert theirs == ours
