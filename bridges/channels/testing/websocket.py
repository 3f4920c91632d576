"""Talking to a WebSocket application in a test, without a server."""

import json
from typing import Any
from urllib.parse import unquote, urlparse

from .application import ApplicationCommunicator

__all__ = ["WebsocketCommunicator"]


class WebsocketCommunicator(ApplicationCommunicator):
    """An `ApplicationCommunicator` for one WebSocket.

    ```python
    async def test_chat():
        communicator = WebsocketCommunicator(application, "/ws/chat/lobby/")
        connected, subprotocol = await communicator.connect()
        assert connected
        await communicator.send_to(text_data="hello")
        assert await communicator.receive_from() == "hello"
        await communicator.disconnect()
    ```

    As a context manager it disconnects at the end of the block by itself, so that the
    consumer's `disconnect` runs.

    Args:
        application: an ASGI application: a consumer's `as_asgi()`, or a router around it, for
            consumers that need a `url_route`.
        path: the path, with its query if there is one; or a URL.
        headers: pairs of bytes, the names in lower case.
        subprotocols: those that the client offers.
        spec_version: of ASGI, for the scope; it is left out if None.
        destructive_timeouts: as `ApplicationCommunicator`.

    Raises:
        TypeError: `path` is no str.
    """

    def __init__(
        self,
        application: Any,
        path: str,
        headers: list[tuple[bytes, bytes]] | None = None,
        subprotocols: list[str] | None = None,
        spec_version: str | None = None,
        *,
        destructive_timeouts: bool | None = None,
    ) -> None:
        if not isinstance(path, str):
            raise TypeError(f"Expected str, got {type(path)}")
        url = urlparse(path)
        scope: dict[str, Any] = {
            "type": "websocket",
            "path": unquote(url.path),
            "query_string": url.query.encode("utf-8"),
            "headers": headers or [],
            "subprotocols": subprotocols or [],
        }
        if spec_version:
            scope["spec_version"] = spec_version
        super().__init__(application, scope, destructive_timeouts=destructive_timeouts)
        self.response_headers: list[tuple[bytes, bytes]] | None = None
        """The headers that the application accepted the connection with; set by `connect`."""

    async def connect(self, timeout: float | None = 1) -> tuple[bool, Any]:
        """Ask for the connection, and wait for the answer.

        Args:
            timeout: seconds, 1 as in Channels; None waits for ever.

        Returns:
            `(True, subprotocol)` if it is accepted, the subprotocol None if none was
            chosen. `(False, code)` if it is refused, with the code of the close, 1000
            if the application named none. `(False, status)` if it is refused by an HTTP
            response, in applications that make use of ASGI's extension for that.

        Raises:
            Exception: what the application has raised, before this call or while it waits.
            ApplicationStopped: it was cancelled before.
            TimeoutError: there was no answer within `timeout` seconds, and the application is
                cancelled, unless `destructive_timeouts` is False; or it has ended.
            AssertionError: it was no answer.
        """
        await self.send_input({"type": "websocket.connect"})
        response = await self.receive_output(timeout)
        match response["type"]:
            case "websocket.accept":
                self.response_headers = response.get("headers", [])
                return True, response.get("subprotocol", None)
            case "websocket.close":
                return False, response.get("code", 1000)
            case "websocket.http.response.start":
                self.response_headers = response.get("headers", [])
                return False, response["status"]
            case other:
                raise AssertionError(f"Expected type 'websocket.accept', but was {other!r}")

    async def send_to(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Send a text, or bytes, to the application; they may be empty.

        Raises:
            Exception: what the application has raised.
            ApplicationStopped: it was cancelled, such as by a timeout before.
            AssertionError: it is not exactly one of both, or not of that type.
        """
        if text_data is not None and bytes_data is not None and bool(text_data) != bool(bytes_data):
            # An empty one beside another counts as none, as in Channels.
            text_data, bytes_data = text_data or None, bytes_data or None
        if (text_data is None) == (bytes_data is None):
            raise AssertionError("You must supply exactly one of text_data or bytes_data")
        if text_data is not None:
            if not isinstance(text_data, str):
                raise AssertionError("The text_data argument must be a str")
            await self.send_input({"type": "websocket.receive", "text": text_data})
        else:
            if not isinstance(bytes_data, bytes):
                raise AssertionError("The bytes_data argument must be bytes")
            await self.send_input({"type": "websocket.receive", "bytes": bytes_data})

    async def send_json_to(self, data: Any) -> None:
        """Send `data` as JSON, in a text.

        Raises:
            Exception: what the application has raised.
            ApplicationStopped: it was cancelled, such as by a timeout before.
            TypeError: `data` is nothing that JSON can say.
        """
        await self.send_to(text_data=json.dumps(data))

    async def receive_from(self, timeout: float | None = 1) -> Any:
        """Receive the next text, as str, or bytes.

        Args:
            timeout: seconds, 1 as in Channels; None waits for ever.

        Raises:
            Exception: what the application has raised, before this call or while it waits.
            ApplicationStopped: it was cancelled, such as by a timeout before.
            TimeoutError: nothing came within `timeout` seconds, and the application is
                cancelled, unless `destructive_timeouts` is False; or it has ended.
            AssertionError: something else came, such as a close.
        """
        message = await self.receive_output(timeout)
        if message["type"] != "websocket.send":
            raise AssertionError(f"Expected type 'websocket.send', but was '{message['type']}'")
        text, data = message.get("text"), message.get("bytes")
        if (text is None) == (data is None):
            raise AssertionError("The response needs exactly one of 'text' or 'bytes'")
        if text is not None:
            if not isinstance(text, str):
                raise AssertionError(f"Text frame payload is not str, it is {type(text)}")
            return text
        if not isinstance(data, bytes):
            raise AssertionError(f"Binary frame payload is not bytes, it is {type(data)}")  # noqa: TRY004
        return data

    async def receive_json_from(self, timeout: float | None = 1) -> Any:
        """Receive the next text, and give what it says in JSON.

        Args:
            timeout: seconds, 1 as in Channels; None waits for ever.

        Raises:
            Exception: what the application has raised, before this call or while it waits.
            ApplicationStopped: it was cancelled, such as by a timeout before.
            TimeoutError: nothing came within `timeout` seconds, and the application is
                cancelled, unless `destructive_timeouts` is False; or it has ended.
            AssertionError: bytes came, or something else, such as a close.
            json.JSONDecodeError: the text is no JSON.
        """
        payload = await self.receive_from(timeout)
        if not isinstance(payload, str):
            raise AssertionError(f"JSON data is not a text frame, it is {type(payload)}")  # noqa: TRY004
        return json.loads(payload)

    async def disconnect(self, code: int = 1000, timeout: float | None = 1) -> None:
        """Leave, and wait until the application has ended.

        One that does not end in time is cancelled in silence, as in Channels.

        Args:
            code: what the client closes with, 1000 for a normal end.
            timeout: seconds, 1 as in Channels; None waits for ever.

        Raises:
            Exception: what the application has raised, before this call or while it ended.
            ApplicationStopped: it was cancelled before, such as by a timeout.
            TimeoutError: with `destructive_timeouts` off it is not cancelled, and goes on.
        """
        await self.send_input({"type": "websocket.disconnect", "code": code})
        await self.wait(timeout)

    async def _say_goodbye(self) -> None:
        await self.disconnect()
