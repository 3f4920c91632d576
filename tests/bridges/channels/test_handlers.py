"""Tests of which methods a message may call: the client's, and one of the channel layer."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.bridges.channels.serving import Wire, exchange

from greenroom.bridges.channels.consumer import AsyncConsumer, SyncConsumer
from greenroom.bridges.channels.exceptions import StopConsumer
from greenroom.bridges.channels.generic.http import AsyncHttpConsumer
from greenroom.bridges.channels.generic.websocket import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
    WebsocketConsumer,
)
from greenroom.bridges.channels.layers import get_channel_layer

CONNECT = {"type": "websocket.connect"}
REQUEST = {"type": "http.request", "body": b"", "more_body": True}


def send_through_the_layer(
    consumer: Any, message: dict[str, Any], first: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Serve `consumer`, send it `message` through its channel layer, and give what it sent."""

    async def main() -> list[dict[str, Any]]:
        layer: Any = get_channel_layer()
        wire = Wire(*([first] if first else []))
        kind = first["type"].partition(".")[0] if first else "test"
        running = asyncio.create_task(
            consumer.as_asgi()({"type": kind, "path": "/"}, wire.receive, wire.send)
        )
        while not layer.channels:  # noqa: ASYNC110
            await asyncio.sleep(0)
        (channel,) = layer.channels
        await layer.send(channel, message)
        await asyncio.wait_for(running, 10)
        return wire.sent

    return asyncio.run(main())


def test_message_of_the_layer_calls_what_the_users_class_defines() -> None:
    class Room(AsyncConsumer):
        async def chat_message(self, event: dict[str, Any]) -> None:
            await self.send(event)
            raise StopConsumer

    message = {"type": "chat.message", "text": "hello"}
    assert send_through_the_layer(Room, message) == [message]


CLASSES: list[tuple[type[AsyncConsumer], Any]] = [
    (AsyncConsumer, None),
    (SyncConsumer, None),
    (AsyncWebsocketConsumer, CONNECT),
    (WebsocketConsumer, CONNECT),
    (AsyncJsonWebsocketConsumer, CONNECT),
    (JsonWebsocketConsumer, CONNECT),
    (AsyncHttpConsumer, REQUEST),
]


def public_names(cls: type) -> list[str]:
    return [name for name in dir(cls) if not name.startswith("_")]


@pytest.mark.parametrize(("base", "first"), CLASSES)
def test_message_of_the_layer_calls_nothing_that_a_base_class_defines(
    base: type[AsyncConsumer], first: Any
) -> None:
    class Plain(base):  # type: ignore[misc, valid-type]
        pass

    attributes = ["scope", "channel_layer", "channel_name", "channel_receive", "base_send", "body"]
    for name in (*public_names(base), *attributes):
        with pytest.raises(ValueError, match=f"^No handler for message type {name}\\b"):
            send_through_the_layer(Plain, {"type": name}, first)


# What Channels has no such names for, and so is free for code written for it.
FREE = {"restart", "restarted", "restart_intensity", "restart_period", "start_soon", "pinned"}


@pytest.mark.parametrize(("base", "first"), CLASSES)
def test_name_of_a_base_class_is_not_the_layers_even_where_the_user_overrides_it(
    base: type[AsyncConsumer], first: Any
) -> None:
    names = {name for name in public_names(base) if callable(getattr(base, name))}
    for name in sorted(names - FREE - {"as_asgi", "dispatch"}):
        if name.startswith(("websocket_", "http_")):
            continue

        async def override(self: Any, *args: Any, **kwargs: Any) -> None:
            raise AssertionError("it was called")

        overriding = type("Overriding", (base,), {name: override})
        if name in ("connect", "accept", "disconnect") and first is not None:
            continue  # what the connection itself calls
        with pytest.raises(ValueError, match=f"^No handler for message type {name}\\b"):
            send_through_the_layer(overriding, {"type": name}, first)


def test_protocols_handler_is_the_layers_where_the_users_class_defines_it() -> None:
    class Relayed(AsyncWebsocketConsumer):
        async def connect(self) -> None: ...

        async def websocket_receive(self, message: dict[str, Any]) -> None:
            await self.accept()
            raise StopConsumer

    (accepted,) = send_through_the_layer(Relayed, {"type": "websocket.receive"}, CONNECT)
    assert accepted["type"] == "websocket.accept"


def test_clients_messages_still_go_to_the_protocols_handlers_of_the_base_classes() -> None:
    gone = {"type": "websocket.disconnect", "code": 1000}
    (accepted,) = exchange(AsyncWebsocketConsumer.as_asgi(), {"type": "websocket"}, CONNECT, gone)
    assert accepted["type"] == "websocket.accept"


def test_forged_disconnect_of_the_layer_is_no_end_but_an_unknown_message() -> None:
    left: list[int] = []

    class Leaves(AsyncWebsocketConsumer):
        async def disconnect(self, code: int) -> None:
            left.append(code)

    forged = {"type": "websocket.disconnect", "code": 4000}
    with pytest.raises(ValueError, match=r"No handler for message type websocket\.disconnect"):
        send_through_the_layer(Leaves, forged, CONNECT)
    assert left == [1011]
    with pytest.raises(ValueError, match=r"No handler for message type websocket\.disconnect"):
        send_through_the_layer(AsyncConsumer, forged)


def test_attribute_of_an_instance_is_not_the_layers_but_what_getattr_makes_is() -> None:
    async def stop(message: dict[str, Any]) -> None:
        raise StopConsumer

    class Makes(AsyncConsumer):
        def __init__(self) -> None:
            self.log_out: Callable[..., Any] = stop

        def __getattr__(self, name: str) -> Any:
            if name == "made_up":
                return stop
            raise AttributeError(name)

    assert send_through_the_layer(Makes, {"type": "made.up"}) == []
    with pytest.raises(ValueError, match=r"No handler for message type log\.out"):
        send_through_the_layer(Makes, {"type": "log.out"})


def test_names_that_channels_does_not_have_are_free_for_handlers() -> None:
    class Game(AsyncConsumer):
        async def restarted(self, event: dict[str, Any]) -> None:  # type: ignore[override]
            await self.send({"type": "said"})
            raise StopConsumer

    assert send_through_the_layer(Game, {"type": "restarted"}) == [{"type": "said"}]


def test_overridden_dispatch_stays_the_one_entrance() -> None:
    class Logs(AsyncConsumer):
        async def dispatch(self, message: dict[str, Any]) -> None:
            await self.send({"type": "seen"})
            await asyncio.sleep(0)
            await super().dispatch(dict(message))

    with pytest.raises(ValueError, match="No handler for message type send"):
        send_through_the_layer(Logs, {"type": "send"})


def test_message_of_a_named_channel_comes_from_the_layer_too() -> None:
    class Job(AsyncConsumer):
        async def test_print(self, message: dict[str, Any]) -> None:
            await self.send(message)
            raise StopConsumer

    scope = {"type": "channel", "channel": "jobs"}
    assert exchange(Job.as_asgi(), scope, {"type": "test.print"}) == [{"type": "test.print"}]
    with pytest.raises(ValueError, match=r"No handler for message type websocket\.connect"):
        exchange(AsyncWebsocketConsumer.as_asgi(), scope, CONNECT)


class Room(AsyncWebsocketConsumer):
    def __init__(self) -> None:
        self.on_instance = print


@pytest.mark.parametrize("name", ["websocket.disconnect", "close", "on.instance"])
def test_error_says_why_the_layer_may_not_call_what_is_there(name: str) -> None:
    with pytest.raises(ValueError, match="No handler") as failure:
        send_through_the_layer(Room, {"type": name}, CONNECT)
    method = name.replace(".", "_")
    assert failure.value.__notes__[0].startswith(f"Room.{method} is there, but a message")


def test_unknown_message_is_one_error_and_not_two() -> None:
    with pytest.raises(ValueError, match="No handler for message type none") as failure:
        send_through_the_layer(Room, {"type": "none"}, CONNECT)
    assert failure.value.__context__ is None
    assert not hasattr(failure.value, "__notes__")


@pytest.mark.parametrize("kind", [5, None, [], b"a"])
def test_type_that_is_no_text_is_told_as_such(kind: Any) -> None:
    with pytest.raises((AttributeError, TypeError)) as failure:
        exchange(AsyncConsumer.as_asgi(), {"type": "test"}, {"type": kind})
    assert failure.value.__notes__[0] == f"the type of a message is a str, not {kind!r}"
    assert failure.value.__context__ is None
