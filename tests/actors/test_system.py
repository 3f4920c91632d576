"""How a system begins, and what leaves it when it fails."""

from typing import Any

import pytest
import trio

from greenroom.actors import (
    Actor,
    ChildSpec,
    Context,
    ExitReason,
    RestartsExhausted,
    open_actor_system,
)


class Fragile(Actor[Any]):
    async def receive(self, message: Any) -> None:
        raise OSError


fragile = ChildSpec("fragile", Fragile)


async def test_the_body_does_not_begin_where_the_actors_of_the_root_cannot_start(
    quiet: None,
) -> None:
    class Unready(Fragile):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            raise OSError

    began = False
    with pytest.raises(RestartsExhausted):
        async with open_actor_system("system", root=[ChildSpec("unready", Unready)]):
            began = True
    assert not began


async def test_a_system_that_an_actor_ends_before_it_has_begun_says_so(quiet: None) -> None:
    class Rebel(Fragile):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            assert ctx.parent is not None
            ctx.parent.kill()

    with pytest.raises(RuntimeError, match="an actor of system system has ended it at once"):
        async with open_actor_system("system", root=[ChildSpec("rebel", Rebel)]):
            pass


async def test_a_crash_of_the_root_is_not_lost_when_the_body_fails_too(quiet: None) -> None:
    error = ValueError()
    with pytest.raises(ExceptionGroup) as failure:  # noqa: PT012 - the block is the situation
        async with open_actor_system("system", root=[fragile], intensity=0) as system:
            next(iter(system.children)).tell(None)
            try:
                await trio.sleep_forever()
            finally:
                raise error
    exhausted, other = failure.value.exceptions
    assert isinstance(exhausted, RestartsExhausted)
    assert other is error


async def test_a_crash_of_the_root_is_not_lost_when_the_program_is_cancelled_too(
    quiet: None,
) -> None:
    with pytest.raises(ExceptionGroup) as failure, trio.CancelScope() as program:  # noqa: PT012
        async with open_actor_system("system", root=[fragile], intensity=0) as system:
            next(iter(system.children)).tell(None)
            try:
                await trio.sleep_forever()
            finally:
                program.cancel()
    assert isinstance(failure.value.exceptions[0], RestartsExhausted)
