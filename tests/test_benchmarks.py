"""`make bench` measures with programs of its own; here those that measure actors run briefly."""

from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_every_program_that_measures_actors_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    acting = import_module("benchmarks.acting")
    programs = {program for benchmark in acting.BENCHMARKS for program in benchmark.peers}
    ran = set()
    for program in programs:
        if program.module == acting.PYKKA or program.function == "idle":
            continue  # those need packages that are there for the benchmarks only
        module = import_module(f"benchmarks.programs.{program.module}")
        assert module.run(getattr(module, program.function), 20, *program.numbers) > 0
        ran.add(program.name)
    assert "raw trio" in ran
    assert "Greenroom" in ran
