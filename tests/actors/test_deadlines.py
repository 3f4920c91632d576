"""Deadlines: they travel with a message, and with what is asked for its sake."""

import logging
from math import inf
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actors.acting import Body, Player, losses, once, player, settled, sleep

from greenroom.actors import (
    Actor,
    ActorRef,
    AskTimeout,
    ChildSpec,
    Context,
    Delivery,
    Directive,
    ExitReason,
    InFlight,
    Lane,
    Loss,
    RemoteError,
    Restart,
    open_actor_system,
    open_dynamic_supervisor,
)


async def deadline(ctx: Context) -> float:
    return ctx.deadline


# Seconds that its handling takes, and its deadline.
work = st.lists(st.tuples(st.integers(0, 3), st.one_of(st.just(inf), st.integers(-1, 8))))


@settings(deadline=None)
@given(work, st.booleans())
def test_i1_i6_i8_a_message_whose_deadline_has_come_before_its_turn_is_never_executed(
    script: list[tuple[int, float]], has_a_run: bool
) -> None:
    begun: list[tuple[float, int]] = []

    class Worker(Actor[int]):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            self.ctx = ctx

        async def receive(self, number: int) -> None:
            begun.append((trio.current_time(), number))
            seconds, due = script[number]
            assert self.ctx.deadline == due
            await trio.sleep(seconds)

    class WorkerWithRun(Worker):
        async def run(self, ctx: Context) -> None:
            while True:
                await self.receive(await ctx.receive())

    async def main() -> list[tuple[Any, Loss]]:
        async with open_dynamic_supervisor() as supervisor:
            ref = supervisor.start_child(once(WorkerWithRun if has_a_run else Worker))
            for number, (_, due) in enumerate(script):
                # A deadline that is past is the matter of its turn, not of the sender.
                assert ref.tell(number, deadline=due) is Delivery.ACCEPTED
            await trio.sleep(3 * len(script) + 1)
            return losses(supervisor)

    lost = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    now = 0.0
    expected: list[tuple[float, int]] = []
    expired: list[tuple[int, Loss]] = []
    for number, (seconds, due) in enumerate(script):
        if due <= now:
            expired.append((number, Loss.EXPIRED))
        else:
            expected.append((now, number))
            now += seconds
    assert begun == expected
    assert lost == expired


async def test_i8_a_deadline_that_is_now_is_over_and_so_is_a_timeout_of_zero(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        await ref.wait_started()
        ref.tell("now", deadline=trio.current_time())
        with pytest.raises(AskTimeout, match="has not replied within 0 seconds"):
            await ref.ask("at once", timeout=0)
        await settled()
        assert trio.current_time() == 0
        assert losses(supervisor) == [("now", Loss.EXPIRED), ("at once", Loss.EXPIRED)]


async def test_the_handler_knows_the_deadline_of_its_message_and_of_no_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        await trio.sleep(1)
        assert await ref.ask(deadline) == inf
        assert await ref.ask(deadline, timeout=3) == 4
        assert await ref.ask(deadline) == inf
        ref.tell(sleep(0), deadline=9)
        assert await ref.ask(deadline) == inf


async def test_a_resumed_handler_leaves_no_deadline_to_the_next_message(quiet: None) -> None:
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(on_failure=lambda error: Directive.RESUME))
        ref.tell(OSError(), deadline=trio.current_time() + 60, sender=ref)
        assert await ref.ask(deadline) == inf

        async def sender(ctx: Context) -> Any:
            return ctx.sender

        assert await ref.ask(sender) is None


async def test_a_redelivered_message_keeps_its_deadline_and_may_expire_meanwhile(
    autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    seen: list[tuple[float, float]] = []

    async def crash(ctx: Context) -> None:
        seen.append((trio.current_time(), ctx.deadline))
        await trio.sleep(2)
        raise OSError

    spec = player(restart=Restart.PERMANENT, in_flight=InFlight.REDELIVER, intensity=9)
    for due in (2, 3):
        seen.clear()
        async with open_actor_system("system", root=[spec]) as system:
            (ref,) = system.children
            now = trio.current_time()
            ref.tell(crash, deadline=now + due)
            await trio.sleep(9)
            loss = Loss.EXPIRED if due == 2 else Loss.CRASHED
            assert losses(system) == [(crash, loss)]
        times = [now] if due == 2 else [now, now + 2]
        assert seen == [(at, now + due) for at in times]


async def test_send_waits_for_room_also_beyond_the_deadline_of_its_message(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(mailbox=Lane(1)))
        ref.tell(sleep(3))
        await settled()
        ref.tell("waiting")
        assert await ref.send("late", deadline=2) is Delivery.ACCEPTED
        assert trio.current_time() == 3
        with trio.move_on_after(1) as scope:
            ref.tell(sleep(3))
            await settled()
            ref.tell("waiting")
            await ref.send("never sent")
        assert scope.cancelled_caught
        await trio.sleep(5)
        assert losses(supervisor) == [("late", Loss.EXPIRED)]


# An ask inherits the limits of what it is asked for.

limits = st.one_of(st.none(), st.integers(0, 4))


@settings(deadline=None, max_examples=200)
@given(
    own=st.lists(limits, min_size=1, max_size=3),
    around=st.lists(limits, min_size=3, max_size=3),
    takes=st.integers(0, 5),
)
def test_a_chain_of_asks_ends_with_the_tightest_limit_of_those_above(
    own: list[int | None], around: list[int | None], takes: int
) -> None:
    """Each asks the next, with a timeout, a cancel scope around, or both; the last works."""
    begun: list[int] = []
    ended: list[tuple[int, float, str]] = []

    async def ask(refs: list[ActorRef[Any]], level: int) -> Any:
        timeout, scope_limit = own[level], around[level]
        with trio.move_on_after(inf if scope_limit is None else scope_limit) as scope:
            try:
                reply = await refs[level].ask(
                    relay(refs, level + 1), timeout=inf if timeout is None else timeout
                )
                ended.append((level, trio.current_time(), "reply"))
                return reply
            except AskTimeout:
                ended.append((level, trio.current_time(), "time"))
        if scope.cancelled_caught:
            ended.append((level, trio.current_time(), "time"))
        return None

    def relay(refs: list[ActorRef[Any]], level: int) -> Any:
        async def line(ctx: Context) -> Any:
            begun.append(level)
            if level == len(own):
                await trio.sleep(takes)
                return "reply"
            reply = await ask(refs, level)
            if reply is None:
                raise AskTimeout(ctx.self.path, 0)
            return reply

        return line

    async def main() -> None:
        async with open_dynamic_supervisor(on_exit=lambda *_: None) as supervisor:
            refs = [supervisor.start_child(player(id=f"level{level}")) for level in range(len(own))]
            for ref in refs:
                await ref.wait_started()
            try:
                await ask(refs, 0)
            except RemoteError:
                ended.append((0, trio.current_time(), "error"))
            await trio.sleep(20)

    logging.disable(logging.CRITICAL)
    try:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        logging.disable(logging.NOTSET)
    tightest = inf
    for level, timeout in enumerate(own):
        tightest = min(
            tightest, *(inf if limit is None else limit for limit in (timeout, around[level]))
        )
        times = [(at, how) for each, at, how in ended if each == level]
        # Whose limit is over before the end gets no reply; a limit above is a limit for all below.
        for at, how in times:
            assert at <= min(tightest, takes) or tightest == takes
            if how == "reply":
                assert takes <= tightest
    assert ended[-1][1] <= tightest
    if takes < tightest:
        assert ended[-1] == (0, takes, "reply")
        assert begun == [*range(1, len(own) + 1)]


async def test_an_ask_in_a_handler_has_no_more_time_than_the_message_that_it_is_made_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[Any] = []

    async def relay(ctx: Context) -> None:
        seen.extend([await other.ask(deadline, timeout=timeout) for timeout in (inf, 9, 1)])
        with trio.move_on_after(1):
            seen.append(await other.ask(deadline))

    async with open_dynamic_supervisor() as supervisor:
        ref, other = (supervisor.start_child(player()) for _ in range(2))
        await trio.sleep(1)
        ref.tell(relay, deadline=5)
        await settled()
    # A cancel scope is no deadline that travels: when it is over, the ask is given up.
    assert seen == [5, 5, 2, 5]


async def test_a_handler_that_is_late_for_its_own_message_gets_no_more_answers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def line(ctx: Context) -> str:
        await trio.sleep(5)
        with pytest.raises(AskTimeout):
            await other.ask("hello")
        return "gave up"

    async with open_dynamic_supervisor() as supervisor:
        ref, other = (supervisor.start_child(player()) for _ in range(2))
        ref.tell(line, deadline=3)
        assert await ref.ask("next") == "next"
        assert trio.current_time() == 5
        await settled()
        assert losses(supervisor) == [("hello", Loss.EXPIRED)]


async def test_tasks_beside_the_handler_and_messages_told_in_it_have_their_own_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[Any] = []

    async def beside() -> None:
        seen.append(await other.ask(deadline))

    async def line(ctx: Context) -> None:
        ctx.nursery.start_soon(beside)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(beside)

        async def told(ctx: Context) -> None:
            seen.append(ctx.deadline)

        other.tell(told)

    async with open_dynamic_supervisor() as supervisor:
        ref, other = (supervisor.start_child(player()) for _ in range(2))
        await ref.ask(line, timeout=5)
        await settled()
    assert seen == [inf] * 3


async def test_a_body_works_for_the_message_that_it_took_last(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[Any] = []

    async def body(ctx: Context) -> None:
        seen.append(await other.ask(deadline))
        for _ in range(2):
            await ctx.receive()
            seen.append((ctx.deadline, await other.ask(deadline)))

    async with open_dynamic_supervisor() as supervisor:
        other = supervisor.start_child(player())
        ref = supervisor.start_child(once(Body), body)
        ref.tell("in time", deadline=7)
        ref.tell("no matter when")
        await ref.join()
    assert seen == [inf, (7, 7), (inf, inf)]


async def test_a_limit_ends_with_the_system_that_keeps_it() -> None:
    """I27: an ask that was answered long ago keeps nobody waiting for its limit."""
    async with open_actor_system("system", root=[player()]) as system:
        (ref,) = system.children
        await ref.ask("hello", timeout=1000)
    assert trio.lowlevel.current_statistics().seconds_to_next_deadline == inf


@pytest.mark.parametrize("bad", [float("nan"), None, "soon"])
async def test_a_deadline_that_is_no_time_is_the_senders_mistake_and_not_the_receivers(
    bad: Any,
) -> None:
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        with pytest.raises(ValueError, match="deadline must be a time on trio's clock; it is"):
            ref.tell("hello", deadline=bad)
        with pytest.raises(ValueError, match="deadline must be a time on trio's clock; it is"):
            await ref.send("hello", deadline=bad)
        with pytest.raises(
            ValueError, match="timeout must be 0 seconds or more, or left out; it is"
        ):
            await ref.ask("hello", timeout=bad)
        assert await ref.ask("still there") == "still there"


async def test_clients_who_give_up_crash_nobody_in_between(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_actor_system("s") as system:
        back = system.spawn(once(Player))
        front = system.spawn(ChildSpec("front", Player))

        async def ask_the_one_behind(ctx: Context) -> Any:
            return await back.ask(sleep(60))

        for _ in range(3):  # more often than the system restarts an actor
            with pytest.raises(AskTimeout):
                await front.ask(ask_the_one_behind, timeout=1)
            with trio.move_on_after(1):
                await front.ask(ask_the_one_behind)
        assert await front.ask("still the first") == "still the first"
        assert system.snapshot().find("/s/front").incarnation == 0  # type: ignore[union-attr]
        assert {loss for _, loss in losses(system)} == {Loss.EXPIRED}
        assert len(losses(system)) == 6


async def test_an_ask_that_is_late_by_its_own_limit_crashes_whoever_does_not_catch_it(
    autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    async with open_actor_system("s") as system:
        back = system.spawn(once(Player))
        front = system.spawn(ChildSpec("front", Player))
        with pytest.raises(RemoteError) as failure:
            await front.ask(lambda _: back.ask(sleep(60), timeout=1), timeout=5)
    assert isinstance(failure.value.error, AskTimeout)
