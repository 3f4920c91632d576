"""Rows about actors: what a message, a start, a restart or an idle actor costs each make.

The first peer is raw trio, the least that can be done. The budget of Greenroom's actors was
set on one machine, in microseconds, beside the floor that raw trio had there. Machines
differ: what counts, and is the goal, is that budget as a ratio to the floor of the same run.
"""

import subprocess
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from .table import OURS, Benchmark

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Program:
    """Actors of one make.

    Args:
        name: for the table.
        module: of `programs`.
        function: of that module.
        numbers: what the function takes besides the size.
    """

    name: str
    module: str
    function: str
    numbers: tuple[int, ...] = ()

    def running(self) -> AbstractContextManager["Program"]:
        """Give itself: each measurement runs in a process of its own."""
        return nullcontext(self)

    def measure(self, size: int) -> float:
        """Take one measurement."""
        command = [sys.executable, "-m", "benchmarks.programs", self.module, self.function]
        command += [str(number) for number in (size, *self.numbers)]
        return float(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


NAMES = {
    "raw_trio": "raw trio",
    "memory_channels": "trio memory channels",
    "asyncio_queues": "asyncio.Queue",
    "pykka_threads": "Pykka",
    "greenroom_actors": OURS,
}
TRIO, CHANNELS, ASYNCIO, PYKKA, GREENROOM = NAMES
WITHOUT_CHANNELS = (TRIO, ASYNCIO, PYKKA, GREENROOM)


def programs(function: str, *numbers: int, modules: Iterable[str] = NAMES) -> tuple[Program, ...]:
    """Let each of `modules`, in this order, run the function of this name."""
    return tuple(Program(NAMES[module], module, function, numbers) for module in modules)


def row(
    name: str,
    about: str,
    peers: tuple[Program, ...],
    size: int,
    floor: float | None = None,
    budget: float | None = None,
    unit: str = "us",
) -> Benchmark:
    """Make a row; `floor` is what raw trio took where the budget was set."""
    goal = None if floor is None or budget is None else budget / floor
    return Benchmark(name, about, unit, Program.measure, peers, size, goal, budget)


BENCHMARKS = (
    row(
        "hop",
        "one message from an actor to one that waits",
        programs("hop"),
        20_000,
        floor=5.9,
        budget=9,
    ),
    row(
        "tell-1",
        "one message, told singly: after each the sender lets others run",
        programs("tell_each", 1, 1),
        20_000,
    ),
    row(
        "tell-10",
        "one message, told in bursts of 10",
        programs("tell_each", 1, 10),
        100_000,
        floor=0.75,
        budget=2,
    ),
    row(
        "tell-1000",
        "one message, told in bursts of 1000",
        programs("tell_each", 1, 1000),
        200_000,
        floor=0.29,
        budget=2,
    ),
    row(
        "fan-out-100",
        "one message, told to each of 100 actors in turn",
        (
            *programs("tell_each", 100, 1),
            Program("Greenroom, group", GREENROOM, "fan_out_in_group", (100,)),
        ),
        50_000,
    ),
    row(
        "fan-out-1000",
        "one message, told to each of 1000 actors in turn",
        (
            *programs("tell_each", 1000, 1),
            Program("Greenroom, group", GREENROOM, "fan_out_in_group", (1000,)),
        ),
        50_000,
    ),
    row(
        "ask",
        "a question and its answer",
        programs("ask", modules=WITHOUT_CHANNELS),
        10_000,
        floor=10.4,
        budget=15,
    ),
    row(
        "ask-timeout",
        "a question and its answer within 5 seconds",
        programs("ask_with_timeout", modules=WITHOUT_CHANNELS),
        10_000,
    ),
    row(
        "spawn",
        "an actor that starts and ends at once; with Greenroom supervised",
        programs("spawn", modules=WITHOUT_CHANNELS),
        10_000,
        floor=10,
        budget=25,
    ),
    row(
        "restart",
        "a crash, what follows from it, its log record for a NullHandler, and the next start;"
        " raw trio and asyncio decide and log nothing",
        (
            *programs("restart", modules=(TRIO, ASYNCIO, GREENROOM)),
            Program("raw trio, log record", TRIO, "restart_logged"),
            Program("Greenroom, no record", GREENROOM, "restart_unlogged"),
            Program("Greenroom, log file", GREENROOM, "restart_logged"),
        ),
        5_000,
        floor=13.8,
        budget=25,
    ),
    row(
        "idle-actor",
        "memory of an actor that waits for its first message; 1000 bytes are a kB",
        programs("idle"),
        10_000,
        floor=3.6,
        budget=4.5,
        unit="kB",
    ),
)
