"""What the properties of this folder have found, and what has gone wrong elsewhere, one by one."""

from typing import Any

import trio
import trio.testing

from greenroom.actors import (
    Actor,
    ActorRef,
    ChildSpec,
    Context,
    DynamicSupervisor,
    ExitReason,
    InitFailed,
    Restart,
    Shutdown,
    open_actor_system,
)


class Idle(Actor[Any]):
    async def receive(self, message: Any) -> None: ...


idle = ChildSpec("idle", Idle)


async def test_i20_a_child_of_an_actor_that_fails_in_the_same_step_has_ended_too(
    quiet: None,
) -> None:
    children: list[ActorRef[Any]] = []

    class Hasty(Actor[Any]):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            children.append(ctx.spawn(idle))
            ctx.registry.register("child", children[0])
            raise OSError

    async with open_actor_system("system") as system:
        hasty = system.spawn(ChildSpec("hasty", Hasty, restart=Restart.TEMPORARY))
        assert isinstance(await hasty.join(), InitFailed)
        assert not children[0].alive
        assert isinstance(await children[0].join(), Shutdown)
        assert system.registry.names() == ()


async def test_i20_children_of_a_supervisor_that_is_killed_before_its_first_step_have_ended_too(
    quiet: None,
) -> None:
    keeper = DynamicSupervisor()
    async with open_actor_system("system") as system:
        ref = system.spawn(ChildSpec("keeper", lambda: keeper))
        child = keeper.start_child(idle)
        ref.kill()
        await ref.join()
        assert not child.alive


async def test_i20_children_of_a_supervisor_that_never_ran_have_ended_too() -> None:
    """The inner supervisor still waits for its turn when the outer one is stopped."""

    class Slow(Idle):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            await trio.sleep_forever()

    inner, outer = DynamicSupervisor(), DynamicSupervisor()
    child = inner.start_child(idle)
    outer.start_child(ChildSpec("slow", Slow))
    outer.start_child(ChildSpec("inner", lambda: inner))
    async with open_actor_system("system") as system:
        ref = system.spawn(ChildSpec("outer", lambda: outer))
        await trio.testing.wait_all_tasks_blocked()
        ref.kill()
        await ref.join()
        assert not child.alive
