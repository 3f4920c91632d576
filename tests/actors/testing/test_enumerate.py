"""Every cancellation, and every crash: each once, and those that leak are found."""

from typing import Any

import pytest
import trio

from greenroom.actors import Actor, ChildSpec, Delivery, Killed, open_actor_system
from greenroom.actors.testing import (
    InjectedCrash,
    Unsteady,
    aim,
    crash_point,
    crashing,
    every_cancellation,
    every_crash,
    note,
    simulate,
)


async def work() -> None:
    for number in range(3):
        note(f"{number}")
        await trio.sleep(1)


async def two_workers() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        nursery.start_soon(work)


def test_each_step_is_reached_exactly_once() -> None:
    runs = [*every_cancellation(two_workers)]
    assert [run.plan.cancel_at for run in runs] == list(range(simulate(two_workers).checkpoints))
    # Each run is like the uncancelled one up to that step, and no other is so far.
    whole = simulate(two_workers).lines
    for step, run in enumerate(runs):
        kept = [line for line in run.lines if line[1] < step]
        assert kept == [line for line in whole if line[1] < step]
        assert (0.0, step, "(simulation)", "the scenario is cancelled") in [
            (0.0, *line[1:]) for line in run.lines
        ]


def test_a_cancelled_run_says_so_and_one_that_was_done_does_not() -> None:
    runs = [*every_cancellation(two_workers)]
    assert all(run.hit for run in runs)
    assert [run.cancelled for run in runs] == [True] * (len(runs) - 1) + [False]


def test_a_leak_at_one_checkpoint_is_found() -> None:
    async def careless(pool: list[str]) -> None:
        await trio.sleep(1)
        connection = pool.pop()
        await trio.lowlevel.checkpoint()  # cancelled here, the connection is lost
        try:
            await trio.sleep(1)
        finally:
            pool.append(connection)

    async def scenario() -> None:
        pool = ["a connection"]
        try:
            await careless(pool)
        finally:
            note(f"{len(pool)} left")

    leaking = [
        run.plan.cancel_at for run in every_cancellation(scenario) if run.notes != ("1 left",)
    ]
    assert leaking == [2]


def test_an_assertion_of_the_scenario_names_the_step_at_which_it_fails() -> None:
    async def scenario() -> None:
        done = False
        try:
            await trio.sleep(1)
            await trio.sleep(1)
            done = True
        finally:
            if not done and trio.current_time() == 1:
                raise AssertionError("half done")

    with pytest.raises(AssertionError, match="half done") as failure:
        [*every_cancellation(scenario)]
    assert "Plan(cancel_at=1)" in failure.value.__notes__[0]


def test_an_actor_is_killed_at_each_step_of_its_life_and_nothing_else_is() -> None:
    class Clerk(Actor[Any]):
        async def receive(self, message: int) -> None:
            await trio.sleep(1)
            note(f"done {message}")

    async def scenario() -> None:
        async with open_actor_system("bank") as system:
            clerk = system.spawn(crashing(ChildSpec("clerk", Clerk)))
            for message in range(3):
                assert clerk.tell(message) is Delivery.ACCEPTED
            await trio.sleep(2.5)
            note(f"alive {clerk.alive}")
            clerk.stop()
            reason = await clerk.join()
            note(f"killed {isinstance(reason, Killed)}")

    runs = [*every_cancellation(scenario, target="/bank/clerk")]
    first = simulate(scenario)
    assert {run.notes[-1] for run in runs} == {"killed True"}
    assert not any(run.cancelled for run in runs)
    assert first.notes[-1] == "killed False"
    # It lived from the step after its first to the one that it spent in stopping.
    steps = [line[1] for line in first.lines if line[2] == "clerk"]
    assert [run.plan.cancel_at for run in runs] == list(range(steps[0] + 1, steps[-1] + 1))
    assert {sum(note.startswith("done") for note in run.notes) for run in runs} == {0, 1, 2}


def test_an_actor_that_is_restarted_is_killed_in_its_first_life_too() -> None:
    async def scenario() -> None:
        async with open_actor_system("bank") as system:
            system.spawn(crashing(ChildSpec("clerk", Actor[Any]))).tell("crash")
            await trio.sleep(1)

    crashes = ["clerk before message 1"]
    first = simulate(scenario, crashes=crashes)
    start, again, *_ = (
        at for _, at, who, text in first.lines if who.startswith("clerk") and not text
    )
    hits = [
        run.plan.cancel_at
        for run in every_cancellation(scenario, crashes=crashes, target="/bank/clerk")
    ]
    assert start < again
    assert hits[0] == start + 1


def test_a_cancel_scope_can_be_the_target() -> None:
    async def scenario() -> None:
        with trio.CancelScope() as scope:
            aim(scope, "upload")
            await work()
        note(f"cancelled {scope.cancelled_caught}")

    runs = [*every_cancellation(scenario, target="upload")]
    assert [run.plan.cancel_at for run in runs] == [1, 2, 3]
    assert [run.notes[-1] for run in runs] == ["cancelled True"] * 3


def test_a_target_that_was_never_named_is_refused() -> None:
    with pytest.raises(ValueError, match="the scenario aims at nothing, and not at 'till'"):
        [*every_cancellation(work, target="till")]


def test_what_fails_in_a_target_comes_out() -> None:
    class Broken:
        def cancel(self) -> None:
            raise OSError("gone")

    async def scenario() -> None:
        aim(Broken(), "broken")
        await work()

    with pytest.raises(OSError, match="gone"):
        [*every_cancellation(scenario, target="broken")]


def test_state_that_outlives_a_run_is_found_out() -> None:
    seen: list[int] = []

    async def scenario() -> None:
        seen.append(1)
        note(f"run {len(seen)}")
        await trio.sleep(1)

    with pytest.raises(Unsteady, match="does the scenario keep state between runs"):
        [*every_cancellation(scenario)]


def test_each_crash_point_crashes_once() -> None:
    async def scenario() -> str:
        for number in range(3):
            try:
                crash_point("reading" if number else "opening")
            except InjectedCrash as error:
                return str(error)
        return "all well"

    assert simulate(scenario).value == "all well"
    assert [run.value for run in every_crash(scenario)] == [
        f"the simulation's plan has a crash at '{point}'"
        for point in ("opening 1", "reading 1", "reading 2")
    ]
