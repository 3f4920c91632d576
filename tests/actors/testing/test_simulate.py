"""One run as its plan says: what comes out, what is traced, and that it is always the same."""

import gc
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, find, given, settings

from greenroom.actors import Actor, Backoff, ChildSpec, open_actor_system
from greenroom.actors.testing import (
    EndlessRun,
    NestedSimulation,
    Plan,
    aim,
    crashing,
    note,
    plans,
    schedules,
    simulate,
)


class Clerk(Actor[Any]):
    """Opens accounts and pays into them; looks first, and writes a step later."""

    def __init__(self, book: dict[str, int]) -> None:
        self.book = book

    async def receive(self, message: tuple[str, str]) -> None:
        what, name = message
        if what == "open":
            self.book[name] = 0
        elif name in self.book:
            balance = self.book[name]
            await trio.lowlevel.checkpoint()
            self.book[name] = balance + 1
        note(f"{name} has {self.book.get(name)}")


async def bank() -> int:
    """One clerk opens an account while the other pays into it, which only looks right."""
    book: dict[str, int] = {}
    spec = ChildSpec("clerk", lambda: Clerk(book), backoff=Backoff(0.1, 1))
    async with open_actor_system("bank", intensity=9) as system:
        clerks = [system.spawn(crashing(replace(spec, id=f"clerk{number}"))) for number in range(2)]
        clerks[0].tell(("open", "ann"))
        clerks[1].tell(("pay", "ann"))
        await trio.sleep(5)
        note(f"{len({clerk.uid for clerk in clerks})} clerks, such as {clerks[0]!r}")
    return book.get("ann", 0)


# What makes a run the same.


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(plans(crash_points=16, checkpoints=32, targets=("/bank/clerk0",)))
def test_the_same_plan_gives_the_same_trace(plan: Plan) -> None:
    first, second = (simulate(bank, plan=plan) for _ in range(2))
    assert first.trace == second.trace
    assert first == second


def test_the_trace_is_the_same_in_each_process_whatever_its_hash_seed(tmp_path: Path) -> None:
    """I30, byte for byte."""
    script = tmp_path / "traces.py"
    script.write_text(SCRIPT)
    outputs = [
        subprocess.run(
            [sys.executable, str(script), *warm_up],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed, warm_up in (("1", []), ("2", ["first some other runs"]))
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].count(b"is over") == 3
    assert b"crash point 4 crashes" in outputs[0]


SCRIPT = """
import logging, random, sys
import trio
from greenroom.actors import *
from greenroom.actors.testing import *

logging.disable()

class Worker(Actor):
    async def started(self, ctx, cause):
        self.ctx = ctx
        ctx.nursery.start_soon(trio.sleep, 3)
    async def receive(self, others):
        for other in others:  # a set: its order is that of the hashes
            note(f"{self.ctx.self.path} knows {other!r} of {object()!r}")
            await trio.sleep(random.random())

async def scenario():
    spec = crashing(ChildSpec("worker", Worker, backoff=Backoff(0.1, 1)))
    async with open_dynamic_supervisor("pool") as pool:
        workers = {pool.start_child(spec) for _ in range(4)}
        for worker in workers:
            worker.tell(workers)
        await trio.sleep(9)

if sys.argv[1:]:
    for _ in range(3):
        simulate(scenario)
for plan in (Plan(), Plan(choices=[1, 3, 5], crashes=[4]), Plan(cancel_at=20)):
    print(simulate(scenario, plan=plan).trace)
"""


def test_the_process_is_afterwards_as_it_was() -> None:
    random.seed(7)
    state = random.getstate()
    simulate(bank)
    assert random.getstate() == state
    assert gc.isenabled()


def test_random_numbers_are_the_same_in_each_run() -> None:
    async def roll() -> float:
        return random.random()

    assert simulate(roll).value == simulate(roll).value


# What is found.


def test_a_race_that_the_oldest_first_never_shows_is_found_and_shrunk() -> None:
    assert simulate(bank).value == 1
    found = find(schedules(), lambda choices: simulate(bank, choices=choices).value != 1)
    assert len(found) == 1
    assert simulate(bank, choices=found).choices_used == tuple(found)


def test_a_race_in_plain_tasks_is_found_and_shrunk() -> None:
    async def scenario() -> bool:
        ready = False
        late = False

        async def prepare() -> None:
            nonlocal ready
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            ready = True

        async def use() -> None:
            nonlocal late
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            late = not ready

        async with trio.open_nursery() as nursery:
            nursery.start_soon(prepare)
            nursery.start_soon(use)
        return late

    assert not simulate(scenario).value
    found = find(schedules(), lambda choices: bool(simulate(scenario, choices=choices).value))
    assert found == [0]


# What comes out.


def test_the_value_and_the_counts_come_out() -> None:
    async def scenario(value: int) -> int:
        await trio.sleep(value)
        note("awake")
        return value

    run = simulate(scenario, 4)
    assert (run.value, run.ended_at, run.notes) == (4, 4, ("awake",))
    assert (run.checkpoints, run.decisions, run.crash_points) == (2, 0, 0)
    assert run.tasks_left == ()
    assert run.steered
    assert not run.waited_outside


def test_an_error_comes_out_with_the_plan_and_the_end_of_the_trace() -> None:
    async def scenario() -> None:
        note("nearly there")
        raise OSError("gone")

    with pytest.raises(OSError, match="gone") as failure:
        simulate(scenario, choices=[2])
    (text,) = failure.value.__notes__
    assert "Plan(choices=(2,))" in text
    assert "scenario: nearly there" in text
    assert text.endswith("(simulation): is over, raised OSError")


def test_an_error_that_is_to_be_caught_is_kept() -> None:
    async def scenario() -> None:
        raise OSError("gone")

    assert isinstance(simulate(scenario, catch=OSError).error, OSError)
    with pytest.raises(OSError, match="gone"):
        simulate(scenario, catch=ValueError)


def test_groups_stay_whole() -> None:
    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            raise OSError("gone")

    with pytest.raises(ExceptionGroup):
        simulate(scenario)


def test_system_tasks_that_are_left_behind_are_named() -> None:
    async def scenario() -> None:
        for name in ("straggler", "laggard", "laggard"):
            trio.lowlevel.spawn_system_task(trio.sleep_forever, name=name)

    assert simulate(scenario).tasks_left == ("laggard", "laggard/2", "straggler")


def test_tasks_of_one_name_are_told_apart_in_the_trace() -> None:
    async def child() -> None:
        note(f"at {object()!r}\nor so")

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            nursery.start_soon(child)

    assert simulate(scenario).trace.splitlines() == [
        "  0.000000      0 scenario",
        "  0.000000      1 child",
        "  0.000000      1 child: at <object object at 0x...>\\nor so",
        "  0.000000      2 child/2",
        "  0.000000      2 child/2: at <object object at 0x...>\\nor so",
        "  0.000000      3 scenario",
        "  0.000000      3 (simulation): is over, returned",
    ]


# What is refused.


def test_outside_of_simulations_nothing_is_noted_and_nothing_aimed_at() -> None:
    note("nobody hears")
    aim(trio.CancelScope())


async def test_a_simulation_inside_trio_is_refused() -> None:
    with pytest.raises(NestedSimulation, match="inside a run of trio; call it from a plain `def`"):
        simulate(trio.sleep, 1)


def test_a_simulation_beside_another_is_refused_and_the_other_goes_on() -> None:
    async def scenario() -> str:
        with pytest.raises(NestedSimulation, match="inside another simulation"):
            await trio.to_thread.run_sync(simulate, trio.sleep, 1)
        return "done"

    assert simulate(scenario).value == "done"


def test_a_run_without_end_is_ended_and_told_with_its_last_steps() -> None:
    async def spin() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    with pytest.raises(EndlessRun, match="not over after 50 steps") as failure:
        simulate(spin, max_steps=50)
    assert failure.value.last_lines.endswith("50 spin")
    assert simulate(trio.sleep, 1, max_steps=2).value is None


def test_a_run_that_swallows_its_cancellation_is_ended_as_well() -> None:
    async def spin() -> None:
        while True:
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled:
                note("never mind")

    with pytest.raises(EndlessRun):
        simulate(spin, max_steps=50)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"choices": [-1]}, "choices are counted from 0; there is -1"),
        ({"crashes": [-1]}, "crashes are counted from 0; there is -1"),
        ({"cancel_at": -1}, "cancel_at is counted from 0; it is -1"),
        ({"target": "till"}, "target 'till' needs cancel_at"),
        ({"max_steps": 0}, "max_steps must be 1 or more; it is 0"),
        ({"plan": Plan(), "choices": [1]}, "plan holds all choices"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(trio.sleep, 1, **arguments)


def test_what_is_no_async_function_is_refused() -> None:
    async def scenario() -> None:
        await trio.sleep(1)

    with pytest.raises(
        TypeError, match=r"simulate\(scenario, 1\) and not simulate\(scenario\(1\)\)"
    ):
        simulate(scenario())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes an async function, and <function note"):
        simulate(note, "hello")  # type: ignore[arg-type]


def test_a_scope_without_a_name_is_no_target() -> None:
    async def scenario() -> None:
        aim(trio.CancelScope())

    with pytest.raises(ValueError, match="needs a name"):
        simulate(scenario)


def test_a_plan_can_be_pasted() -> None:
    plan = Plan((3, 1), ("till before message 2",), 14, "/bank/till")
    assert repr(plan) == (
        "Plan(choices=(3, 1), crashes=('till before message 2',), cancel_at=14,"
        " target='/bank/till')"
    )
    assert eval(repr(plan)) == plan
    assert repr(Plan()) == "Plan()"


# Arguments of other types.


async def nothing() -> None: ...


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crashes": "half"}, r"crashes must be a list .* such as \[7, .*; it is 'half'"),
        ({"crashes": 7}, "crashes must be a list .*; it is 7"),
        ({"crashes": [7, None]}, "crashes must be a list .*; there is None"),
        ({"choices": "3"}, r"choices must be a list of numbers, such as \[3, 14\]; it is '3'"),
        ({"choices": [3.5]}, "choices must be a list of numbers.*; there is 3.5"),
        ({"choices": ["3"]}, "choices must be a list of numbers.*; there is '3'"),
        ({"cancel_at": "3"}, "cancel_at must be a number of a step; it is '3'"),
        ({"cancel_at": 3, "target": 4}, r"target must be a name given to aim\(\); it is 4"),
        ({"plan": "x"}, r"plan must be a Plan, such as Plan\(choices=\[3\]\); it is 'x'"),
        ({"catch": 3}, "catch must be a class of exceptions or a tuple of such.*; it is 3"),
        ({"catch": [ValueError]}, "catch must be a class of exceptions or a tuple of such"),
        ({"catch": (ValueError, int)}, "catch must be a class of exceptions or a tuple of such"),
    ],
    ids=str,
)
def test_an_argument_of_another_type_is_refused_with_what_to_write(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        simulate(nothing, **arguments)


def test_a_plan_refuses_a_text_in_place_of_a_list_of_crash_points() -> None:
    with pytest.raises(TypeError, match="crashes must be a list"):
        Plan(crashes="half")  # type: ignore[arg-type]
