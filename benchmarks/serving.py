"""Rows about serving: what a message, a page or an idle connection costs each server."""

import os
import subprocess
import sys
from functools import partial

from . import loads
from .servers import SITE, Running, Server, greenroom, gunicorn, uvicorn
from .table import Benchmark

CONNECTIONS = 50
THREADED_CONNECTIONS = 10  # synchronous code runs in that many threads at most


def prepare() -> None:
    """Make the database of the site."""
    subprocess.run(
        [sys.executable, "-m", "django", "migrate", "--verbosity", "0"],
        cwd=SITE,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(SITE)},
        check=True,
    )


def echo_cost(path: str, server: Running, size: int) -> float:
    """Measure CPU microseconds for one message there and back."""
    with loads.open_sockets(
        CONNECTIONS, lambda: loads.open_websocket(server.port, path)
    ) as sockets:
        loads.echo(sockets, size // 10 + 1)  # warm
        before = server.cpu_seconds()
        loads.echo(sockets, size)
        return (server.cpu_seconds() - before) / (CONNECTIONS * size) * 1e6


def page_cost(path: str, server: Running, size: int) -> float:
    """Measure CPU microseconds for one page."""
    with loads.open_sockets(THREADED_CONNECTIONS, lambda: loads.connect(server.port)) as sockets:
        loads.get(server.port, path, sockets, size // 10 + 1)  # warm
        before = server.cpu_seconds()
        loads.get(server.port, path, sockets, size)
        return (server.cpu_seconds() - before) / (THREADED_CONNECTIONS * size) * 1e6


def idle_cost(path: str, server: Running, size: int) -> float:
    """Measure KiB for one open WebSocket on which nothing happens."""
    with loads.open_sockets(100, lambda: loads.open_websocket(server.port, path)):
        before = server.memory_bytes()
        with loads.open_sockets(size, lambda: loads.open_websocket(server.port, path)):
            return (server.memory_bytes() - before) / size / 1024


SOCKET_PEERS = (
    uvicorn("asgi_channels:application"),
    greenroom("asgi_greenroom:application"),
)
PAGE_PEERS = (
    Server("uvicorn", uvicorn("asgi_channels:application").command),
    gunicorn("wsgi:application"),
    greenroom("asgi_greenroom:application"),
)
BENCHMARKS = (
    Benchmark(
        "async-echo",
        "a text of 64 bytes to an asynchronous consumer and back",
        "us",
        partial(echo_cost, "/async/"),
        SOCKET_PEERS,
        400,
        goal=0.25,
    ),
    Benchmark(
        "sync-echo",
        "a text of 64 bytes to a synchronous consumer and back",
        "us",
        partial(echo_cost, "/sync/"),
        SOCKET_PEERS,
        60,
        goal=0.6,
    ),
    Benchmark(
        "view",
        "a page of a synchronous Django view",
        "us",
        partial(page_cost, "/hello/"),
        PAGE_PEERS,
        120,
        goal=0.40,
    ),
    Benchmark(
        "view-orm",
        "a page of a synchronous Django view with one query",
        "us",
        partial(page_cost, "/count/"),
        PAGE_PEERS,
        120,
        goal=0.40,
    ),
    Benchmark(
        "idle-websocket",
        "an open WebSocket of an asynchronous consumer on which nothing happens",
        "KiB",
        partial(idle_cost, "/async/"),
        SOCKET_PEERS,
        1000,
        absolute_goal=16.0,
        fresh=True,
    ),
)
