"""Measure, interleaved, and print medians and ratios: `python -m benchmarks [NAME ...]`."""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial

from . import loads
from .servers import SITE, Peer, Running, greenroom, gunicorn, running, uvicorn

CONNECTIONS = 50
THREADED_CONNECTIONS = 10  # synchronous code runs in that many threads at most


@dataclass(frozen=True)
class Benchmark:
    """One row of the table: what is measured, on whom, and the ratio to reach.

    Args:
        name: for the command line and the table.
        unit: of the figure.
        measure: gives the figure of one run on one server.
        peers: who is measured; the ratio is against the first.
        goal: the ratio of Greenroom to the first peer to stay below; None for a figure
            that has an absolute goal.
        fresh: each run has a server of its own, since what one leaves would help the next.
    """

    name: str
    unit: str
    measure: Callable[[Running, int], float]
    peers: tuple[Peer, ...]
    goal: float | None
    absolute_goal: float | None = None
    fresh: bool = False


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
    Peer("uvicorn", uvicorn("asgi_channels:application").command),
    gunicorn("wsgi:application"),
    greenroom("asgi_greenroom:application"),
)
BENCHMARKS = (
    Benchmark("async-echo", "us", partial(echo_cost, "/async/"), SOCKET_PEERS, 0.25),
    Benchmark("sync-echo", "us", partial(echo_cost, "/sync/"), SOCKET_PEERS, 0.6),
    Benchmark("view", "us", partial(page_cost, "/hello/"), PAGE_PEERS, 0.40),
    Benchmark("view-orm", "us", partial(page_cost, "/count/"), PAGE_PEERS, 0.40),
    Benchmark(
        "idle-websocket", "KiB", partial(idle_cost, "/async/"), SOCKET_PEERS, None, 16.0, True
    ),
)
SIZES = {"async-echo": 400, "sync-echo": 60, "view": 120, "view-orm": 120, "idle-websocket": 1000}


def run(benchmark: Benchmark, rounds: int, scale: float) -> None:
    """Measure every peer in turn, `rounds` times over, and print a line for each."""
    size = max(1, int(SIZES[benchmark.name] * scale))
    figures: dict[str, list[float]] = {peer.name: [] for peer in benchmark.peers}
    with ExitStack() as stack:
        servers = {}
        if not benchmark.fresh:
            servers = {each: stack.enter_context(running(each)) for each in benchmark.peers}
        for _ in range(rounds):
            for peer in benchmark.peers:
                with nullcontext(servers[peer]) if servers else running(peer) as server:
                    figures[peer.name].append(benchmark.measure(server, size))
    first = figures[benchmark.peers[0].name]
    for name, values in figures.items():
        ratios = [value / other for value, other in zip(values, first, strict=True)]
        print(
            f"{benchmark.name:15} {name:20} {statistics.median(values):9.1f} {benchmark.unit:4}"
            f" {min(values):9.1f} {max(values):9.1f} {statistics.median(ratios):8.2f}"
            f"{_goal(benchmark) if name == 'Greenroom' else ''}",
            flush=True,
        )


def _goal(benchmark: Benchmark) -> str:
    if benchmark.goal is not None:
        return f"   goal <= {benchmark.goal:.2f}"
    return f"   goal <= {benchmark.absolute_goal:g} {benchmark.unit}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run."""
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--rounds", type=int, default=5, help="runs of each peer, by turns")
    parser.add_argument("--scale", type=float, default=1.0, help="length of a run")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(names)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    prepare()
    print(f"{'':15} {'':20} {'median':>9} {'':4} {'min':>9} {'max':>9} {'ratio':>8}")
    for benchmark in BENCHMARKS:
        if not options.names or benchmark.name in options.names:
            run(benchmark, options.rounds, options.scale)


def prepare() -> None:
    """Make the database."""
    subprocess.run(
        [sys.executable, "-m", "django", "migrate", "--verbosity", "0"],
        cwd=SITE,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(SITE)},
        check=True,
    )


if __name__ == "__main__":
    main()
