"""What asgiref leaves open: a leased thread that waits for a task which never begins."""

import asyncio
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from greenroom.bridges.threads import run_sync


class Unwilling(asyncio.Task[Any]):
    """A task of asgiref's that is cancelled before its first step."""

    def __init__(self, coro: Any, **options: Any) -> None:
        super().__init__(coro, **options)
        if coro.__name__ == "main_wrap":
            self.cancel()


def test_a_thread_hears_that_what_it_waits_for_was_cancelled_before_it_began() -> None:
    async def nothing() -> None: ...

    def work() -> str:
        with pytest.raises(asyncio.CancelledError):
            async_to_sync(nothing)()
        return "goes on"

    async def main() -> str:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **options: Unwilling(coro, loop=loop, **options))
        said: str = await run_sync(work)
        return said

    assert asyncio.run(main()) == "goes on"
