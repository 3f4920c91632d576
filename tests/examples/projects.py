"""Projects of the examples in processes of their own, and who visits them without a browser."""

import os
import re
import signal
import subprocess
import sys
from http.client import HTTPResponse
from http.cookiejar import CookieJar
from pathlib import Path
from typing import IO, Self
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

PATIENCE = 30  # seconds without an answer, after which something is stuck


class Project:
    """A project's folder, and what runs in it until the end of a `with` block.

    Args:
        folder: where `manage.py` is.
        environment: what the processes find in theirs, besides what is in ours.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.url = ""  # once `serve` was called
        self._environment = {
            **os.environ,
            "DJANGO_COLORS": "nocolor",
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        self._started: list[Process] = []

    def run(self, *arguments: str) -> str:
        """Run Python to its end, which has to be a good one, and give what it said."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def start(self, *arguments: str) -> "Process":
        """Start Python."""
        process = Process(
            subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.folder,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
        self._started.append(process)
        return process

    def serve(self, *arguments: str, until: str = r"(\d+\.\d+\.\d+\.\d+:\d+)") -> "Process":
        """Start a server, and wait until it has said its address."""
        process = self.start(*arguments)
        self.url = f"http://{process.wait_for(until)[1]}"
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._started):
            process.stop()


class Process:
    """A process, with those that it has started; `said` is what they were heard to say."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.said = ""

    @property
    def _output(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read what it says until `pattern` is found in a line."""
        for line in self._output:
            self.said += line
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"it ended without {pattern!r}:\n{self.said}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, if it still runs, and give its exit status."""
        if self._output.closed:
            return self._process.wait()
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)
        try:
            self.said += self._process.communicate(timeout=PATIENCE)[0]
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            raise
        return self._process.returncode


class Visitor:
    """Somebody with cookies, at one project's server."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.cookies = CookieJar()
        self._opener = build_opener(HTTPCookieProcessor(self.cookies))

    def open(self, path: str, body: bytes | None = None) -> HTTPResponse:
        """Send a request, follow redirects, and give the answer to be read and closed."""
        response: HTTPResponse = self._opener.open(self.project.url + path, body, PATIENCE)
        return response

    def get(self, path: str, body: bytes | None = None) -> tuple[int, str]:
        """Get a page: its status and its text."""
        try:
            with self.open(path, body) as response:
                return response.status, response.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def post(self, path: str, **fields: str) -> tuple[int, str]:
        """Send a form, and give the status and the text of the answer."""
        return self.get(path, urlencode(fields).encode())

    def connect(self, path: str, origin: str | None) -> ClientConnection:
        """Open a WebSocket as a page of `origin` does."""
        cookie = "; ".join(f"{each.name}={each.value}" for each in self.cookies)
        return connect(
            self.project.url.replace("http", "ws", 1) + path,
            additional_headers={"Cookie": cookie} if cookie else {},
            origin=None if origin is None else Origin(origin),
            open_timeout=PATIENCE,
        )
