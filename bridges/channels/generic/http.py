"""A consumer of HTTP requests: `handle(body)`, and handlers for the channel layer beside it.

Source: `channels.generic.http` 4.3. Unlike there, a response that `handle` has begun and not
finished stays open, and a handler of the channel layer may go on with it: long-polling.
"""

from collections.abc import Iterable
from typing import Any

from ....runtime._types import Message
from ..consumer import AsyncConsumer
from ..exceptions import StopConsumer

__all__ = ["AsyncHttpConsumer"]

Headers = Iterable[tuple[bytes, bytes]]


class AsyncHttpConsumer(AsyncConsumer):
    """One HTTP request, whose whole body goes to `handle`."""

    _can_restart = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 -- as in Channels
        self.body: list[bytes] = []
        self._handled = False  # `handle` has returned
        self._answering = False  # a response has begun and has not ended
        self._left = False  # `disconnect` has been called

    async def send_headers(
        self, *, status: int = 200, headers: Headers | dict[bytes, bytes] | None = None
    ) -> None:
        """Begin the response; the client gets it with the first part of the body."""
        if isinstance(headers, dict):
            headers = headers.items()
        await self.send(
            {"type": "http.response.start", "status": status, "headers": list(headers or ())}
        )
        self._answering = True

    async def send_body(self, body: bytes, *, more_body: bool = False) -> None:
        """Send a part of the body, the last one unless there is `more_body`.

        Raises:
            AssertionError: `body` is no bytes.
        """
        if not isinstance(body, bytes):
            raise AssertionError("Body is not bytes")  # noqa: TRY004
        await self.send({"type": "http.response.body", "body": body, "more_body": more_body})
        self._answering = more_body

    async def send_response(self, status: int, body: bytes, **kwargs: Any) -> None:
        """Send a whole response; `headers` is passed on to `send_headers`."""
        await self.send_headers(status=status, **kwargs)
        await self.send_body(body)

    async def handle(self, body: bytes) -> None:
        """Answer the request: override it."""
        raise NotImplementedError("Subclasses of AsyncHttpConsumer must provide a handle() method.")

    async def disconnect(self) -> None:
        """Clean up after the request, once: override it."""

    async def dispatch(self, message: Message) -> None:
        """Call the handler of `message`; end once the request is handled and answered."""
        await super().dispatch(message)
        if self._handled and not self._answering:
            await self._disconnect_once()
            raise StopConsumer

    async def http_request(self, message: Message) -> None:
        """Gather the body, and call `handle` when it is complete."""
        self.body.append(message.get("body", b""))
        if not message.get("more_body"):
            await self.handle(b"".join(self.body))
            self._handled = True

    async def http_disconnect(self, message: Message) -> None:  # noqa: ARG002
        """Call `disconnect` and end."""
        await self._disconnect_once()
        raise StopConsumer

    async def _disconnect_once(self) -> None:
        if not self._left:
            self._left = True
            await self.disconnect()
