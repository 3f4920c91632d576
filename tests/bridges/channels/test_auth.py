"""Tests of users in the scope: who it is, logging in and out."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.contrib.sessions.backends.db import SessionStore
from django.test import override_settings
from tests.bridges.channels.serving import exchange, exchange_in_trio, query

from greenroom.bridges.channels.auth import (
    AuthMiddleware,
    AuthMiddlewareStack,
    UserLazyObject,
    get_user,
    login,
    logout,
)

BACKEND = "django.contrib.auth.backends.ModelBackend"


@pytest.fixture
def ada(database: None) -> User:
    return User.objects.create_user("ada", password="secret")


@pytest.fixture
def bob(database: None) -> User:
    return User.objects.create_user("bob", password="secret")


def session_of(user: User) -> SessionStore:
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = BACKEND
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return session


def user_in(session: Any) -> Any:
    return async_to_sync(get_user)({"session": session})


def test_user_of_the_session_is_found(ada: User) -> None:
    assert user_in(session_of(ada)) == ada
    assert asyncio.run(get_user({"session": session_of(ada)})) == ada


async def test_user_of_the_session_is_found_from_a_trio_task(database: None) -> None:
    ada = await query(lambda: User.objects.create_user("ada"))
    session = await query(session_of, ada)
    assert await get_user({"session": session}) == ada


def test_nobody_is_found_without_a_session_of_a_user(ada: User) -> None:
    assert isinstance(user_in(SessionStore()), AnonymousUser)
    assert isinstance(user_in({}), AnonymousUser)
    assert isinstance(user_in(SessionStore("no-such-key")), AnonymousUser)
    gone = session_of(ada)
    ada.delete()
    assert isinstance(user_in(gone), AnonymousUser)


def test_session_of_another_backend_is_nobodys(ada: User) -> None:
    session = session_of(ada)
    session[BACKEND_SESSION_KEY] = "some.other.Backend"
    assert isinstance(user_in(session), AnonymousUser)


def test_changed_password_empties_the_session(ada: User) -> None:
    session = session_of(ada)
    ada.set_password("other")
    ada.save()
    assert isinstance(user_in(session), AnonymousUser)
    assert session.is_empty()


def test_session_made_under_an_older_secret_key_is_good_while_that_is_a_fallback(
    ada: User,
) -> None:
    with override_settings(SECRET_KEY="older"):
        session = session_of(ada)
    key = session.session_key
    with override_settings(SECRET_KEY_FALLBACKS=["older"]):
        assert user_in(session) == ada
    assert session.session_key == key
    assert isinstance(user_in(session), AnonymousUser)


def test_login_notes_the_user_in_a_new_session(ada: User) -> None:
    told: list[Any] = []

    def listener(sender: Any, request: Any, user: Any, **_: Any) -> None:
        told.append((request, user))

    user_logged_in.connect(listener)
    try:
        session = SessionStore()
        session["cart"] = 1
        session.save()
        before = session.session_key
        scope: dict[str, Any] = {"session": session}
        async_to_sync(login)(scope, ada)
    finally:
        user_logged_in.disconnect(listener)
    assert scope["user"] == ada
    assert session["cart"] == 1
    assert session.session_key != before
    assert told == [(None, ada)]
    assert user_in(session) == ada


def test_login_of_another_user_forgets_what_the_first_one_did(ada: User, bob: User) -> None:
    session = session_of(ada)
    session["cart"] = 1
    async_to_sync(login)({"session": session}, bob)
    assert "cart" not in session
    assert user_in(session) == bob
    session["cart"] = 2
    async_to_sync(login)({"session": session, "user": bob}, None)
    assert session["cart"] == 2


def test_login_needs_a_session_a_user_and_one_backend(ada: User) -> None:
    with pytest.raises(ValueError, match="Cannot find session in scope"):
        async_to_sync(login)({}, ada)
    with pytest.raises(ValueError, match="User must be passed as an argument"):
        async_to_sync(login)({"session": SessionStore()}, None)
    two = [BACKEND, "django.contrib.auth.backends.AllowAllUsersModelBackend"]
    with override_settings(AUTHENTICATION_BACKENDS=two):
        with pytest.raises(ValueError, match="You have multiple authentication backends"):
            async_to_sync(login)({"session": SessionStore()}, ada)
        session = SessionStore()
        async_to_sync(login)({"session": session}, ada, backend=two[1])
        assert session[BACKEND_SESSION_KEY] == two[1]


def test_logout_empties_the_session_and_tells(ada: User) -> None:
    told: list[Any] = []

    def listener(sender: Any, request: Any, user: Any, **_: Any) -> None:
        told.append(user)

    user_logged_out.connect(listener)
    try:
        session = session_of(ada)
        scope = {"session": session, "user": ada}
        async_to_sync(logout)(scope)
        async_to_sync(logout)(scope)
        async_to_sync(logout)({"session": SessionStore()})
    finally:
        user_logged_out.disconnect(listener)
    assert isinstance(scope["user"], AnonymousUser)
    assert session.is_empty()
    assert told == [ada]
    with pytest.raises(ValueError, match="Login cannot find session in scope"):
        async_to_sync(logout)({})


async def tell_user(scope: Any, receive: Any, send: Any) -> None:
    await send({"user": scope["user"].get_username()})


def websocket(session: SessionStore) -> dict[str, Any]:
    cookie = f"sessionid={session.session_key}".encode()
    return {"type": "websocket", "headers": [(b"cookie", cookie)]}


def test_stack_puts_the_user_into_the_scope(ada: User) -> None:
    assert exchange(AuthMiddlewareStack(tell_user), websocket(session_of(ada))) == [{"user": "ada"}]
    nobody = {"type": "websocket", "headers": []}
    assert exchange(AuthMiddlewareStack(tell_user), nobody) == [{"user": ""}]


async def test_stack_works_from_a_trio_task(database: None) -> None:
    ada = await query(lambda: User.objects.create_user("ada"))
    scope = websocket(await query(session_of, ada))
    assert await exchange_in_trio(AuthMiddlewareStack(tell_user), scope) == [{"user": "ada"}]


def test_user_that_is_in_the_scope_already_stays(ada: User) -> None:
    scope = {"type": "websocket", "session": SessionStore(), "user": ada}
    assert exchange(AuthMiddleware(tell_user), scope) == [{"user": "ada"}]
    with pytest.raises(ValueError, match="SessionMiddleware must be above it"):
        exchange(AuthMiddleware(tell_user), {"type": "websocket"})


async def test_subclass_of_the_middleware_is_awaited_under_asyncio() -> None:
    class TokenAuth(AuthMiddleware):
        async def resolve_scope(self, scope: Any) -> None:
            await asyncio.sleep(0)
            scope["user"]._wrapped = User(username="by token")

    scope = {"type": "websocket", "session": {}}
    from greenroom.bridges.asyncio import call_app

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await call_app(TokenAuth(tell_user), scope, receive, send)

    assert await exchange_in_trio(app, scope) == [{"user": "by token"}]


def test_user_is_an_error_before_it_is_ready() -> None:
    with pytest.raises(ValueError, match="Accessing scope user before it is ready"):
        str(UserLazyObject())


async def test_login_and_logout_work_from_a_trio_task(database: None) -> None:
    ada = await query(lambda: User.objects.create_user("ada"))
    session = SessionStore()
    scope: dict[str, Any] = {"session": session}
    await login(scope, ada)
    assert scope["user"] == ada
    await query(session.save)
    assert await get_user({"session": SessionStore(session.session_key)}) == ada
    await logout(scope)
    assert isinstance(scope["user"], AnonymousUser)
    assert session.is_empty()


def test_users_may_have_another_model_and_another_kind_of_key(tmp_path: Path) -> None:
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "__init__.py").touch()
    (tmp_path / "people" / "models.py").write_text(
        """
import uuid

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models


class Person(AbstractBaseUser):
    key = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=20, unique=True)
    USERNAME_FIELD = "name"
    objects = BaseUserManager()
"""
    )
    program = """
import asyncio

import django
from asgiref.sync import async_to_sync
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "people",
                    "django.contrib.sessions"],
    AUTH_USER_MODEL="people.Person",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    SECRET_KEY="only for tests",
    USE_TZ=True,
)
django.setup()

from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from people.models import Person

from greenroom.bridges.channels.auth import AuthMiddlewareStack, get_user, login

call_command("migrate", run_syncdb=True, verbosity=0)
ada = Person.objects.create(name="ada")
session = SessionStore()
async_to_sync(login)({"session": session}, ada)
session.save()
assert session["_auth_user_id"] == str(ada.key)
assert async_to_sync(get_user)({"session": SessionStore(session.session_key)}) == ada

async def tell(scope, receive, send):
    print(scope["user"].name, scope["user"].pk == ada.key)

cookie = f"sessionid={session.session_key}".encode()
scope = {"type": "websocket", "headers": [(b"cookie", cookie)]}
async_to_sync(AuthMiddlewareStack(tell))(scope, None, None)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{Path(__file__).parents[3] / '.src'}:{tmp_path}"},
        check=False,
    )
    assert (done.stdout, done.stderr) == ("ada True\n", "")
