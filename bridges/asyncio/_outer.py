"""The loop of an asyncio program, for trio code that runs in it as a guest."""

import asyncio
import contextvars
from typing import Any, NoReturn, final
from weakref import WeakSet

import trio

from ._crossings import Crossings
from ._tasks import AnyTask


@final
class OuterLoop(Crossings):
    """An asyncio loop that turns a trio run; `current_hosted_loop` gives it to its trio code.

    What it does not have itself is the loop's.

    Args:
        loop: the loop.
        told: whether `give_up` is called when the trio run fails.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, told: bool = False) -> None:
        self._loop = loop
        self._is_told = told
        self._waiters: WeakSet[asyncio.Future[None]] = WeakSet()

    def __repr__(self) -> str:
        return f"<OuterLoop {self._loop!r}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop itself, as `asyncio.get_running_loop()` gives it."""
        return self._loop

    def create_task(self, coro: Any, *, context: contextvars.Context | None = None) -> AnyTask:
        """Start a task of the loop."""
        task: AnyTask = self._loop.create_task(coro, context=context)
        return task

    def create_future(self) -> "asyncio.Future[Any]":
        """Make a future of the loop."""
        return self._loop.create_future()

    def _create_waiter(self) -> "asyncio.Future[None]":
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.add(waiter)
        return waiter

    async def _learn_of_end(self) -> NoReturn:
        if self._is_told:
            await self._create_waiter()
        raise asyncio.CancelledError

    def give_up(self, error: BaseException) -> None:
        """Let fail who waits for trio tasks: `error` has ended their run, and them with it."""
        for waiter in list(self._waiters):
            if not waiter.done():
                failure = trio.RunFinishedError("the trio run of this asyncio loop has failed")
                failure.__cause__ = error
                waiter.set_exception(failure)
