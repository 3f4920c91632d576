"""Questions: each ends in one way, at the right time, and hurts nobody who is not part of it."""

import gc
import logging
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actors.acting import Body, Player, forever, once, player, settled, sleep

from greenroom.actors import (
    Actor,
    ActorDied,
    ActorRef,
    AskError,
    AskTimeout,
    Backoff,
    ChildSpec,
    Context,
    Crash,
    Directive,
    DynamicSupervisor,
    ExitReason,
    InFlight,
    Killed,
    Lane,
    Loss,
    MailboxFull,
    Overflow,
    RemoteError,
    Reply,
    Restart,
    Shutdown,
    Strategy,
    Supervisor,
    open_actor_system,
    open_dynamic_supervisor,
)
from greenroom.actors._cell import Cell


def losses(supervisor: Any) -> list[tuple[Any, Loss]]:
    return [(letter.message, letter.loss) for letter in supervisor.dead_letters.recent]


async def outcome_of(asking: Awaitable[Any]) -> Any:
    """What an ask gave or raised; for a cancelled one, nothing is returned."""
    try:
        return await asking
    except AskError as error:
        return error


async def test_an_ask_gives_what_the_handler_returns_and_none_is_a_reply() -> None:
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        assert await ref.ask("hello") == "hello"
        assert await ref.ask(None) is None


async def test_an_ask_is_a_checkpoint_also_if_it_fails_at_once() -> None:
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        with trio.testing.assert_checkpoints():
            await ref.ask(1)
        ref.kill()
        await ref.join()
        with pytest.raises(ActorDied), trio.testing.assert_checkpoints():
            await ref.ask(1)


async def test_the_handler_knows_who_asks_if_that_was_said() -> None:
    async def who(ctx: Context) -> Any:
        return ctx.sender

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        asker = supervisor.start_child(player())
        assert await ref.ask(who) is None
        assert await ref.ask(who, sender=asker) == asker


# The handler fails.


async def test_a_callees_crash_ends_the_ask_at_once_with_its_cause(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Careful(Player):
        async def stopped(self, reason: ExitReason) -> None:
            await trio.sleep(0.5)

    error = KeyError("theirs")
    async with open_dynamic_supervisor(on_exit=lambda *_: None) as supervisor:
        ref = supervisor.start_child(once(Careful))
        with pytest.raises(RemoteError, match="KeyError") as failure:
            await ref.ask(error)
        assert trio.current_time() == 0
        assert failure.value.error is failure.value.__cause__ is error
        assert failure.value.path == ref.path
        reason = await ref.join()
        assert isinstance(reason, Crash)
        assert reason.error is error
        assert losses(supervisor) == [(error, Loss.CRASHED)]


async def test_a_decider_that_says_resume_keeps_the_actor_and_the_asker_learns_of_the_error(
    quiet: None,
) -> None:
    error = ValueError("skip me")
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(on_failure=lambda error: Directive.RESUME))
        with pytest.raises(RemoteError) as failure:
            await ref.ask(error)
        assert failure.value.error is error
        assert await ref.ask("next") == "next"
        assert losses(supervisor) == [(error, Loss.CRASHED)]


async def test_i3_a_redelivered_message_is_answered_by_the_next_incarnation(quiet: None) -> None:
    tries: list[int] = []

    async def fail_at_first(ctx: Context) -> int:
        tries.append(ctx.incarnation)
        if ctx.incarnation == 0:
            raise OSError
        return ctx.incarnation

    spec = player(restart=Restart.PERMANENT, in_flight=InFlight.REDELIVER)
    async with open_actor_system("system", root=[spec]) as system:
        (ref,) = system.children
        assert await ref.ask(fail_at_first) == 1
        assert tries == [0, 1]
        assert not system.dead_letters.count


async def test_i3_a_message_that_fails_again_is_not_redelivered_again(quiet: None) -> None:
    tries: list[int] = []

    async def fail(ctx: Context) -> None:
        tries.append(ctx.incarnation)
        raise OSError

    spec = player(restart=Restart.PERMANENT, in_flight=InFlight.REDELIVER)
    async with open_actor_system("system", root=[spec], intensity=5) as system:
        (ref,) = system.children
        with pytest.raises(RemoteError):
            await ref.ask(fail)
        assert tries == [0, 1]
        assert losses(system) == [(fail, Loss.CRASHED)]


async def test_a_supervisor_takes_no_messages_and_says_so_to_the_asker() -> None:
    async with open_actor_system("system", root=[ChildSpec("below", Supervisor)]) as system:
        (ref,) = system.children
        with pytest.raises(RemoteError, match="takes no messages"):
            await ref.ask("hello")
        assert losses(system) == [("hello", Loss.UNHANDLED)]


# The actor dies, or has not begun to live.


@pytest.mark.parametrize("where", ["waiting", "in its hands", "stashed", "to be answered later"])
async def test_i10_the_death_of_the_actor_ends_an_ask_within_one_pass_wherever_it_is(
    where: str,
) -> None:
    replies: list[Reply] = []

    async def stash(ctx: Context) -> None:
        ctx.stash()

    async def later(ctx: Context) -> None:
        replies.append(ctx.reply_later())

    line = {"stashed": stash, "to be answered later": later}.get(where, forever)
    ends: list[Any] = []

    async def ask() -> None:
        ends.append(await outcome_of(ref.ask(line)))

    async with open_dynamic_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.start_child(player())
        if where == "waiting":
            ref.tell(forever)
        nursery.start_soon(ask)
        await settled()
        ref.kill()
        await ref.join()
        await trio.lowlevel.checkpoint()
        (end,) = ends
        assert isinstance(end, ActorDied)
        assert end.reason == Killed()
        assert str(end) == f"{ref.path} ended before it replied: {Killed()}"


async def test_i10_a_restart_ends_the_asks_that_were_to_be_answered_later_and_keeps_those_that_wait(
    quiet: None,
) -> None:
    ends: dict[str, Any] = {}

    async def later(ctx: Context) -> None:
        ctx.reply_later()

    async def ask(name: str, message: Any) -> None:
        ends[name] = await outcome_of(ref.ask(message))

    async with (
        open_actor_system("system", root=[player(restart=Restart.PERMANENT)]) as system,
        trio.open_nursery() as nursery,
    ):
        (ref,) = system.children
        error = OSError()
        for name, message in [("later", later), ("crash", error), ("waiting", "waited")]:
            nursery.start_soon(ask, name, message)
            await trio.lowlevel.checkpoint()
    assert ends["waiting"] == "waited"
    assert isinstance(ends["crash"], RemoteError)
    assert isinstance(ends["later"], ActorDied)
    assert ends["later"].reason == Crash(error)


async def test_asks_before_the_start_and_in_the_pause_of_a_restart_are_answered_after_it(
    autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    class Slow(Player):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            await trio.sleep(2)

    spec = player(
        factory=Slow, restart=Restart.PERMANENT, backoff=Backoff(first=3, longest=3, jitter=0)
    )
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(spec)
        assert await ref.ask("before the start") == "before the start"
        assert trio.current_time() == 2
        ref.tell(OSError())
        await trio.sleep(1)
        assert await ref.ask("in the pause") == "in the pause"
        assert trio.current_time() == 2 + 3 + 2


async def test_an_ask_of_an_actor_that_is_stopped_in_its_pause_or_at_its_start_fails(
    autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    class Slow(Player):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            await trio.sleep(2)

    ends: list[Any] = []

    async def ask(ref: ActorRef[Any]) -> None:
        ends.append(await outcome_of(ref.ask("hello")))

    backoff = Backoff(first=3, longest=3, jitter=0)
    async with open_dynamic_supervisor() as supervisor, trio.open_nursery() as nursery:
        starting = supervisor.start_child(once(Slow))
        pausing = supervisor.start_child(player(restart=Restart.PERMANENT, backoff=backoff))
        pausing.tell(OSError())
        await trio.sleep(1)
        for ref in (starting, pausing):
            nursery.start_soon(ask, ref)
            await settled()
            ref.stop("test")
    assert [type(end) for end in ends] == [ActorDied, ActorDied]
    assert [end.reason for end in ends] == [Shutdown("test"), Shutdown("test")]


async def test_an_ask_of_an_actor_that_stops_or_drains_fails_with_its_reason(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_dynamic_supervisor() as supervisor:
        for drain in (False, True):
            ref = supervisor.start_child(player())
            ref.tell(sleep(2))
            await settled()
            begun = trio.current_time()
            ref.stop("test", drain=drain)
            await settled()
            with pytest.raises(ActorDied) as failure:
                await ref.ask("too late")
            assert failure.value.reason == Shutdown("test")
            assert trio.current_time() - begun == (0 if drain else 2)
        # Who drains takes nothing any more; who stops takes it, and ends before its turn comes.
        assert losses(supervisor) == [
            ("too late", Loss.LEFT_OVER), ("too late", Loss.STOPPING),
        ]  # fmt: skip


async def test_an_ask_of_an_ended_actor_fails_at_once_also_after_its_system_has_ended(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        ref.stop("test")
        await ref.join()
        with pytest.raises(ActorDied) as failure:
            await ref.ask("too late", timeout=5)
        assert failure.value.reason == Shutdown("test")
    with pytest.raises(ActorDied):
        await ref.ask("too late", timeout=5)
    assert trio.current_time() == 0


@pytest.mark.parametrize("killed_while", ["the first starts", "all are regrouped"])
async def test_i10_the_death_of_a_supervisor_ends_asks_of_children_without_an_incarnation(
    killed_while: str, autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    class Slow(Player):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            if killed_while == "the first starts":
                await trio.sleep(4)

        async def stopped(self, reason: ExitReason) -> None:
            await trio.sleep(4)

    inner = Supervisor(
        [ChildSpec("slow", Slow, cleanup_timeout=9), ChildSpec("other", Player)],
        strategy=Strategy.ONE_FOR_ALL,
    )
    async with open_actor_system("system") as system, trio.open_nursery() as nursery:
        ref = system.spawn(ChildSpec("inner", lambda: inner, restart=Restart.TEMPORARY))
        await settled()
        _, other = inner.children
        if killed_while == "all are regrouped":
            other.tell(OSError())
        await trio.sleep(1)
        ends: list[Any] = []

        async def ask() -> None:
            ends.append(await outcome_of(other.ask("hello")))

        nursery.start_soon(ask)
        await settled()
        ref.kill()
        await ref.join()
        await settled()
        assert not other.alive
        assert [type(end) for end in ends] == [ActorDied]


async def test_asks_are_answered_while_the_system_shuts_down(
    autojump_clock: trio.testing.MockClock,
) -> None:
    said: list[Any] = []
    refs: list[ActorRef[Any]] = []

    class Client(Player):
        async def stopped(self, reason: ExitReason) -> None:
            said.extend([await outcome_of(ref.ask("goodbye", timeout=0.5)) for ref in refs])

    root = [ChildSpec("first", Player), ChildSpec("client", Client), ChildSpec("last", Player)]
    async with open_actor_system("system", root=root) as system:
        first, _, last = system.children
        refs = [first, last]
    # The last is stopped first, so that everybody may use what was started before it.
    assert said[0] == "goodbye"
    assert isinstance(said[1], ActorDied)
    assert trio.current_time() == 0


async def test_a_question_in_the_hands_of_an_actor_that_is_restarted_for_anothers_crash_fails(
    autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    """It was cancelled, and has not crashed on it."""
    family = Supervisor(
        [ChildSpec("one", Player, shutdown=2), ChildSpec("two", Player)],
        strategy=Strategy.ONE_FOR_ALL,
    )
    async with (
        open_actor_system("system", root=[ChildSpec("family", lambda: family)]) as system,
        trio.open_nursery() as nursery,
    ):
        one, two = family.children
        ends: list[Any] = []

        async def ask() -> None:
            ends.append((await outcome_of(one.ask(forever)), trio.current_time()))

        error = OSError()
        nursery.start_soon(ask)
        await settled()
        two.tell(error)
        await trio.sleep(3)
        ((end, at),) = ends
        assert isinstance(end, ActorDied)
        assert isinstance(end.reason, Shutdown)
        assert at == 2
        assert losses(system) == [(error, Loss.CRASHED), (forever, Loss.CANCELLED)]


# The mailbox is full.


@pytest.mark.parametrize("overflow", [Overflow.REJECT, Overflow.DROP_NEW, Overflow.CLOSE])
async def test_an_ask_that_finds_no_room_fails_at_once(
    overflow: Overflow, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(mailbox=Lane(1, overflow)))
        ref.tell(sleep(3))
        await settled()
        ref.tell("waiting")
        with pytest.raises(MailboxFull, match=r"the mailbox of /supervisor/player-\d+ is full"):
            await ref.ask("too much", timeout=5)
        assert trio.current_time() == 0
        assert supervisor.dead_letters.count == 1


@pytest.mark.parametrize(
    ("lane", "loss"),
    [
        (Lane(1, Overflow.DROP_OLDEST), Loss.DROPPED),
        (Lane(1, Overflow.COALESCE, key=lambda message: message["id"]), Loss.COALESCED),
    ],
)
async def test_an_ask_that_is_evicted_by_a_newer_message_fails_at_once(
    lane: Lane, loss: Loss, autojump_clock: trio.testing.MockClock
) -> None:
    first, second = {"id": 1, "n": 1}, {"id": 1, "n": 2}
    ends: list[Any] = []

    async def ask() -> None:
        ends.append(await outcome_of(ref.ask(first)))
        assert trio.current_time() == 0

    async with open_dynamic_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.start_child(player(mailbox=lane))
        ref.tell(sleep(3))
        await settled()
        nursery.start_soon(ask)
        await settled()
        assert await ref.ask(second) == second
        assert losses(supervisor) == [(first, loss)]
    assert [type(end) for end in ends] == [MailboxFull]


# Replies given later.


async def test_a_reply_may_be_given_later_while_other_messages_are_handled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def work(reply: Reply) -> None:
        await trio.sleep(5)
        assert reply.wanted
        reply.send("done")
        assert not reply.wanted

    async def later(ctx: Context) -> str:
        ctx.nursery.start_soon(work, ctx.reply_later())
        return "what the handler returns does not matter then"

    async with open_dynamic_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.start_child(player())

        async def ask_meanwhile() -> None:
            await trio.sleep(1)
            assert await ref.ask("meanwhile") == "meanwhile"
            assert trio.current_time() == 1

        nursery.start_soon(ask_meanwhile)
        assert await ref.ask(later) == "done"
        assert trio.current_time() == 5
        assert not supervisor.dead_letters.count


async def test_an_error_may_be_the_reply_given_later_and_does_not_crash_the_actor() -> None:
    error = LookupError("not found")

    async def later(ctx: Context) -> None:
        ctx.reply_later().fail(error)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        with pytest.raises(RemoteError) as failure:
            await ref.ask(later)
        assert failure.value.__cause__ is error
        assert ref.alive


async def test_nobody_wants_the_reply_to_a_message_that_was_told() -> None:
    async def later(ctx: Context) -> None:
        reply = ctx.reply_later()
        assert not reply.wanted
        reply.send("nobody gets this")
        reply.fail(OSError("nor this"))

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        ref.tell(later)
        assert await ref.ask("next") == "next"
        assert not supervisor.dead_letters.count


async def test_i11_a_second_reply_is_a_dead_letter_and_changes_nothing() -> None:
    error = OSError("third")

    async def twice(ctx: Context) -> None:
        reply = ctx.reply_later()
        reply.send("first")
        reply.send("second")
        reply.fail(error)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        assert await ref.ask(twice) == "first"
        assert await ref.ask("next") == "next"
        assert losses(supervisor) == [("second", Loss.LATE), (error, Loss.LATE)]


async def test_i11_replies_after_the_timeout_a_restart_or_the_end_are_dead_letters_that_hurt_nobody(
    autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    replies: list[Reply] = []

    async def later(ctx: Context) -> None:
        replies.append(ctx.reply_later())

    async with open_actor_system("system", root=[player(restart=Restart.PERMANENT)]) as system:
        (ref,) = system.children
        with pytest.raises(AskTimeout):
            await ref.ask(sleep(2, "slow"), timeout=1)
        assert await ref.ask("next") == "next"
        with pytest.raises(AskTimeout):
            await ref.ask(later, timeout=1)
        replies[0].send("too late")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome_of, ref.ask(later))
            await settled()
            ref.tell(OSError())
        replies[1].send("after a restart")
        assert await ref.ask("next") == "next"
    replies[1].send("after the end")
    late = [message for message, loss in losses(system) if loss is Loss.LATE]
    assert late == ["slow", "too late", "after a restart", "after the end"]


async def test_answers_owed_to_askers_who_are_gone_are_not_kept(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def later(ctx: Context) -> None:
        ctx.reply_later()

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        for _ in range(3):
            with pytest.raises(AskTimeout):
                await ref.ask(later, timeout=1)
            with trio.move_on_after(1):
                await ref.ask(later)
        inbox = ref._cell.inbox
        assert inbox is not None
        assert not inbox._unanswered


# The asker gives up.


@pytest.mark.parametrize("how", ["timeout", "cancelled"])
async def test_i8_i11_what_an_asker_has_given_up_is_not_handled_if_it_still_waits(
    how: str, autojump_clock: trio.testing.MockClock
) -> None:
    log: list[Any] = []
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(log))
        ref.tell(sleep(5))
        if how == "timeout":
            with pytest.raises(AskTimeout, match=r"has not replied within 2 seconds"):
                await ref.ask("given up", timeout=2)
        else:
            with trio.move_on_after(2):
                await ref.ask("given up")
        assert trio.current_time() == 2
        assert not supervisor.dead_letters.count  # its turn has not come yet
        assert await ref.ask("next") == "next"
        assert log == ["next"]
        assert losses(supervisor) == [("given up", Loss.EXPIRED)]


async def test_i11_what_an_asker_has_given_up_is_handled_to_its_end_if_it_was_begun(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player())
        with trio.move_on_after(2):
            await ref.ask(sleep(5, "late"))
        assert await ref.ask("next") == "next"
        assert trio.current_time() == 5
        assert losses(supervisor) == [("late", Loss.LATE)]


@pytest.mark.parametrize("first", ["reply", "cancellation"])
async def test_i9_of_a_reply_and_a_cancellation_in_one_step_the_first_wins(first: str) -> None:
    replies: list[Reply] = []
    ends: list[Any] = []

    async def later(ctx: Context) -> None:
        replies.append(ctx.reply_later())

    async def ask() -> None:
        with scope:
            ends.append(await ref.ask(later))

    async with open_dynamic_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.start_child(player())
        scope = trio.CancelScope()
        nursery.start_soon(ask)
        await settled()
        if first == "cancellation":
            scope.cancel()
        replies[0].send("reply")
        scope.cancel()
        await settled()
        assert ends == (["reply"] if first == "reply" else [])
        assert scope.cancelled_caught == (first == "cancellation")
        assert losses(supervisor) == ([] if first == "reply" else [("reply", Loss.LATE)])


async def test_what_is_asked_for_somebody_who_has_given_up_times_out_all_the_way_down(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[tuple[str, float, str]] = []

    def relay(name: str, *targets: ActorRef[Any]) -> Callable[[Context], Awaitable[Any]]:
        async def line(ctx: Context) -> Any:
            target, *others = targets
            inner = relay(f"{name}/{name}", *others) if others else sleep(10, "reply")
            end = await outcome_of(target.ask(inner, timeout=9))
            seen.append((name, trio.current_time(), str(end)))
            return end

        return line

    async with open_dynamic_supervisor() as supervisor:
        first, second, third = (supervisor.start_child(player()) for _ in range(3))
        with trio.move_on_after(2):
            await first.ask(relay("x", second, third))
        await settled()
        ends = [(name, at) for name, at, _ in seen]
        assert sorted(ends) == [("x", 2), ("x/x", 2)]
        assert all("before those who wait for it gave up" in text for *_, text in seen)
        # They go on, and the last of them has been at it until now.
        assert await first.ask("hello") == await second.ask("hello") == "hello"
        assert await third.ask("hello") == "hello"
        assert trio.current_time() == 10


async def test_what_is_asked_for_somebody_who_has_given_up_before_is_not_even_begun(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ends: list[Any] = []

    async def line(ctx: Context) -> None:
        await trio.sleep(3)
        ends.append(await outcome_of(other.ask("hello")))

    async with open_dynamic_supervisor() as supervisor:
        ref, other = (supervisor.start_child(player()) for _ in range(2))
        with trio.move_on_after(2):
            await ref.ask(line)
        await trio.sleep(2)
        assert [type(end) for end in ends] == [AskTimeout]
        assert {*losses(supervisor)} == {("hello", Loss.EXPIRED), (None, Loss.LATE)}


async def test_what_is_asked_after_the_duty_to_answer_was_taken_away_is_not_the_askers_matter(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ends: list[Any] = []

    async def later(ctx: Context) -> None:
        ctx.reply_later()
        ends.append(await outcome_of(other.ask(sleep(5, "reply"))))

    async with open_dynamic_supervisor() as supervisor:
        ref, other = (supervisor.start_child(player()) for _ in range(2))
        with trio.move_on_after(2):
            await ref.ask(later)
        assert await ref.ask("next") == "next"
    assert ends == ["reply"]


async def test_what_an_actor_asks_while_it_cleans_up_has_its_own_time(
    autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    """The message that it died of had a limit, and so had its asker; the clean-up has not."""
    said: list[Any] = []

    class Client(Player):
        async def stopped(self, reason: ExitReason) -> None:
            said.append(await outcome_of(service.ask(sleep(0.5, "released"))))

    async with open_dynamic_supervisor() as supervisor:
        service = supervisor.start_child(player())
        for how in ("crash", "kill"):
            ref = supervisor.start_child(once(Client))

            async def line(ctx: Context) -> None:
                await trio.sleep(3)
                if how == "crash":  # noqa: B023 - used at once
                    raise OSError
                await trio.sleep_forever()

            with pytest.raises(AskTimeout):
                await ref.ask(line, timeout=1)
            await trio.sleep(2)
            ref.kill()
            await ref.join()
    assert said == ["released", "released"]


# Who waits for how long: the first thing to happen ends it.

moments = st.one_of(st.none(), st.integers(0, 4))


@settings(deadline=None, max_examples=200)
@given(
    busy=st.integers(0, 3),
    takes=st.integers(0, 3),
    fails=st.booleans(),
    timeout=moments,
    cancelled_at=moments,
    killed_at=moments,
)
def test_i9_i11_an_ask_ends_with_the_first_thing_that_ends_it_and_everything_is_accounted_for(
    busy: int,
    takes: int,
    fails: bool,
    timeout: int | None,
    cancelled_at: int | None,
    killed_at: int | None,
) -> None:
    handled: list[str] = []

    async def line(ctx: Context) -> str:
        handled.append("begun")
        if takes:
            await trio.sleep(takes)
        handled.append("finished")
        if fails:
            raise OSError("theirs")
        return "reply"

    async def main() -> tuple[str, float, list[tuple[Any, Loss]]]:
        def cancel_after(seconds: int, act: Callable[[], None]) -> Callable[[], Awaitable[None]]:
            async def task() -> None:
                await trio.sleep(seconds)
                act()

            return task

        async with open_dynamic_supervisor() as supervisor, trio.open_nursery() as nursery:
            ref = supervisor.start_child(player())
            await ref.wait_started()
            ref.tell(sleep(busy))
            await trio.lowlevel.checkpoint()
            scope = trio.CancelScope()
            if killed_at is not None:
                nursery.start_soon(cancel_after(killed_at, ref.kill))
            if cancelled_at is not None:
                nursery.start_soon(cancel_after(cancelled_at, scope.cancel))
            end = "cancelled"
            with scope:
                try:
                    end = await ref.ask(line, timeout=inf if timeout is None else timeout)
                except AskError as error:
                    end = type(error).__name__
            at = trio.current_time()
            await trio.sleep(20)
            return end, at, losses(supervisor)

    logging.disable(logging.CRITICAL)
    try:
        end, at, lost = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        logging.disable(logging.NOTSET)
    # All that could end it, and when. What is due in the same second may come first.
    could = {"RemoteError" if fails else "reply": busy + takes}
    if timeout is not None:
        could["AskTimeout"] = timeout
    if cancelled_at is not None:
        could["cancelled"] = cancelled_at
    if killed_at is not None:
        could["ActorDied"] = killed_at
    assert at == min(could.values())
    assert could[end] == at
    # And what became of the message and its reply; the busy one may have been lost to the kill.
    mine = [loss for message, loss in lost if message in (line, "reply")]
    if end in ("reply", "RemoteError"):
        assert handled == ["begun", "finished"]
        assert mine == ([Loss.CRASHED] if fails else [])
    elif not handled:
        (loss,) = mine
        assert loss in (Loss.EXPIRED, Loss.LEFT_OVER, Loss.DEAD)
        assert end == "ActorDied" or killed_at is not None or loss is Loss.EXPIRED
    elif handled == ["begun"]:
        assert killed_at is not None
        assert mine == [Loss.CANCELLED]
    else:
        assert mine == [Loss.CRASHED if fails else Loss.LATE]


# Many at once: whatever a target does to its messages, and whatever happens to it.

kinds = st.sampled_from(["reply", "wait", "raise", "later", "never", "stash", "unstash"])
asks = st.lists(
    st.tuples(kinds, st.integers(0, 3), moments, moments), min_size=1, max_size=5
)  # kind, when, timeout, cancelled after
fates = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["crash", "stop", "drain", "kill"])), max_size=2
)


@settings(deadline=None, max_examples=200)
@given(
    asks,
    fates,
    st.sampled_from([None, Directive.RESUME, Directive.RESTART]),
    st.sampled_from(InFlight),
    st.one_of(
        st.just(Lane()),
        st.builds(
            Lane,
            st.integers(1, 2),
            st.sampled_from(
                [Overflow.REJECT, Overflow.DROP_NEW, Overflow.DROP_OLDEST, Overflow.CLOSE]
            ),
        ),
    ),
    st.sampled_from(Restart),
)
def test_i1_i9_every_ask_ends_in_exactly_one_way_whatever_happens_to_either_side(
    script: list[tuple[str, int, int | None, int | None]],
    fates: list[tuple[int, str]],
    directive: Directive | None,
    in_flight: InFlight,
    lane: Lane,
    restart: Restart,
) -> None:
    ends: dict[int, list[tuple[str, Any]]] = {number: [] for number in range(len(script))}

    class Target(Actor[Any]):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            self.ctx = ctx

        async def receive(self, message: Any) -> Any:
            kind, number = message
            match kind:
                case "wait":
                    await trio.sleep(1)
                case "raise":
                    raise OSError(number)
                case "later":
                    self.ctx.nursery.start_soon(self.later, self.ctx.reply_later(), number)
                case "never":
                    self.ctx.reply_later()
                case "stash":
                    self.ctx.stash()
                case "unstash":
                    self.ctx.become(self.calm)
                    self.ctx.unstash_all()
            return number

        async def calm(self, message: Any) -> Any:
            await trio.lowlevel.checkpoint()
            return message[1]

        async def later(self, reply: Reply, number: int) -> None:
            await trio.sleep(1)
            reply.send(number)

    async def ask(ref: ActorRef[Any], number: int) -> None:
        kind, when, timeout, cancelled_after = script[number]
        await trio.sleep(when)
        limit = inf if timeout is None else timeout
        with trio.move_on_after(inf if cancelled_after is None else cancelled_after) as scope:
            try:
                reply = await ref.ask((kind, number), timeout=limit)
                ends[number].append(("reply", reply))
            except AskError as error:
                ends[number].append((type(error).__name__, trio.current_time() - when))
        if scope.cancelled_caught:
            ends[number].append(("cancelled", trio.current_time() - when))

    async def strike(ref: ActorRef[Any], when: int, fate: str) -> None:
        await trio.sleep(when)
        match fate:
            case "crash":
                ref.tell(("raise", None))
            case "kill":
                ref.kill()
            case _:
                ref.stop(drain=fate == "drain")

    async def main() -> tuple[DynamicSupervisor, int]:
        decider = None if directive is None else (lambda error: directive)
        spec = ChildSpec(
            "target", Target, restart, on_failure=decider, in_flight=in_flight, mailbox=lane
        )
        supervisor = DynamicSupervisor(intensity=100, on_exit=lambda *_: None)
        async with (
            trio.open_nursery() as nursery,
            open_actor_system("system", root=[ChildSpec("supervisor", lambda: supervisor)]),
        ):
            ref = supervisor.start_child(spec)
            for number in range(len(script)):
                nursery.start_soon(ask, ref, number)
            for when, fate in fates:
                nursery.start_soon(strike, ref, when, fate)
            await trio.sleep(12)
            open_then = sum(not end for end in ends.values())
        return supervisor, open_then

    logging.disable(logging.CRITICAL)
    try:
        supervisor, open_then = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        logging.disable(logging.NOTSET)
    struck = {fate for _, fate in fates}
    fragile = {"crash", "kill", "stop", "drain"} & struck or lane.overflow is Overflow.CLOSE
    fragile = fragile or any(kind == "raise" for kind, *_ in script)
    for number, (kind, _, timeout, cancelled_after) in enumerate(script):
        ((end, detail),) = ends[number]  # exactly one
        match end:
            case "reply":
                assert detail == number
            case "AskTimeout":
                assert detail == timeout
            case "cancelled":
                assert detail == cancelled_after
            case "RemoteError":
                assert kind == "raise"
            case "MailboxFull":
                assert lane.capacity is not None
            case "ActorDied":
                # Those that nobody answers end at the latest with the system.
                assert fragile or kind in ("never", "stash")
    assert open_then <= sum(kind in ("never", "stash") for kind, *_ in script)
    assert not supervisor.children or not list(supervisor.children)


# What is left behind.


@pytest.mark.parametrize(
    "how", ["reply", "fails", "fails at once", "refused", "times out", "later", "dies"]
)
async def test_an_ask_leaves_no_cycle_behind(
    how: str, autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    class Odd(Exception):
        pass

    async def later(ctx: Context) -> None:
        ctx.reply_later().fail(Odd())

    async def fail(ctx: Context) -> None:
        raise Odd

    def left() -> int:
        kinds = (AskError, Odd, Reply)
        return sum(isinstance(each, kinds) for each in gc.get_objects())

    async def ask() -> None:
        if how == "dies":
            with trio.move_on_after(1):
                await ref.ask(forever)
            return
        message = {"fails": fail, "later": later, "times out": sleep(2)}.get(how, "hello")
        try:
            await ref.ask(message, timeout=1)
        except AskError:
            return

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(
            player(
                on_failure=lambda error: Directive.RESUME,
                mailbox=Lane(1 if how == "refused" else None),
            )
        )
        await ref.wait_started()
        if how == "fails at once":
            ref.kill()
            await ref.join()
        if how == "refused":
            ref.tell(forever)
            await settled()
            ref.tell("waiting")
        supervisor.dead_letters.recent.clear()
        gc.collect()
        before = left()
        gc.disable()
        try:
            for _ in range(5):
                await ask()
                supervisor.dead_letters.recent.clear()
            await trio.sleep(5)  # trio itself keeps the last outcome until the next step
            supervisor.dead_letters.recent.clear()
            assert left() == before
        finally:
            gc.enable()


async def test_an_actor_that_has_been_asked_and_has_ended_is_gone_at_once() -> None:
    def cells() -> int:
        return sum(isinstance(each, Cell) for each in gc.get_objects())

    async with open_dynamic_supervisor() as supervisor:
        gc.collect()
        before = cells()
        gc.disable()
        try:
            for how in ("told", "asked", "asked in time", "dead"):
                ref = supervisor.start_child(player())
                ref.tell("hello")
                if how.startswith("asked"):
                    await ref.ask("hello", timeout=9 if how == "asked in time" else inf)
                ref.stop()
                await ref.join()
                if how == "dead":
                    ref.tell("hello")
                    supervisor.dead_letters.recent.clear()
                    with pytest.raises(ActorDied):
                        await ref.ask("hello")
                supervisor.dead_letters.recent.clear()
            del ref
            await settled()
            assert cells() == before
        finally:
            gc.enable()


async def test_the_first_ask_with_a_limit_does_not_keep_its_asker_alive(
    autojump_clock: trio.testing.MockClock,
) -> None:
    def cells() -> int:
        return sum(isinstance(each, Cell) for each in gc.get_objects())

    async with open_dynamic_supervisor() as supervisor:
        service = supervisor.start_child(player())
        await service.wait_started()
        gc.collect()
        before = cells()

        async def client(ctx: Context) -> None:
            await ctx.receive()
            await service.ask("hello", timeout=1)

        ref = supervisor.start_child(once(Body), client)
        ref.tell("go on")
        await ref.join()
        del ref
        await settled()
        gc.collect()
        assert cells() == before
