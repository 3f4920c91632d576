"""Cookies and sessions, beside those of Channels: the same programs, and what comes of them."""

import asyncio
import copy
import re
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any, Final

import channels.sessions
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.core.exceptions import SuspiciousOperation
from django.db import connections
from django.test import override_settings
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from greenroom.bridges.channels import sessions

BOTH: Final[tuple[Any, Any]] = (channels.sessions, sessions)

ENGINES: Final = ["db", "cached_db", "cache", "file", "signed_cookies"]

cookies = st.fixed_dictionaries(
    {},
    optional={
        "value": st.sampled_from(["v", "", "a b;c", "café", 5, b"bytes"]),
        "max_age": st.sampled_from([None, 0, 1, 86400]),
        "expires": st.one_of(
            st.sampled_from([None, "", "whenever"]),
            st.integers(-5, 5).map(
                lambda hours: datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=hours)
            ),
        ),
        "path": st.sampled_from(["/", "/a", None, ""]),
        "domain": st.sampled_from([None, "example.org", ""]),
        "secure": st.booleans(),
        "httponly": st.booleans(),
        "samesite": st.sampled_from([None, "lax", "Strict", "NONE", "", "sometimes"]),
    },
)


@pytest.mark.filterwarnings(r"ignore:datetime\.datetime\.utcnow:DeprecationWarning")  # theirs
@hypothesis_settings(deadline=None)
@given(cookies, st.booleans())
def test_cookie_is_written_as_by_channels(options: dict[str, Any], has_headers: bool) -> None:
    def write(module: Any) -> tuple[Any, Any]:
        message: dict[str, Any] = {"headers": [(b"a", b"b")]} if has_headers else {}
        try:
            module.CookieMiddleware.set_cookie(message, "key", **options)
        except Exception as error:  # noqa: BLE001
            return type(error), str(error)
        return message, None

    results = [[write(module) for module in BOTH] for _ in range(3)]
    # Three times, as a second may pass in between.
    assert any(theirs == ours for theirs, ours in results), results[0]


@hypothesis_settings(deadline=None)
@given(st.sampled_from(["/", "/a"]), st.sampled_from([None, "example.org"]))
def test_cookie_is_deleted_as_by_channels(path: str, domain: str | None) -> None:
    messages: list[dict[str, Any]] = [{}, {}]
    for module, message in zip(BOTH, messages, strict=True):
        module.CookieMiddleware.delete_cookie(message, "key", path=path, domain=domain)
    assert messages[0] == messages[1]


headers = st.lists(
    st.tuples(
        st.sampled_from([b"cookie", b"Cookie", b"accept"]),
        st.sampled_from([b"a=1; b=2", b"a=caf\xe9", b"", b"nonsense", b'a="1;2"', b"a=1; a=2"]),
    ),
    max_size=3,
)


@hypothesis_settings(deadline=None)
@given(headers)
def test_cookies_are_read_as_by_channels(headers: list[tuple[bytes, bytes]]) -> None:
    scope = {"type": "http", "headers": headers}
    seen: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    for module in BOTH:
        asyncio.run(module.CookieMiddleware(application)(scope, None, None))
    assert seen[0] == seen[1]
    assert "cookies" not in scope


# -- what a program does with its session

Step = Callable[[Any], Awaitable[object]]


async def read(session: Any) -> object:
    return await session.aget("cart")


async def write(session: Any) -> None:
    await session.aset("cart", 2)


async def remove(session: Any) -> None:
    await session.apop("cart", None)


async def flush(session: Any) -> None:
    await session.aflush()


async def cycle(session: Any) -> None:
    await session.acycle_key()


async def until_the_browser_ends(session: Any) -> None:
    await session.aset_expiry(0)


async def for_a_while(session: Any) -> None:
    await session.aset_expiry(100)


async def touch(session: Any) -> None:
    session.modified = True


async def save(session: Any) -> None:
    await session.asave()


async def deleted_by_somebody(session: Any) -> None:
    if session.session_key:
        await store()().adelete(session.session_key)


STEPS: Final[list[Step]] = [
    read,
    write,
    remove,
    flush,
    cycle,
    until_the_browser_ends,
    for_a_while,
    touch,
    save,
    deleted_by_somebody,
]


@pytest.fixture
def folder() -> Iterator[str]:
    folder = tempfile.mkdtemp()
    yield folder
    shutil.rmtree(folder)


def store() -> Any:
    return import_module(settings.SESSION_ENGINE).SessionStore


def visit(module: Any, steps: list[Step], cookie: str | None, responses: list[Any]) -> Any:
    """Run a program behind the middleware, and give what its client and its stores have then."""
    sent: list[Any] = []
    told: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        told.extend([await step(scope["session"]) for step in steps])
        for response in responses:
            await send(copy.deepcopy(response))

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        header = [] if cookie is None else [(b"cookie", cookie.encode())]
        scope = {"type": "http", "headers": header}
        try:
            await module.SessionMiddlewareStack(application)(scope, None, send)
        except Exception as error:  # noqa: BLE001
            told.append((type(error), str(error)))
        finally:
            await sync_to_async(connections.close_all)()

    Session.objects.all().delete()
    cache.clear()
    key = ""
    if cookie is not None and "VALID" in cookie:
        session = store()()
        session["cart"] = 1
        session.save()
        key = session.session_key
        cookie = cookie.replace("VALID", key)
    asyncio.run(main())
    kept = [row.get_decoded() for row in Session.objects.all()]
    return told, [masked(message, key) for message in sent], [data for data in kept if data]


def masked(message: Any, key: str) -> Any:
    """Take out what is different for each session and second, but tell an old key from a new."""
    lines = [
        re.sub(
            r"expires=\w{3}, [^;]*;",
            "expires=...;",
            re.sub(
                r"sessionid=([^;]+)",
                lambda found: (
                    f"sessionid={'old' if found[1] == key else 'new' if len(found[1]) > 2 else ''}"
                ),
                value.decode(),
            ),
        )
        for _, value in message.get("headers", ())
    ]
    return {**message, "headers": [re.sub(r"Max-Age=(99|100);", "Max-Age=100;", x) for x in lines]}


starts = st.sampled_from(
    [
        {"type": "http.response.start", "status": 200},
        {"type": "http.response.start", "status": 404, "headers": []},
        {"type": "http.response.start", "status": 500},
        {"type": "http.response.start"},
    ]
)
others = st.sampled_from(
    [
        {"type": "http.response.body", "body": b""},
        {"type": "websocket.accept"},
        {"type": "websocket.http.response.start", "status": 200},
    ]
)
responses = st.one_of(
    starts.map(lambda start: [start]),
    st.tuples(starts, others).map(list),
    others.map(lambda other: [other]),
)


@pytest.mark.parametrize("engine", ENGINES)
@hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.sampled_from(STEPS), max_size=3),
    st.sampled_from([None, "sessionid=VALID", "sessionid=bogus-key-of-nobody", "sessionid="]),
    responses,
    st.fixed_dictionaries(
        {},
        optional={
            "SESSION_SAVE_EVERY_REQUEST": st.booleans(),
            "SESSION_EXPIRE_AT_BROWSER_CLOSE": st.booleans(),
            "SESSION_COOKIE_SAMESITE": st.sampled_from(["Strict", None]),
            "SESSION_COOKIE_SECURE": st.booleans(),
            "SESSION_COOKIE_HTTPONLY": st.booleans(),
            "SESSION_COOKIE_DOMAIN": st.sampled_from([None, "example.org"]),
            "SESSION_COOKIE_PATH": st.sampled_from(["/", "/shop"]),
        },
    ),
)
def test_session_is_kept_as_by_channels(
    database: None,
    folder: str,
    engine: str,
    steps: list[Step],
    cookie: str | None,
    responses: list[Any],
    options: dict[str, Any],
) -> None:
    if "bogus" in (cookie or "") or deleted_by_somebody in steps:
        # Where nobody has looked into a session that is gone, saving it is an error in Channels.
        steps = [read, *steps]
    engine = f"django.contrib.sessions.backends.{engine}"
    with override_settings(SESSION_ENGINE=engine, SESSION_FILE_PATH=folder, **options):
        theirs, ours = (visit(module, steps, cookie, responses) for module in BOTH)
    assert theirs == ours


def test_session_that_is_gone_and_saved_unseen_is_a_new_one_as_in_django(database: None) -> None:
    response = [{"type": "http.response.start", "status": 200}]
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        theirs, ours = (visit(each, [], "sessionid=key-of-nobody", response) for each in BOTH)
    assert theirs[0][0][0] is SuspiciousOperation
    assert [line.split(";")[0] for line in ours[1][0]["headers"]] == ["sessionid=new"]
