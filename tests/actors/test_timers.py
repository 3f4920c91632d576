"""Timers: a tick for each that is due, none for one that is set no longer."""

import logging
from dataclasses import dataclass
from itertools import count
from math import inf
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actors.acting import Body, Player, losses, once, player, settled

from greenroom.actors import (
    Actor,
    ActorRef,
    ChildSpec,
    Context,
    Directive,
    ExitReason,
    InFlight,
    Lane,
    Loss,
    Overflow,
    Restart,
    TimerMode,
    open_actor_system,
    open_dynamic_supervisor,
)

# Any timers, set, replaced and cancelled at any time, by an actor that is busy, crashes or stops.


@dataclass(frozen=True)
class Tick:
    number: int  # of the timer that it belongs to


@dataclass
class Timer:
    """What the log says about one timer."""

    key: str
    set_at: float
    interval: float
    mode: TimerMode | None  # None for a single one
    ended_at: float = inf

    def __post_init__(self) -> None:
        self.ticks: list[float] = []


class Script(Actor[Any]):
    """Does what its messages say, and writes down what it has done, and when."""

    def __init__(self, log: list[Any], numbers: Any) -> None:
        self.log = log
        self.numbers = numbers

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        self.timers = ctx.timers
        self.note("started")

    def note(self, *what: Any) -> None:
        self.log.append((trio.current_time(), *what))

    async def receive(self, message: Any) -> None:
        match message:
            case Tick(number):
                self.note("tick", number)
            case ("single", key, seconds):
                number = next(self.numbers)
                self.timers.start_single(key, Tick(number), seconds)
                self.note("set", number, key, seconds, None)
            case ("busy", _, seconds):
                self.note("busy")
                await trio.sleep(seconds)
                self.note("free")
            case ("cancel", key, _):
                assert self.timers.cancel(key) or not self.timers.active(key)
                self.note("cancelled", key)
            case ("crash", *_):
                raise OSError
            case (TimerMode() as mode, key, seconds):
                number = next(self.numbers)
                self.timers.start_periodic(key, Tick(number), max(seconds, 1), mode)
                self.note("set", number, key, max(seconds, 1), mode)

    async def stopped(self, reason: ExitReason) -> None:
        self.note("stopped")


class BodyOfScript(Script):
    async def run(self, ctx: Context) -> None:
        while True:
            await self.receive(await ctx.receive())


def read(log: list[Any]) -> tuple[list[Timer], list[tuple[float, float]]]:
    """Sort the log by timers, and see that only those that are set tick."""
    timers: list[Timer] = []
    current: dict[str, Timer] = {}
    busy: list[tuple[float, float]] = []
    for at, what, *details in log:
        match what:
            case "set":
                _, key, seconds, mode = details
                timers.append(Timer(key, at, seconds, mode))
                if key in current:
                    current[key].ended_at = at
                current[key] = timers[-1]
            case "cancelled":
                if details[0] in current:
                    current.pop(details[0]).ended_at = at
            case "tick":
                ticking = timers[details[0]]
                assert ticking.key in current, "an old tick"
                assert current[ticking.key] is ticking, "an old tick"
                ticking.ticks.append(at)
                if ticking.mode is None:
                    del current[ticking.key]
            case "busy":
                busy.append((at, inf))
            case "free":
                busy[-1] = (busy[-1][0], at)
            case "started" | "stopped":
                if busy and busy[-1][1] == inf:
                    busy[-1] = (busy[-1][0], at)
                for timer in current.values():
                    timer.ended_at = at
                current.clear()
    return timers, busy


def free_at(due: float, busy: list[tuple[float, float]]) -> float:
    """When the actor can handle at the latest what is due then."""
    for begin, end in busy:
        if begin <= due <= end:
            due = end
    return due


commands = st.tuples(
    st.integers(0, 6),
    st.sampled_from(["single", "single", *TimerMode, *TimerMode, "cancel", "busy", "crash"]),
    st.sampled_from("ab"),
    st.integers(0, 3),
)
lanes = st.sampled_from([Lane(), Lane(1), Lane(2), Lane(1, Overflow.DROP_OLDEST)])


@settings(deadline=None, max_examples=300)
@given(
    st.lists(commands, max_size=10).map(lambda script: sorted(script, key=lambda step: step[0])),
    lanes,
    st.booleans(),
    st.sampled_from(InFlight),
)
def test_i19_i23_what_is_set_ticks_when_it_is_due_and_nothing_else_does(
    script: list[tuple[int, Any, str, int]], lane: Lane, has_a_run: bool, in_flight: InFlight
) -> None:
    log: list[Any] = []

    async def main() -> None:
        numbers, kind = count(), BodyOfScript if has_a_run else Script
        spec = ChildSpec(
            "script", lambda: kind(log, numbers), mailbox=lane, in_flight=in_flight, intensity=99
        )
        async with open_actor_system("system", root=[spec]) as system:
            (ref,) = system.children
            for when, *command in script:
                await trio.sleep_until(when)
                ref.tell(tuple(command))
            await trio.sleep_until(20)
            ref.stop()
            await ref.join()
            ended_with = len(log)
            await trio.sleep(5)
            assert len(log) == ended_with  # nothing ticks after the end
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == inf

    logging.disable(logging.CRITICAL)
    try:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        logging.disable(logging.NOTSET)
    timers, busy = read(log)
    for timer in timers:
        due = timer.set_at + timer.interval
        expected = 0
        while due < timer.ended_at and due < 20:
            soon = free_at(due, busy)
            ticks = [at for at in timer.ticks if due <= at <= soon]
            # One in time; one for all that were due while the actor was busy.
            if soon < timer.ended_at and lane.overflow is Overflow.REJECT:
                assert ticks, f"no tick at {due}"
            expected += 1
            if timer.mode is None:
                break
            if timer.mode is TimerMode.FIXED_DELAY and ticks:
                due = ticks[0]
            due += timer.interval
        assert len(timer.ticks) <= expected + (timer.ended_at == due)
        assert all(timer.set_at <= at <= timer.ended_at for at in timer.ticks)


# One situation each.


async def test_a_single_timer_ticks_once_and_is_active_until_then(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Sleeper(Player):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            self.ctx = ctx
            ctx.timers.start_single("alarm", "wake up", 3)

        async def receive(self, message: Any) -> Any:
            seen.append((message, trio.current_time(), self.ctx.timers.active("alarm")))

    seen: list[Any] = []
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Sleeper))
        await ref.ask("hello")
        await trio.sleep(10)
    assert seen == [("hello", 0, True), ("wake up", 3, False)]


@pytest.mark.parametrize(
    ("mode", "ticks"), [(TimerMode.FIXED_RATE, [2, 4, 8, 10]), (TimerMode.FIXED_DELAY, [2, 4, 9])]
)
async def test_a_fixed_rate_keeps_its_times_and_a_fixed_delay_its_distance(
    mode: TimerMode, ticks: list[float], autojump_clock: trio.testing.MockClock
) -> None:
    """The second tick is handled from 4 to 7."""

    class Slow(Player):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            ctx.timers.start_periodic("tick", "tick", 2, mode)

        async def receive(self, message: Any) -> None:
            seen.append(trio.current_time())
            if len(seen) == 2:
                await trio.sleep(3)

    seen: list[float] = []
    async with open_dynamic_supervisor() as supervisor:
        supervisor.start_child(once(Slow))
        await trio.sleep(10.5)
    assert seen == ticks


async def test_i23_an_actor_that_is_late_gets_one_tick_for_several(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[Any] = []

    async def begin(ctx: Context) -> None:
        for mode in TimerMode:
            ctx.timers.start_periodic(mode, mode.value, 1, mode)
        await trio.sleep(5.5)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(log))
        await ref.ask(begin)
        await settled()
        assert log == ["fixed rate", "fixed delay"]
        await trio.sleep(0.75)
        assert log == ["fixed rate", "fixed delay", "fixed rate"]


async def test_i23_a_tick_that_waits_is_not_delivered_after_a_cancel_or_a_replacement(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[Any] = []

    async def begin(ctx: Context) -> None:
        for key in ("cancelled", "replaced", "kept"):
            ctx.timers.start_single(key, key, 1)
        await trio.sleep(2)
        assert ctx.timers.cancel("cancelled")
        assert not ctx.timers.cancel("cancelled")
        ctx.timers.start_single("replaced", "replacement", 1)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(log))
        await ref.ask(begin)
        await trio.sleep(9)
        assert not supervisor.dead_letters.count
    assert log == ["kept", "replacement"]


async def test_a_timer_that_was_cancelled_or_replaced_before_it_was_due_takes_no_room(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def begin(ctx: Context) -> None:
        for key in ("cancelled", "replaced"):
            ctx.timers.start_single(key, key, 1)
        ctx.timers.cancel("cancelled")
        ctx.timers.start_single("replaced", "replacement", 5)
        await trio.sleep(3)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(mailbox=Lane(1)))
        ref.tell(begin)
        await trio.sleep(2)
        assert ref.tell("there is room").accepted


async def test_a_process_that_was_suspended_makes_up_for_all_missed_ticks_with_one(
    mock_clock: trio.testing.MockClock,
) -> None:
    log: list[Any] = []

    async def begin(ctx: Context) -> None:
        ctx.timers.start_periodic("tick", "tick", 1)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(log))
        await ref.ask(begin)
        for jump, ticks in [(5.5, 1), (0.4, 1), (0.1, 2), (1, 3)]:
            mock_clock.jump(jump)
            await settled()
            assert len(log) == ticks


async def test_i19_i23_a_tick_that_waits_does_not_survive_a_restart_that_sets_the_same_timer(
    autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    class Phoenix(Player):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            self.ctx = ctx
            ctx.timers.start_periodic("tick", ctx.incarnation, 2)

    log: list[Any] = []

    async def crash(ctx: Context) -> None:
        await trio.sleep(3)
        raise OSError

    spec = ChildSpec("phoenix", lambda: Phoenix(log))
    async with open_actor_system("system", root=[spec]) as system:
        (ref,) = system.children
        ref.tell(crash)
        await trio.sleep(3.5)
        assert log == []
        await trio.sleep(2)
        assert log == [1]


@pytest.mark.parametrize("what", ["the same", "periodic", "nothing"])
async def test_a_timer_may_be_set_or_cancelled_in_the_handler_of_its_own_tick(
    what: str, autojump_clock: trio.testing.MockClock
) -> None:
    class Resetting(Player):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            self.ctx = ctx
            ctx.timers.start_periodic("tick", "tick", 1, TimerMode.FIXED_DELAY)

        async def receive(self, message: Any) -> None:
            seen.append(trio.current_time())
            if what == "nothing":
                self.ctx.timers.cancel("tick")
            elif what == "periodic":
                self.ctx.timers.start_periodic("tick", "tick", 2, TimerMode.FIXED_DELAY)
            else:
                self.ctx.timers.start_single("tick", "tick", 2)

    seen: list[float] = []
    async with open_dynamic_supervisor() as supervisor:
        supervisor.start_child(once(Resetting))
        await trio.sleep(6)
    assert seen == ([1] if what == "nothing" else [1, 3, 5])


async def test_timers_that_are_set_while_the_actor_cleans_up_end_with_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Late(Player):
        async def stopped(self, reason: ExitReason) -> None:
            self.ctx.timers.start_periodic("tick", "tick", 0.1)
            self.ctx.timers.start_single("once", "once", 0)
            await trio.sleep(0.5)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Late))
        await ref.wait_started()
        ref.stop()
        await ref.join()
        await trio.sleep(5)
        assert not supervisor.dead_letters.count


# Mailboxes that are full, or of several kinds.


async def test_a_full_mailbox_takes_a_tick_as_soon_as_it_has_room_and_before_later_messages(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[Any] = []

    async def begin(ctx: Context) -> None:
        ctx.timers.start_single("tick", "tick", 1)
        await trio.sleep(3)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(log, mailbox=Lane(1)))
        ref.tell(begin)
        await settled()
        ref.tell("before")
        await trio.sleep(2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.send, "after")
        await settled()
        assert log == ["before", "tick", "after"]
        assert not supervisor.dead_letters.count


async def test_a_tick_does_not_close_a_lane_that_ends_the_actor_when_it_overflows(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[Any] = []

    async def begin(ctx: Context) -> None:
        ctx.timers.start_periodic("tick", "tick", 1)
        await trio.sleep(5.5)
        ctx.timers.cancel("tick")

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(log, mailbox=Lane(1, Overflow.CLOSE)))
        ref.tell(begin)
        await settled()
        ref.tell("waiting")
        await trio.sleep(9)
        assert ref.alive
    assert log == ["waiting"]


@pytest.mark.parametrize("mode", [None, *TimerMode])
async def test_i6_a_tick_that_a_full_lane_drops_is_a_dead_letter_and_a_periodic_timer_goes_on(
    mode: TimerMode | None, autojump_clock: trio.testing.MockClock
) -> None:
    log: list[Any] = []

    async def begin(ctx: Context) -> None:
        if mode is None:
            ctx.timers.start_single("tick", "tick", 1)
        else:
            ctx.timers.start_periodic("tick", "tick", 1, mode)
        await trio.sleep(1.5)

    async def is_active(ctx: Context) -> bool:
        return ctx.timers.active("tick")

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(log, mailbox=Lane(1, Overflow.DROP_OLDEST)))
        ref.tell(begin)
        await trio.sleep(1.25)
        ref.tell("newer")
        await trio.sleep(2.9)
        assert losses(supervisor) == [("tick", Loss.DROPPED)]
        assert log[0] == "newer"
        assert (
            log.count("tick") == {None: 0, TimerMode.FIXED_RATE: 3, TimerMode.FIXED_DELAY: 2}[mode]
        )
        assert await ref.ask(is_active) == (mode is not None)


async def test_a_tick_is_not_coalesced_with_messages(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[Any] = []

    async def begin(ctx: Context) -> None:
        ctx.timers.start_single("tick", "news", 1)
        await trio.sleep(3)

    lane = Lane(1, Overflow.COALESCE, key=lambda message: message)
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(log, mailbox=lane))
        ref.tell(begin)
        await trio.sleep(2)
        ref.tell("news")
        await trio.sleep(2)
        assert losses(supervisor) == [("news", Loss.REJECTED)]
    assert log == ["news"]


async def test_i23_timers_end_in_silence_when_the_actor_drains_or_stops(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[Any] = []

    async def begin(ctx: Context) -> None:
        ctx.timers.start_single("tick", "queued", 1)
        for mode in TimerMode:
            ctx.timers.start_periodic(mode, mode, 2, mode)
        await trio.sleep(4)

    async with open_dynamic_supervisor() as supervisor:
        for drain in (False, True):
            ref = supervisor.start_child(player(log))
            ref.tell(begin)
            await trio.sleep(1.5)
            ref.tell("last")
            ref.stop(drain=drain)
            await ref.join()
            if not drain:
                assert losses(supervisor) == [("last", Loss.LEFT_OVER)]
        assert supervisor.dead_letters.count == 1
    assert [str(each) for each in log] == ["Drain()", "queued", "last"]


# Ticks are messages.


async def test_a_tick_whose_handler_crashes_is_lost_and_one_that_is_resumed_goes_on(
    autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    seen: list[float] = []

    async def tick(ctx: Context) -> None:
        seen.append(trio.current_time())
        raise OSError

    async def begin(ctx: Context) -> None:
        ctx.timers.start_periodic("tick", tick, 1, TimerMode.FIXED_DELAY)

    for directive in (Directive.RESUME, Directive.STOP):
        async with open_dynamic_supervisor() as supervisor:
            ref = supervisor.start_child(
                player(on_failure=lambda error: directive, in_flight=InFlight.REDELIVER)  # noqa: B023
            )
            ref.tell(begin)
            await trio.sleep(3.5)
            assert losses(supervisor) == [(tick, Loss.CRASHED)] * len(seen)
            assert ref.alive == (directive is Directive.RESUME)
        assert len(seen) == (3 if directive is Directive.RESUME else 1)
        seen.clear()


async def test_i19_a_tick_that_crashed_the_actor_is_not_handed_to_the_next_incarnation(
    autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    seen: list[int] = []

    async def tick(ctx: Context) -> None:
        seen.append(ctx.incarnation)
        raise OSError

    async def begin(ctx: Context) -> None:
        ctx.timers.start_single("tick", tick, 1)

    spec = player(restart=Restart.PERMANENT, in_flight=InFlight.REDELIVER)
    async with open_actor_system("system", root=[spec]) as system:
        (ref,) = system.children
        ref.tell(begin)
        await trio.sleep(5)
        assert ref.alive
        assert losses(system) == [(tick, Loss.CRASHED)]
    assert seen == [0]


async def test_a_stashed_tick_is_a_message_like_any_other_and_its_timer_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[Any] = []

    async def tick(ctx: Context) -> None:
        if trio.current_time() < 3.5:
            ctx.stash()
        else:
            log.append(trio.current_time())
            ctx.unstash_all()

    async def begin(ctx: Context) -> None:
        ctx.timers.start_periodic("tick", tick, 1)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        ref.tell(begin)
        await trio.sleep(5.5)
    assert log == [4, 4, 4, 4, 5]


async def test_an_actor_with_a_run_of_its_own_receives_ticks_as_messages(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[Any] = []

    async def body(ctx: Context) -> None:
        ctx.timers.start_periodic("tick", "tick", 2, TimerMode.FIXED_DELAY)
        ctx.timers.start_single("once", "once", 3)
        for _ in range(4):
            seen.append((await ctx.receive(), trio.current_time()))
            await trio.sleep(0.5)

    async with open_dynamic_supervisor() as supervisor:
        await supervisor.start_child(once(Body), body).join()
    # The time to the next tick counts from when the next message is taken.
    assert seen == [("tick", 2), ("once", 3), ("tick", 4.5), ("tick", 7)]


async def test_timers_of_many_actors_are_one_task(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[Any] = []

    async def begin(ctx: Context) -> None:
        ctx.timers.start_single("tick", trio.current_time(), 5)

    async with open_dynamic_supervisor() as supervisor:
        refs: list[ActorRef[Any]] = [supervisor.start_child(player(log)) for _ in range(5)]
        for ref in refs:
            await ref.wait_started()
        before = trio.lowlevel.current_statistics().tasks_living
        for ref in refs:
            await ref.ask(begin)
        assert trio.lowlevel.current_statistics().tasks_living == before + 1
        await trio.sleep(6)
    assert log == [0] * 5
    await trio.lowlevel.checkpoint()
    assert trio.lowlevel.current_statistics().seconds_to_next_deadline == inf


async def test_the_timers_of_an_incarnation_that_is_over_cannot_be_set(quiet: None) -> None:
    kept: list[Any] = []

    async def keep(ctx: Context) -> None:
        kept.append(ctx.timers)

    async with open_actor_system("system", root=[player(restart=Restart.PERMANENT)]) as system:
        (ref,) = system.children
        await ref.ask(keep)
        ref.tell(OSError())
        await settled()
        with pytest.raises(RuntimeError, match="incarnation is over"):
            kept[0].start_single("tick", "tick", 1)
        assert not kept[0].active("tick")
