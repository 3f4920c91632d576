"""How long an end may take: I26, and what the budget of a stop means at each level."""

from dataclasses import replace
from math import inf
from typing import Any

import trio
import trio.testing
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.actors.proof.trees import (
    Branch,
    End,
    Leaf,
    Life,
    Step,
    named,
    play,
    wild_branches,
    wild_ends,
    wild_leaves,
    wild_plans,
    wild_steps,
    wild_trees,
)

from greenroom.actors import (
    Actor,
    ChildSpec,
    Context,
    Crash,
    ExitReason,
    Restart,
    open_actor_system,
)
from greenroom.actors.testing import Plan, plans

# I26

times = st.sampled_from([0, 1, 2, inf])


@given(
    st.builds(Life, heeds_in=times, stops_in=times, stop_fails=st.booleans()),
    st.integers(0, 2),
    st.integers(0, 2),
    st.booleans(),
    st.sampled_from(["stop", "kill"]),
    plans(decisions=20, changes=2),
)
@settings(deadline=None)
def test_i26_an_end_takes_no_longer_than_shutdown_and_cleanup_and_no_longer_than_needed(
    life: Life, shutdown: int, cleanup_timeout: int, handles: bool, do: Any, plan: Plan
) -> None:
    leaf = Leaf((life,), shutdown=shutdown, cleanup_timeout=cleanup_timeout, handles=handles)
    played = play(named(Branch((leaf,))), [Step(10.5, do, "a")], plan=plan)
    (stopping,) = played.record.of("stopping", name="a")
    (ended,) = played.record.of("ended", name="a")
    heeds_in = life.heeds_in
    if handles and 0 < heeds_in < inf:
        heeds_in -= 10.5 % heeds_in  # its handlers, one after the other, began at 0
    assert stopping.at == 10.5 + (0 if do == "kill" else min(heeds_in, shutdown))
    assert ended.at == stopping.at + min(life.stops_in, cleanup_timeout)


def cooperative(tree: Any) -> Any:
    """Leave out the tasks that shield themselves for a second."""
    if isinstance(tree, Branch):
        return replace(tree, parts=tuple(cooperative(part) for part in tree.parts))
    lives = tuple(replace(life, beside=False) for life in tree.lives)
    return replace(tree, lives=lives, spawns=tuple(cooperative(leaf) for leaf in tree.spawns))


@given(
    wild_trees.map(cooperative),
    wild_steps,
    wild_ends,
    st.sampled_from([0, 0.5, 1, 2, 5]),
    wild_plans,
)
@settings(deadline=None, max_examples=60)
def test_i26_a_system_is_over_within_its_shutdown_timeout_however_it_ends(
    tree: Branch, steps: list[Step], end: End, shutdown_timeout: float, plan: Plan
) -> None:
    played = play(tree, steps, until=8, end=end, shutdown_timeout=shutdown_timeout, plan=plan)
    assert played.ended_at <= played.asked_at + shutdown_timeout


@given(
    wild_leaves(spawns=st.lists(wild_leaves(), min_size=1, max_size=2).map(tuple)).map(cooperative),
    st.integers(0, 2),
    st.integers(0, 2),
    st.sampled_from([1.5, 2, 4.5]),
    st.booleans(),
)
@settings(deadline=None)
def test_i26_an_actor_ends_in_its_time_although_its_children_ask_for_more(
    leaf: Leaf, shutdown: int, cleanup_timeout: int, at: float, patient: bool
) -> None:
    leaf = replace(
        leaf, restart=Restart.TEMPORARY, shutdown=shutdown, cleanup_timeout=cleanup_timeout
    )
    if patient:
        leaf = replace(leaf, spawns=tuple(replace(each, shutdown=50) for each in leaf.spawns))
    played = play(named(Branch((leaf,))), [Step(at, "stop", "a")], until=60.5)
    (ended,) = played.record.of("ended", name="a")
    assert ended.at <= at + shutdown + cleanup_timeout


@given(wild_branches(wild_leaves()).map(cooperative), st.integers(0, 2), st.sampled_from([1.5, 2]))
@settings(deadline=None, max_examples=50)
def test_i26_a_supervisor_with_a_time_of_its_own_ends_in_it_with_all_its_children(
    branch: Branch, shutdown: int, at: float
) -> None:
    branch = replace(branch, shutdown=shutdown, restart=Restart.TEMPORARY)
    played = play(named(Branch((branch,))), [Step(at, "stop", "a")], until=60.5)
    (ended,) = played.record.of("ended", name="a")
    assume(any(entry.at < at for entry in played.record.of("ready", name="a")))
    assert ended.at <= at + shutdown + ChildSpec("any", Actor).cleanup_timeout


# Each level has what is left, and no more than its own.


class Busy(Actor[Any]):
    """Handles one message for ever, and cleans up as slowly."""

    def __init__(self, log: list[str], *children: ChildSpec) -> None:
        self.log = log
        self.children = children

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        self.ctx = ctx
        for spec in self.children:
            ctx.spawn(spec).tell(None)

    async def receive(self, message: Any) -> None:
        if message is not None:
            raise message
        await trio.sleep_forever()

    async def stopped(self, reason: ExitReason) -> None:
        self.log.append(f"{self.ctx.self.path.rpartition('/')[2]} cleans up")
        await trio.sleep_forever()


async def test_i26_a_cancelled_system_cleans_up_within_its_budget_and_passes_the_cancellation_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[str] = []
    inner = ChildSpec("inner", lambda: Busy(log), cleanup_timeout=100)
    outer = ChildSpec("outer", lambda: Busy(log, inner), cleanup_timeout=100)
    with trio.move_on_after(1) as outside:
        async with open_actor_system("system", root=[outer], shutdown_timeout=3):
            await trio.sleep_forever()
    assert outside.cancelled_caught
    assert trio.current_time() == 4
    assert [line[:5] for line in log] == ["inner", "outer"]


async def test_i26_who_cleans_up_when_the_system_is_stopped_is_cut_at_its_deadline_too(
    autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    log: list[str] = []
    crashed = ChildSpec("crashed", lambda: Busy(log), cleanup_timeout=100)
    async with open_actor_system("system", root=[crashed], shutdown_timeout=3) as system:
        next(iter(system.children)).tell(OSError())
        await trio.sleep(1)
        assert log == ["crashed cleans up"]
    assert trio.current_time() == 4


async def test_who_waits_for_its_children_can_still_be_hurried(
    autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    """It has crashed, and its child has a minute to stop; then somebody kills it."""
    log: list[str] = []
    inner = ChildSpec("inner", lambda: Busy(log), shutdown=60, cleanup_timeout=1)
    outer = ChildSpec("outer", lambda: Busy(log, inner), cleanup_timeout=1)
    async with open_actor_system("system", root=[outer]) as system:
        (ref,) = system.children
        await trio.sleep(1)
        ref.tell(OSError())
        await trio.sleep(9)
        assert log == []
        ref.kill()
        assert isinstance(await ref.join(), Crash)
        assert trio.current_time() == 12
    assert [line[:5] for line in log] == ["inner", "outer"]
