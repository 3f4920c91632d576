"""What ties actors to others and to names, over restarts and ends: I19 to I22."""

from string import ascii_lowercase
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actors.proof.trees import (
    EYES,
    Branch,
    End,
    Eye,
    Fault,
    Leaf,
    Life,
    Played,
    Record,
    Step,
    play,
    reason_of,
    silence,
    spec_for,
    wild_ends,
    wild_plans,
    wild_steps,
    wild_trees,
)

from greenroom.actors import (
    ActorDied,
    ActorRef,
    Backoff,
    ChildSpec,
    Crash,
    DynamicSupervisor,
    ExitReason,
    NameTaken,
    Restart,
    StartTimeout,
    Supervisor,
    Terminated,
    open_actor_system,
)
from greenroom.actors.testing import Plan, plans, simulate

# I19


@given(wild_trees, wild_steps, wild_plans)
@settings(deadline=None, max_examples=60)
def test_i19_names_groups_and_services_outlast_restarts_and_timers_do_not(
    tree: Branch, steps: list[Step], plan: Plan
) -> None:
    played = play(tree, steps, until=8, shutdown_timeout=20, plan=plan, looks_around=True)
    assert played.record.alive_but_lost == []
    for entry in played.record.of("heard"):
        if isinstance(entry.detail, tuple) and entry.detail[0] == "tick":
            assert entry.detail == ("tick", entry.life)


# I20

failing = st.sampled_from(
    [Life(fails="constructor"), Life(fails="started"), Life(starts_in=6), Life(starts_in=5)]
)


@given(
    failing,
    st.integers(0, 2),
    st.integers(0, 2),
    st.sampled_from(Restart),
    st.booleans(),
    st.booleans(),
    plans(decisions=40, changes=4),
)
@settings(deadline=None)
def test_i20_who_fails_to_start_leaves_no_zombie_and_whoever_watches_is_told(
    life: Life, good: int, intensity: int, restart: Restart, early: bool, dynamic: bool, plan: Plan
) -> None:
    """A child comes to a life that cannot start, which is tried until nothing is left to try."""
    lives = (Life(runs=0),) * good + (life,) * 5
    leaf = Leaf(lives, restart=restart, backoff=Backoff(1, 1, 1, 0, 0), id="a")
    record = Record()

    async def scenario() -> None:
        kind = DynamicSupervisor if dynamic else Supervisor
        keeper = kind(intensity=intensity, period=1000, give_up=False)
        async with open_actor_system("system") as system:
            record.listen(system)
            eye = system.spawn(ChildSpec("eye0", lambda: Eye("eye0", record)))
            await system.spawn(ChildSpec("keeper", lambda: keeper)).wait_started()
            await trio.sleep(0.5)
            tasks = trio.lowlevel.current_statistics().tasks_living
            try:
                ref = keeper.start_child(spec_for(leaf, record))
            except Fault:
                assert lives[0].fails == "constructor"
            else:
                if early:
                    eye.tell(("watch", ref))
                reason = await ref.join()
                if not early:
                    eye.tell(("watch", ref))
                await trio.sleep(0.5)
                told = [entry.detail for entry in record.of("told", name="eye0")]
                assert told == [Terminated(ref, reason)]
                assert isinstance(reason, Crash)
                errors = [error for raised in record.faults.values() for error in raised]
                assert reason.error in errors or isinstance(reason.error, StartTimeout)
                with pytest.raises(ActorDied):
                    await ref.ask("anybody there?")
            assert len(keeper) == 0
            assert system.registry.names() == ()
            assert trio.lowlevel.current_statistics().tasks_living == tasks

    with silence():
        simulate(scenario, plan=plan)


# I21

looks = st.lists(
    st.builds(
        Step,
        st.integers(0, 7),
        st.sampled_from(["watch", "watch", "watch", "unwatch"]),
        st.sampled_from(ascii_lowercase[:5]),
        st.sampled_from(EYES),
    )
    | st.builds(Step, st.integers(0, 7), st.just("crash"), st.sampled_from(EYES)),
    max_size=6,
)


@given(wild_trees, wild_steps, looks, wild_plans)
@settings(deadline=None, max_examples=60)
def test_i19_i21_who_watches_is_told_of_each_death_exactly_once_and_nobody_else_of_anything(
    tree: Branch, steps: list[Step], looks: list[Step], plan: Plan
) -> None:
    played = play(tree, [*looks, *steps], until=16.5, plan=plan)
    for eye in EYES:
        check_what_was_told(eye, played)


def check_what_was_told(eye: str, played: Played) -> None:
    watched: set[ActorRef[Any]] = set()
    told: set[ActorRef[Any]] = set()
    ended: dict[ActorRef[Any], ExitReason] = {}
    for entry in played.before_the_end:
        if entry.what == "ended":
            ended[entry.detail.ref] = entry.detail.reason
        elif entry.id != eye:
            continue
        elif entry.what == "watch" and entry.detail not in told:
            watched.add(entry.detail)
        elif entry.what == "unwatch":
            watched.discard(entry.detail)
        elif entry.what == "told":
            ref = entry.detail.ref
            assert ref in watched
            assert entry.detail.reason == ended[ref]
            watched.remove(ref)
            told.add(ref)
    assert not watched & ended.keys()


# I22


@given(wild_trees, wild_steps, wild_ends, wild_plans)
@settings(deadline=None, max_examples=60)
def test_i22_a_name_is_one_live_actors_and_who_has_ended_is_found_nowhere(
    tree: Branch, steps: list[Step], end: End, plan: Plan
) -> None:
    played = play(tree, steps, until=8, end=end, shutdown_timeout=20, plan=plan, looks_around=True)
    assert played.record.dead_but_found == []
    for entry in played.record.of("restarted", "ended"):
        reason = reason_of(entry)
        if isinstance(reason, Crash):
            assert not any(isinstance(leaf, NameTaken) for leaf in reason.leaves)
