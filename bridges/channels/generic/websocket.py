"""Consumers of WebSockets: `connect`, `receive`, `disconnect`, and `send` for what goes back.

Source: `channels.generic.websocket` 4.3. The introduction of Channels shows consumers whose
`connect` takes a `message`, which Channels itself would not pass; here a `connect` gets
the message of the connection if its signature asks for it.
"""

import inspect
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from asgiref.sync import async_to_sync

from ....runtime import Message
from ....runtime.layers import DONE
from .._handlers import call_plain
from .._layer_failures import is_mistake
from ..consumer import AsyncConsumer, SyncConsumer
from ..db import aclose_old_connections as aclose_old_connections
from ..exceptions import (
    AcceptConnection,
    DenyConnection,
    InvalidChannelLayerError,
    StopConsumer,
)

__all__ = [
    "AsyncJsonWebsocketConsumer",
    "AsyncWebsocketConsumer",
    "JsonWebsocketConsumer",
    "WebsocketConsumer",
]

logger = logging.getLogger("greenroom.channels")

Headers = Iterable[tuple[bytes, bytes]]


def wants_message(connect: Callable[..., Any]) -> bool:
    """Tell whether a bound `connect` cannot be called without an argument.

    >>> class Log:
    ...     def connect(self, message): ...
    >>> wants_message(Log().connect)
    True
    """
    return _requires(getattr(connect, "__func__", connect), hasattr(connect, "__self__"))


@lru_cache(maxsize=512)
def _requires(function: Callable[..., Any], bound: bool) -> bool:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # something callable without a signature
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(
        parameter.default is parameter.empty and parameter.kind in positional
        for parameter in parameters[1 if bound else 0 :]
    )


def accept_message(subprotocol: str | None, headers: Headers | None) -> Message:
    """Make the message that accepts a connection."""
    message: Message = {"type": "websocket.accept", "subprotocol": subprotocol}
    if headers:
        message["headers"] = list(headers)
    return message


def send_message(text_data: str | None, bytes_data: bytes | None) -> Message:
    """Make the message that sends text, or else bytes.

    Raises:
        ValueError: both are None.
    """
    if text_data is not None:
        return {"type": "websocket.send", "text": text_data}
    if bytes_data is not None:
        return {"type": "websocket.send", "bytes": bytes_data}
    raise ValueError("You must pass one of bytes_data or text_data")


def close_message(code: int | bool | None, reason: str | None) -> Message:
    """Make the message that closes a connection; the code True stands for none."""
    message: Message = {"type": "websocket.close"}
    if code is not None and code is not True:
        message["code"] = code
    if reason:
        message["reason"] = reason
    return message


def require_groups(layer: Any) -> None:
    """Check that a layer has groups.

    Raises:
        InvalidChannelLayerError: it has none, or there is no layer.
    """
    if not hasattr(layer, "group_add"):
        raise InvalidChannelLayerError("BACKEND is unconfigured or doesn't support groups")


@contextmanager
def unless_unreachable(group: str) -> Iterator[None]:
    """Go on where a layer can't be told that `group` is left; one that forgets nothing is later."""
    try:
        yield
    except Exception as error:
        if is_mistake(error):
            raise
        logger.debug("the channel layer can't be told that %s is left", group, exc_info=error)


def completed(awaitable: Any) -> None:
    """Have a layer do in a leased thread what it returned an awaitable for."""
    if awaitable is not DONE:  # a layer that waits, for a server beside it
        async_to_sync(_wait)(awaitable)


async def _wait(awaitable: Any) -> None:
    await awaitable


async def leave_groups(consumer: Any) -> None:
    """Leave the groups of a consumer whose connection failed to begin, as far as it had any."""
    layer = consumer.channel_layer
    if hasattr(layer, "group_discard"):
        for group in consumer.groups or ():
            with unless_unreachable(group):
                await layer.group_discard(group, consumer.channel_name)


class WebsocketConsumer(SyncConsumer):
    """A WebSocket whose handlers are plain functions, each call in a leased thread.

    `groups` names the groups of the channel layer that a connection is in from before
    `connect` until its end.
    """

    groups: Iterable[str] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 -- as in Channels
        if self.groups is None:
            self.groups = []

    def websocket_connect(self, message: Message) -> None:
        """Join the groups and call `connect`."""
        for group in self.groups or ():
            require_groups(self.channel_layer)
            completed(self.channel_layer.group_add(group, self.channel_name))
        try:
            if wants_message(self.connect):
                call_plain(self.connect, message)
            else:
                call_plain(self.connect)
        except AcceptConnection:
            self.accept()
        except DenyConnection:
            self.close()

    def connect(self) -> None:
        """Decide on a new connection: override it to `accept()` or `close()`."""
        self.accept()

    def accept(self, subprotocol: str | None = None, headers: Headers | None = None) -> None:
        """Accept the connection, with one of the client's subprotocols or none."""
        super().send(accept_message(subprotocol, headers))

    def websocket_receive(self, message: Message) -> None:
        """Call `receive` with the text or the bytes."""
        text = message.get("text")
        if text is not None:
            call_plain(self.receive, text_data=text)
        else:
            call_plain(self.receive, bytes_data=message["bytes"])

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Handle one message of the client: override it."""

    def send(  # type: ignore[override]  # as in Channels, with data for a message
        self,
        text_data: str | None = None,
        bytes_data: bytes | None = None,
        close: int | bool = False,
    ) -> None:
        """Send text or bytes, and `close` afterwards with that code, or True for none."""
        super().send(send_message(text_data, bytes_data))
        if close:
            self.close(close)

    def close(self, code: int | bool | None = None, reason: str | None = None) -> None:
        """Close the connection; before it is accepted, refuse it with HTTP 403."""
        super().send(close_message(code, reason))

    def websocket_disconnect(self, message: Message) -> None:
        """Leave the groups, call `disconnect`, and end."""
        for group in self.groups or ():
            require_groups(self.channel_layer)
            with unless_unreachable(group):
                completed(self.channel_layer.group_discard(group, self.channel_name))
        call_plain(self.disconnect, message["code"])
        raise StopConsumer

    async def _leave_groups(self) -> None:
        await leave_groups(self)

    def disconnect(self, code: int) -> None:
        """Clean up after the connection: override it.

        It is called also after a handler has failed, other than `connect`: with the
        client's own code if it has left by then, else with 1011.
        """


class JsonWebsocketConsumer(WebsocketConsumer):
    """A `WebsocketConsumer` whose messages are JSON."""

    def receive(
        self,
        text_data: str | None = None,
        bytes_data: bytes | None = None,  # noqa: ARG002 -- a frame of bytes is no JSON
        **kwargs: Any,
    ) -> None:
        """Decode one message and call `receive_json`."""
        if not text_data:
            raise ValueError("No text section for incoming WebSocket frame!")
        call_plain(self.receive_json, self.decode_json(text_data), **kwargs)

    # `*args` for type checkers: an override may leave out `**kwargs`, as most do.
    def receive_json(self, content: Any, *args: Any, **kwargs: Any) -> None:
        """Handle one decoded message: override it."""

    def send_json(self, content: Any, close: int | bool = False) -> None:
        """Send `content` as JSON, and `close` afterwards."""
        super().send(text_data=self.encode_json(content), close=close)

    @classmethod
    def decode_json(cls, text_data: str) -> Any:
        """Read JSON: override it for another reader."""
        return json.loads(text_data)

    @classmethod
    def encode_json(cls, content: Any) -> str:
        """Write JSON: override it for another writer."""
        return json.dumps(content)


class AsyncWebsocketConsumer(AsyncConsumer):
    """A WebSocket whose handlers are coroutines.

    `groups` names the groups of the channel layer that a connection is in from before
    `connect` until its end.
    """

    groups: Iterable[str] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 -- as in Channels
        if self.groups is None:
            self.groups = []

    async def websocket_connect(self, message: Message) -> None:
        """Join the groups and call `connect`."""
        for group in self.groups or ():
            require_groups(self.channel_layer)
            await self.channel_layer.group_add(group, self.channel_name)
        try:
            if wants_message(self.connect):
                await self.connect(message)  # type: ignore[call-arg]  # an override's
            else:
                await self.connect()
        except AcceptConnection:
            await self.accept()
        except DenyConnection:
            await self.close()

    async def connect(self) -> None:
        """Decide on a new connection: override it to `accept()` or `close()`."""
        await self.accept()

    async def accept(self, subprotocol: str | None = None, headers: Headers | None = None) -> None:
        """Accept the connection, with one of the client's subprotocols or none."""
        await super().send(accept_message(subprotocol, headers))

    async def websocket_receive(self, message: Message) -> None:
        """Call `receive` with the text or the bytes."""
        text = message.get("text")
        if text is not None:
            await self.receive(text_data=text)
        else:
            await self.receive(bytes_data=message["bytes"])

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Handle one message of the client: override it."""

    async def send(  # type: ignore[override]  # as in Channels, with data for a message
        self,
        text_data: str | None = None,
        bytes_data: bytes | None = None,
        close: int | bool = False,
    ) -> None:
        """Send text or bytes, and `close` afterwards with that code, or True for none."""
        await super().send(send_message(text_data, bytes_data))
        if close:
            await self.close(close)

    async def close(self, code: int | bool | None = None, reason: str | None = None) -> None:
        """Close the connection; before it is accepted, refuse it with HTTP 403."""
        await super().send(close_message(code, reason))

    async def websocket_disconnect(self, message: Message) -> None:
        """Leave the groups, call `disconnect`, and end."""
        for group in self.groups or ():
            require_groups(self.channel_layer)
            with unless_unreachable(group):
                await self.channel_layer.group_discard(group, self.channel_name)
        await self.disconnect(message["code"])
        raise StopConsumer

    async def _leave_groups(self) -> None:
        await leave_groups(self)

    async def disconnect(self, code: int) -> None:
        """Clean up after the connection: override it.

        It is called also after a handler has failed, other than `connect`: with the
        client's own code if it has left by then, else with 1011.
        """


class AsyncJsonWebsocketConsumer(AsyncWebsocketConsumer):
    """An `AsyncWebsocketConsumer` whose messages are JSON."""

    async def receive(
        self,
        text_data: str | None = None,
        bytes_data: bytes | None = None,  # noqa: ARG002 -- a frame of bytes is no JSON
        **kwargs: Any,
    ) -> None:
        """Decode one message and call `receive_json`."""
        if not text_data:
            raise ValueError("No text section for incoming WebSocket frame!")
        await self.receive_json(await self.decode_json(text_data), **kwargs)

    async def receive_json(self, content: Any, *args: Any, **kwargs: Any) -> None:
        """Handle one decoded message: override it."""

    async def send_json(self, content: Any, close: int | bool = False) -> None:
        """Send `content` as JSON, and `close` afterwards."""
        await super().send(text_data=await self.encode_json(content), close=close)

    @classmethod
    async def decode_json(cls, text_data: str) -> Any:
        """Read JSON: override it for another reader."""
        return json.loads(text_data)

    @classmethod
    async def encode_json(cls, content: Any) -> str:
        """Write JSON: override it for another writer."""
        return json.dumps(content)
