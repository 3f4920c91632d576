"""The restaurant in processes of its own, and a visit that tells what its guests see."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from http.cookiejar import CookieJar
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

MOVING = Path(__file__).resolve().parents[3] / "examples" / "moving"
PATIENCE = 30  # seconds without an answer, after which something is stuck


class Restaurant:
    """A project's folder, with a database and a channel layer for its commands.

    Args:
        project: where `manage.py` is.
        database: the path of its SQLite file.
        redis: the address of a Redis, whose layer it uses instead of the one in memory.
    """

    def __init__(self, project: Path, database: Path, redis: str = "") -> None:
        self.project = project
        self.url = ""
        self._running = ExitStack()
        self._environment = {
            **os.environ,
            "KITCHEN_DATABASE": str(database),
            "KITCHEN_REDIS": redis,
            "DJANGO_SETTINGS_MODULE": "kitchen.settings",
            "DJANGO_COLORS": "nocolor",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
        }

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run Python to its end, and give what it said."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.project,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=50,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout
        return done.stdout

    def start(self, *arguments: str, until: str) -> re.Match[str]:
        """Start Python, and read what it says until `until` is found in a line."""
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.project,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._running.callback(end, process)
        assert process.stdout is not None
        return read_until(process.stdout, until)

    def serve(self, *arguments: str, until: str = r"(\d+\.\d+\.\d+\.\d+:\d+)") -> None:
        """Start a server, which says its address."""
        self.url = f"http://{self.start(*arguments, until=until)[1]}"

    def __enter__(self) -> "Restaurant":
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()


def read_until(output: IO[str], pattern: str) -> re.Match[str]:
    """Read lines until one has `pattern`."""
    said: list[str] = []
    for line in output:
        said.append(line)
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"it ended without {pattern!r}:\n{''.join(said)}")


def end(process: subprocess.Popen[str]) -> None:
    """Stop a process, and let nothing that it says block it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


class Guest:
    """Somebody with cookies, at one server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cookies = CookieJar()
        self._opener = build_opener(HTTPCookieProcessor(self.cookies))

    def post(self, path: str, fields: Mapping[str, str]) -> tuple[int, str]:
        """Send a form, and give the answer's status and text."""
        try:
            with self._opener.open(
                self.url + path, urlencode(fields).encode(), timeout=PATIENCE
            ) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def log_in(self, name: str = "ada", password: str = "soup") -> tuple[int, str]:
        """Log in."""
        return self.post("/enter/", {"name": name, "password": password})

    def listen(self, path: str) -> IO[bytes]:
        """Open a stream of events, and read its first line."""
        stream: IO[bytes] = self._opener.open(self.url + path, timeout=PATIENCE)
        return stream

    def connect(self, path: str, origin: str | None = "http://localhost") -> ClientConnection:
        """Open a WebSocket as a page of `origin` does."""
        cookie = "; ".join(f"{each.name}={each.value}" for each in self.cookies)
        return connect(
            self.url.replace("http", "ws") + path,
            origin=None if origin is None else Origin(origin),
            additional_headers={"Cookie": cookie} if cookie else {},
            open_timeout=PATIENCE,
        )

    def refused(self, path: str, origin: str | None = "http://localhost") -> int:
        """Open a WebSocket that is refused, and give the status."""
        try:
            self.connect(path, origin).close()
        except InvalidStatus as error:
            return error.response.status_code
        return 101


def hear(client: ClientConnection) -> str:
    """Wait for the next message."""
    return str(client.recv(timeout=PATIENCE))


def next_event(stream: IO[bytes]) -> str:
    """Read one server-sent event."""
    line = stream.readline().decode()
    assert stream.readline() == b"\n"
    return line.strip()


def visit(url: str) -> list[object]:
    """Go to the restaurant, and give all that was seen; the printer prints beside it."""
    seen: list[object] = []
    guest = Guest(url)
    seen += [guest.log_in(password="salad"), guest.refused("/waiter/?table=4"), guest.log_in()]
    seen += [
        guest.refused("/kitchen/", "http://elsewhere.example"),
        guest.refused("/kitchen/", None),
    ]
    with guest.connect("/kitchen/") as screen, guest.connect("/waiter/?table=4") as pad:
        events = guest.listen("/table/4/events/")
        seen += [hear(screen), next_event(events)]
        pad.send("soup")
        order = hear(screen)
        screen.send(json.dumps({"ready": json.loads(order)["order"]}))
        seen += [order, hear(pad), hear(pad), next_event(events)]
        seen += [guest.post("/take-away/", {"dish": "pizza"}), hear(screen)]
        screen.send(json.dumps({"ready": 99}))
        seen.append(closing(screen))
        with guest.connect("/kitchen/") as another:
            seen.append(hear(another))
        events.close()
    return seen


def closing(client: ClientConnection) -> int | None:
    """Wait until the server closes a WebSocket, and give the code."""
    try:
        hear(client)
    except ConnectionClosed as error:
        return None if error.rcvd is None else error.rcvd.code
    return 0
