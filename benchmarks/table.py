"""Runs every peer of a benchmark by turns, and prints medians, ranges and ratios."""

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

OURS = "Greenroom"


class Peer(Protocol):
    """Who is measured: a name for the table, and something that runs."""

    @property
    def name(self) -> str: ...

    def running(self) -> AbstractContextManager[Any]:
        """Start it, and stop it at the end; gives what `Benchmark.measure` takes."""


@dataclass(frozen=True)
class Benchmark:
    """One row of the table: what is measured, on whom, and the ratio to reach.

    Args:
        name: for the command line and the table.
        about: what one operation is.
        unit: of the figure.
        measure: gives the figure of one run on one peer that runs.
        peers: who is measured; the ratio is against the first.
        size: operations of one run, for each connection if there are some.
        goal: the ratio of Greenroom to the first peer to stay below; None for a figure
            that has an absolute goal, or none.
        absolute_goal: in `unit`. Where there is a ratio too, that is what counts, and this
            is only shown: what it came to on the machine where it was set.
        fresh: each run starts the peer anew, since what one leaves would help the next.
    """

    name: str
    about: str
    unit: str
    measure: Callable[[Any, int], float]
    peers: tuple[Peer, ...]
    size: int
    goal: float | None = None
    absolute_goal: float | None = None
    fresh: bool = False


def run(benchmark: Benchmark, rounds: int, scale: float) -> None:
    """Measure every peer in turn, `rounds` times over, and print a line for each."""
    size = max(1, int(benchmark.size * scale))
    figures: dict[str, list[float]] = {peer.name: [] for peer in benchmark.peers}
    with ExitStack() as stack:
        started = {}
        if not benchmark.fresh:
            started = {peer: stack.enter_context(peer.running()) for peer in benchmark.peers}
        for _ in range(rounds):
            for peer in benchmark.peers:
                with nullcontext(started[peer]) if started else peer.running() as running:
                    figures[peer.name].append(benchmark.measure(running, size))
    print(f"\n{benchmark.name}: {benchmark.about}")
    print(f"  {'':24} {'median':>9} {'':4} {'min':>9} {'max':>9} {'ratio':>8}")
    first = figures[benchmark.peers[0].name]
    for name, values in figures.items():
        ratios = [value / other for value, other in zip(values, first, strict=True)]
        print(
            f"  {name:24} {statistics.median(values):9.2f} {benchmark.unit:4}"
            f" {min(values):9.2f} {max(values):9.2f} {statistics.median(ratios):8.2f}"
            f"{_goal(benchmark) if name == OURS else ''}",
            flush=True,
        )


def _goal(benchmark: Benchmark) -> str:
    absolute = f"{benchmark.absolute_goal} {benchmark.unit}"
    if benchmark.goal is None:
        return "" if benchmark.absolute_goal is None else f"   goal <= {absolute}"
    aside = "" if benchmark.absolute_goal is None else f" (budget: {absolute})"
    return f"   goal <= {benchmark.goal:.2f}{aside}"
