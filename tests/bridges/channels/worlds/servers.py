"""The project of this folder on real servers, each in a process of its own, and clients for it."""

import json
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import trio
from tests.bridges.channels.launching import Launched, launch
from tests.runtime import serving
from trio_websocket import ConnectionClosed, WebSocketConnection

APPLICATION: Final = "tests.bridges.channels.worlds.asgi:application"
PATIENCE: Final = 30  # seconds, after which a client gives up

# What each server is started with, {} being the descriptor of a socket that listens already.
SERVERS: Final[dict[str, Sequence[str]]] = {
    "greenroom": ("greenroom", "run", APPLICATION, "--fd={}"),
    "uvicorn": ("uvicorn", APPLICATION, "--fd={}"),
    "hypercorn": (
        "hypercorn",
        APPLICATION,
        "--bind=fd://{}",
        "--workers=0",
        "--graceful-timeout=0",
    ),
    "hypercorn-trio": (
        "hypercorn",
        APPLICATION,
        "--bind=fd://{}",
        "--workers=1",
        "--graceful-timeout=0",
        "-ktrio",
    ),
    "daphne": ("daphne", APPLICATION, "--fd={}", "--websocket_connect_timeout=30"),
}


class World(Launched):
    """The project on one server."""

    def journal(self) -> list[list[Any]]:
        """What the project has written down, a list of words for each line."""
        try:
            lines = (self.folder / "journal").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]

    async def noted(self, *words: object) -> list[Any]:
        """Wait for the first line that begins with these words."""
        with trio.fail_after(PATIENCE):
            while True:
                for line in self.journal():
                    if line[: len(words)] == list(words):
                        return line
                await trio.sleep(0.01)  # another process writes it

    def open(self, path: str, **options: Any) -> AbstractAsyncContextManager[WebSocketConnection]:
        """Open a WebSocket."""
        return serving.open_websocket(self.port, path, **options)

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        """GET `path`, and give status and body."""
        status, _, content = await self.ask("GET", path, headers=headers)
        return status, content

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], str]:
        """Request `path`, and give status, headers with names in lower case, and body."""

        def ask() -> tuple[int, dict[str, str], str]:
            with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
                connection.request(method, path, body, headers or {})
                response = connection.getresponse()
                fields = {name.lower(): value for name, value in response.getheaders()}
                return response.status, fields, response.read().decode()

        return await trio.to_thread.run_sync(ask)

    async def stop(self) -> int:
        """Send SIGTERM, and wait for the end."""
        self.process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            return await trio.to_thread.run_sync(self.process.wait, abandon_on_cancel=True)


@asynccontextmanager
async def open_world(name: str, folder: Path, database: Path) -> AsyncIterator[World]:
    """Start a server; it may be connected to at once, and answers once it has started."""
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.bridges.channels.worlds.settings",
        "WORLD_DATABASE": str(folder / "database"),
        "WORLD_JOURNAL": str(folder / "journal"),
    }
    shutil.copy(database, folder / "database")
    with launch(World, name, SERVERS[name], folder, environment) as world:
        yield world


async def end_of(websocket: WebSocketConnection) -> list[Any]:
    """Wait for the end of a WebSocket, and give code and reason."""
    try:
        while True:
            await websocket.get_message()
    except ConnectionClosed as closed:
        # trio-websocket leaves that to us, and a server waits for it when it stops.
        await websocket._stream.aclose()
        return [int(closed.reason.code), closed.reason.reason] if closed.reason else [1006, None]


async def gather(**questions: Callable[[], Any]) -> dict[str, Any]:
    """Ask at once, and give each answer, or its failure, by its name."""
    answers: dict[str, Any] = {}

    async def ask(name: str, question: Callable[[], Any]) -> None:
        try:
            with trio.fail_after(PATIENCE):
                answers[name] = await question()
        except Exception as error:  # noqa: BLE001 - one failure must not hide the others
            answers[name] = repr(error)

    async with trio.open_nursery() as nursery:
        for name, question in questions.items():
            nursery.start_soon(ask, name, question)
    return answers
