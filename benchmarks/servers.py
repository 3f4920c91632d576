"""Starts one server in a process of its own, and reads what it has cost so far."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

SITE = Path(__file__).parent / "site"
START_SECONDS = 30.0


@dataclass(frozen=True)
class Server:
    """A way to serve the benchmark site: a name for the table, and a command line.

    `{port}` in the command is replaced by a free port. `package` is where the
    consumers of the site come from.
    """

    name: str
    command: tuple[str, ...]
    package: str = "channels"

    def running(self) -> AbstractContextManager["Running"]:
        """Start the server, wait until it answers, and stop it at the end."""
        return _running(self)


def uvicorn(app: str) -> Server:
    """Give uvicorn at its fastest: uvloop and httptools, one process, no access log."""
    command = ("uvicorn", app, "--port", "{port}", "--no-access-log", "--log-level", "warning")
    return Server("uvicorn + Channels" if "channels" in app else "uvicorn", ("-m", *command))


def gunicorn(app: str) -> Server:
    """Give gunicorn with a pool of four threads, its usual setting for Django."""
    command = ("gunicorn", app, "-b", "127.0.0.1:{port}", "--threads", "4", "--log-level", "error")
    return Server("gunicorn", ("-m", *command))


def greenroom(app: str) -> Server:
    """Give our own server."""
    command = ("greenroom", "run", app, "--port", "{port}", "--no-access-log")
    return Server(
        "Greenroom", ("-m", *command, "--log-level", "warning"), "greenroom.bridges.channels"
    )


@dataclass(frozen=True)
class Running:
    """A started server."""

    port: int
    process: psutil.Process

    def _all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Tell the CPU time, user and system, of the server and its workers so far."""
        times = [each.cpu_times() for each in self._all()]
        return sum(each.user + each.system for each in times)

    def memory_bytes(self) -> int:
        """Tell the memory that only this server holds."""
        return sum(each.memory_full_info().uss for each in self._all())


def free_port() -> int:
    """Find a port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def _running(server: Server) -> Iterator[Running]:
    port = free_port()
    command = [sys.executable, *(part.format(port=port) for part in server.command)]
    environment = os.environ | {
        "BENCHMARK_CONSUMERS": server.package,
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": str(SITE),
    }
    process = subprocess.Popen(command, cwd=SITE, env=environment)
    try:
        _wait_until_it_listens(process, port)
        yield Running(port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{process.args} ended at once with status {process.returncode}")
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"{process.args} does not listen on port {port}")
