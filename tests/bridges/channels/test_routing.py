"""Tests of routing by protocol, by path and by channel name."""

import asyncio
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.urls import Resolver404, include, path, re_path
from django.utils.functional import lazy
from django.utils.translation import get_language, override
from tests.bridges.channels.serving import exchange, exchange_in_trio

from greenroom.bridges.channels.middleware import BaseMiddleware
from greenroom.bridges.channels.routing import (
    ChannelNameRouter,
    ProtocolTypeRouter,
    URLRouter,
    get_default_application,
)


def app(name: str) -> Any:
    """Make an application that sends its name and the route that led to it."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"name": name, "path": scope["path"], **scope.get("url_route", {})})

    return application


def route(router: Any, path: str, **scope: Any) -> dict[str, Any]:
    (answer,) = exchange(router, {"type": "websocket", "path": path, **scope})
    return answer


def test_protocol_type_chooses_the_application() -> None:
    router = ProtocolTypeRouter({"websocket": app("w"), "http": app("h")})
    assert route(router, "/")["name"] == "w"
    (answer,) = exchange(router, {"type": "http", "path": "/"})
    assert answer["name"] == "h"
    with pytest.raises(ValueError, match="No application configured for scope type 'lifespan'"):
        exchange(router, {"type": "lifespan"})
    with pytest.raises(KeyError, match="type"):
        exchange(router, {})


def test_channel_name_chooses_the_application() -> None:
    router = ChannelNameRouter({"thumbnails": app("t")})
    scope = {"type": "channel", "path": ""}
    (answer,) = exchange(router, {**scope, "channel": "thumbnails"})
    assert answer["name"] == "t"
    with pytest.raises(ValueError, match="No application configured for channel name 'other'"):
        exchange(router, {**scope, "channel": "other"})
    with pytest.raises(ValueError, match="got a scope without a 'channel' key"):
        exchange(router, scope)


async def test_routers_may_be_awaited_in_a_trio_task() -> None:
    router = ProtocolTypeRouter({"websocket": URLRouter([path("a/", app("a"))])})
    (answer,) = await exchange_in_trio(router, {"type": "websocket", "path": "/a/"})
    assert answer["name"] == "a"


ROUTER = URLRouter(
    [
        path("", app("root")),
        path("a/<int:n>/", app("int"), {"extra": True}),
        re_path(r"^front(end)/$", app("positional")),
        re_path(r"(?P<word>b+)(c)", app("mixed")),
    ]
)


def test_first_route_that_matches_counts_and_gives_what_it_captured() -> None:
    assert route(ROUTER, "/") == {"name": "root", "path": "/", "args": (), "kwargs": {}}
    assert route(ROUTER, "/a/5/")["kwargs"] == {"n": 5, "extra": True}
    assert route(ROUTER, "/frontend/")["args"] == ("end",)


def test_pattern_without_anchors_matches_anywhere_and_named_groups_drop_the_others() -> None:
    answer = route(ROUTER, "/xxbbcxx")
    assert (answer["name"], answer["args"], answer["kwargs"]) == ("mixed", (), {"word": "bb"})


def test_leading_slashes_do_not_count() -> None:
    assert route(ROUTER, "///a/5/")["kwargs"]["n"] == 5


def test_root_path_is_taken_off_and_has_to_be_there() -> None:
    assert route(ROUTER, "/mounted/a/5/", root_path="/mounted")["kwargs"]["n"] == 5
    with pytest.raises(ValueError, match="No route found for path '/a/5/'"):
        route(ROUTER, "/a/5/", root_path="/mounted")


def test_path_without_a_route_is_an_error() -> None:
    with pytest.raises(ValueError, match="No route found for path 'nowhere'"):
        route(ROUTER, "/nowhere")
    with pytest.raises(ValueError, match="No 'path' key in connection scope"):
        exchange(ROUTER, {"type": "websocket"})


SERVED = {"asgi": {"version": "3.0"}, "client": ["127.0.0.1", 5000]}
DENIAL: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}
CONNECT = {"type": "websocket.connect"}
UNROUTED = "No route found for path 'nowhere'. ({} of 127.0.0.1:5000)"
UNMAPPED = "No application configured for scope type {!r} ({} of 127.0.0.1:5000)"


@pytest.mark.parametrize(
    ("router", "message"), [(ROUTER, UNROUTED), (ProtocolTypeRouter({}), UNMAPPED)]
)
def test_websocket_that_nobody_serves_is_refused_and_logged_in_one_line(
    router: Any, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    scope = {"type": "websocket", "path": "/nowhere", **SERVED}
    start, body = exchange(router, {**scope, **DENIAL}, CONNECT)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 404)
    assert body == {"type": "websocket.http.response.body", "body": b"Not Found"}
    (denied,) = caplog.records
    caplog.clear()
    assert exchange(router, {**scope, "extensions": None}, CONNECT) == [{"type": "websocket.close"}]
    (closed,) = caplog.records
    words = ["websocket /nowhere"] if message is UNROUTED else ["websocket", "websocket /nowhere"]
    for record in (denied, closed):
        assert (record.levelname, record.exc_info) == ("WARNING", None)
        assert record.message == message.format(*words)


@pytest.mark.parametrize("router", [ROUTER, ProtocolTypeRouter({})])
def test_request_that_nobody_serves_is_answered_with_404(
    router: Any, caplog: pytest.LogCaptureFixture
) -> None:
    scope = {"type": "http", "method": "GET", "path": "/nowhere", **SERVED}
    start, body = exchange(router, scope)
    assert (start["type"], start["status"]) == ("http.response.start", 404)
    assert (b"content-length", b"9") in start["headers"]
    assert body == {"type": "http.response.body", "body": b"Not Found"}
    start, body = exchange(router, {**scope, "method": "HEAD"})
    assert (b"content-length", b"9") in start["headers"]
    assert body["body"] == b""
    assert [record.exc_info for record in caplog.records] == [None, None]


def test_path_outside_of_the_root_path_is_refused_too() -> None:
    scope = {"type": "http", "path": "/a/5/", "root_path": "/mounted", **SERVED}
    assert exchange(ROUTER, scope)[0]["status"] == 404


def test_client_that_has_left_is_not_refused() -> None:
    gone = {"type": "websocket.disconnect", "code": 1006}
    assert exchange(ROUTER, {"type": "websocket", "path": "/nowhere", **SERVED}, gone) == []


def test_server_that_notices_the_end_of_a_refusal_later_is_waited_for() -> None:
    noticed: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def receive() -> dict[str, Any]:
            return CONNECT

        async def send(message: dict[str, Any]) -> None:
            # As uvloop, which writes after one turn and tells that it has closed in the next.
            if message["type"].endswith("body"):
                loop.call_soon(loop.call_soon, noticed.append, "closed")

        await ROUTER({"type": "websocket", "path": "/nowhere", **SERVED, **DENIAL}, receive, send)
        noticed.append("returned")

    asyncio.run(main())
    assert noticed == ["closed", "returned"]


def test_path_cannot_forge_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    exchange(ROUTER, {"type": "http", "path": "/nowhere\nFORGED", **SERVED})
    assert "\n" not in caplog.text.rstrip("\n")


async def test_refusal_needs_no_asyncio() -> None:
    scope = {"type": "websocket", "path": "/nowhere", **SERVED, **DENIAL}
    start, _ = await exchange_in_trio(ROUTER, scope, CONNECT)
    assert start["status"] == 404


STARTUP, SHUTDOWN = {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}


def test_lifespan_of_a_server_is_answered_unless_it_is_mapped() -> None:
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
    assert exchange(ProtocolTypeRouter({}), scope, STARTUP, SHUTDOWN) == [
        {"type": "lifespan.startup.complete"},
        {"type": "lifespan.shutdown.complete"},
    ]

    async def lifespan(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "mine"})

    mapped = ProtocolTypeRouter({"lifespan": lifespan})
    assert exchange(mapped, scope, STARTUP) == [{"type": "mine"}]


def test_other_types_that_are_not_mapped_are_an_error_on_servers_too() -> None:
    with pytest.raises(ValueError, match="No application configured for scope type 'telegram'"):
        exchange(ProtocolTypeRouter({}), {"type": "telegram", **SERVED})


def nested(inner: Any) -> URLRouter:
    return URLRouter(
        [
            path("u/<int:user>/", inner),
            re_path(r"^r/(\d+)/", inner),
            path("u/<int:user>/other/", app("fallback")),
        ]
    )


def test_nested_router_matches_the_rest_and_keeps_what_was_captured() -> None:
    router = nested(URLRouter([path("x/<slug:s>/", app("inner"))]))
    assert route(router, "/u/5/x/deep/")["kwargs"] == {"user": 5, "s": "deep"}
    assert route(router, "/r/7/x/deep/") == {
        "name": "inner",
        "path": "/r/7/x/deep/",
        "args": ("7",),
        "kwargs": {"s": "deep"},
    }


def test_pattern_of_a_nested_router_is_translated_when_it_is_matched() -> None:
    words = {"en-us": "hello/", "de": "hallo/"}
    greeting = lazy(lambda: words[get_language() or ""], str)()
    for make in (path, re_path):
        router = URLRouter([make(greeting, URLRouter([path("x/", app("inner"))]))])
        for language, word in words.items():
            with override(language):
                assert route(router, f"/{word}x/")["name"] == "inner"


def test_outer_router_goes_on_where_the_nested_one_has_no_route() -> None:
    router = nested(URLRouter([path("x/", app("inner"))]))
    assert route(router, "/u/5/other/")["name"] == "fallback"
    with pytest.raises(ValueError, match="No route found"):
        route(router, "/u/5/nothing/")


def test_nested_router_behind_a_middleware_is_found() -> None:
    router = nested(BaseMiddleware(URLRouter([path("x/", app("inner"))])))
    assert route(router, "/u/5/x/")["name"] == "inner"


def test_not_found_raised_by_an_application_tries_the_next_route() -> None:
    async def refuses(scope: Any, receive: Any, send: Any) -> None:
        raise Resolver404

    refusing: Any = refuses
    router = URLRouter([path("a/", refusing), path("a/", app("second"))])
    assert route(router, "/a/")["name"] == "second"


def test_route_that_is_added_later_counts_too() -> None:
    routes = [path("a/", app("a"))]
    router = URLRouter(routes)
    routes.append(path("b/", URLRouter([path("c/", app("c"))])))
    assert route(router, "/b/c/")["name"] == "c"
    router.routes = [path("a/", app("another"))]
    assert route(router, "/a/")["name"] == "another"


def test_include_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"include\(\) is not supported in URLRouter"):
        URLRouter([path("x/", include([]))])


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        (None, "Cannot find ASGI_APPLICATION setting."),
        ("nodot", "Cannot find ASGI_APPLICATION setting."),
        ("no.such.module", "Cannot import ASGI_APPLICATION module 'no.such'"),
        ("tests.django_project.urls.none", "Cannot find 'none' in ASGI_APPLICATION module"),
    ],
)
def test_wrong_default_application_is_explained(setting: Any, error: str) -> None:
    with override_settings(ASGI_APPLICATION=setting), pytest.raises(ImproperlyConfigured) as raised:
        get_default_application()
    assert str(raised.value).startswith(error)


def test_default_application_is_the_one_in_the_settings() -> None:
    with override_settings(ASGI_APPLICATION="tests.bridges.channels.test_routing.ROUTER"):
        assert isinstance(get_default_application(), URLRouter)
