"""Which task comes first, compared with a model that sends one behind the others at a time."""

from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.testing._schedule import Schedule

batches = st.lists(st.sets(st.integers(0, 4)).map(sorted), max_size=8)
choices = st.lists(st.integers(0, 8), max_size=4)


@given(batches, choices)
def test_at_each_chosen_decision_the_first_goes_behind_all_others_for_good(
    batches: list[list[int]], choices: list[int]
) -> None:
    schedule = Schedule[int](choices)
    line = list(range(5))  # all tasks, by whose turn it is
    decision = 0
    for batch in batches:
        if len(batch) > 1:
            for _ in range(choices.count(decision)):
                first = next(task for task in line if task in batch)
                line = [*(task for task in line if task != first), first]
            decision += 1
        assert schedule.order(batch) == [task for task in line if task in batch]
    assert schedule.decisions == decision


@given(batches)
def test_without_choices_the_oldest_is_first(batches: list[list[int]]) -> None:
    schedule = Schedule[int]()
    assert [schedule.order(batch) for batch in batches] == batches


@given(batches, choices)
def test_who_is_aside_comes_first_and_changes_nothing_for_the_others(
    batches: list[list[int]], choices: list[int]
) -> None:
    alone = Schedule[int](choices)
    schedule = Schedule[int](choices)
    schedule.aside = {-1}
    for batch in batches:
        assert schedule.order([-1, *batch]) == [-1, *alone.order(batch)]
    assert schedule.decisions == alone.decisions


def test_an_inactive_schedule_counts_nothing() -> None:
    schedule = Schedule[int]([0])
    schedule.active = False
    assert schedule.order([1, 2]) == [1, 2]
    schedule.active = True
    assert schedule.order([1, 2]) == [2, 1]
    assert schedule.decisions == 1
