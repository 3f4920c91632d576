"""Who is started again, how often, and after which pause: I12, I13, I14, I16 and I18."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actors.proof.trees import (
    Branch,
    Entry,
    Leaf,
    Life,
    Played,
    Step,
    Tree,
    leaves_of,
    log_of_actors,
    named,
    play,
    reason_of,
    walk,
    wild_steps,
    wild_trees,
)

from greenroom.actors import Backoff, Crash, Restart, RestartsExhausted, Strategy
from greenroom.actors.testing import Plan, plans

plain_settings = settings(deadline=None)

# I12

short_lives = st.builds(
    Life,
    runs=st.integers(0, 3),
    then=st.sampled_from(["crash", "finish"]),
    stops_in=st.integers(0, 1),
    stop_fails=st.booleans(),
)
failing_lives = st.builds(Life, fails=st.sampled_from(["constructor", "started"]))


@st.composite
def independent_leaves(draw: st.DrawFn) -> tuple[Leaf, ...]:
    """Leaves that start well, so that each start of the tree is at time 0."""
    later = st.lists(short_lives | failing_lives, min_size=1, max_size=3)
    leaves = st.builds(
        lambda first, more, **options: Leaf((first, *more), **options),
        short_lives,
        later,
        restart=st.sampled_from(Restart),
        handles=st.booleans(),
        intensity=st.integers(0, 3),
    )
    return tuple(draw(st.lists(leaves, min_size=2, max_size=3)))


@given(independent_leaves(), st.booleans(), plans(decisions=40, changes=4))
@settings(deadline=None, max_examples=50)
def test_i12_what_happens_to_one_child_changes_nothing_for_its_siblings(
    leaves: tuple[Leaf, ...], dynamic: bool, plan: Plan
) -> None:
    tree = named(Branch(leaves, dynamic=dynamic, give_up=False))
    together = play(tree, until=15.5, plan=plan)
    for leaf in leaves_of(tree):
        alone = play(replace(tree, parts=(leaf,)), until=15.5)
        assert story_of(leaf, together) == story_of(leaf, alone)


def story_of(leaf: Leaf, played: Played) -> list[tuple[Any, ...]]:
    """What there is to tell about an actor, except of what it was told about others."""
    return [
        (entry.at, entry.what, entry.life)
        for entry in played.before_the_end
        if entry.id == leaf.id and entry.what != "told"
    ]


# I13, I16


@st.composite
def families(draw: st.DrawFn) -> Branch:
    """A supervisor of any strategy, whose children may be supervisors that crash at once."""
    leaves = st.builds(Leaf, restart=st.sampled_from(Restart), handles=st.booleans())
    keepers = st.builds(
        Branch,
        st.tuples(st.just(Leaf()), leaves),
        intensity=st.just(0),
        restart=st.sampled_from(Restart),
    )
    parts = draw(st.lists(leaves | leaves | keepers, min_size=2, max_size=4))
    return named(Branch(tuple(parts), strategy=draw(st.sampled_from(Strategy))))


deeds = st.lists(
    st.tuples(st.sampled_from(["crash", "crash", "finish", "stop", "kill"]), st.integers(0, 3)),
    min_size=2,
    max_size=4,
)


def steps_for(family: Branch, drawn: list[tuple[Any, int]]) -> list[Step]:
    """One step a second, each against a child of the family."""
    return [
        Step(at, do, family.parts[number % len(family.parts)].id)
        for at, (do, number) in enumerate(drawn, start=1)
    ]


def carried_out(family: Branch, steps: list[Step]) -> list[Step]:
    """Let a supervisor crash because of its first child, and have others do what they can."""
    parts = {part.id: part for part in family.parts}
    return [
        step._replace(do="crash", id=parts[step.id].parts[0].id)
        if isinstance(parts[step.id], Branch) and step.do in ("crash", "finish")
        else step
        for step in steps
    ]


def is_again(part: Tree, step: Step) -> bool:
    """Tell whether a child lives again after a step against it."""
    if step.do in ("stop", "kill") or part.restart is Restart.TEMPORARY:
        return False
    if isinstance(part, Leaf) and step.do == "finish":
        return part.restart is Restart.PERMANENT and not part.handles
    return True


def group_of(family: Branch, alive: list[Tree], part: Tree) -> list[Tree]:
    """Give the children that end and start together with one of them."""
    if family.strategy is Strategy.ONE_FOR_ONE:
        return [part]
    return alive if family.strategy is Strategy.ONE_FOR_ALL else alive[alive.index(part) :]


@given(families(), deeds, plans(decisions=40, changes=4))
@settings(deadline=None)
def test_i13_permanent_lives_again_transient_if_it_failed_and_temporary_never(
    family: Branch, drawn: list[tuple[Any, int]], plan: Plan
) -> None:
    alive: list[Tree] = list(family.parts)
    steps = steps_for(family, drawn)
    for step in steps:
        for part in [part for part in alive if part.id == step.id]:
            if not is_again(part, step):
                alive.remove(part)
                continue
            group = group_of(family, alive, part)
            gone = [each for each in group if each.restart is Restart.TEMPORARY]
            alive = [each for each in alive if each not in gone]
    played = play(family, carried_out(family, steps), plan=plan)
    ended = {entry.id for entry in played.before_the_end if entry.what == "ended"}
    assert [part.id for part in family.parts if part.id not in ended] == [part.id for part in alive]


@given(families(), deeds, plans(decisions=40, changes=4))
@settings(deadline=None)
def test_i16_the_strategys_group_and_nobody_else_stops_in_reverse_and_starts_in_order(
    family: Branch, drawn: list[tuple[Any, int]], plan: Plan
) -> None:
    alive: list[Tree] = list(family.parts)
    keepers = {part.id for part in family.parts if isinstance(part, Branch)}
    steps = [
        step._replace(do="stop") if step.do == "kill" and step.id in keepers else step
        for step in steps_for(family, drawn)  # a kill knows no order
    ]
    log = starts(family)
    for step in steps:
        for part in [part for part in alive if part.id == step.id]:
            log += ends(part, step)
            if not is_again(part, step):
                alive.remove(part)
                continue
            group = group_of(family, alive, part)
            log += [line for each in reversed(group) if each is not part for line in stops(each)]
            alive = [
                each for each in alive if each not in group or each.restart is not Restart.TEMPORARY
            ]
            log += [line for each in group if each in alive for line in starts(each)]
    played = play(family, carried_out(family, steps), plan=plan)
    signs = {"started": "+", "stopping": "-"}
    assert log == [
        signs[entry.what] + entry.id for entry in played.before_the_end if entry.what in signs
    ]


def starts(tree: Tree) -> list[str]:
    return [f"+{leaf.id}" for leaf in leaves_of(tree)]


def stops(tree: Tree) -> list[str]:
    return [f"-{leaf.id}" for leaf in reversed(leaves_of(tree))]


def ends(part: Tree, step: Step) -> list[str]:
    """Give the ends that a step against one child means for it and those below."""
    if isinstance(part, Leaf) or step.do == "stop":
        return stops(part)
    return [f"-{leaf.id}" for leaf in leaves_of(part)]  # the first crashed, and the second goes


# I14


stormy_lives = st.one_of(
    st.builds(Life, runs=st.integers(0, 3)),
    st.builds(Life, starts_in=st.integers(0, 1), fails=st.just("started")),
    st.just(Life(fails="constructor")),
)
own_windows = st.sampled_from([(None, None)] * 6 + [(0, None), (1, None), (None, 1), (2, 3)])
stormy_leaves = st.builds(
    lambda lives, window: Leaf(lives, intensity=window[0], period=window[1]),
    st.lists(stormy_lives, min_size=1, max_size=4).map(tuple),
    own_windows,
)


@st.composite
def stormy_branches(draw: st.DrawFn, parts: st.SearchStrategy[Any]) -> Branch:
    """A supervisor whose window is as short as its children's lives.

    If it restarts several together, one of them crashes and the others are calm: who
    crashes on the way to a common restart does not count.
    """
    strategy = draw(st.sampled_from([Strategy.ONE_FOR_ONE, *Strategy]))
    if strategy is Strategy.ONE_FOR_ONE:
        drawn = draw(st.lists(parts, min_size=2, max_size=3))
    else:
        drawn = [Leaf(), draw(parts), Leaf()][draw(st.integers(0, 1)) :]
    return Branch(
        tuple(drawn),
        strategy=strategy,
        intensity=draw(st.integers(0, 3)),
        period=draw(st.integers(1, 4)),
        per_child=draw(st.booleans()),
        restart=Restart.PERMANENT,
    )


stormy_trees = (
    stormy_branches(stormy_leaves | stormy_branches(stormy_leaves))
    .map(lambda tree: replace(tree, restart=Restart.TEMPORARY))
    .map(named)
)


@given(stormy_trees, plans(decisions=40, changes=4))
@settings(deadline=None, max_examples=100)
def test_i14_restarts_in_any_window_never_exceed_the_intensity_or_the_supervisor_gives_up(
    tree: Branch, plan: Plan
) -> None:
    played = play(tree, plan=plan)
    for part in walk(tree):
        if isinstance(part, Branch):
            for entries in incarnations_of(part, played):
                check_windows(part, entries)


def incarnations_of(branch: Branch, played: Played) -> list[list[Entry]]:
    """Cut what happened to a supervisor and its children at each of its own ends."""
    ids = {branch.id, *(part.id for part in branch.parts)}
    whole: list[list[Entry]] = [[]]
    for entry in played.before_the_end:
        if entry.id in ids and entry.what in ("asked", "restarted", "ended"):
            whole[-1].append(entry)
            if entry.id == branch.id and entry.what != "asked":
                whole.append([])
    return whole


def check_windows(branch: Branch, entries: list[Entry]) -> None:
    """Judge each crash of a child by those before it in the same window."""
    parts = {part.id: part for part in branch.parts}
    windows: dict[str, list[float]] = {}
    asked: set[str] = set()
    for at, entry in enumerate(entries):
        if entry.what == "asked":
            asked.add(entry.id)
            if entry.id == branch.id:
                return  # who stops restarts nobody
        elif entry.id == branch.id:
            assert not isinstance(reason_of(entry), Crash), entry
        elif entry.id in asked:
            asked.remove(entry.id)  # it ends for another's crash
        elif isinstance(reason_of(entry), Crash):
            key, intensity, period = window_for(parts[entry.id], branch)
            window = windows.setdefault(key, [])
            window.append(entry.at)
            allowed = sum(then >= entry.at - period for then in window) <= intensity
            assert (entry.what == "restarted") == allowed, entry
            if not allowed:
                check_that_it_gave_up(branch, entry, entries[at + 1 :])
                return


def window_for(part: Tree, branch: Branch) -> tuple[str, int, float]:
    """Tell which restarts count together with those of a child, how many, and for how long."""
    if isinstance(part, Branch) or (part.intensity is None and part.period is None):
        return part.id if branch.per_child else "together", branch.intensity, branch.period
    intensity = branch.intensity if part.intensity is None else part.intensity
    return part.id, intensity, branch.period if part.period is None else part.period


def check_that_it_gave_up(branch: Branch, last: Entry, after: list[Entry]) -> None:
    """See that the other children ended for good, and then the supervisor, by a crash."""
    *others, own = [entry for entry in after if entry.what != "asked"]
    assert {last.id, *(entry.id for entry in others)} == {part.id for part in branch.parts}
    assert all(entry.what == "ended" for entry in others)
    reason, cause = reason_of(own), reason_of(last)
    assert isinstance(reason, Crash)
    assert isinstance(cause, Crash)
    assert isinstance(reason.error, RestartsExhausted)
    assert reason.error.__cause__ is cause.error
    assert own.id == branch.id


# I18


@given(
    st.lists(stormy_lives, max_size=6).map(tuple),
    st.integers(0, 2),
    st.integers(0, 5),
    st.integers(1, 3),
    st.sampled_from([0, 0.5]),
    st.integers(0, 3),
    st.sampled_from(Strategy),
    plans(decisions=20, changes=2),
)
@settings(deadline=None)
def test_i18_each_pause_is_the_backoffs_and_grows_until_the_child_has_run_long_enough(
    lives: tuple[Life, ...],
    first: int,
    more: int,
    factor: int,
    jitter: float,
    reset_after: int,
    strategy: Strategy,
    plan: Plan,
) -> None:
    longest = first + more
    backoff = Backoff(first, longest, factor, jitter, reset_after)
    tree = named(Branch((Leaf(lives, backoff=backoff), Leaf()), strategy=strategy))
    played = play(tree, until=80.5, plan=plan)
    made = played.record.of("made", name="a")
    restarts = played.record.of("restarted", name="a")
    assert len(made) == len(restarts) + 1 == len(lives) + 1
    failures = 0
    for life, restart, begin, again in zip(lives, restarts, made, made[1:], strict=False):
        ran = 0 if life.runs is None else life.runs
        failures = 1 if ran >= reset_after else failures + 1
        least = min(first * factor ** (failures - 1), longest)
        pause = again.at - restart.at
        assert least <= pause <= least * (1 + jitter)
        assert pause == pytest.approx(restart.detail.pause)
        assert restart.at == pytest.approx(begin.at + life.starts_in + ran)


@given(wild_trees, wild_steps)
@settings(deadline=None, max_examples=50)
def test_every_restart_is_logged_with_its_count_and_its_cause(
    tree: Branch, steps: list[Step]
) -> None:
    with log_of_actors() as log:
        played = play(tree, steps, until=8, shutdown_timeout=20, log=nullcontext())
    restarts = [text for text in log if " is restarted, time " in text]
    events = [entry.detail for entry in played.record.of("restarted")]
    assert len(restarts) == len(events)
    for text, event in zip(restarts, events, strict=True):
        assert text.startswith(event.ref.path)
        assert f"is restarted, time {event.incarnation}" in text
        assert type(event.cause).__name__ in text
