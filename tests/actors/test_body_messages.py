"""Actors whose life is one coroutine, and that take their messages themselves."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actors.acting import Body, losses, once, player, settled, sleep

from greenroom.actors import (
    Actor,
    ActorDied,
    ActorRef,
    ChildSpec,
    Context,
    Crash,
    Delivery,
    ExitReason,
    InFlight,
    Killed,
    Lane,
    Loss,
    Normal,
    RemoteError,
    Restart,
    Shutdown,
    Terminated,
    open_actor_system,
    open_dynamic_supervisor,
)

crashing = st.lists(st.sampled_from(["fine", "crash", "leave"]), max_size=8)


@settings(deadline=None)
@given(crashing, st.sampled_from(InFlight), st.sampled_from(Restart))
def test_i1_i2_i3_i4_a_body_gets_each_message_in_order_over_all_its_incarnations(
    script: list[str], in_flight: InFlight, restart: Restart
) -> None:
    tries: list[int] = []
    finished: list[int] = []

    async def body(ctx: Context) -> None:
        while True:
            number = await ctx.receive()
            tries.append(number)
            await trio.lowlevel.checkpoint()
            if script[number] == "crash":
                raise OSError
            finished.append(number)
            if script[number] == "leave":
                return

    async def main() -> list[tuple[Any, Loss]]:
        spec = ChildSpec(
            "body", lambda: Body(body), restart=restart, in_flight=in_flight, intensity=99
        )
        async with open_actor_system("system") as system:
            ref = system.spawn(spec)
            for number in range(len(script)):
                assert ref.tell(number) is Delivery.ACCEPTED
            await settled()
        return losses(system)

    logging.disable(logging.CRITICAL)
    try:
        lost = trio.run(main)
    finally:
        logging.disable(logging.NOTSET)
    # The model: a queue, whose head comes again once if it may.
    queue, expected, model_lost = [*range(len(script))], [], []
    redelivered: set[int] = set()
    ended = False
    while queue and not ended:
        number = queue.pop(0)
        expected.append(number)
        if script[number] == "crash":
            ended = restart is Restart.TEMPORARY
            if in_flight is InFlight.REDELIVER and number not in redelivered and not ended:
                redelivered.add(number)
                queue.insert(0, number)
            else:
                model_lost.append((number, Loss.CRASHED))
        elif script[number] == "leave":
            ended = restart is not Restart.PERMANENT
    assert tries == expected
    assert finished == [number for number in expected if script[number] != "crash"]
    assert lost == model_lost + [(number, Loss.LEFT_OVER) for number in queue]


async def test_a_question_is_answered_later_or_with_none_when_the_next_message_is_taken() -> None:
    async def body(ctx: Context) -> None:
        assert await ctx.receive() == "first"
        ctx.reply_later().send("answered")
        assert await ctx.receive() == "second"
        await go_on.wait()
        assert await ctx.receive() == "third"
        raise OSError

    go_on = trio.Event()
    ends: list[Any] = []

    async def ask(message: str) -> None:
        ends.append(await ref.ask(message))

    async with open_dynamic_supervisor(on_exit=lambda *_: None) as supervisor:
        ref = supervisor.start_child(once(Body), body)
        assert await ref.ask("first") == "answered"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "second")
            await settled()
            assert ends == []  # it has the message in its hands
            go_on.set()
        assert ends == [None]
        with pytest.raises(ActorDied) as failure:
            await ref.ask("third")
        assert isinstance(failure.value.reason, Crash)


@pytest.mark.parametrize("restart", [Restart.PERMANENT, Restart.TEMPORARY])
async def test_what_a_body_took_last_is_handled_when_it_comes_to_its_end(restart: Restart) -> None:
    async def body(ctx: Context) -> None:
        seen.append(await ctx.receive())

    seen: list[Any] = []
    spec = ChildSpec("body", lambda: Body(body), restart=restart, in_flight=InFlight.REDELIVER)
    async with open_actor_system("system") as system:
        ref = system.spawn(spec)
        assert await ref.ask("question") is None
        await settled()
        assert ref.alive == (restart is Restart.PERMANENT)
    assert seen == ["question"]
    assert not system.dead_letters.count


async def test_a_body_that_ends_politely_when_it_is_told_to_stop_loses_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The message that says so is handled, too."""

    class Polite(Actor[Any]):
        async def run(self, ctx: Context) -> None:
            while (message := await ctx.receive()) != "stop":
                await message(ctx)

        def stopping(self, ctx: Context, reason: ExitReason) -> bool:
            return ctx.self.tell("stop").accepted

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Polite))
        ref.tell(sleep(1))
        await settled()
        ref.stop("test")
        assert await ref.join() == Shutdown("test")
        assert trio.current_time() == 1
        assert not supervisor.dead_letters.count


async def test_a_body_that_is_cancelled_loses_what_it_has_in_its_hands_and_what_waits() -> None:
    async def body(ctx: Context) -> None:
        await ctx.receive()
        await trio.sleep_forever()

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Body), body)
        ref.tell("in its hands")
        ref.tell("waiting")
        await settled()
        ref.kill()
        assert await ref.join() == Killed()
        assert losses(supervisor) == [
            ("in its hands", Loss.CANCELLED), ("waiting", Loss.LEFT_OVER),
        ]  # fmt: skip


async def test_a_wait_for_the_next_message_can_be_given_up_and_loses_none(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[Any] = []

    async def body(ctx: Context) -> None:
        for _ in range(3):
            with trio.move_on_after(1):
                seen.append(await ctx.receive())

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Body), body)
        await trio.sleep(1.5)
        ref.tell("hello")
        assert await ref.join() == Normal()
        assert trio.current_time() == 2.5
    assert seen == ["hello"]


async def test_a_body_gets_signals_before_the_messages_that_wait() -> None:
    seen: list[Any] = []

    async def body(ctx: Context) -> None:
        ctx.watch(other)
        await settled()
        seen.extend([await ctx.receive(), await ctx.receive()])

    async with open_dynamic_supervisor() as supervisor:
        other = supervisor.start_child(player())
        ref = supervisor.start_child(once(Body), body)
        ref.tell("waiting")
        other.kill()
        await ref.join()
    assert seen == [Terminated(other, Killed()), "waiting"]


async def test_a_body_knows_the_sender_of_what_it_took_last_and_of_nothing_else() -> None:
    seen: list[Any] = []

    async def body(ctx: Context) -> None:
        seen.append(ctx.sender)
        for _ in range(2):
            await ctx.receive()
            seen.append(ctx.sender)

    async with open_dynamic_supervisor() as supervisor:
        sender = supervisor.start_child(player())
        ref = supervisor.start_child(once(Body), body)
        ref.tell(1, sender=sender)
        ref.tell(2)
        await ref.join()
    assert seen == [None, sender, None]


async def test_senders_wait_for_a_body_that_is_slower_and_a_busy_one_gives_others_a_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[Any] = []

    async def body(ctx: Context) -> None:
        while True:
            seen.append(await ctx.receive())

    async def sleepy(ctx: Context) -> None:
        while True:
            seen.append(await ctx.receive())
            await trio.sleep(1)

    async with open_dynamic_supervisor() as supervisor:
        slow = supervisor.start_child(once(Body, mailbox=Lane(1)), sleepy)
        for number in range(4):
            assert await slow.send(number) is Delivery.ACCEPTED
        assert trio.current_time() == 2
        await trio.sleep(5)
        assert seen == [0, 1, 2, 3]
        seen.clear()
        greedy = supervisor.start_child(once(Body), body)
        await settled()
        for number in range(200):
            greedy.tell(number)
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        assert 0 < len(seen) < 200


# A run of its own around the loop that hands messages to `receive`.


class Guarded(Actor[Any]):
    """Holds something for as long as it handles messages."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    async def run(self, ctx: Context) -> None:
        self.log.append("opened")
        try:
            await ctx.handle_messages()
            self.log.append("all handled")
        finally:
            self.log.append("closed")

    async def receive(self, message: Callable[[], Awaitable[Any]]) -> Any:
        reply = await message()
        self.log.append("handled")
        return reply


def work(seconds: float) -> Callable[[], Awaitable[Any]]:
    async def message() -> str:
        await trio.sleep(seconds)
        return "reply"

    return message


async def fail() -> None:
    raise OSError


@pytest.mark.parametrize("drain", [False, True])
async def test_a_loop_inside_a_run_lets_the_handler_finish_and_drains_like_any_other(
    drain: bool, autojump_clock: trio.testing.MockClock
) -> None:
    log: list[str] = []
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(lambda: Guarded(log)))
        ref.tell(work(1))
        await settled()
        ref.tell(work(1))
        ref.stop("test", drain=drain)
        assert await ref.join() == Shutdown("test")
        assert trio.current_time() == (2 if drain else 1)
        assert supervisor.dead_letters.count == (0 if drain else 1)
    assert log == ["opened", *["handled"] * (2 if drain else 1), "all handled", "closed"]


async def test_a_loop_inside_a_run_answers_and_crashes_like_any_other(quiet: None) -> None:
    log: list[str] = []
    spec = ChildSpec("guarded", lambda: Guarded(log))
    async with open_actor_system("system", root=[spec]) as system:
        (ref,) = system.children
        assert await ref.ask(work(0)) == "reply"
        with pytest.raises(RemoteError):
            await ref.ask(fail)
        assert await ref.ask(work(0)) == "reply"
    assert log == [
        "opened", "handled", "closed", "opened", "handled", "all handled", "closed",
    ]  # fmt: skip


async def test_a_run_that_has_not_begun_its_loop_or_has_left_it_is_cancelled_by_a_stop(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Late(Guarded):
        async def run(self, ctx: Context) -> None:
            await trio.sleep(5)
            await super().run(ctx)
            await trio.sleep(5)

    for waits in (1, 6):
        log: list[str] = []
        async with open_dynamic_supervisor() as supervisor:
            ref = supervisor.start_child(once(lambda: Late(log), shutdown=2))  # noqa: B023
            begun = trio.current_time()
            await trio.sleep(waits)
            ref.stop("test")
            await ref.join()
            # Outside of its loop nothing would tell it; behind it, it has the time of a stop.
            assert trio.current_time() - begun == (1 if waits == 1 else 6 + 2)
        assert log == ([] if waits == 1 else ["opened", "all handled", "closed"])


async def test_two_refs_of_bodies_may_ask_each_other_in_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    refs: list[ActorRef[Any]] = []
    seen: list[Any] = []

    async def answers(ctx: Context) -> None:
        await ctx.receive()
        reply = ctx.reply_later()
        seen.append(await refs[1].ask(sleep(1, "from the other")))
        reply.send("from the first")

    async with open_dynamic_supervisor() as supervisor:
        refs.append(supervisor.start_child(once(Body), answers))
        refs.append(supervisor.start_child(player()))
        assert await refs[0].ask("hello", timeout=5) == "from the first"
        assert trio.current_time() == 1
    assert seen == ["from the other"]
