"""Trio's two private names: still there, given back, and done without."""

import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio
import trio._core._run as loop

import greenroom.actors
from greenroom.actors.testing import Steering, note, simulate
from greenroom.actors.testing import _steering as steering

NAMES = ("_r", "_ALLOW_DETERMINISTIC_SCHEDULING")


async def speak(name: str) -> None:
    for _ in range(2):
        note(name)
        await trio.lowlevel.checkpoint()


async def three_speakers() -> None:
    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(speak, name)


def order(*choices: int) -> str:
    return "".join(simulate(three_speakers, choices=choices).notes)


def names() -> list[Any]:
    return [getattr(loop, name) for name in NAMES]


def test_this_release_of_trio_has_both_names_and_follows_them() -> None:
    """If this fails, trio has changed its scheduler: mend `_steering.py`, and nothing else."""
    assert isinstance(loop._r, random.Random), f"trio {trio.__version__}"
    assert isinstance(loop._ALLOW_DETERMINISTIC_SCHEDULING, bool), f"trio {trio.__version__}"
    assert simulate(three_speakers).steering is Steering.STEERED, f"trio {trio.__version__}"
    assert order() == "abcabc", f"trio {trio.__version__}"


def test_each_choice_sends_one_task_back() -> None:
    assert order(0) == "bcabca"
    assert order(0, 0) == "cabcab"
    assert order(0, 1) == "bcacab"
    assert order(1) == "abcbca"
    assert order(99) == "abcabc"


def test_the_names_are_given_back_after_each_run() -> None:
    before = names()
    simulate(three_speakers)
    assert names() == before


def test_the_names_are_given_back_after_an_error() -> None:
    async def fail() -> None:
        raise OSError("gone")

    before = names()
    with pytest.raises(OSError, match="gone"):
        simulate(fail)
    assert names() == before


def test_a_loop_in_another_thread_keeps_its_own_disorder() -> None:
    async def other() -> str:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(trio.lowlevel.checkpoint)
        return "done"

    async def scenario() -> str:
        return await trio.to_thread.run_sync(trio.run, other)

    run = simulate(scenario, choices=[0, 0, 0])
    assert run.value == "done"
    assert run.decisions == 0


def test_without_the_switch_the_choices_seed_trios_disorder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(steering, "_SWITCH", "_gone")
    run = simulate(three_speakers, choices=[1])
    assert run.steering is Steering.SEEDED
    assert not run.steered
    assert run.trace.startswith("# seeded only")
    assert sorted(run.notes) == sorted("abcabc")
    assert simulate(three_speakers, choices=[1]).trace == run.trace
    assert len({order(choice) for choice in range(20)}) > 1


@pytest.mark.parametrize(("name", "value"), [("_RANDOM", "_gone"), ("_LOOP", "trio._gone")])
def test_without_trios_random_numbers_a_run_is_not_steered_and_says_so(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setattr(steering, name, value)
    before = names()
    run = simulate(three_speakers, choices=[1])
    assert run.steering is Steering.UNSTEERED
    assert run.trace.startswith("# not steered")
    assert sorted(run.notes) == sorted("abcabc")
    assert names() == before


def test_names_that_the_loop_no_longer_asks_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    unused = ModuleType("unused")
    for name in NAMES:
        setattr(unused, name, getattr(loop, name))
    monkeypatch.setitem(sys.modules, "unused", unused)
    monkeypatch.setattr(steering, "_LOOP", "unused")
    assert simulate(three_speakers).steering is Steering.UNSTEERED


def test_no_other_file_of_the_package_knows_the_names() -> None:
    assert greenroom.actors.__file__ is not None
    knowing = [
        path.name
        for path in Path(greenroom.actors.__file__).parent.rglob("*.py")
        if "trio._core" in (text := path.read_text()) or "_ALLOW_DETERMINISTIC" in text
    ]
    assert knowing == ["_steering.py"]
