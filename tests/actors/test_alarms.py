"""Alarms against a sorted list, on trio's virtual clock."""

import heapq
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from math import inf
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actors.acting import settled

from greenroom.actors._alarms import LITTER, Alarm, Alarms

# Set at a time, due some time later; taken back some time later, or never.
calls = st.lists(
    st.tuples(st.integers(0, 4), st.integers(-1, 4), st.one_of(st.none(), st.integers(0, 4))),
    max_size=8,
).map(lambda calls: sorted(calls, key=lambda call: call[0]))


def starter(nursery: trio.Nursery) -> Callable[[Callable[[], Awaitable[Any]], str], None]:
    def start_task(async_fn: Callable[[], Awaitable[Any]], name: str) -> None:
        nursery.start_soon(async_fn, name=name)

    return start_task


@settings(deadline=None)
@given(calls)
def test_each_call_is_made_once_when_it_is_due_unless_it_was_taken_back(
    script: list[tuple[int, int, int | None]],
) -> None:
    made: list[tuple[float, int]] = []
    taken: dict[int, float] = {}

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            alarms = Alarms(starter(nursery))

            async def one(number: int) -> None:
                when, delay, back = script[number]
                await trio.sleep(when)
                now = trio.current_time()

                def ring() -> None:
                    made.append((trio.current_time(), number))

                alarm = alarms.call_at(now + delay, ring)
                if back is not None:
                    await trio.sleep(back)
                    if alarm.pending:
                        taken[number] = trio.current_time()
                    alarm.cancel()
                    alarm.cancel()
                    assert not alarm.pending

            for number in range(len(script)):
                nursery.start_soon(one, number)
            await trio.sleep(20)
            alarms.close()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    for number, (when, delay, back) in enumerate(script):
        due = max(when, when + delay)
        times = [at for at, each in made if each == number]
        if number in taken:
            assert times == []
            assert back is not None
            assert taken[number] <= due
        else:
            assert times == [due]


async def test_equal_times_ring_in_the_order_in_which_they_were_set(
    autojump_clock: trio.testing.MockClock,
) -> None:
    made: list[int] = []
    async with trio.open_nursery() as nursery:
        alarms = Alarms(starter(nursery))
        for number in range(20):
            alarms.call_at(5, partial(made.append, number))
        await trio.sleep(6)
        alarms.close()
    assert made == [*range(20)]


async def test_an_earlier_alarm_wakes_the_task_that_waits_for_a_later_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    made: list[float] = []
    async with trio.open_nursery() as nursery:
        alarms = Alarms(starter(nursery))
        for due in (5, 3, 1, 4):
            alarms.call_at(due, lambda: made.append(trio.current_time()))
            await settled()
        await trio.sleep(6)
        alarms.close()
    assert made == [1, 3, 4, 5]


async def test_a_call_that_is_past_is_made_soon_but_not_at_once_and_one_at_infinity_never(
    autojump_clock: trio.testing.MockClock,
) -> None:
    made: list[str] = []
    async with trio.open_nursery() as nursery:
        alarms = Alarms(starter(nursery))
        never = alarms.call_at(inf, lambda: made.append("never"))
        assert not nursery.child_tasks  # no task for that
        alarms.call_at(-1, lambda: made.append("past"))
        assert made == []
        await settled()
        assert made == ["past"]
        assert trio.current_time() == 0
        await trio.sleep(100)
        assert never.pending
        alarms.close()
    assert made == ["past"]


async def test_a_call_may_set_and_take_back_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    made: list[tuple[str, float]] = []
    async with trio.open_nursery() as nursery:
        alarms = Alarms(starter(nursery))

        def note(what: str) -> None:
            made.append((what, trio.current_time()))

        def first() -> None:
            note("first")
            other.cancel()
            alarms.call_at(3, lambda: note("third"))
            alarms.call_at(1, lambda: note("second"))

        alarms.call_at(1, first)
        other = alarms.call_at(1, lambda: note("other"))
        await trio.sleep(5)
        alarms.close()
    assert made == [("first", 1), ("second", 1), ("third", 3)]


async def test_a_failing_call_is_logged_and_the_others_are_made(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[str] = []

    def fail() -> None:
        raise OSError("bad call")

    async with trio.open_nursery() as nursery:
        alarms = Alarms(starter(nursery))
        alarms.call_at(1, fail)
        alarms.call_at(1, lambda: made.append("next"))
        await trio.sleep(2)
        alarms.close()
    assert made == ["next"]
    assert "a timer failed" in caplog.text


async def test_alarms_ring_while_the_tasks_around_are_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    made: list[float] = []
    async with trio.open_nursery() as nursery:
        alarms = Alarms(starter(nursery))
        alarms.call_at(2, lambda: made.append(trio.current_time()))
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.sleep(3)
        alarms.close()
    assert made == [2]


async def test_closed_alarms_end_their_task_and_make_no_call_any_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    made: list[str] = []
    async with trio.open_nursery() as nursery:
        alarms = Alarms(starter(nursery))
        alarms.call_at(1, lambda: made.append("set before"))
        await settled()
        alarms.close()
        alarms.call_at(0, lambda: made.append("set after"))
        await settled()
        assert not nursery.child_tasks
        await trio.sleep(3)
    assert made == []
    # Closed in the step in which the task was to begin, or before there was one.
    async with trio.open_nursery() as nursery:
        alarms = Alarms(starter(nursery))
        alarms.call_at(0, lambda: made.append("set before"))
        alarms.close()
    assert made == []


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2 * LITTER), st.booleans()), max_size=6))
def test_alarms_that_were_taken_back_do_not_pile_up(script: list[tuple[int, bool]]) -> None:
    alarms = Alarms(lambda async_fn, name: None)
    pending: list[Alarm] = []
    numbers = count()
    for times, stays in script:
        for _ in range(times):
            alarm = alarms.call_at(next(numbers), lambda: None)
            if stays:
                pending.append(alarm)
            else:
                alarm.cancel()
            assert len(alarms._heap) <= 2 * len(pending) + LITTER + 1
    due = [heapq.heappop(alarms._heap) for _ in range(len(alarms._heap))]
    assert [alarm for *_, alarm in due if alarm.pending] == pending
