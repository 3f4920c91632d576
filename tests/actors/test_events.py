"""The event stream: who is told what, in which order, and what cannot go wrong with it."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors import (
    Actor,
    ActorEnded,
    ActorRef,
    ActorRestarted,
    ActorStarted,
    ActorStuck,
    ActorSystem,
    Backoff,
    ChildSpec,
    Context,
    Crash,
    DeadLetter,
    EventStream,
    ExitReason,
    Killed,
    Lane,
    Loss,
    Overflow,
    Shutdown,
    open_actor_system,
)

settled = trio.testing.wait_all_tasks_blocked


class Noise:
    """An event."""


class Bang(Noise):
    """An event of a derived class."""


def test_an_event_goes_to_those_who_asked_for_its_class_or_a_base_of_it() -> None:
    stream, heard = EventStream(), list[tuple[str, Noise]]()
    stream.subscribe(Noise, lambda event: heard.append(("noise", event)))
    stream.subscribe(Bang, lambda event: heard.append(("bang", event)))
    stream.subscribe(str, lambda event: pytest.fail(event))
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

    def hear(number: int, event: object) -> None:
        heard.append((number, event))

    for what, value in steps:
        if what == "subscribe":
            number = len(ends)
            kinds[number] = value
            ends.append(stream.subscribe(value, partial(hear, number)))
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


# What a system tells by itself.


class Worker(Actor[Any]):
    """Crashes on exceptions, sleeps on numbers; keeps the rest."""

    def __init__(self, log: list[Any] | None = None) -> None:
        self.log = [] if log is None else log

    async def receive(self, message: Any) -> None:
        if isinstance(message, Exception):
            raise message
        if isinstance(message, float):
            await trio.sleep(message)
        else:
            self.log.append(message)


@pytest.fixture
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


async def test_the_life_of_an_actor_is_told_from_its_start_over_restarts_to_its_end(
    quiet: None, autojump_clock: trio.testing.MockClock
) -> None:
    told: list[object] = []
    error = OSError("crash")
    async with open_actor_system("system") as system:
        system.events.subscribe(object, told.append)
        ref = system.spawn(ChildSpec("worker", Worker, backoff=Backoff(first=3, jitter=0)))
        await settled()
        assert told == [ActorStarted(ref, 0)]
        ref.tell(error)
        await trio.sleep(1)
        assert told[2:] == [ActorRestarted(ref, 1, Crash(error), 3)]
        await trio.sleep(5)
        ref.kill("the test")
        await ref.join()
        assert isinstance(told[1], DeadLetter)  # the message that it crashed on
        assert told[3:] == [ActorStarted(ref, 1), ActorEnded(ref, Killed("the test"))]


async def test_an_actor_that_has_ended_is_under_no_name_when_its_end_is_told() -> None:
    names: list[Any] = []
    async with open_actor_system("system", root=[ChildSpec("worker", Worker)]) as system:
        (ref,) = system.children
        system.registry.register("name", ref)
        system.events.subscribe(ActorEnded, lambda event: names.append(system.registry.names()))
        ref.stop()
        await ref.join()
        assert names == [()]


async def test_an_actor_may_use_the_event_stream_of_its_system() -> None:
    log: list[Any] = []

    class Listener(Worker):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            self.unsubscribe = ctx.events.subscribe(str, ctx.self.tell)

        async def stopped(self, reason: ExitReason) -> None:
            self.unsubscribe()

    async with open_actor_system("system", root=[ChildSpec("l", lambda: Listener(log))]) as system:
        (ref,) = system.children
        system.events.publish("news")
        await settled()
        ref.stop()
        await ref.join()
        system.events.publish("nobody hears it")
        assert log == ["news"]
        assert system.dead_letters.count == 0


async def test_dead_letters_can_be_told_to_an_actor() -> None:
    log: list[Any] = []
    async with open_actor_system(
        "system", root=[ChildSpec("one", Worker), ChildSpec("two", lambda: Worker(log))]
    ) as system:
        one, two = system.children
        one.kill()
        await one.join()
        system.events.subscribe(DeadLetter, two.tell)
        one.tell("lost")
        await settled()
        assert log == [DeadLetter("lost", one, None, Loss.DEAD)]


class Endless(BaseException):
    """Passes through those who keep the errors of subscribers to themselves."""


def guard(system: ActorSystem) -> Callable[[object], None]:
    """Make a subscriber that ends a test which would not end by itself."""

    def end_in_time(event: object) -> None:
        if system.dead_letters.count > 100:
            system.dead_letters._subscribers.clear()
            system.events.subscriptions = ()
            raise Endless

    return end_in_time


@pytest.mark.parametrize("stream", ["events", "dead letters"])
@pytest.mark.parametrize("overflow", [Overflow.REJECT, Overflow.DROP_OLDEST, "has ended"])
async def test_dead_letters_about_dead_letters_come_to_an_end(
    stream: str, overflow: Overflow | str, quiet: None, autojump_clock: trio.testing.MockClock
) -> None:
    lane = Lane(1, overflow) if isinstance(overflow, Overflow) else Lane(1)
    async with open_actor_system(
        "system", root=[ChildSpec(name, Worker, mailbox=lane) for name in ("one", "two", "three")]
    ) as system:
        one, *others = system.children
        for ref in (one, *others):
            ref.tell(10.0)
            await settled()
            ref.tell("fills the mailbox")
            if overflow == "has ended":
                ref.kill()
                await ref.join()

        for ref in others:  # two that cannot take in what they are told
            if stream == "events":
                system.events.subscribe(DeadLetter, ref.tell)
            else:
                system.dead_letters.subscribe(guard(system))
                system.dead_letters.subscribe(ref.tell)
        before = system.dead_letters.count
        one.tell("lost")
        # Each of the two has lost what it was told, and nobody was told of that.
        assert system.dead_letters.count - before == 3


async def test_who_hears_of_everything_and_loses_it_hears_of_the_loss_once(
    quiet: None,
) -> None:
    async with open_actor_system("system", root=[ChildSpec("one", Worker)]) as system:
        (ref,) = system.children
        ref.kill()
        await ref.join()
        system.events.subscribe(object, guard(system))
        system.events.subscribe(object, ref.tell)
        system.events.publish("news")
        assert [letter.message for letter in system.dead_letters.recent] == [
            "news",
            DeadLetter("news", ref, None, Loss.DEAD),
        ]


async def test_who_ends_another_when_told_of_an_end_is_told_of_that_end_too(
    quiet: None,
) -> None:
    told: list[ActorRef[Any]] = []
    specs = [ChildSpec(name, Worker) for name in ("one", "two")]
    async with open_actor_system("system", root=specs) as system:
        one, two = system.children

        def follow(event: ActorEnded) -> None:
            told.append(event.ref)
            two.kill()

        system.events.subscribe(ActorEnded, follow)
        one.kill()
        await two.join()
        assert told == [one, two]


async def test_an_actor_that_is_stuck_is_told_with_the_place_where_it_hangs(
    quiet: None, autojump_clock: trio.testing.MockClock
) -> None:
    told: list[ActorStuck] = []

    class Stubborn(Actor[Any]):
        async def receive(self, message: Any) -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(100)

    spec = ChildSpec("stubborn", Stubborn, shutdown=1)
    async with open_actor_system("system", root=[spec], shutdown_timeout=10) as system:
        (ref,) = system.children
        system.events.subscribe(ActorStuck, told.append)
        ref.tell("go")
        await settled()
    assert {event.ref.path for event in told} == {"/system/stubborn"}
    (event,) = (event for event in told if event.ref == ref)
    place = next(frame for frame in event.frames if frame.endswith("Stubborn.receive"))
    assert "test_events.py:" in place
    assert await ref.join() == Shutdown("/system")


async def test_i27_shared_dead_letters_keep_no_system_that_has_ended() -> None:
    async with open_actor_system("system") as system:
        letters = system.dead_letters
        assert letters._subscribers
    assert not letters._subscribers
