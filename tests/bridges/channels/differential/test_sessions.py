"""Sessions and users in the scope of a connection, for Channels and for Greenroom."""

import asyncio
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final
from unittest import mock

import channels.auth
import channels.sessions
import trio
from asgiref.sync import sync_to_async
from django.conf import settings as project
from django.contrib.auth import get_user_model, user_logged_in, user_logged_out
from django.contrib.auth.models import AnonymousUser, User
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from greenroom.bridges.asyncio import call_app, open_hosted_loop

from .campaign import campaign
from .programs import OURS, THEIRS, module
from .test_cookies import in_one_second

Action = tuple[Any, ...]

DIFFERENCES: Final = {
    "no row for an empty session": "Channels saves a session that nobody has put anything into",
    "an outer session stays": (
        "Channels looks for cookies, and opens a session, where the scope has one already"
    ),
    "a user in the scope stays": (
        "Channels looks at the session all the same, and empties it if its user's hash is wrong"
    ),
    "keys of SECRET_KEY_FALLBACKS": "Channels does not try them, which Django does",
}


class Amended(channels.auth.AuthMiddleware):  # type: ignore[misc]
    """Channels' middleware, which leaves alone whom it finds in the scope."""

    async def resolve_scope(self, scope: Any) -> None:
        if isinstance(scope["user"], channels.auth.UserLazyObject):
            await super().resolve_scope(scope)


class AmendedWrapper(channels.sessions.InstanceSessionWrapper):  # type: ignore[misc]
    """Channels' session of one connection, which is not saved while it is empty."""

    async def save_session(self) -> None:
        if not self.scope["session"].is_empty():
            await super().save_session()


ENGINES: Final = ["django.contrib.sessions.backends.db", "django.contrib.sessions.backends.cache"]
BACKEND: Final = "django.contrib.auth.backends.ModelBackend"
OTHER_BACKEND: Final = "django.contrib.auth.backends.AllowAllUsersModelBackend"

session_actions = st.one_of(
    st.tuples(st.just("set"), st.sampled_from(["a", "b"]), st.integers(0, 1)),
    st.tuples(st.just("get"), st.sampled_from(["a", "b"])),
    st.tuples(st.just("pop"), st.sampled_from(["a", "b"])),
    st.tuples(st.just("expiry"), st.sampled_from([0, 100, None])),
    st.sampled_from([("flush",), ("clear",), ("cycle_key",), ("save",), ("lost",), ("test",)]),
)
sends = st.one_of(
    st.tuples(
        st.just("send"),
        st.sampled_from(
            [
                {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]},
                {"type": "http.response.start", "status": 500},
                {"type": "http.response.start", "status": 404},
                {"type": "http.response.start"},
                {"type": "http.response.body", "body": b""},
                {"type": "websocket.accept"},
                {"type": "websocket.http.response.start", "status": 200, "headers": []},
            ]
        ),
    ),
    st.just(("send", {"type": "http.response.start", "status": 200})),
)
cookie_settings = st.fixed_dictionaries(
    {"SESSION_ENGINE": st.sampled_from(ENGINES)},
    optional={
        "SESSION_SAVE_EVERY_REQUEST": st.just(True),
        "SESSION_COOKIE_NAME": st.just("sid"),
        "SESSION_COOKIE_SECURE": st.just(True),
        "SESSION_COOKIE_HTTPONLY": st.just(False),
        "SESSION_COOKIE_SAMESITE": st.sampled_from(["Strict", "None", None]),
        "SESSION_COOKIE_DOMAIN": st.just("a.com"),
        "SESSION_COOKIE_PATH": st.just("/a"),
        "SESSION_COOKIE_AGE": st.just(60),
        "SESSION_EXPIRE_AT_BROWSER_CLOSE": st.just(True),
    },
)


@dataclass(frozen=True)
class Visit:
    """One connection with a session: what its cookie names, and what its application does."""

    kind: str
    cookie: str  # "none"; "good"; "unknown"; "other"; "no cookies": the middleware is missing
    stored: tuple[tuple[str, int], ...]
    actions: tuple[Action, ...]
    settings: dict[str, Any]
    outer: bool = False  # another session is in the scope already


visits = st.builds(
    Visit,
    kind=st.sampled_from(["http", "http", "websocket"]),
    cookie=st.sampled_from(["none", "good", "good", "good", "unknown", "other", "no cookies"]),
    stored=st.sampled_from([(), (("a", 0),), (("a", 1), ("b", 0))]),
    actions=st.lists(st.one_of(session_actions, session_actions, sends), max_size=5).map(tuple),
    settings=cookie_settings,
    outer=st.sampled_from([False, False, False, True]),
)


class Keys:
    """Session keys by the order in which they appear."""

    def __init__(self) -> None:
        self.seen: dict[Any, int] = {}

    def tell(self, key: Any) -> Any:
        return None if key is None else self.seen.setdefault(key, len(self.seen))

    def plain(self, value: bytes) -> str:
        text = value.decode()
        for key, at in self.seen.items():
            text = text.replace(key, f"(key {at})")
        return text


def store(key: str | None = None) -> Any:
    return import_module(project.SESSION_ENGINE).SessionStore(key)


def act(session: Any, action: Action) -> Any:
    """Do one thing to a session, in a thread as sync code does."""
    kind, *args = action
    if kind == "set":
        session[args[0]] = args[1]
    elif kind == "get":
        return session.get(args[0])
    elif kind == "pop":
        return session.pop(args[0], None)
    elif kind == "expiry":
        session.set_expiry(args[0])
    elif kind == "lost":  # somebody else has logged out
        if session.session_key is not None:
            store().delete(session.session_key)
    elif kind == "test":
        session.set_test_cookie()
    else:
        getattr(session, kind)()
    return None


def look(session: Any, keys: Keys) -> tuple[Any, ...]:
    return (
        session.modified,
        session.accessed,
        session.is_empty(),
        sorted(session.items()),
        keys.tell(session.session_key),
    )


def run(world: str, app: Any, scope: dict[str, Any], send: Any) -> None:
    """Await an application: of Channels, or of Greenroom in asyncio or in trio."""

    async def receive() -> Any:
        raise AssertionError("nobody receives")

    async def hosted() -> None:
        async with open_hosted_loop():
            await call_app(app, scope, receive, send)

    if world == "hosted":
        trio.run(hosted)
    else:
        asyncio.run(app(scope, receive, send))


def visit(world: str, drawn: Visit) -> list[Any]:
    """Give all that can be seen of a visit."""
    side = THEIRS if world == "channels" else OURS
    sessions = module(side, "sessions")
    keys = Keys()
    log: list[Any] = []
    with override_settings(**drawn.settings):
        known = store()
        known.update(dict(drawn.stored))
        known.save()
        keys.tell(known.session_key)
        cookie = {
            "good": f"{project.SESSION_COOKIE_NAME}={known.session_key}",
            "unknown": f"{project.SESSION_COOKIE_NAME}={'x' * 32}",
            "other": "a=b",
        }.get(drawn.cookie)
        keys.tell("x" * 32)
        headers = [] if cookie is None else [(b"cookie", cookie.encode())]
        scope: dict[str, Any] = {"type": drawn.kind, "path": "/", "headers": headers}
        if drawn.outer and drawn.cookie != "no cookies":  # "an outer session stays"
            scope["session"] = store()

        held: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            held.append(scope["session"])
            for action in drawn.actions:
                try:
                    if action[0] == "send":
                        if not action[1]["type"].startswith(f"{drawn.kind}."):
                            continue
                        await send(deepcopy(action[1]))
                    else:
                        log.append(await sync_to_async(act)(scope["session"], action))
                except Exception as error:  # noqa: BLE001
                    log.append((type(error).__name__, str(error)))
            # What an untouched session is like is not to be seen without touching it.
            log.append(await sync_to_async(look)(scope["session"], keys))

        async def send(message: Any) -> None:
            told = [(name, value) for name, value in message.pop("headers", ())]
            if told:
                keys.tell(held[0].session_key)
            log.append((message, told))

        stack = sessions.SessionMiddleware(app)
        if drawn.cookie != "no cookies":
            stack = sessions.CookieMiddleware(stack)
        try:
            with mock.patch("channels.sessions.InstanceSessionWrapper", AmendedWrapper):
                run(world, stack, scope, send)
        except Exception as error:  # noqa: BLE001
            log.append((type(error).__name__, str(error)))
        rows = {}
        for key, at in list(keys.seen.items()):
            content = sorted(store(key).load().items())
            if content:
                rows[at] = content
    told = [
        (entry[0], [(name, keys.plain(value)) for name, value in entry[1]])
        if isinstance(entry, tuple) and isinstance(entry[0], dict)
        else entry
        for entry in log
    ]
    return [*told, rows]


def test_sessions_are_those_of_channels(database: None) -> None:
    @campaign(30)
    @given(visits, st.sampled_from(["asyncio", "hosted"]))
    def check(drawn: Visit, world: str) -> None:
        def compare() -> None:
            assert visit(world, drawn) == visit("channels", drawn)

        in_one_second(compare)

    check()


@dataclass(frozen=True)
class Login:
    """A session with some user in it, and what is done about users."""

    user: str | None
    backend: str | None
    hash: str  # "good", "bad" or "none"
    in_scope: str | None
    actions: tuple[Action, ...]
    settings: dict[str, Any]
    session: bool = True


auth_actions = st.one_of(
    st.tuples(
        st.just("login"),
        st.sampled_from(["ann", "ben", None]),
        st.sampled_from([None, None, BACKEND, "unknown.Backend"]),
    ),
    st.just(("logout",)),
    st.just(("get_user",)),
    st.tuples(st.just("session"), session_actions.filter(lambda action: action[0] != "lost")),
)
logins = st.builds(
    Login,
    user=st.sampled_from(["ann", "ann", "ann", "ben", "nobody", "no number", None]),
    backend=st.sampled_from([*[BACKEND] * 8, OTHER_BACKEND, "unknown.Backend", None]),
    hash=st.sampled_from(["good", "bad", "none"]),
    in_scope=st.sampled_from([*[None] * 6, "ann", "anonymous"]),
    actions=st.lists(auth_actions, max_size=3).map(tuple),
    settings=st.fixed_dictionaries(
        {"SESSION_ENGINE": st.sampled_from(ENGINES)},
        optional={"AUTHENTICATION_BACKENDS": st.just([BACKEND, OTHER_BACKEND])},
    ),
    session=st.sampled_from([*[True] * 9, False]),
)


def attend(world: str, drawn: Login, users: dict[str, Any]) -> list[Any]:
    """Give all that can be seen of logging in and out."""
    side = THEIRS if world == "channels" else OURS
    auth = module(side, "auth")
    keys = Keys()
    log: list[Any] = []

    def note(signal: Any, sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
        log.append(("signal", signal is user_logged_in, sender.__name__, request, str(user)))

    def tell(user: Any) -> tuple[Any, ...]:
        return str(user), getattr(user, "pk", None), user.is_authenticated

    async def do(scope: Any, action: Action) -> Any:
        kind, *args = action
        if kind == "login":
            user = None if args[0] is None else await fresh(args[0])
            return await auth.login(scope, user, args[1])
        if kind == "logout":
            return await auth.logout(scope)
        if kind == "get_user":
            return tell(await auth.get_user(scope))
        return await sync_to_async(act)(scope["session"], args[0])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        log.append(tell(scope["user"]))
        for action in drawn.actions:
            try:
                log.append(await do(scope, action))
            except Exception as error:  # noqa: BLE001
                log.append((type(error).__name__, str(error)))
            log.append(tell(scope["user"]))
            log.append(await sync_to_async(look)(scope["session"], keys))

    async def fresh(name: str) -> Any:
        return await sync_to_async(get_user_model().objects.get)(username=name)

    with ExitStack() as stack:
        stack.enter_context(override_settings(**drawn.settings))
        for signal in (user_logged_in, user_logged_out):
            signal.connect(note)
            stack.callback(signal.disconnect, note)
        session = store()
        numbers = {"nobody": "99999", "no number": "x"}
        if drawn.user is not None:
            known = users.get(drawn.user)
            session["_auth_user_id"] = numbers.get(drawn.user) or str(users[drawn.user].pk)
            if drawn.hash != "none":
                good = known.get_session_auth_hash() if known else "none"
                session["_auth_user_hash"] = good if drawn.hash == "good" else "bad"
        if drawn.backend is not None:
            session["_auth_user_backend"] = drawn.backend
        session.save()
        keys.tell(session.session_key)
        scope: dict[str, Any] = {"type": "websocket", "path": "/"}
        if drawn.session:
            scope["session"] = store(session.session_key)
        if drawn.in_scope is not None:
            scope["user"] = users.get(drawn.in_scope) or AnonymousUser()
        try:
            middleware = Amended if side == THEIRS else auth.AuthMiddleware
            run(world, middleware(app), scope, None)
        except Exception as error:  # noqa: BLE001
            log.append((type(error).__name__, str(error)))
        rows = {at: sorted(store(key).load().items()) for key, at in list(keys.seen.items())}
    return [*log, rows]


def test_users_are_those_of_channels(database: None) -> None:
    make = User.objects.create_user
    users = {"ann": make("ann", password="a"), "ben": make("ben", password="b", is_active=False)}

    @campaign(40)
    @given(logins, st.sampled_from(["asyncio", "hosted"]))
    def check(drawn: Login, world: str) -> None:
        assert attend(world, drawn, users) == attend("channels", drawn, users)

    check()
