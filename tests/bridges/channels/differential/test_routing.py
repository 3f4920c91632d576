"""Routers of Channels and of Greenroom, over drawn trees of routes and paths of few letters."""

from dataclasses import dataclass
from typing import Any, Final

import trio
from django.urls import include, path, re_path
from django.urls.exceptions import Resolver404
from hypothesis import given
from hypothesis import strategies as st

from greenroom.runtime.flavours import speaks

from .campaign import campaign
from .programs import OURS, THEIRS, module

DIFFERENCES: Final = {
    "middleware passes paths on": (
        "a router in a middleware never gets the rest of a path in Channels, as its documentation "
        "says; Greenroom's own middleware is transparent"
    ),
    "no route is a 404": "a path without a route is an error with a traceback in Channels",
    "a nested 404 is Django's": "Channels raises Resolver404 with a text, not with Django's dict",
}

# Patterns, each with a text that it matches.
PATTERNS: Final = {
    ("path", ""): "", ("path", "a"): "a", ("path", "a/"): "a/", ("path", "a/b/"): "a/b/",
    ("path", "<int:n>/"): "1/", ("path", "<str:s>"): "b", ("path", "<slug:s>/b"): "a-1/b",
    ("path", "b/<path:p>"): "b/a/1", ("path", "a<int:n>"): "a1",
    ("path", "<uuid:u>"): "00000000-0000-0000-0000-000000000001",
    ("path", "a/<str:n>/<int:m>/"): "a/b/1/",
    ("re_path", ""): "", ("re_path", "a"): "ba", ("re_path", "^a/$"): "a/",
    ("re_path", "^(a|b)/"): "b/", ("re_path", "(?P<n>[0-9]+)/"): "a1/",
    ("re_path", r"^(?P<s>\w+)/([0-9]+)$"): "a/1", ("re_path", "b$"): "ab",
    ("re_path", r"(a)?/b"): "/b", ("re_path", "^$"): "", ("re_path", r"(?P<n>a)?b"): "b",
    ("re_path", r"^a\Z"): "a",
}  # fmt: skip


@dataclass(frozen=True)
class Route:
    """One route: a pattern with its defaults, and what stands behind it."""

    pattern: tuple[str, str]
    defaults: tuple[tuple[str, Any], ...]
    target: "Router | str"  # or the name of an application


@dataclass(frozen=True)
class Router:
    """A router, perhaps in a middleware of the framework."""

    routes: tuple[Route, ...]
    wrapped: bool = False


defaults = st.lists(
    st.tuples(st.sampled_from(["n", "s", "extra"]), st.integers(0, 1)),
    max_size=1,
).map(tuple)
names = st.sampled_from([*["app"] * 12, "not found", "not found", "fails", "include"])


def routers(targets: Any) -> Any:
    routes = st.lists(
        st.builds(Route, st.sampled_from(list(PATTERNS)), defaults, targets), max_size=3
    )
    return st.builds(Router, routes.map(tuple), st.sampled_from([False, False, True]))


trees = st.one_of(
    routers(names),
    routers(st.one_of(names, routers(names))),
    routers(st.one_of(names, routers(st.one_of(names, routers(names))))),
)
pieces = st.sampled_from(["/", "/", "a", "b", "1", "a/", "b/", "1/", "é", "%20", "\n", "A"])
paths = st.lists(pieces, max_size=6).map("".join)


@st.composite
def paths_into(draw: st.DrawFn, tree: Router) -> str:
    """A path that some route matches, if routes before it don't take it, or nearly so."""
    text, node = "", tree
    while node.routes:
        route = draw(st.sampled_from(node.routes))
        text += draw(st.sampled_from(["", "", "", "/"])) + PATTERNS[route.pattern]
        if isinstance(route.target, str):
            break
        node = route.target
    return text + draw(st.sampled_from(["", "", "", "/", "b"]))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Router, dict[str, Any]]:
    tree = draw(trees)
    return tree, draw(scopes(st.one_of(paths_into(tree), paths_into(tree), paths)))


@st.composite
def scopes(draw: st.DrawFn, paths: st.SearchStrategy[str]) -> dict[str, Any]:
    scope: dict[str, Any] = {"type": draw(st.sampled_from(["http", "websocket", "test"]))}
    if draw(st.integers(0, 9)):
        scope["path"] = draw(st.one_of(paths, paths.map("/{}".format)))
    if not draw(st.integers(0, 2)):
        scope["root_path"] = draw(st.sampled_from(["", "/a", "/a/", "a", "/"]))
        if "path" in scope and draw(st.booleans()):
            scope["path"] = scope["root_path"] + scope["path"]
    if not draw(st.integers(0, 5)):
        scope["path_remaining"] = draw(paths)
    if not draw(st.integers(0, 5)):
        scope["url_route"] = draw(
            st.sampled_from([{"args": ("0",), "kwargs": {"n": 0}}, {}, {"kwargs": {"o": 1}}])
        )
    if not draw(st.integers(0, 2)):
        scope["asgi"] = {"version": "3.0"}
    return scope


class Tree:
    """A tree of routers of one side."""

    def __init__(self, side: str, drawn: Router) -> None:
        self.side = side
        self.log: list[Any] = []
        self.count = 0
        self.app = self.build(drawn)

    def build(self, drawn: Router) -> Any:
        routes = []
        for route in drawn.routes:
            kind, pattern = route.pattern
            make: Any = path if kind == "path" else re_path
            target: Any
            if route.target == "include":
                target = include([])
            elif isinstance(route.target, str):
                target = self.make_app(route.target)
            else:
                target = self.build(route.target)
            routes.append(make(pattern, target, dict(route.defaults)))
        router = module(self.side, "routing").URLRouter(routes)
        if not drawn.wrapped:
            return router
        middleware = module(self.side, "middleware").BaseMiddleware(router)
        if self.side == THEIRS:
            middleware._path_routing = True  # "middleware passes paths on"
        return middleware

    def make_app(self, kind: str) -> Any:
        self.count += 1
        name = f"{kind} {self.count}"

        @speaks("both")
        async def app(scope: Any, receive: Any, send: Any) -> str:
            self.log.append((name, dict(scope)))
            if kind == "not found":
                raise Resolver404("of the application")
            if kind == "fails":
                raise ValueError("of the application")
            return name

        return app


async def route(side: str, drawn: Router, scope: dict[str, Any]) -> list[Any]:
    """Give what the applications of a tree get to see of a scope, and how that ends."""
    try:
        tree = Tree(side, drawn)
    except Exception as error:  # noqa: BLE001
        return [(type(error).__name__, str(error))]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": f"{scope['type']}.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append((message["type"], message.get("status")))

    given = dict(scope)
    try:
        result = await tree.app(given, receive, send)
    except Resolver404:
        end: Any = "Resolver404"  # "a nested 404 is Django's"
    except Exception as error:  # noqa: BLE001
        end = (type(error).__name__, str(error))
    else:
        end = ("returned", result)
    assert given == scope
    if side == THEIRS and "asgi" in scope and scope["type"] != "test":
        nowhere = end[0] == "ValueError" and end[1].startswith("No route found")
        if nowhere:  # "no route is a 404"
            if scope["type"] == "http":
                sent += [("http.response.start", 404), ("http.response.body", None)]
            else:
                sent += [("websocket.close", None)]
            end = ("returned", None)
    return [*tree.log, *sent, end]


def by_hand(coroutine: Any) -> Any:
    """Run what never waits, without a loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


@campaign(150)
@given(cases())
def test_urlrouter_takes_the_route_that_that_of_channels_takes(
    case: tuple[Router, dict[str, Any]],
) -> None:
    tree, scope = case
    expected = by_hand(route(THEIRS, tree, scope))
    assert by_hand(route(OURS, tree, scope)) == expected
    assert trio.run(route, OURS, tree, scope) == expected


types = st.sampled_from(["http", "websocket", "telegram", "lifespan", "channel"])


@campaign(50)
@given(
    st.sampled_from(["ProtocolTypeRouter", "ChannelNameRouter"]),
    st.sets(st.sampled_from(["http", "websocket", "a", "b"])),
    st.fixed_dictionaries(
        {}, optional={"type": types, "channel": st.sampled_from(["a", "b", "c"])}
    ),
)
def test_routers_by_name_do_what_those_of_channels_do(
    router: str, mapped: set[str], scope: dict[str, Any]
) -> None:
    def send_through(side: str) -> Any:
        def make_app(name: str) -> Any:
            @speaks("both")
            async def app(scope: Any, receive: Any, send: Any) -> Any:
                return name, scope

            return app

        mapping = {name: make_app(name) for name in mapped}
        try:
            application = getattr(module(side, "routing"), router)(mapping)
            return by_hand(application(scope, None, None))
        except Exception as error:  # noqa: BLE001
            return type(error).__name__, str(error)

    assert send_through(OURS) == send_through(THEIRS)
