"""Tests of consumers' edges: what code written for Channels may rely on, held against Channels.

Each case runs on both, and has to come to the same: the messages sent, and how it ended.
Where it does not, on purpose, the case says what it comes to here.
"""

import asyncio
import datetime
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

import pytest
from tests.bridges.channels.serving import Wire

from greenroom.bridges.channels.layers import InMemoryChannelLayer

Message = dict[str, Any]
Outcome = tuple[list[Message], str]

CONNECT: Final[Message] = {"type": "websocket.connect"}
LEFT: Final[Message] = {"type": "websocket.disconnect", "code": 1000}
STOP: Final[Message] = {"type": "stop"}  # the last message of every case
NONE: Final[Message] = {"text": None, "bytes": None}
THEIRS, OURS = "channels", "greenroom.bridges.channels"


def said(text: Any = None, data: Any = None, **keys: Any) -> Message:
    """Make a message of the client, with the keys that are not None, and all of `keys`."""
    message: Message = {"type": "websocket.receive", **keys}
    if text is not None:
        message["text"] = text
    if data is not None:
        message["bytes"] = data
    return message


@dataclass
class Case:
    """One consumer and what it is sent.

    Args:
        name: what it is about.
        methods: for each method a function of the instance and its arguments, which gives
            calls of the instance's own methods to be made, or raises; other values are
            attributes.
        messages: the client's.
        ours: what it comes to here, where that differs on purpose.
        json: it is about consumers of JSON only.
    """

    name: str
    methods: dict[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = (CONNECT,)
    ours: str | None = None
    json: bool = False


def raises(name: str, *args: Any) -> Callable[..., Any]:
    """Make a method that raises an exception of `channels.exceptions`, or a built-in one."""

    def method(self: Any, *_: Any, **__: Any) -> Any:
        kind: Any = getattr(self.exceptions, name, None) or getattr(
            importlib.import_module("builtins"), name
        )
        raise kind(*args)

    return method


def calls(*each: tuple[str, tuple[Any, ...], dict[str, Any]]) -> Callable[..., Any]:
    """Make a method that makes these calls."""
    return lambda self, *_, **__: each


def call(name: str, *args: Any, **kwargs: Any) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Write one call down."""
    return name, args, kwargs


def shows(*names: str) -> Callable[..., Any]:
    """Make a method that sends what it was called with, and these attributes."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = [getattr(self, name, "missing") for name in names]
        return [call("base_send", {"type": "shown", "as": repr((args, kwargs, found))})]

    return method


CASES = [
    Case("nothing is overridden", messages=(CONNECT, LEFT)),
    Case("accepted twice", {"connect": calls(call("accept"), call("accept", "p", [(b"a", b"b")]))}),
    Case("headers are any iterable", {"connect": calls(call("accept", headers=((b"a", b"b"),)))}),
    Case("no headers", {"connect": calls(call("accept", None, []))}),
    *(
        Case(f"closed with {code!r}", {"connect": calls(call("close", code))})
        for code in (None, True, False, 0, 4005, "x", 1.5)
    ),
    Case("closed for a reason", {"connect": calls(call("close", code=4000, reason="why"))}),
    Case("closed for no reason", {"connect": calls(call("close", reason=""))}),
    *(
        Case(f"sends {args!r}", {"connect": calls(call("send", *args))})
        for args in (
            (),
            ("",),
            (None, b""),
            ("a", b"b"),
            ("a", None, True),
            ("a", None, 4005),
            ("a", None, 0),
            (None, None, True),
        )
    ),
    Case("connect asks to accept", {"connect": raises("AcceptConnection")}),
    Case("connect asks to deny", {"connect": raises("DenyConnection")}),
    Case(
        "accept is asked for in receive",
        {"receive": raises("AcceptConnection", "too late")},
        (CONNECT, said("a")),
    ),
    Case(
        "deny is asked for in disconnect",
        {"disconnect": raises("DenyConnection", "too late")},
        (CONNECT, LEFT),
    ),
    Case("connect stops", {"connect": raises("StopConsumer")}),
    Case("receive stops", {"receive": raises("StopConsumer")}, (CONNECT, said("a"))),
    Case("disconnect fails", {"disconnect": raises("KeyError", "own")}, (CONNECT, LEFT)),
    Case("disconnect without a code", {}, (CONNECT, {"type": "websocket.disconnect"})),
    Case("disconnect is told the code alone", {"disconnect": shows()}, (CONNECT, LEFT)),
    Case("message without text and bytes", {"receive": shows()}, (CONNECT, said())),
    Case("text and bytes are None", {"receive": shows()}, (CONNECT, said(**NONE))),
    Case("text and bytes", {"receive": shows()}, (CONNECT, said("a", b"b"))),
    Case("text", {"receive": shows()}, (CONNECT, said("a"))),
    Case("no text", {"receive": shows()}, (CONNECT, said(""))),
    Case("bytes", {"receive": shows()}, (CONNECT, said(None, b"b"))),
    Case("message before the connection", {"receive": shows()}, (said("a"),)),
    Case("message after the end", {"receive": shows()}, (CONNECT, LEFT, said("a"))),
    *(
        Case(f"groups are {groups!r}", {"groups": groups, "connect": shows("groups")})
        for groups in (["g"], ("g",), "gh", {"g": 1}, [], ["not a name"], [5])
    ),
    Case("groups without a layer", {"groups": ["g"], "channel_layer_alias": "none"}),
    Case(
        "groups are left without a layer",
        {"groups": ["g"], "channel_layer_alias": "none"},
        (LEFT,),
    ),
    Case(
        "no layer",
        {
            "channel_layer_alias": "none",
            "connect": shows("channel_layer", "channel_name", "channel_receive"),
        },
    ),
    Case(
        "constructor without its base's",
        {"__init__": lambda self, *args, **kwargs: None},
        ours="accepts",
    ),
    *(
        Case(f"type {kind!r}", {}, ({"type": kind},))
        for kind in ("x.y", "x-y", "_x", ".x", 5, None, "")
    ),
    Case("type names a method", {}, ({"type": "close"},), ours="No handler for message type close"),
    Case("no type", {}, ({"text": "a"},)),
    Case("handler is no function", {"number": 0}, ({"type": "number"},)),
    # Of JSON.
    *(
        Case(f"JSON {text}", {"receive_json": shows()}, (CONNECT, said(text)), json=True)
        for text in ("{", "null", "[1]", "NaN", '"a"', "", '{"a": 1}')
    ),
    Case("JSON in bytes", {"receive_json": shows()}, (CONNECT, said(None, b"{}")), json=True),
    Case("JSON is None", {"receive_json": shows()}, (CONNECT, said(**NONE)), json=True),
    Case(
        "keywords of receive go on to receive_json",
        {
            "websocket_receive": calls(call("receive", text_data="1", more=2)),
            "receive_json": shows(),
        },
        (CONNECT, said("a")),
        json=True,
    ),
    *(
        Case(f"sends JSON {args!r}", {"connect": calls(call("send_json", *args))}, json=True)
        for args in (
            (None,),
            ({"a": [1]},),
            ({"a": 1}, True),
            ({"a": 1}, 4001),
            ({1},),
            (datetime.date(2026, 1, 1),),
        )
    ),
]
KINDS = [
    "WebsocketConsumer",
    "AsyncWebsocketConsumer",
    "JsonWebsocketConsumer",
    "AsyncJsonWebsocketConsumer",
]


def a_class(side: str, kind: str, methods: dict[str, Any]) -> Any:
    """Make the consumer class of a case."""
    base = getattr(importlib.import_module(f"{side}.generic.websocket"), kind)

    def method(fn: Callable[..., Any]) -> Callable[..., Any]:
        def sync(self: Any, *args: Any, **kwargs: Any) -> None:
            for name, values, keywords in fn(self, *args, **kwargs) or ():
                getattr(self, name)(*values, **keywords)

        async def asynchronous(self: Any, *args: Any, **kwargs: Any) -> None:
            for name, values, keywords in fn(self, *args, **kwargs) or ():
                await getattr(self, name)(*values, **keywords)

        return asynchronous if kind.startswith("Async") else sync

    namespace: dict[str, Any] = {
        "exceptions": importlib.import_module(f"{side}.exceptions"),
        "stop": method(raises("StopConsumer")),
    }
    for name, value in methods.items():
        wrapped = callable(value) and name != "__init__"
        namespace[name] = method(value) if wrapped else value
    return type("Case", (base,), namespace)


async def live(side: str, app: Any, messages: tuple[Message, ...], layer: Any) -> Outcome:
    """Serve `app` these messages, and give what it sent and how it ended."""
    layers: Any = importlib.import_module(f"{side}.layers")
    old = layers.channel_layers.set("default", layer)
    wire = Wire(*messages, STOP)
    try:
        await asyncio.wait_for(app({"type": "websocket"}, wire.receive, wire.send), 10)
        end = "returns"
    except Exception as error:  # noqa: BLE001
        end = f"{type(error).__name__}: {error}"
    finally:
        layers.channel_layers.backends.pop("default", None)
        if old is not None:
            layers.channel_layers.set("default", old)
    return wire.sent, end


@pytest.fixture(scope="module")
def channels() -> ModuleType:
    """Channels itself; other tests have Greenroom stand in for it, in processes of their own."""
    return importlib.import_module("channels.layers")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_consumer_comes_to_the_same_as_in_channels(
    case: Case, kind: str, channels: Any, layer: InMemoryChannelLayer
) -> None:
    if case.json and "Json" not in kind:
        pytest.skip("there is no JSON in it")
    if "Json" in kind and not case.json and "receive" in case.methods:
        pytest.skip("its receive is another one")
    ours, end = asyncio.run(
        live(OURS, a_class(OURS, kind, case.methods).as_asgi(), case.messages, layer)
    )
    theirs, their_end = asyncio.run(
        live(
            THEIRS,
            a_class(THEIRS, kind, case.methods).as_asgi(),
            case.messages,
            channels.InMemoryChannelLayer(),
        )
    )
    if case.ours is None:
        assert (ours, end) == (theirs, their_end)
    else:
        assert (ours, end) != (theirs, their_end)
        assert case.ours in end or (
            case.ours == "accepts" and ours[0]["type"] == "websocket.accept"
        )


@pytest.mark.parametrize("kind", KINDS)
def test_application_tells_of_its_class_as_in_channels(kind: str, channels: Any) -> None:
    for side in (OURS, THEIRS):
        consumer = a_class(side, kind, {})
        app = consumer.as_asgi(a=1)
        assert app.consumer_class is consumer
        assert app.consumer_initkwargs == {"a": 1}
        assert (app.__name__, app.__qualname__) == (consumer.__name__, consumer.__qualname__)
        assert (app.__doc__, app.__module__) == (consumer.__doc__, consumer.__module__)


@pytest.mark.parametrize("kind", KINDS)
def test_instance_is_an_application_for_one_scope_after_another(
    kind: str, channels: Any, layer: InMemoryChannelLayer
) -> None:
    outcomes = []
    for side, of_side in ((OURS, layer), (THEIRS, channels.InMemoryChannelLayer())):
        app = a_class(side, kind, {})()
        outcomes.append([asyncio.run(live(side, app, (CONNECT, LEFT), of_side)) for _ in range(2)])
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][1][0] == [{"type": "websocket.accept", "subprotocol": None}]
