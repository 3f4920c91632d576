"""Talking to an HTTP application in a test, without a server."""

from typing import Any
from urllib.parse import unquote, urlparse

from ....runtime import Message
from .application import ApplicationCommunicator

__all__ = ["HttpCommunicator"]


class HttpCommunicator(ApplicationCommunicator):
    """An `ApplicationCommunicator` for one HTTP request.

    ```python
    async def test_view():
        communicator = HttpCommunicator(MyConsumer.as_asgi(), "GET", "/test/")
        response = await communicator.get_response()
        assert response["body"] == b"test response"
        assert response["status"] == 200
    ```

    A response that comes in parts, such as a stream of server-sent events, is read by
    `send_input` and `receive_output`. As a context manager it leaves at the end of the block,
    as a client does (`http.disconnect`), and waits for the application's end.

    Args:
        application: an ASGI application.
        method: such as "GET"; case does not matter.
        path: the path, with its query if there is one; or a URL.
        body: the request's body.
        headers: pairs of bytes, the names in lower case.
        destructive_timeouts: as `ApplicationCommunicator`.

    Raises:
        AssertionError: `body` is not bytes.
    """

    def __init__(
        self,
        application: Any,
        method: str,
        path: str,
        body: bytes = b"",
        headers: list[tuple[bytes, bytes]] | None = None,
        *,
        destructive_timeouts: bool | None = None,
    ) -> None:
        if not isinstance(body, bytes):
            raise AssertionError(f"body must be bytes, not {type(body)}")  # noqa: TRY004 - Channels'
        url = urlparse(path)
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method.upper(),
            "path": unquote(url.path),
            "query_string": url.query.encode("utf-8"),
            "headers": headers or [],
        }
        super().__init__(application, scope, destructive_timeouts=destructive_timeouts)
        self.body = body
        self.sent_request = False

    async def get_response(self, timeout: float | None = 1) -> dict[str, Any]:
        """Send the request, at the first call, and receive the whole response.

        Args:
            timeout: seconds for each part of the response, 1 as in Channels; None waits for
                ever.

        Returns:
            A dict with `status` (an int), `headers` (a list of pairs of bytes, empty if there
            are none) and `body` (bytes).

        Raises:
            Exception: what the application has raised, before this call or while it waits.
            ApplicationStopped: it was cancelled, such as by a timeout before.
            TimeoutError: one part of the response took longer than `timeout` seconds, and the
                application is cancelled, unless `destructive_timeouts` is False; or it has
                ended without a whole response.
            AssertionError: what came was no response.
        """
        if not self.sent_request:
            self.sent_request = True
            await self.send_input({"type": "http.request", "body": self.body})
        response = dict(await self._receive("http.response.start", timeout))
        body = b""
        while True:
            part = await self._receive("http.response.body", timeout)
            chunk = part.get("body", b"")
            if not isinstance(chunk, bytes):
                raise AssertionError(f"the body of a response must be bytes, not {type(chunk)}")  # noqa: TRY004
            body += chunk
            if not part.get("more_body", False):
                break
        del response["type"]
        response.setdefault("headers", [])
        response["body"] = body
        return response

    async def _receive(self, kind: str, timeout: float | None) -> Message:
        message = await self.receive_output(timeout)
        if message["type"] != kind:
            raise AssertionError(f"Expected type {kind!r}, but was {message['type']!r}")
        return message

    async def _say_goodbye(self) -> None:
        await self.send_input({"type": "http.disconnect"})
        await self.wait()
