"""An ASGI server's part, in memory: one request in, the messages of its response out."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeAlias

import trio
from django.urls import URLPattern, URLResolver

from greenroom.bridges.asyncio import call_app, open_hosted_loop

Message: TypeAlias = dict[str, Any]
World: TypeAlias = Literal["trio", "asyncio"]


@dataclass
class Exchange:
    """One request and its response, as a server sees them.

    The client leaves once `leaves_after` messages were sent to it; `tells_by` says whether
    `send` then raises, as Greenroom's and newer servers do, or only `receive` tells.
    """

    path: str = "/"
    method: str = "GET"
    query: bytes = b""
    root_path: str = ""
    headers: Iterable[tuple[bytes, bytes]] = ()
    body: Iterable[bytes] = (b"",)
    complete: bool = True
    leaves_after: int | None = None
    tells_by: Literal["send", "receive"] = "send"
    on_send: Callable[[Message], object] = lambda message: None
    messages: list[Message] = field(default_factory=list)
    leave: Callable[[], object] = lambda: None  # while it runs: makes the client leave
    cancel: Callable[[], object] = lambda: None  # while it runs: cancels the application

    @property
    def scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": self.query,
            "root_path": self.root_path,
            "headers": [(b"host", b"testserver"), *self.headers],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 80),
        }

    @property
    def status(self) -> int:
        status: int = self.messages[0]["status"]
        return status

    @property
    def content(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    def header(self, name: str) -> list[str]:
        wanted = name.lower().encode()
        return [
            value.decode() for key, value in self.messages[0]["headers"] if key.lower() == wanted
        ]

    def run(self, app: Any, world: World) -> "Exchange":
        """Await `app` in a new trio or asyncio program, to its end."""
        if world == "trio":
            trio.run(self._run_in_trio, app)
        else:
            asyncio.run(self._run_in_asyncio(app))
        return self

    async def _run_in_asyncio(self, app: Any) -> None:
        running = asyncio.create_task(self._run(app, asyncio.Event))
        self.cancel = running.cancel
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()

    async def _run_in_trio(self, app: Any) -> None:
        async with open_hosted_loop():
            with trio.fail_after(20), trio.CancelScope() as scope:
                self.cancel = scope.cancel
                await self._run(app, trio.Event)

    async def _run(self, app: Any, event_class: Any) -> None:
        left = event_class()
        self.leave = left.set
        if self.leaves_after == 0:
            left.set()
        parts = list(self.body)
        requests: list[Message] = [
            {"type": "http.request", "body": part, "more_body": True} for part in parts
        ]
        if self.complete:
            requests[-1]["more_body"] = False

        pause = trio.lowlevel.checkpoint if event_class is trio.Event else partial(asyncio.sleep, 0)

        async def receive() -> Message:
            if requests:
                return requests.pop(0)
            if self.complete or self.leaves_after is not None:
                await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if left.is_set() and self.tells_by == "send":
                raise ConnectionResetError
            if not left.is_set():
                self.messages.append(message)
                self.on_send(message)
            if len(self.messages) == self.leaves_after:
                left.set()
            # As a slow client would, so that nobody gets far ahead of what was sent.
            await pause()

        await call_app(app, self.scope, receive, send)


class Pages:
    """A urlconf made in a test: `ROOT_URLCONF = Pages(path("", view))`."""

    def __init__(self, *urlpatterns: URLPattern | URLResolver) -> None:
        self.urlpatterns = urlpatterns
