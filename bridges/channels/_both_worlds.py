"""Tasks and time for code that runs in trio as well as on any asyncio loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import Any, Protocol, TypeAlias

import trio

from ...runtime.layers import Waiter

Cancel: TypeAlias = Callable[[], object]


class Start(Protocol):
    """Start `fn(*args)` as a task, and give what cancels it."""

    def __call__(self, fn: Callable[..., Awaitable[None]], *args: Any) -> Cancel: ...


@asynccontextmanager
async def open_tasks() -> AsyncIterator[Start]:
    """Give a function that starts tasks; the block ends when they all have.

    As a trio nursery or an asyncio TaskGroup, whichever world this is. One of them may be
    cancelled without the others.
    """
    if trio.lowlevel.in_trio_task():
        async with trio.open_nursery() as nursery:

            def start_in_trio(fn: Callable[..., Awaitable[None]], *args: Any) -> Cancel:
                scope = trio.CancelScope()

                async def run() -> None:
                    with scope:
                        await fn(*args)

                nursery.start_soon(run, name=fn)
                return scope.cancel

            yield start_in_trio
    else:
        async with asyncio.TaskGroup() as group:

            def start_in_asyncio(fn: Callable[..., Awaitable[None]], *args: Any) -> Cancel:
                async def run() -> None:
                    await fn(*args)

                return group.create_task(run()).cancel

            yield start_in_asyncio


def current_time() -> float:
    """Give the time in seconds, on the clock of the program that runs here."""
    if trio.lowlevel.in_trio_run():
        return trio.current_time()
    return asyncio.get_running_loop().time()


async def sleep(seconds: float) -> None:
    """Wait for so many seconds."""
    await (trio if trio.lowlevel.in_trio_task() else asyncio).sleep(seconds)


async def wait_until(waiter: Waiter, when: float) -> None:
    """Wait until `waiter` is woken, or until the time `when`, if it is not infinity."""
    if trio.lowlevel.in_trio_task():
        with trio.CancelScope(deadline=when):
            await waiter.wait()
        return
    try:
        async with asyncio.timeout_at(None if when == inf else when):
            await waiter.wait()
    except TimeoutError:
        return


def is_cancelled() -> bool:
    """Tell, after an `asyncio.CancelledError`, whether it is this task that was cancelled.

    If not, the code that was awaited has raised it by itself.
    """
    if trio.lowlevel.in_trio_task():
        return False
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
