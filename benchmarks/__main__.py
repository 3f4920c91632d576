"""Measure, interleaved, and print medians and ratios: `python -m benchmarks [NAME ...]`."""

import argparse
from collections.abc import Sequence

from . import acting, serving
from .table import run

GROUPS = {"actors": acting.BENCHMARKS, "servers": serving.BENCHMARKS}

LEGEND = """\
Medians of {rounds} rounds, in which the peers take turns. What counts is the ratio to the first
of each table: it stays, roughly, where a machine is slower or busy. A budget in microseconds
was set on one machine, together with its ratio to what raw trio took there."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run."""
    benchmarks = {each.name: each for group in GROUPS.values() for each in group}
    names = [*GROUPS, *benchmarks]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--rounds", type=int, default=5, help="runs of each peer, by turns")
    parser.add_argument("--scale", type=float, default=1.0, help="length of a run")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(names)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    chosen = [
        benchmark
        for group, members in GROUPS.items()
        for benchmark in members
        if not options.names or {group, benchmark.name} & set(options.names)
    ]
    if set(chosen) & set(serving.BENCHMARKS):
        serving.prepare()
    print(LEGEND.format(rounds=options.rounds))
    for benchmark in chosen:
        run(benchmark, options.rounds, options.scale)


if __name__ == "__main__":
    main()
