"""What comes before what: I15 and I17."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actors.proof.trees import (
    Branch,
    Entry,
    Leaf,
    Life,
    Step,
    What,
    leaves_of,
    named,
    play,
    walk,
    wild_plans,
    wild_steps,
    wild_trees,
)

from greenroom.actors import Strategy
from greenroom.actors.testing import Plan, plans

# I15

slow_lives = st.builds(Life, starts_in=st.integers(0, 2), stops_in=st.integers(0, 2))
slow_leaves = st.builds(
    lambda life, handles: Leaf((life,), handles=handles), slow_lives, st.booleans()
)


def branches(parts: st.SearchStrategy[Any], **options: Any) -> st.SearchStrategy[Branch]:
    """Draw a supervisor of such parts, of any strategy."""
    return st.builds(
        Branch,
        st.lists(parts, min_size=1, max_size=3).map(tuple),
        strategy=st.sampled_from(Strategy),
        **options,
    )


@given(branches(slow_leaves | branches(slow_leaves)).map(named), plans(decisions=40, changes=4))
@settings(deadline=None)
def test_i15_each_starts_when_the_one_before_is_ready_and_stops_when_the_one_after_has_ended(
    tree: Branch, plan: Plan
) -> None:
    played = play(tree, until=40.5, plan=plan)
    leaves = leaves_of(tree)
    now = 0.0
    expected: list[tuple[float, str, str]] = []
    for leaf in leaves:
        expected += [(now, "starting", leaf.id)]
        now += leaf.lives[0].starts_in
        expected += [(now, "started", leaf.id)]
    now = 40.5
    for leaf in reversed(leaves):
        expected += [(now, "stopping", leaf.id)]
        now += leaf.lives[0].stops_in
        expected += [(now, "stopped", leaf.id)]
    whats: tuple[What, ...] = ("starting", "started", "stopping", "stopped")
    assert expected == [(each.at, each.what, each.id) for each in played.record.of(*whats)]


# I17


@given(wild_trees, wild_steps, wild_plans)
@settings(deadline=None, max_examples=60)
def test_i17_an_incarnation_begins_when_the_one_before_and_all_that_belonged_to_it_are_over(
    tree: Branch, steps: list[Step], plan: Plan
) -> None:
    played = play(tree, steps, until=8, shutdown_timeout=20, plan=plan)
    below = {part.id: {each.id for each in walk(part)} for part in walk(tree)}
    alive: dict[tuple[str, What], Entry] = {}
    for entry in played.record:
        if entry.what == "made":
            assert not [name for name, _ in alive if name in below[entry.id]], entry
        if entry.what == "stopping":
            assert [key for key in alive if key[0] in below[entry.id]] == [(entry.id, "started")]
        if entry.what in ("starting", "beside"):
            alive[entry.id, entry.what] = entry
        for over in OVER.get(entry.what, ()):
            del alive[entry.id, over]
        if entry.what == "started":
            alive[entry.id, "started"] = entry


OVER: dict[What, tuple[What, ...]] = {
    "started": ("starting",),
    "not started": ("starting",),
    "stopped": ("started",),
    "beside over": ("beside",),
}
