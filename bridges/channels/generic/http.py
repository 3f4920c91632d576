"""A consumer of HTTP requests: `handle(body)`, and handlers for the channel layer beside it.

`handle` runs while the client is connected: when it leaves, `handle` is cancelled, and
`disconnect` runs. Once the whole response was sent, `handle` may go on for as long as it
likes. The request does not end with `handle`, but with its response:

    long polling            `handle` joins a group, or tells others `channel_name`, and
                            returns; a handler of the channel layer answers
    server-sent events      `handle` begins the response, and it or a handler of the
                            channel layer goes on with it, or a task of `start_soon`

Once `handle` has returned, and nobody is there who could go on with the response, the client
gets a 500, or what was begun is cut off, and the log tells what was forgotten.

As in every consumer, handlers run one at a time, and so messages of the channel layer wait
while `handle` runs. One that lives by them returns, or starts what goes on beside them by
`start_soon`.

Source: `channels.generic.http` 4.3. Unlike there, the request may be answered after `handle`
has returned, and a client that leaves is noticed.
"""

import logging
from collections.abc import Awaitable, Iterable
from enum import Enum
from typing import Any, Final, final

from ....runtime import Message, Send, describe
from ....runtime.scopes import EVENTS
from .._handlers import has_layer_handlers
from .._intake import LAST, Intake, call_while
from ..consumer import AsyncConsumer
from ..db import aclose_old_connections as aclose_old_connections
from ..exceptions import StopConsumer

__all__ = ["AsyncHttpConsumer"]

logger = logging.getLogger("greenroom.channels")

Headers = Iterable[tuple[bytes, bytes]]

# The messages that end a response: without `more_body`, or in any case.
LAST_PARTS: Final = frozenset({"http.response.body", "http.response.pathsend"})


class Response(Enum):
    """How far the response to a request is."""

    AWAITED = "awaited"
    BEGUN = "begun"
    ENDED = "ended"  # its last part was handed to the server


@final
class Exchange:
    """One request and what was sent in answer to it."""

    __slots__ = ("_send", "handled", "left", "response")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.response = Response.AWAITED
        self.handled = False  # `handle` has returned
        self.left = False  # `disconnect` has been called

    def answered(self) -> bool:
        """Tell whether the whole response was sent."""
        return self.response is Response.ENDED

    async def send(self, message: Message) -> None:
        """Send one message, and learn from it how far the response is."""
        before = self.response
        kind = message.get("type")
        if kind == "http.response.start":
            self.response = Response.BEGUN
        elif kind in LAST_PARTS and not message.get("more_body"):
            # A server may say at once that the exchange is over, before `send` returns.
            self.response = Response.ENDED
        try:
            await self._send(message)
        except BaseException:
            self.response = before
            raise


class AsyncHttpConsumer(AsyncConsumer):
    """One HTTP request, whose whole body goes to `handle`."""

    _can_restart = False
    _exchange: Exchange | None = None
    _name_is_out = False  # somebody may know the name of its channel

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 -- as in Channels
        self.body: list[bytes] = []

    def _make_base_send(self, send: Send) -> Send:
        self._exchange = Exchange(send)
        return self._exchange.send

    def _live(self, intake: Intake) -> Awaitable[object]:
        self._name_is_out = False  # only the base class has asked for it by now
        return super()._live(intake)

    @property
    def channel_name(self) -> str:
        """The name of its channel; whoever asks for it may tell it to others."""
        self._name_is_out = True
        try:
            name: str = vars(self)["channel_name"]
        except KeyError:
            words = f"{type(self).__name__!r} object has no attribute 'channel_name'"
            raise AttributeError(words, name="channel_name", obj=self) from None
        return name

    @channel_name.setter
    def channel_name(self, name: str) -> None:
        vars(self)["channel_name"] = name

    async def send_headers(
        self, *, status: int = 200, headers: Headers | dict[bytes, bytes] | None = None
    ) -> None:
        """Begin the response; the client gets it with the first part of the body."""
        if isinstance(headers, dict):
            headers = headers.items()
        await self.send(
            {"type": "http.response.start", "status": status, "headers": list(headers or ())}
        )

    async def send_body(self, body: bytes, *, more_body: bool = False) -> None:
        """Send a part of the body, the last one unless there is `more_body`.

        Raises:
            AssertionError: `body` is no bytes.
        """
        if not isinstance(body, bytes):
            raise AssertionError("Body is not bytes")  # noqa: TRY004
        await self.send({"type": "http.response.body", "body": body, "more_body": more_body})

    async def send_response(self, status: int, body: bytes, **kwargs: Any) -> None:
        """Send a whole response; `headers` is passed on to `send_headers`."""
        await self.send_headers(status=status, **kwargs)
        await self.send_body(body)

    async def handle(self, body: bytes) -> None:
        """Answer the request, or begin to: override it.

        It is cancelled when the client leaves before the whole response was sent.
        """
        raise NotImplementedError("Subclasses of AsyncHttpConsumer must provide a handle() method.")

    async def disconnect(self) -> None:
        """Clean up after the request, once: override it."""

    async def dispatch(self, message: Message) -> None:
        """Call the handler of `message`; end once the request is handled and answered."""
        of_client = self._handler_names is not self._layer_handlers
        await super().dispatch(message)
        await self._end_if_over(client_left=of_client and message["type"] in LAST)

    async def http_request(self, message: Message) -> None:
        """Gather the body, and call `handle` when it is complete."""
        exchange = self._exchange
        if exchange is not None and exchange.handled:
            return  # a request has one body
        if "body" in message:
            self.body.append(message["body"])
        if message.get("more_body"):
            return
        body = b"".join(self.body)
        if exchange is None or self._intake is None:  # called by hand
            await self.handle(body)
            return
        try:
            await call_while(self._intake, exchange.answered, self.handle, body)
        except StopConsumer:
            await self._disconnect_once()
            raise
        exchange.handled = True
        await self._end_if_over()

    async def http_disconnect(self, message: Message) -> None:  # noqa: ARG002
        """Call `disconnect` and end."""
        await self._disconnect_once()
        raise StopConsumer

    async def _end_if_over(self, *, client_left: bool = False) -> None:
        exchange = self._exchange
        if exchange is None or not exchange.handled:
            return
        if exchange.response is not Response.ENDED and not client_left:
            intake = self._intake
            if intake is None or intake.crash is not None or intake.mailbox.depth(EVENTS):
                return  # it will end by the failure of a task, or since the client has left
            if self._children:
                return
            why = self._why_unheard()
            if why is None:
                return
            await self._give_up(exchange, why)
        await self._disconnect_once()
        raise StopConsumer

    def _why_unheard(self) -> str | None:
        """Say why no handler of the channel layer can go on with the response; None if one can."""
        if self.channel_layer is None:
            return "there is no channel layer by which it could come later"
        if not has_layer_handlers(self):
            return "there is no handler for messages of the channel layer by which it could come"
        if not self._name_is_out:
            return (
                "no message of the channel layer can reach it, since nobody was told its "
                "channel_name, and it has joined no group"
            )
        return None

    async def _give_up(self, exchange: Exchange, why: str) -> None:
        lacks = "an answer" if exchange.response is Response.AWAITED else "the end of its response"
        words = "%s.handle returned without %s, and %s (%s)"
        logger.error(words, type(self).__name__, lacks, why, describe(self.scope))
        # A communicator leaves `asgi` out, and its test looks at what the consumer has sent.
        if exchange.response is Response.AWAITED and "asgi" in self.scope:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await self.send_response(500, b"Internal Server Error", headers=headers)

    async def _disconnect_once(self) -> None:
        exchange = self._exchange
        if exchange is None or not exchange.left:
            if exchange is not None:
                exchange.left = True
            await self.disconnect()
