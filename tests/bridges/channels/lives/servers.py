"""The application of `app.py` on real servers, each in a process of its own."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import trio
from tests.bridges.channels.launching import Launched, launch
from tests.runtime.serving import RawClient

APPLICATION: Final = "tests.bridges.channels.lives.app:application"
PATIENCE: Final = 20  # seconds, after which a client gives up

# What each server is started with, {} being the descriptor of a socket that listens already.
SERVERS: Final = {
    "greenroom": ("greenroom", "run", APPLICATION, "--fd={}", "--timeout-graceful-shutdown=5"),
    "uvicorn": ("uvicorn", APPLICATION, "--fd={}"),
    "hypercorn": ("hypercorn", APPLICATION, "--bind=fd://{}", "--workers=0"),
    "daphne": ("daphne", APPLICATION, "--fd={}"),
}


class Running(Launched):
    """The application on one server."""

    def journal(self, about: str) -> list[list[Any]]:
        """What the application has written down about one thing."""
        lines = (self.folder / "journal").read_text().splitlines()
        return [words for first, *words in map(json.loads, lines) if first == about]

    async def noted(self, about: str, *lines: Any) -> None:
        """Wait until these lines were written, in this order."""
        with trio.move_on_after(PATIENCE):
            while self.journal(about) != [[*line] for line in lines]:  # noqa: ASYNC110
                await trio.sleep(0.01)  # another process writes it
        assert self.journal(about) == [[*line] for line in lines]

    async def logged(self, text: str) -> None:
        """Wait until the server has written `text`."""
        with trio.fail_after(PATIENCE):
            while text not in self.output:  # noqa: ASYNC110
                await trio.sleep(0.01)

    @asynccontextmanager
    async def request(self, path: str) -> AsyncIterator[RawClient]:
        """Send a request on a connection of its own."""
        with trio.fail_after(PATIENCE):
            async with RawClient(await trio.open_tcp_stream("127.0.0.1", self.port)) as client:
                await client.send(f"GET {path} HTTP/1.0\r\nhost: a\r\n\r\n".encode())
                yield client

    async def ask(self, path: str, method: str = "GET", body: bytes = b"") -> tuple[int, bytes]:
        """Send a request, and give status and body of the answer."""

        def ask() -> tuple[int, bytes]:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            connection.request(method, path, body)
            response = connection.getresponse()
            content = response.read()
            connection.close()
            return response.status, content

        return await trio.to_thread.run_sync(ask)


@contextmanager
def run(name: str, folder: Path) -> Iterator[Running]:
    """Start a server; it may be connected to at once, and answers once it has started."""
    (folder / "journal").touch()
    # Its settings are the application's own.
    environment = {"JOURNAL": str(folder / "journal"), "DJANGO_SETTINGS_MODULE": ""}
    with launch(Running, name, SERVERS[name], folder, environment) as running:
        yield running
