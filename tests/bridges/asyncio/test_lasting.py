"""A loop hosted in somebody else's trio program, which must not end before it."""

import asyncio
from typing import Any

import pytest
import trio

from greenroom.bridges.asyncio import call_app, current_hosted_loop
from greenroom.bridges.asyncio._lasting import lasting_hosted_loop, open_unending_loop


async def never(*_args: Any) -> Any:
    raise AssertionError


def leave(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exit_is_raised_where_trio_code_awaits_it_and_the_loop_goes_on(
    kind: type[BaseException],
) -> None:
    error = kind("mine")
    loops = []

    async def fail() -> None:
        loops.append(asyncio.get_running_loop())
        raise error

    async def main() -> None:
        loop = await lasting_hosted_loop()
        for _ in range(3):
            with pytest.raises(kind) as failure:
                await loop.run_asyncio(fail)
            assert failure.value is error
            for _ in range(10):
                await trio.lowlevel.checkpoint()
        await loop.run_asyncio(fail)

    with pytest.raises(kind) as failure:
        trio.run(main)
    assert failure.value is error
    assert len(set(loops)) == 1


def test_an_interrupted_application_ends_the_program_as_any_other_code_would() -> None:
    error = KeyboardInterrupt("mine")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    async def main() -> None:
        await call_app(app, {"type": "x"}, never, never)

    with pytest.raises(KeyboardInterrupt) as failure:
        trio.run(main)
    assert failure.value is error


def test_an_exit_that_nobody_awaits_ends_the_program() -> None:
    error = KeyboardInterrupt("mine")

    async def main() -> None:
        (await lasting_hosted_loop()).call_soon(leave, error)
        await trio.sleep_forever()

    with pytest.raises(trio.TrioInternalError) as failure:
        trio.run(main)
    cause = failure.value.__cause__
    while isinstance(cause, BaseExceptionGroup):
        (cause,) = cause.exceptions
    assert cause is error


async def test_who_keeps_a_loop_open_is_told_of_exits_and_another_keeps_to_its_own() -> None:
    told: list[BaseException] = []
    errors = [KeyboardInterrupt(), SystemExit()]
    async with open_unending_loop(told.append) as loop, open_unending_loop(leave) as same:
        assert same is loop is current_hosted_loop()
        for error in errors:
            loop.call_soon(leave, error)
            await loop.run_asyncio(asyncio.sleep, 0)
    assert told == errors
    assert current_hosted_loop() is None
