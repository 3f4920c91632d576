"""Replies given later or too late, and askers who do not wait so long."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from tests.actors.acting import (
    Player,
    losses,
    once,
    outcome_of,
    player,
    settled,
    sleep,
)

from greenroom.actors import (
    ActorRef,
    AskTimeout,
    Context,
    ExitReason,
    Loss,
    RemoteError,
    Reply,
    Restart,
    open_actor_system,
    open_dynamic_supervisor,
)

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


@pytest.mark.parametrize("error", ["too late", ValueError, None])
async def test_a_reply_fails_with_an_exception_and_with_nothing_else(error: Any) -> None:
    async def fail(ctx: Context) -> None:
        reply = ctx.reply_later()
        with pytest.raises(TypeError, match="error must be an exception") as refused:
            reply.fail(error)
        assert repr(error) in str(refused.value)
        assert reply.wanted
        reply.send("still open")

    async with open_dynamic_supervisor() as supervisor:
        assert await supervisor.start_child(player()).ask(fail) == "still open"
