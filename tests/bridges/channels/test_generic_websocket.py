"""Tests of the websocket consumers: what they do with each message, and what they send."""

import json
from typing import Any

import pytest
from tests.bridges.channels.serving import exchange

from greenroom.bridges.channels.exceptions import (
    AcceptConnection,
    DenyConnection,
    InvalidChannelLayerError,
)
from greenroom.bridges.channels.generic.websocket import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
    WebsocketConsumer,
)
from greenroom.bridges.channels.layers import InMemoryChannelLayer

SCOPE = {"type": "websocket"}
CONNECT = {"type": "websocket.connect"}
GONE = {"type": "websocket.disconnect", "code": 4001, "reason": "bye"}
BOTH = pytest.mark.parametrize("base", [AsyncWebsocketConsumer, WebsocketConsumer])


def text(value: str) -> dict[str, Any]:
    return {"type": "websocket.receive", "text": value}


def make(base: type, **handlers: Any) -> Any:
    """Make a consumer class from plain functions, for the sync or the async base."""

    def as_coroutine(function: Any) -> Any:
        async def handler(self: Any, *args: Any, **kwargs: Any) -> None:
            result = function(self, *args, **kwargs)
            for awaitable in result if isinstance(result, list) else [result]:
                if awaitable is not None:
                    await awaitable

        return handler

    if issubclass(base, AsyncWebsocketConsumer):
        handlers = {
            name: as_coroutine(value) if callable(value) else value
            for name, value in handlers.items()
        }
    return type("Made", (base,), handlers).as_asgi()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["connect", "receive", "receive_json", "disconnect"])
def test_coroutine_function_in_a_sync_consumer_is_an_error_that_names_it(name: str) -> None:
    async def handler(self: Any, *args: Any, **kwargs: Any) -> None: ...

    handler.__qualname__ = f"Mixed.{name}"
    consumer = type("Mixed", (JsonWebsocketConsumer,), {name: handler}).as_asgi()  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=f"Mixed.{name} is a coroutine function; the handlers of a"):
        exchange(consumer, SCOPE, CONNECT, text("1"), GONE)


@BOTH
def test_connection_is_accepted_unless_connect_says_otherwise(base: type) -> None:
    accepted = {"type": "websocket.accept", "subprotocol": None}
    assert exchange(make(base), SCOPE, CONNECT, GONE) == [accepted]
    silent = make(base, connect=lambda self: None)
    assert exchange(silent, SCOPE, CONNECT, GONE) == []


@BOTH
def test_accept_takes_a_subprotocol_and_headers(base: type) -> None:
    app = make(base, connect=lambda self: self.accept("chat", headers=[(b"a", b"b")]))
    assert exchange(app, SCOPE, CONNECT, GONE) == [
        {"type": "websocket.accept", "subprotocol": "chat", "headers": [(b"a", b"b")]}
    ]


@BOTH
def test_connect_may_raise_its_decision(base: type) -> None:
    def accept(self: Any) -> None:
        raise AcceptConnection

    def deny(self: Any) -> None:
        raise DenyConnection

    accepted = {"type": "websocket.accept", "subprotocol": None}
    assert exchange(make(base, connect=accept), SCOPE, CONNECT, GONE) == [accepted]
    assert exchange(make(base, connect=deny), SCOPE, CONNECT, GONE) == [{"type": "websocket.close"}]


def test_connect_gets_the_message_if_it_asks_for_it() -> None:
    seen: list[Any] = []

    class Asks(AsyncWebsocketConsumer):
        async def connect(self, message: dict[str, Any]) -> None:  # type: ignore[override]
            seen.append(message)

    class Offers(AsyncWebsocketConsumer):
        async def connect(self, message: Any = None, *more: Any, **options: Any) -> None:
            seen.append(message)

    exchange(Asks.as_asgi(), SCOPE, CONNECT, GONE)
    exchange(Offers.as_asgi(), SCOPE, CONNECT, GONE)
    assert seen == [CONNECT, None]


@BOTH
def test_receive_gets_text_or_bytes_by_name(base: type) -> None:
    got: list[Any] = []

    def receive(self: Any, **data: Any) -> None:
        got.append(data)

    messages = [
        text("a"),
        text(""),
        {"type": "websocket.receive", "bytes": b"b"},
        {"type": "websocket.receive", "text": None, "bytes": b""},
        {"type": "websocket.receive", "text": None, "bytes": None},
    ]
    exchange(make(base, receive=receive), SCOPE, *messages, GONE)
    assert got == [
        {"text_data": "a"},
        {"text_data": ""},
        {"bytes_data": b"b"},
        {"bytes_data": b""},
        {"bytes_data": None},
    ]
    with pytest.raises(KeyError, match="bytes"):
        exchange(make(base, receive=receive), SCOPE, {"type": "websocket.receive"})


@BOTH
@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ({"text_data": "a"}, [{"text": "a"}]),
        ({"text_data": ""}, [{"text": ""}]),
        ({"bytes_data": b""}, [{"bytes": b""}]),
        ({"text_data": "a", "bytes_data": b"b"}, [{"text": "a"}]),
        ({"text_data": "a", "close": True}, [{"text": "a"}, {}]),
        ({"text_data": "a", "close": 4005}, [{"text": "a"}, {"code": 4005}]),
    ],
)
def test_send_sends_and_closes(base: type, arguments: Any, sent: list[Any]) -> None:
    app = make(base, receive=lambda self, **_: self.send(**arguments))
    types = ["websocket.send", "websocket.close"]
    expected = [{"type": kind, **rest} for kind, rest in zip(types, sent, strict=False)]
    assert exchange(app, SCOPE, text("x"), GONE) == expected


@BOTH
def test_send_of_nothing_is_an_error(base: type) -> None:
    app = make(base, receive=lambda self, **_: self.send())
    with pytest.raises(ValueError, match="You must pass one of bytes_data or text_data"):
        exchange(app, SCOPE, text("x"))


@BOTH
@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ({}, {}),
        ({"code": True}, {}),
        ({"code": 0}, {"code": 0}),
        ({"code": 4000, "reason": "enough"}, {"code": 4000, "reason": "enough"}),
        ({"reason": ""}, {}),
    ],
)
def test_close_sends_code_and_reason(base: type, arguments: Any, sent: Any) -> None:
    app = make(base, receive=lambda self, **_: self.close(**arguments))
    assert exchange(app, SCOPE, text("x"), GONE) == [{"type": "websocket.close", **sent}]


@BOTH
def test_disconnect_gets_the_code(base: type) -> None:
    codes: list[int] = []
    app = make(base, disconnect=lambda self, code: codes.append(code))
    exchange(app, SCOPE, GONE)
    assert codes == [4001]
    with pytest.raises(KeyError, match="code"):
        exchange(app, SCOPE, {"type": "websocket.disconnect"})


@BOTH
def test_groups_are_joined_before_connect_and_left_before_disconnect(
    base: type, layer: InMemoryChannelLayer
) -> None:
    seen: list[int] = []

    def look(self: Any, *_: Any) -> None:
        seen.append(len(layer.groups.get("g", ())))

    app = make(base, groups={"g"}, connect=look, disconnect=look)
    exchange(app, SCOPE, CONNECT, GONE)
    assert seen == [1, 0]


@BOTH
def test_layer_that_is_out_of_reach_keeps_nobody_from_leaving(
    base: type, layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []

    async def fail(group: str, channel: str) -> None:
        raise error

    app = make(base, groups=["g"], disconnect=lambda self, code: left.append(code))
    monkeypatch.setattr(layer, "group_discard", fail)
    error: Exception = ConnectionError("gone")
    exchange(app, SCOPE, CONNECT, GONE)
    assert left == [4001]
    error = TypeError("no such group")
    with pytest.raises(TypeError, match="no such group"):
        exchange(app, SCOPE, CONNECT, GONE)


@BOTH
def test_groups_need_a_layer(base: type) -> None:
    app = make(base, groups=["g"], channel_layer_alias="none")
    with pytest.raises(InvalidChannelLayerError, match="doesn't support groups"):
        exchange(app, SCOPE, CONNECT)


@BOTH
def test_constructor_of_a_subclass_may_forget_its_base(base: type) -> None:
    app = make(base)
    app.consumer_class.__init__ = lambda self: None
    assert exchange(app, SCOPE, CONNECT, GONE)[0]["type"] == "websocket.accept"


class AsyncJson(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json({"got": content})


class SyncJson(JsonWebsocketConsumer):
    def receive_json(self, content: Any, **kwargs: Any) -> None:
        self.send_json({"got": content})


@pytest.mark.parametrize("consumer", [AsyncJson, SyncJson])
def test_json_goes_both_ways(consumer: Any) -> None:
    sent = exchange(consumer.as_asgi(), SCOPE, text('{"a": [1]}'), text("null"), GONE)
    assert [json.loads(message["text"]) for message in sent] == [
        {"got": {"a": [1]}},
        {"got": None},
    ]
    with pytest.raises(json.JSONDecodeError):
        exchange(consumer.as_asgi(), SCOPE, text("{"))
    for empty in (text(""), {"type": "websocket.receive", "bytes": b"{}"}):
        with pytest.raises(ValueError, match="No text section for incoming WebSocket frame!"):
            exchange(consumer.as_asgi(), SCOPE, empty)


def test_json_codec_can_be_replaced() -> None:
    class Shouts(AsyncJson):
        @classmethod
        async def encode_json(cls, content: Any) -> str:
            return json.dumps(content).upper()

        @classmethod
        async def decode_json(cls, text_data: str) -> Any:
            return text_data

    (sent,) = exchange(Shouts.as_asgi(), SCOPE, text("hello"), GONE)
    assert sent["text"] == '{"GOT": "HELLO"}'
