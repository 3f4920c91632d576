"""How long an end may take: I26, and what the budget of a stop means at each level."""

from dataclasses import replace
from math import inf
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actors.proof.trees import (
    Branch,
    End,
    Leaf,
    Life,
    Step,
    named,
    play,
    wild_ends,
    wild_plans,
    wild_steps,
    wild_trees,
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
@settings(deadline=None)
def test_i26_a_system_is_over_within_its_shutdown_timeout_however_it_ends(
    tree: Branch, steps: list[Step], end: End, shutdown_timeout: float, plan: Plan
) -> None:
    played = play(tree, steps, until=8, end=end, shutdown_timeout=shutdown_timeout, plan=plan)
    assert played.ended_at <= played.asked_at + shutdown_timeout
