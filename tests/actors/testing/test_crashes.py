"""Crashes on purpose: where actors can be made to crash, and that they stay what they are."""

from contextlib import suppress
from typing import Any

import pytest
import trio

from greenroom.actors import (
    Actor,
    ChildSpec,
    Context,
    Crash,
    DynamicSupervisor,
    ExitReason,
    InitFailed,
    Restart,
    Supervisor,
    open_actor_system,
)
from greenroom.actors.testing import InjectedCrash, crash_point, crashing, note, simulate


class Till(Actor[Any]):
    """Tells what happens to it."""

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        note(f"started after {cause}")

    async def receive(self, message: int) -> None:
        note(f"handles {message}")
        crash_point("half way")
        note(f"handled {message}")

    async def stopped(self, reason: ExitReason) -> None:
        note("stopped")


async def shop() -> ExitReason:
    async with open_actor_system("shop", intensity=9) as system:
        till = system.spawn(crashing(ChildSpec("till", Till)))
        till.tell(1)
        till.tell(2)
        await trio.sleep(1)
        till.stop()
        return await till.join()


def notes(*crashes: int | str) -> list[str]:
    return [text.partition("(")[0] for text in simulate(shop, crashes=crashes).notes]


def test_without_a_plan_nothing_crashes() -> None:
    calm = ["started after None", "handles 1", "handled 1", "handles 2", "handled 2", "stopped"]
    assert notes() == calm
    assert simulate(shop).crash_points == 8


def test_a_crash_before_started_means_that_it_never_began() -> None:
    assert notes("till before started 1")[:2] == ["started after InitFailed", "handles 1"]


def test_a_crash_before_a_message_means_that_it_was_not_handled() -> None:
    again = ["started after None", "stopped", "started after Crash", "handles 2", "handled 2"]
    assert notes("till before message 1")[:5] == again


def test_a_crash_after_a_message_means_that_it_was_handled() -> None:
    after = ["handled 1", "stopped", "started after Crash", "handles 2"]
    assert notes("till after message 1")[2:6] == after


def test_a_crash_in_the_middle_is_where_the_program_says() -> None:
    assert notes("half way 1")[1:4] == ["handles 1", "stopped", "started after Crash"]


def test_a_crash_after_stopped_is_the_reason_of_its_end() -> None:
    run = simulate(shop, crashes=["till after stopped"])
    assert isinstance(run.value, Crash)
    assert isinstance(run.value.error, InjectedCrash)
    assert run.value.error.point == "till after stopped 1"


def test_the_trace_tells_which_point_has_crashed() -> None:
    assert "(simulation): crash point 2 crashes: half way 1" in simulate(shop, crashes=[2]).trace


def test_a_name_without_a_number_crashes_each_time() -> None:
    assert notes("half way").count("started after Crash") == 2


def test_outside_of_simulations_no_point_crashes() -> None:
    crash_point("half way")


async def test_outside_of_simulations_its_actors_are_as_usual(
    autojump_clock: trio.testing.MockClock,
) -> None:
    assert not (await shop()).abnormal


def test_an_actor_with_slots_and_one_that_runs_by_itself_can_crash() -> None:
    class Runner(Actor[Any]):
        __slots__ = ("steps",)

        def __init__(self) -> None:
            self.steps = 0

        async def run(self, ctx: Context) -> None:
            self.steps += 1
            crash_point("running")

    async def scenario() -> ExitReason:
        spec = crashing(ChildSpec("runner", Runner, restart=Restart.TEMPORARY))
        async with open_actor_system("shop") as system:
            return await system.spawn(spec).join()

    assert not simulate(scenario).value.abnormal  # type: ignore[union-attr]
    assert isinstance(simulate(scenario, crashes=["running"]).value, Crash)
    failed = simulate(scenario, crashes=["runner before started"]).value
    assert isinstance(failed, InitFailed)


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
def test_a_supervisor_can_crash_too(kind: type[Supervisor]) -> None:
    async def scenario() -> int:
        starts = 0

        def make() -> Actor[Any]:
            nonlocal starts
            starts += 1
            return kind()

        async with open_actor_system("shop") as system:
            system.spawn(crashing(ChildSpec("floor", make)))
            await trio.sleep(1)
        return starts

    assert simulate(scenario).value == 1
    assert simulate(scenario, crashes=["floor before started 1"]).value == 2


def test_it_is_still_of_its_class_and_keeps_its_name() -> None:
    actor = crashing(ChildSpec("till", Till)).factory()
    assert isinstance(actor, Till)
    assert type(actor).__qualname__ == Till.__qualname__


def test_what_is_no_actor_is_left_to_the_supervisor_to_refuse() -> None:
    assert crashing(ChildSpec("till", lambda: 7)).factory() == 7  # type: ignore[arg-type, comparison-overlap, return-value]


def test_a_run_tells_the_points_at_which_it_crashed_and_so_a_mistyped_one() -> None:
    async def write() -> None:
        for _ in range(3):
            with suppress(InjectedCrash):
                crash_point("half written")

    def hit(*crashes: int | str) -> tuple[str, ...]:
        return simulate(write, crashes=crashes).crashes_hit

    assert hit("half written 3", 0) == ("half written 1", "half written 3")
    assert hit("half written") == tuple(f"half written {number}" for number in (1, 2, 3))
    assert hit("half writen", 3) == ()
