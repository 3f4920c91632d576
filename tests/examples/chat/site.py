"""The chat project in a process of its own, and a visitor without a browser."""

import os
import re
import signal
import subprocess
import sys
from http.cookiejar import CookieJar
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

PROJECT = Path(__file__).resolve().parents[3] / "examples" / "chat"
PASSWORD = "greenroom"


class Site:
    """The project's management commands, and its server once `start` was called.

    Args:
        folder: where its database is.
        project: where `manage.py` is.
    """

    def __init__(self, folder: Path, project: Path = PROJECT) -> None:
        self.project = project
        self.url = ""
        self.said: list[str] = []
        self._server: subprocess.Popen[str] | None = None
        self._environment = {
            **os.environ,
            "CHAT_DATABASE": str(folder / "chat.sqlite3"),
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "DJANGO_COLORS": "nocolor",
            "PYTHONUNBUFFERED": "1",
            # A traceback of a warning nobody sees is a bug nobody sees.
            "PYTHONWARNINGS": "error",
        }

    def manage(self, *arguments: str) -> str:
        """Run one management command to its end, and give what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self.project,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *command: str) -> "Site":
        """Start a server, and wait until it has said its address."""
        self._server = subprocess.Popen(
            [sys.executable, *command],
            cwd=self.project,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # autoreload's child is stopped with its parent
        )
        self.url = self.wait_for(r"(http://[\w.:]+)")[1]
        return self

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read what the server says until `pattern` is in it."""
        for line in self._output:
            self.said.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"the server ended without {pattern!r}:\n{''.join(self.said)}")

    @property
    def _output(self) -> IO[str]:
        assert self._server is not None
        assert self._server.stdout is not None
        return self._server.stdout

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop the server, and give its exit status."""
        assert self._server is not None
        os.killpg(self._server.pid, number)
        try:
            self.said.append(self._server.communicate(timeout=20)[0])
        except subprocess.TimeoutExpired:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.communicate()
            raise
        return self._server.returncode

    def __enter__(self) -> "Site":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            if self._server.poll() is None:
                self.stop()
            self._output.close()


class Visitor:
    """Somebody with cookies."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.cookies = CookieJar()
        self._opener = build_opener(HTTPCookieProcessor(self.cookies))

    def get(self, path: str) -> tuple[int, str]:
        """Get a page, after redirects: its status and its text."""
        return self._open(Request(self.site.url + path))

    def post(self, path: str, **fields: str) -> tuple[int, str]:
        """Send a form as a browser would, with the token of the page that shows it."""
        self.get(path)
        fields["csrfmiddlewaretoken"] = self._cookie("csrftoken")
        return self._open(Request(self.site.url + path, urlencode(fields).encode()))

    def _open(self, request: Request) -> tuple[int, str]:
        try:
            with self._opener.open(request, timeout=20) as response:
                return response.status, response.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def _cookie(self, name: str) -> str:
        (value,) = [cookie.value for cookie in self.cookies if cookie.name == name]
        assert value is not None
        return value

    def log_in(self, name: str, password: str = PASSWORD) -> "Visitor":
        """Log in on the login page."""
        self.post("/login/", username=name, password=password)
        return self

    def join(self, room: str, after: int = 0, origin: str | None = None) -> ClientConnection:
        """Open the WebSocket that a page of `room` opens."""
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.cookies)
        return connect(
            f"{self.site.url.replace('http', 'ws', 1)}/ws/rooms/{room}/?after={after}",
            additional_headers={"Cookie": cookies},
            origin=Origin(origin or self.site.url),
            open_timeout=20,
        )
