"""Tests of cookies and sessions in the scope."""

from datetime import UTC, datetime, timedelta, timezone
from http.cookies import SimpleCookie
from typing import Any

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import SuspiciousOperation
from django.test import override_settings
from tests.bridges.channels.serving import exchange, exchange_in_trio, query

from greenroom.bridges.channels.sessions import (
    CookieMiddleware,
    InstanceSessionWrapper,
    SessionMiddleware,
    SessionMiddlewareStack,
)


def cookie_of(message: dict[str, Any], key: str = "k") -> Any:
    ((name, value),) = message["headers"]
    assert name == b"Set-Cookie"
    return SimpleCookie(value.decode())[key]


def set_cookie(**options: Any) -> bytes:
    message: dict[str, Any] = {}
    CookieMiddleware.set_cookie(message, "k", "v", **options)
    ((_, value),) = message["headers"]
    assert isinstance(value, bytes)
    return value


def test_cookie_has_the_attributes_that_were_asked_for() -> None:
    assert set_cookie() == b"k=v; Path=/; SameSite=lax"
    assert (
        set_cookie(secure=True, httponly=True, domain="d", samesite=None, path="/a")
        == b"k=v; Domain=d; HttpOnly; Path=/a; Secure"
    )
    assert b"Max-Age=10;" in set_cookie(max_age=10)
    assert b"expires=" in set_cookie(max_age=10)
    assert b"expires=whenever;" in set_cookie(expires="whenever")
    with pytest.raises(AssertionError, match="samesite must be either 'strict', 'lax' or 'none'"):
        set_cookie(samesite="sometimes")


@pytest.mark.parametrize("zone", [None, UTC, timezone(timedelta(hours=5))])
def test_cookie_expires_at_a_time_with_or_without_a_zone(zone: Any) -> None:
    at = datetime.now(UTC) + timedelta(seconds=100)
    when = at.replace(tzinfo=None) if zone is None else at.astimezone(zone)
    value = set_cookie(expires=when)
    assert at.strftime("expires=%a, %d %b %Y %H:%M:%S GMT").encode() in value
    assert b"Max-Age=100;" in value


def test_deleted_cookie_is_empty_and_long_expired() -> None:
    message: dict[str, Any] = {"headers": ((b"x", b"y"),)}
    CookieMiddleware.delete_cookie(message, "k")
    assert message["headers"][0] == (b"x", b"y")
    assert message["headers"][1][1] == (
        b'k=""; expires=Thu, 01-Jan-1970 00:00:00 GMT; Max-Age=0; Path=/; SameSite=lax'
    )


async def tell_cookies(scope: Any, receive: Any, send: Any) -> None:
    await send({"cookies": scope["cookies"]})


def test_first_cookie_header_fills_the_scope() -> None:
    headers = [(b"cookie", b"a=1; b=caf\xe9"), (b"cookie", b"c=3")]
    (answer,) = exchange(CookieMiddleware(tell_cookies), {"type": "http", "headers": headers})
    assert answer["cookies"] == {"a": "1", "b": "café"}
    (answer,) = exchange(CookieMiddleware(tell_cookies), {"type": "http", "headers": []})
    assert answer["cookies"] == {}
    with pytest.raises(ValueError, match="did not have a headers key"):
        exchange(CookieMiddleware(tell_cookies), {"type": "http"})


def answering(stack: Any = SessionMiddlewareStack, **status: int) -> Any:
    """Make an application that counts visits in its session, and answers."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        await session.aset("visits", await session.aget("visits", 0) + 1)
        await send({"type": "http.response.start", "status": status.get("status", 200)})

    return stack(application)


def request(*cookies: bytes) -> dict[str, Any]:
    return {"type": "http", "headers": [(b"cookie", cookie) for cookie in cookies]}


def test_changed_session_is_saved_and_its_cookie_set(database: None) -> None:
    (start,) = exchange(answering(), request())
    key = cookie_of(start, "sessionid").value
    assert SessionStore(key)["visits"] == 1
    (start,) = exchange(answering(), request(f"sessionid={key}".encode()))
    assert cookie_of(start, "sessionid").value == key
    assert SessionStore(key)["visits"] == 2


def test_session_is_opened_where_middleware_of_others_asks_for_it(database: None) -> None:
    class Own(SessionMiddleware):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
            wrapper = InstanceSessionWrapper(scope, send)
            await wrapper.resolve_session()
            assert type(wrapper.scope["session"]) is SessionStore
            return await self.inner(wrapper.scope, receive, wrapper.send)

    (start,) = exchange(CookieMiddleware(answering(Own)), request())
    assert SessionStore(cookie_of(start, "sessionid").value)["visits"] == 1


def test_session_is_not_saved_when_the_response_is_an_error(database: None) -> None:
    (start,) = exchange(answering(status=500), request())
    assert "headers" not in start


def test_cookie_of_a_session_that_ends_with_the_browser_has_no_age(database: None) -> None:
    with override_settings(SESSION_EXPIRE_AT_BROWSER_CLOSE=True, SESSION_COOKIE_SAMESITE=False):
        (start,) = exchange(answering(), request())
    cookie = cookie_of(start, "sessionid")
    assert (cookie["max-age"], cookie["expires"], cookie["samesite"]) == ("", "", "")


def test_emptied_session_takes_its_cookie_away(database: None) -> None:
    async def empties(scope: Any, receive: Any, send: Any) -> None:
        await scope["session"].aflush()
        await send({"type": "http.response.start", "status": 200})

    session = SessionStore()
    session["a"] = 1
    session.save()
    (start,) = exchange(
        SessionMiddlewareStack(empties), request(f"sessionid={session.session_key}".encode())
    )
    assert cookie_of(start, "sessionid")["max-age"] == "0"


def test_session_deleted_meanwhile_is_a_suspicious_operation(database: None) -> None:
    async def loses(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        await session.aset("a", 2)
        await SessionStore().adelete(session.session_key)
        await send({"type": "http.response.start", "status": 200})

    session = SessionStore()
    session["a"] = 1
    session.save()
    with pytest.raises(SuspiciousOperation, match="deleted before the request completed"):
        exchange(
            SessionMiddlewareStack(loses), request(f"sessionid={session.session_key}".encode())
        )


def test_websocket_has_a_session_and_its_send_is_left_as_it_is() -> None:
    sends: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        sends.append(send)
        assert scope["session"].is_empty()

    async def send(message: Any) -> None: ...

    async def receive() -> Any: ...

    import asyncio

    scope = {"type": "websocket", "headers": []}
    asyncio.run(SessionMiddlewareStack(application)(scope, receive, send))
    assert sends == [send]
    assert "session" not in scope


def test_session_middleware_needs_cookies_outside() -> None:
    from greenroom.bridges.channels.sessions import SessionMiddleware

    with pytest.raises(ValueError, match="needs to run inside of CookieMiddleware"):
        exchange(SessionMiddleware(tell_cookies), {"type": "http"})


async def test_session_is_saved_from_a_trio_task_too(database: None) -> None:
    from greenroom.runtime import speaks

    @speaks("trio")
    async def application(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["seen"] = True
        await send({"type": "http.response.start", "status": 200})

    (start,) = await exchange_in_trio(SessionMiddlewareStack(application), request())
    key = cookie_of(start, "sessionid").value
    assert await query(lambda: SessionStore(key)["seen"]) is True
