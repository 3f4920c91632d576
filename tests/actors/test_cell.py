"""One child's life: how it begins, what may leave it, and how it ends."""

import asyncio
import contextvars
import gc
import logging
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actors.acting import Body, forever, once

from greenroom.actors import (
    Actor,
    ActorRef,
    ChildSpec,
    Context,
    Crash,
    DeadlineExceeded,
    Delivery,
    Directive,
    DynamicSupervisor,
    ExitReason,
    InFlight,
    InitFailed,
    Killed,
    Lane,
    Loss,
    Normal,
    Overflow,
    Overload,
    Restart,
    RestartsExhausted,
    Shutdown,
    StartTimeout,
    open_actor_system,
    open_dynamic_supervisor,
)
from greenroom.actors._cell import Cell


class Recorder(Actor[Any]):
    """Writes down what happens to it; crashes on exceptions, calls what can be called."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    async def started(self, ctx: Context, cause: ExitReason | None) -> None:
        self.log.append(("started", cause and type(cause)))

    async def receive(self, message: Any) -> None:
        self.log.append(message)
        if isinstance(message, BaseException):
            raise message
        if callable(message):
            await message()

    async def stopped(self, reason: ExitReason) -> None:
        self.log.append(("stopped", type(reason)))


def raiser(error: BaseException) -> Callable[[Context], Awaitable[None]]:
    async def body(ctx: Context) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    return body


async def test_a_body_that_returns_ends_normally() -> None:
    async def body(ctx: Context) -> None:
        assert ctx.self.alive
        assert ctx.incarnation == 0

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Body), body)
        assert await ref.join() == Normal()
        assert await ref.join() == Normal()
        assert not ref.alive
        assert len(supervisor) == 0


class Odd(BaseException):
    """Neither an Exception nor the end of the program."""


@pytest.mark.parametrize(
    "error",
    [
        ValueError("plain"),
        asyncio.CancelledError("of another world"),
        Odd("base"),
        ExceptionGroup("two", [ValueError(), OSError()]),
        BaseExceptionGroup("odd", [Odd(), ValueError()]),
        StopAsyncIteration(),
    ],
)
async def test_i12_i28_whatever_leaves_an_actor_is_its_crash_and_touches_no_sibling(
    error: BaseException,
) -> None:
    ends: list[tuple[ActorRef[Any], ExitReason]] = []
    async with open_dynamic_supervisor(
        on_exit=lambda ref, actor, reason: ends.append((ref, reason))
    ) as supervisor:
        sibling = supervisor.start_child(once(Body), forever)
        ref = supervisor.start_child(once(Body), raiser(error))
        reason = await ref.join()
        assert isinstance(reason, Crash)
        assert reason.error is error
        assert reason.error.__traceback__ is not None
        assert ends == [(ref, reason)]
        assert sibling.alive


async def test_i28_a_group_of_one_from_an_inner_nursery_is_opened() -> None:
    error = ValueError("inside")

    async def body(ctx: Context) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(raiser(error), ctx)

    async with open_dynamic_supervisor(on_exit=lambda *_: None) as supervisor:
        reason = await supervisor.start_child(once(Body), body).join()
    assert isinstance(reason, Crash)
    assert reason.error is error


async def test_a_crash_is_logged_once_with_its_actor_and_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_dynamic_supervisor("scopes") as supervisor:
        await supervisor.start_child(once(Body), raiser(ValueError("seen"))).join()
    (record,) = caplog.records
    assert "/scopes/child-" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


async def test_a_crash_while_the_outside_is_cancelled_is_kept_and_the_cancellation_goes_on() -> (
    None
):
    reasons: list[ExitReason] = []

    async def body(ctx: Context) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("while it goes down")

    with trio.CancelScope() as outside:
        async with open_dynamic_supervisor(
            on_exit=lambda ref, actor, reason: reasons.append(reason)
        ) as supervisor:
            supervisor.start_child(once(Body), body)
            await trio.testing.wait_all_tasks_blocked()
            outside.cancel()
            await trio.sleep_forever()
    assert outside.cancelled_caught
    (reason,) = reasons
    assert isinstance(reason, Crash)
    assert isinstance(reason.error, ValueError)


async def test_a_stray_cancelled_is_a_crash_and_does_not_cancel_the_supervisor() -> None:
    kept: list[trio.Cancelled] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as error:
            kept.append(error)
            raise
    async with open_dynamic_supervisor(on_exit=lambda *_: None) as supervisor:
        sibling = supervisor.start_child(once(Body), forever)
        reason = await supervisor.start_child(once(Body), raiser(kept[0])).join()
        assert isinstance(reason, Crash)
        assert sibling.alive


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_the_end_of_the_program_passes_through(error: type[BaseException]) -> None:
    with pytest.raises(error):  # noqa: PT012 - the block is the situation
        async with open_dynamic_supervisor() as supervisor:
            supervisor.start_child(once(Body), raiser(error()))
            await trio.sleep_forever()


async def test_what_the_body_raises_leaves_the_supervisor_as_it_is() -> None:
    with pytest.raises(OSError, match="mine"):  # noqa: PT012 - the block is the situation
        async with open_dynamic_supervisor() as supervisor:
            supervisor.start_child(once(Body), forever)
            raise OSError("mine")


async def test_i20_a_constructor_that_fails_raises_to_the_caller_and_leaves_no_child() -> None:
    def factory() -> Actor[Any]:
        raise ValueError("cannot be made")

    async with open_dynamic_supervisor() as supervisor:
        with pytest.raises(ValueError, match="cannot be made"):
            supervisor.start_child(once(factory))
        assert len(supervisor) == 0


async def test_i20_a_failing_start_ends_the_actor_and_tells_who_waits() -> None:
    class Failing(Actor[Any]):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            raise OSError("no database")

        async def stopped(self, reason: ExitReason) -> None:
            raise AssertionError("stopped without started")

    async with open_dynamic_supervisor(on_exit=lambda *_: None) as supervisor:
        ref = supervisor.start_child(once(Failing))
        assert ref.tell("early") is Delivery.ACCEPTED
        assert not await ref.wait_started()
        assert isinstance(await ref.join(), InitFailed)
        assert ref.tell("late") is Delivery.DEAD
        letters = [(letter.message, letter.loss) for letter in supervisor.dead_letters.recent]
    assert letters == [("early", Loss.LEFT_OVER), ("late", Loss.DEAD)]


async def test_a_start_that_takes_too_long_fails(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Slow(Actor[Any]):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            await trio.sleep(60)

    async with open_dynamic_supervisor(on_exit=lambda *_: None) as supervisor:
        reason = await supervisor.start_child(once(Slow, start_timeout=3)).join()
    assert trio.current_time() == 3
    assert isinstance(reason, InitFailed)
    assert isinstance(reason.error, StartTimeout)


async def test_a_child_runs_in_a_copy_of_the_supervisors_context_not_the_callers() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")
    seen: list[str] = []

    async def body(ctx: Context) -> None:
        seen.append(variable.get())
        variable.set("child's")

    variable.set("supervisor's")
    async with open_dynamic_supervisor() as supervisor:
        variable.set("caller's")
        for _ in range(2):
            await supervisor.start_child(once(Body), body).join()
    assert seen == ["supervisor's", "supervisor's"]


# Messages.


async def test_i4_messages_are_handled_in_order_and_one_at_a_time() -> None:
    log: list[Any] = []

    async def pause() -> None:
        await trio.lowlevel.checkpoint()
        log.append("paused")

    async with open_actor_system(
        "system", root=[ChildSpec("one", lambda: Recorder(log))]
    ) as system:
        (ref,) = system.children
        for message in (1, pause, 2):
            assert ref.tell(message) is Delivery.ACCEPTED
        await trio.testing.wait_all_tasks_blocked()
    assert log == [
        ("started", None), 1, pause, "paused", 2, ("stopped", Shutdown),
    ]  # fmt: skip


async def test_a_message_may_be_none_and_knows_its_sender() -> None:
    seen: list[Any] = []

    class Curious(Actor[Any]):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            self.ctx = ctx

        async def receive(self, message: Any) -> None:
            seen.append((message, self.ctx.sender))

    async with open_dynamic_supervisor() as supervisor:
        sender = supervisor.start_child(once(Body), forever)
        ref = supervisor.start_child(once(Curious))
        ref.tell(None)
        ref.tell(None, sender=sender)
        await trio.testing.wait_all_tasks_blocked()
    assert seen == [(None, None), (None, sender)]


crashing = st.lists(st.sampled_from(["fine", "crash"]), max_size=8)


@given(crashing, st.sampled_from(InFlight), st.integers(0, 8))
@settings(deadline=None)
def test_i1_i2_i3_messages_keep_order_over_restarts_and_none_is_handled_too_often(
    script: list[str], in_flight: InFlight, handled_before_stop: int
) -> None:
    tries: list[int] = []
    finished: list[int] = []

    class Fragile(Actor[Any]):
        async def receive(self, message: int) -> None:
            tries.append(message)
            await trio.lowlevel.checkpoint()
            if script[message] == "crash":
                raise OSError(message)
            finished.append(message)

    async def main() -> list[tuple[int, Loss]]:
        spec = ChildSpec("fragile", Fragile, in_flight=in_flight)
        async with open_actor_system("system", root=[spec], intensity=100) as system:
            (ref,) = system.children
            for number in range(len(script)):
                assert ref.tell(number) is Delivery.ACCEPTED
            while len(finished) < min(handled_before_stop, script.count("fine")):
                await trio.lowlevel.checkpoint()
            ref.stop()
            await ref.join()
            return [(letter.message, letter.loss) for letter in system.dead_letters.recent]

    logging.disable(logging.CRITICAL)
    try:
        lost = trio.run(main)
    finally:
        logging.disable(logging.NOTSET)
    assert sorted([*finished, *(message for message, _ in lost)]) == [*range(len(script))]
    assert finished == sorted(finished)
    assert tries == sorted(tries)
    most = 2 if in_flight is InFlight.REDELIVER else 1
    assert all(tries.count(number) <= most for number in range(len(script)))
    for message, loss in lost:
        if loss is Loss.CRASHED:
            assert script[message] == "crash"
            assert tries.count(message) == most or message == tries[-1]


async def test_i7_a_full_mailbox_never_raises_into_a_sender_and_the_loss_is_a_dead_letter() -> None:
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(lambda: Recorder([]), mailbox=Lane(capacity=1)))
        assert ref.tell(1) is Delivery.ACCEPTED
        assert ref.tell(2, sender=ref) is Delivery.REJECTED
        (letter,) = supervisor.dead_letters.recent
    assert (letter.message, letter.target, letter.sender) == (2, ref, ref)
    assert letter.loss is Loss.REJECTED


async def test_send_waits_for_room() -> None:
    log: list[Any] = []
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(lambda: Recorder(log), mailbox=Lane(capacity=1)))
        for number in range(5):
            assert await ref.send(number) is Delivery.ACCEPTED
        await trio.testing.wait_all_tasks_blocked()
        assert log[1:] == [0, 1, 2, 3, 4]


async def test_an_actor_may_tell_itself() -> None:
    counts: list[int] = []

    class Counter(Actor[int]):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            self.ctx = ctx

        async def receive(self, message: int) -> None:
            counts.append(message)
            if message:
                self.ctx.self.tell(message - 1)

    async with open_dynamic_supervisor() as supervisor:
        supervisor.start_child(once(Counter)).tell(3)
        await trio.testing.wait_all_tasks_blocked()
    assert counts == [3, 2, 1, 0]


async def test_an_actor_too_slow_for_a_closing_lane_ends_with_overload() -> None:
    async with open_dynamic_supervisor() as supervisor:
        spec = once(lambda: Recorder([]), mailbox=Lane(capacity=1, overflow=Overflow.CLOSE))
        ref = supervisor.start_child(spec)
        await ref.wait_started()
        assert [ref.tell(1), ref.tell(2)] == [Delivery.ACCEPTED, Delivery.CLOSED]
        assert await ref.join() == Overload()
        losses = [letter.loss for letter in supervisor.dead_letters.recent]
    assert losses == [Loss.OVERLOAD, Loss.LEFT_OVER]


async def test_an_overloaded_actor_that_is_restarted_starts_with_an_empty_mailbox() -> None:
    log: list[Any] = []
    spec = ChildSpec(
        "slow", lambda: Recorder(log), mailbox=Lane(capacity=1, overflow=Overflow.CLOSE)
    )
    async with open_actor_system("system", root=[spec]) as system:
        (ref,) = system.children
        ref.tell("lost")
        ref.tell("too much")
        await trio.testing.wait_all_tasks_blocked()
        ref.tell("handled")
        await trio.testing.wait_all_tasks_blocked()
        assert ref.alive
    assert log == [
        ("started", None), ("stopped", Overload), ("started", Overload), "handled",
        ("stopped", Shutdown),
    ]  # fmt: skip


async def test_a_crash_after_an_overload_leaves_no_stop_for_the_next_incarnation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fail = trio.Event()

    class Failing(Actor[Any]):
        async def receive(self, message: Any) -> None:
            await fail.wait()
            raise OSError

    lane = Lane(capacity=1, overflow=Overflow.CLOSE)
    spec = ChildSpec("slow", Failing, restart=Restart.TRANSIENT, mailbox=lane)
    async with open_actor_system("system", root=[spec]) as system:
        (ref,) = system.children
        ref.tell("handled")
        await trio.testing.wait_all_tasks_blocked()
        ref.tell("waiting")
        assert ref.tell("too much") is Delivery.CLOSED
        fail.set()
        await trio.testing.wait_all_tasks_blocked()
        assert ref.alive


async def test_a_stop_goes_before_a_message_that_waits_to_be_handled_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handled: list[str] = []

    class Fragile(Actor[str]):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            if cause is not None:
                ctx.self.stop()

        async def receive(self, message: str) -> None:
            handled.append(message)
            raise OSError

    spec = ChildSpec("fragile", Fragile, in_flight=InFlight.REDELIVER)
    async with open_actor_system("system", root=[spec]) as system:
        (ref,) = system.children
        ref.tell("once")
        await ref.join()
        (letter,) = system.dead_letters.recent
    assert handled == ["once"]
    assert (letter.message, letter.loss) == ("once", Loss.LEFT_OVER)


async def test_resume_loses_the_message_and_keeps_the_actor(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log: list[Any] = []
    spec = once(lambda: Recorder(log), on_failure=lambda error: Directive.RESUME)
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(spec)
        error = ValueError("skip me")
        ref.tell(error)
        ref.tell("next")
        await trio.testing.wait_all_tasks_blocked()
        assert ref.alive
        (letter,) = supervisor.dead_letters.recent
    assert letter.loss is Loss.CRASHED
    assert log[:3] == [("started", None), error, "next"]


# The end.


async def test_stop_lets_the_handler_finish_and_goes_before_waiting_messages() -> None:
    log: list[Any] = []
    finish = trio.Event()
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(lambda: Recorder(log)))
        ref.tell(finish.wait)
        ref.tell("waiting")
        await trio.testing.wait_all_tasks_blocked()
        ref.stop("test")
        await trio.testing.wait_all_tasks_blocked()
        assert ref.alive
        finish.set()
        assert await ref.join() == Shutdown("test")
        (letter,) = supervisor.dead_letters.recent
    assert (letter.message, letter.loss) == ("waiting", Loss.LEFT_OVER)
    assert log[-1] == ("stopped", Shutdown)


async def test_i26_a_handler_that_does_not_finish_is_cancelled_after_its_grace(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[Any] = []
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(lambda: Recorder(log), shutdown=7))
        ref.tell(trio.sleep_forever)
        await trio.testing.wait_all_tasks_blocked()
        ref.stop()
        assert await ref.join() == DeadlineExceeded()
        (letter,) = supervisor.dead_letters.recent
    assert trio.current_time() == 7
    assert letter.loss is Loss.CANCELLED
    assert log[-1] == ("stopped", DeadlineExceeded)


async def test_kill_cancels_at_once_and_still_cleans_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Slow(Actor[Any]):
        async def run(self, ctx: Context) -> None:
            await trio.sleep_forever()

        async def stopped(self, reason: ExitReason) -> None:
            await trio.sleep(60)

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Slow, cleanup_timeout=2))
        await ref.wait_started()
        ref.kill("test")
        assert await ref.join() == Killed("test")
    assert trio.current_time() == 2


async def test_a_body_is_cancelled_by_a_stop_unless_it_says_that_it_ends_by_itself(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Polite(Body):
        def stopping(self, ctx: Context, reason: ExitReason) -> bool:
            assert ctx.stop_requested
            leave.set()
            return True

    leave = trio.Event()

    async def body(ctx: Context) -> None:
        await leave.wait()
        await trio.sleep(2)

    async with open_dynamic_supervisor() as supervisor:
        rude = supervisor.start_child(once(Body), forever)
        polite = supervisor.start_child(once(Polite), body)
        await polite.wait_started()
        rude.stop()
        polite.stop()
        assert await rude.join() == Shutdown()
        assert trio.current_time() == 0
        assert await polite.join() == Shutdown()
    assert trio.current_time() == 2


async def test_references_to_one_actor_are_equal_and_to_two_are_not() -> None:
    refs: list[ActorRef[Any]] = []

    async def body(ctx: Context) -> None:
        refs.append(ctx.self)

    async with open_dynamic_supervisor() as supervisor:
        made = [supervisor.start_child(once(Body), body) for _ in range(2)]
        await trio.testing.wait_all_tasks_blocked()
    assert {*made} == {*refs}
    assert made[0] != made[1]
    assert made[0] != "child"


async def test_an_ended_actor_leaves_no_cycle_behind() -> None:
    def cells() -> int:
        return sum(isinstance(each, Cell) for each in gc.get_objects())

    async def nothing(ctx: Context) -> None:
        pass

    async with open_dynamic_supervisor() as supervisor:
        gc.collect()
        before = cells()
        gc.disable()
        try:
            for _ in range(20):
                supervisor.start_child(once(Body), nothing)
            await trio.testing.wait_all_tasks_blocked()
            assert cells() == before
        finally:
            gc.enable()


async def test_a_restart_leaves_no_cycle_of_the_crash_before_the_last(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "greenroom.actors")  # a captured record keeps its crash

    def crashes() -> int:
        return sum(isinstance(each, ZeroDivisionError) for each in gc.get_objects())

    starts = 0

    async def fail_often(ctx: Context) -> None:
        nonlocal starts
        starts += 1
        if starts < 20:
            raise ZeroDivisionError
        await trio.sleep_forever()

    spec = ChildSpec("child", lambda: Body(fail_often), Restart.PERMANENT)
    supervisor = DynamicSupervisor(intensity=20, on_exit=lambda *_: None)
    async with open_actor_system(
        "system", root=[ChildSpec("children", lambda: supervisor)]
    ) as system:
        gc.collect()
        gc.disable()
        try:
            supervisor.start_child(spec)
            await trio.testing.wait_all_tasks_blocked()
            assert starts == 20
            assert crashes() <= 1  # the cause that the last incarnation was told
        finally:
            gc.enable()
        system.stop()


async def test_an_actor_killed_before_its_first_step_never_runs() -> None:
    async def body(ctx: Context) -> None:
        raise AssertionError("it ran")

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Body), body)
        ref.kill()
        assert await ref.join() == Killed()


async def test_a_failure_while_cleaning_up_is_a_crash_but_hides_no_earlier_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Clumsy(Body):
        async def stopped(self, reason: ExitReason) -> None:
            raise OSError("while cleaning up")

    async def nothing(ctx: Context) -> None:
        pass

    async with open_dynamic_supervisor(on_exit=lambda *_: None) as supervisor:
        late = await supervisor.start_child(once(Clumsy), nothing).join()
        early = await supervisor.start_child(once(Clumsy), raiser(ValueError())).join()
    assert isinstance(late, Crash)
    assert isinstance(late.error, OSError)
    assert isinstance(early, Crash)
    assert isinstance(early.error, ValueError)


async def test_stop_all_gives_the_stuck_back_and_logs_where_they_hang(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    release = trio.Event()

    async def hang_in_here(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            await release.wait()

    async with open_dynamic_supervisor() as supervisor:
        stuck = supervisor.start_child(once(Body), hang_in_here)
        supervisor.start_child(once(Body), forever)
        await stuck.wait_started()
        assert await supervisor.stop_all(trio.current_time() + 5) == [stuck]
        assert "hang_in_here" in caplog.text
        release.set()
        await stuck.join()


async def test_a_task_of_the_actors_nursery_ends_with_it_and_crashes_it_when_it_fails() -> None:
    ended: list[str] = []

    async def beside(what: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(what)

    async def body(ctx: Context) -> None:
        ctx.nursery.start_soon(beside, "first")
        await trio.testing.wait_all_tasks_blocked()
        ctx.nursery.start_soon(beside, "second")
        await trio.testing.wait_all_tasks_blocked()

    error = OSError("beside")

    async def failing(ctx: Context) -> None:
        ctx.nursery.start_soon(raiser(error), ctx)
        await trio.sleep_forever()

    async with open_dynamic_supervisor(on_exit=lambda *_: None) as supervisor:
        assert await supervisor.start_child(once(Body), body).join() == Normal()
        assert sorted(ended) == ["first", "second"]
        reason = await supervisor.start_child(once(Body), failing).join()
    assert isinstance(reason, Crash)
    assert reason.error is error


async def test_tasks_of_an_actor_have_ended_before_it_cleans_up_also_when_cancelled() -> None:
    log: list[str] = []

    async def careful() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
            log.append("task ended")

    class Parent(Actor[Any]):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            ctx.nursery.start_soon(careful)

        async def stopped(self, reason: ExitReason) -> None:
            log.append("stopped")

    with trio.CancelScope() as outside:
        async with open_dynamic_supervisor() as supervisor:
            supervisor.start_child(once(Parent))
            await trio.testing.wait_all_tasks_blocked()
            outside.cancel()
    assert log == ["task ended", "stopped"]


async def test_children_of_an_actor_end_with_its_incarnation_before_it_cleans_up() -> None:
    log: list[Any] = []
    child = ChildSpec("child", lambda: Recorder(log))

    class Parent(Actor[Any]):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            ref = ctx.spawn(child)
            assert ref.tell("hello") is Delivery.ACCEPTED
            paths.append(ref.path)

        async def receive(self, message: Exception) -> None:
            raise message

        async def stopped(self, reason: ExitReason) -> None:
            log.append("parent stopped")

    paths: list[str] = []
    async with open_actor_system("system", root=[ChildSpec("parent", Parent)]) as system:
        (ref,) = system.children
        await trio.testing.wait_all_tasks_blocked()
        ref.tell(OSError())
        await trio.testing.wait_all_tasks_blocked()
        assert ref.alive
    life = [("started", None), "hello", ("stopped", Shutdown), "parent stopped"]
    assert log == life * 2
    assert all(path.startswith("/system/parent/children/child-") for path in paths)


async def test_an_actor_crashes_when_its_children_need_too_many_restarts() -> None:
    error = OSError("again")

    async def parent(ctx: Context) -> None:
        ctx.spawn(ChildSpec("child", lambda: Body(raiser(error))))
        await trio.sleep_forever()

    async with open_dynamic_supervisor(on_exit=lambda *_: None) as supervisor:
        reason = await supervisor.start_child(once(Body), parent).join()
    assert isinstance(reason, Crash)
    assert isinstance(reason.error, RestartsExhausted)
    assert reason.error.__cause__ is error


async def test_a_killed_actors_children_are_killed() -> None:
    reasons: list[ExitReason] = []

    async def parent(ctx: Context) -> None:
        child = ctx.spawn(ChildSpec("child", lambda: Recorder([])))
        child.tell(trio.sleep_forever)
        refs.append(child)
        await trio.sleep_forever()

    refs: list[ActorRef[Any]] = []
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Body), parent)
        await trio.testing.wait_all_tasks_blocked()
        ref.kill()
        assert await ref.join() == Killed()
        assert not refs[0].alive
        reasons.append(await refs[0].join())
    assert isinstance(reasons[0], Shutdown)


@given(st.integers(0, 12), st.sampled_from(["stop", "kill", "outside"]))
@settings(deadline=None)
def test_i25_i27_i29_cancelled_at_any_step_started_and_stopped_match_and_nothing_is_left(
    steps: int, how: str
) -> None:
    log: list[str] = []

    class Careful(Actor[Any]):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            log.append("started")

        async def receive(self, message: int) -> None:
            await trio.lowlevel.checkpoint()
            log.append("handled")

        async def stopped(self, reason: ExitReason) -> None:
            await trio.lowlevel.checkpoint()
            log.append("stopped")

    async def main() -> DynamicSupervisor:
        before = trio.lowlevel.current_statistics().tasks_living
        with trio.CancelScope() as outside:
            async with open_dynamic_supervisor() as supervisor:
                ref = supervisor.start_child(once(Careful))
                accepted = sum(ref.tell(number).accepted for number in range(3))
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                {"stop": ref.stop, "kill": ref.kill, "outside": outside.cancel}[how]()
        assert not ref.alive
        assert accepted == log.count("handled") + supervisor.dead_letters.count
        assert trio.lowlevel.current_statistics().tasks_living == before
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == float("inf")
        return supervisor

    trio.run(main)
    assert log.count("started") == log.count("stopped")


async def test_an_actor_that_waits_does_not_keep_the_last_message_and_reply_alive() -> None:
    class Message:
        """Can be referred to weakly."""

    class Mirror(Actor[Message]):
        async def receive(self, message: Message) -> Message:
            return message

    async with open_dynamic_supervisor() as supervisor:
        mirror = supervisor.start_child(once(Mirror))
        message: Message | None = Message()
        reply = await mirror.ask(message)
        gone = weakref.ref(reply)
        message = reply = None
        await trio.testing.wait_all_tasks_blocked()
        assert gone() is None
