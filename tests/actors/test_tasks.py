"""The nursery of one incarnation: how long tasks can be started in it, and who ends when."""

from typing import Any

import pytest
import trio
import trio.testing

from greenroom.actors import (
    Actor,
    ChildSpec,
    Context,
    Crash,
    ExitReason,
    Restart,
    Shutdown,
    SupervisorClosed,
    open_actor_system,
    open_dynamic_supervisor,
)
from greenroom.actors.testing import every_cancellation


def test_an_actor_that_starts_tasks_while_all_is_cancelled_does_not_crash() -> None:
    reasons: list[ExitReason] = []

    class Starter(Actor[str]):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            self.ctx = ctx

        async def receive(self, message: str) -> None:
            self.ctx.nursery.start_soon(trio.sleep, 1)
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            self.ctx.nursery.start_soon(trio.sleep, 1)

        async def stopped(self, reason: ExitReason) -> None:
            reasons.append(reason)

    async def scenario() -> None:
        async with open_actor_system("system", root=[ChildSpec("starter", Starter)]) as system:
            (ref,) = system.children
            for _ in range(3):
                await trio.lowlevel.checkpoint()
                ref.tell("start")
            await trio.sleep(5)

    for run in every_cancellation(scenario):
        assert run.tasks_left == ()
    assert {type(reason) for reason in reasons} == {Shutdown}


async def test_an_actor_hears_at_once_of_a_task_that_failed_and_not_after_all_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ends: list[float] = []

    class Owner(Actor[Any]):
        async def run(self, ctx: Context) -> None:
            ctx.nursery.start_soon(self.clean_up_for_long)
            ctx.nursery.start_soon(self.fail)
            try:
                await trio.sleep_forever()
            finally:
                ends.append(trio.current_time())

        async def clean_up_for_long(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(9)

        async def fail(self) -> None:
            await trio.sleep(1)
            raise OSError("gone")

    spec = ChildSpec("owner", Owner, restart=Restart.TEMPORARY)
    async with open_dynamic_supervisor(on_exit=lambda *_: None) as supervisor:
        start = trio.current_time()
        reason = await supervisor.start_child(spec).join()
    assert isinstance(reason, Crash)
    assert isinstance(reason.error, OSError)
    assert [end - start for end in ends] == [1]


async def test_no_task_is_started_when_the_incarnation_is_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    contexts: list[Context] = []

    class Owner(Actor[Any]):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            contexts.append(ctx)
            self.nursery = ctx.nursery

        async def stopped(self, reason: ExitReason) -> None:
            with pytest.raises(RuntimeError, match="incarnation is over"):
                self.nursery.start_soon(trio.sleep, 1)

    spec = ChildSpec("owner", Owner, restart=Restart.TEMPORARY)
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(spec)
        await ref.wait_started()
        ref.stop()
        assert await ref.join() == Shutdown()


def test_a_supervisor_that_is_cancelled_takes_no_more_children_and_says_so() -> None:
    outcomes: set[str] = set()

    async def scenario() -> None:
        async with open_dynamic_supervisor() as supervisor, trio.open_nursery() as nursery:
            spec = ChildSpec("child", Actor)
            nursery.start_soon(trio.sleep, 5)
            with trio.CancelScope(shield=True):
                for _ in range(9):
                    await trio.lowlevel.checkpoint()
                    try:
                        supervisor.start_child(spec).kill()
                        outcomes.add("started")
                    except SupervisorClosed:
                        outcomes.add("closed")

    for _ in every_cancellation(scenario):
        pass
    assert outcomes == {"started", "closed"}
