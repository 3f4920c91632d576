"""The event stream: who is told what, in which order, and what cannot go wrong with it."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors import EventStream


class Noise:
    """An event."""


class Bang(Noise):
    """An event of a derived class."""


def test_an_event_goes_to_those_who_asked_for_its_class_or_a_base_of_it() -> None:
    stream, heard = EventStream(), []
    stream.subscribe(Noise, lambda event: heard.append(("noise", event)))
    stream.subscribe(Bang, lambda event: heard.append(("bang", event)))
    stream.subscribe(str, lambda event: heard.append(("str", event)))
    noise, bang = Noise(), Bang()
    stream.publish(noise)
    stream.publish(bang)
    assert heard == [("noise", noise), ("noise", bang), ("bang", bang)]


def test_a_subscription_that_is_ended_hears_nothing_more_and_ends_once() -> None:
    stream, heard = EventStream(), list[int]()
    first = stream.subscribe(int, heard.append)
    second = stream.subscribe(int, heard.append)
    stream.publish(1)
    first()
    first()
    stream.publish(2)
    second()
    stream.publish(3)
    assert heard == [1, 1, 2]
    assert not stream.subscriptions


def test_who_is_unsubscribed_by_another_callback_is_not_told_in_the_same_round() -> None:
    stream, heard = EventStream(), list[int]()
    later: list[Callable[[], None]] = []
    stream.subscribe(int, lambda event: later[0]())
    later.append(stream.subscribe(int, heard.append))
    stream.publish(1)
    assert heard == []


def test_a_callback_that_fails_is_logged_and_harms_neither_publisher_nor_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream, heard = EventStream(), list[int]()

    def fail(event: int) -> None:
        raise ValueError("seen")

    stream.subscribe(int, fail)
    stream.subscribe(int, heard.append)
    stream.publish(1)
    assert heard == [1]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "a subscriber to int failed" in record.getMessage()


def test_what_a_callback_publishes_comes_afterwards_for_everybody() -> None:
    stream, first, second = EventStream(), list[int](), list[int]()

    def count_down(event: int) -> None:
        first.append(event)
        if event:
            stream.publish(event - 1)

    stream.subscribe(int, count_down)
    stream.subscribe(int, second.append)
    stream.publish(3)
    assert first == second == [3, 2, 1, 0]


def test_a_thousand_events_that_bring_about_each_other_need_no_deep_stack() -> None:
    stream, heard = EventStream(), list[int]()

    def count_down(event: int) -> None:
        heard.append(event)
        if event:
            stream.publish(event - 1)

    stream.subscribe(int, count_down)
    stream.publish(5000)
    assert len(heard) == 5001


def test_events_are_asked_for_by_class() -> None:
    with pytest.raises(TypeError, match="kind must be the class of the events; it is 'crash'"):
        EventStream().subscribe("crash", print)  # type: ignore[arg-type]


def test_a_callback_that_would_have_to_be_awaited_is_refused() -> None:
    async def callback(event: int) -> None:
        raise AssertionError("never called")

    with pytest.raises(TypeError, match="use the tell of an actor"):
        EventStream().subscribe(int, callback)


# Steps: subscribe to a class, end the n-th subscription, publish a value.
steps = st.lists(
    st.one_of(
        st.tuples(st.just("subscribe"), st.sampled_from([int, bool, str, object])),
        st.tuples(st.just("end"), st.integers(0, 3)),
        st.tuples(st.just("publish"), st.sampled_from([1, True, "text", None])),
    ),
    max_size=20,
)


@given(steps)
def test_each_event_is_told_once_to_each_that_wants_it_at_that_time(
    steps: list[tuple[str, Any]],
) -> None:
    stream = EventStream()
    heard: list[tuple[int, object]] = []
    expected: list[tuple[int, object]] = []
    kinds: dict[int, type] = {}
    ends: list[Callable[[], None]] = []
    for what, value in steps:
        if what == "subscribe":
            number = len(ends)
            kinds[number] = value
            ends.append(
                stream.subscribe(value, lambda event, number=number: heard.append((number, event)))
            )
        elif what == "end" and value < len(ends):
            ends[value]()
            kinds.pop(value, None)
        elif what == "publish":
            stream.publish(value)
            expected += [
                (number, value) for number, kind in kinds.items() if isinstance(value, kind)
            ]
    assert heard == expected
    assert bool(stream.subscriptions) == bool(kinds)
