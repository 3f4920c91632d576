"""Questions: each ends in one way, at the right time, and hurts nobody who is not part of it."""

import gc
from math import inf
from typing import Any

import pytest
import trio
import trio.testing
from tests.actors.acting import (
    Body,
    Player,
    forever,
    losses,
    once,
    outcome_of,
    player,
    settled,
    sleep,
)

from greenroom.actors import (
    ActorDied,
    ActorRef,
    AskError,
    Backoff,
    ChildSpec,
    Context,
    Crash,
    Directive,
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
