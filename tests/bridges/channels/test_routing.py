"""Tests of routing by protocol, by path and by channel name."""

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.urls import Resolver404, include, path, re_path
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


def test_path_without_a_route_is_answered_with_404_where_the_server_can() -> None:
    scope = {
        "type": "websocket",
        "path": "/nowhere",
        "extensions": {"websocket.http.response": {}},
    }
    start, body = exchange(ROUTER, scope, {"type": "websocket.connect"})
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 404)
    assert body == {"type": "websocket.http.response.body", "body": b"Not Found"}


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
