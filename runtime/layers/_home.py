"""The thread and the loop that a waiting task belongs to, and a wait that any thread can end.

A channel layer is called from trio tasks, from asyncio tasks on any loop, and from threads
that have neither. Whoever waits for a message says where it lives; the sender wakes it
there.
"""

import asyncio
from collections.abc import Callable
from threading import get_ident
from typing import Any, Protocol, final

import trio


class Home(Protocol):
    """Where callbacks for one task run: a thread, and a way in from the others."""

    thread: int

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        """Call `fn(*args)` there soon; do nothing if that run has ended."""


@final
class TrioHome:
    """A run of trio."""

    def __init__(self) -> None:
        self.thread = get_ident()
        self._token = trio.lowlevel.current_trio_token()

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        """Call `fn(*args)` in the run's thread soon; do nothing if it has ended."""
        try:
            self._token.run_sync_soon(fn, *args)
        except trio.RunFinishedError:
            return


@final
class LoopHome:
    """A running asyncio loop."""

    def __init__(self) -> None:
        self.thread = get_ident()
        self._loop = asyncio.get_running_loop()

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        """Call `fn(*args)` in the loop's thread soon; do nothing if it is closed."""
        try:
            self._loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:
            if not self._loop.is_closed():
                raise


def current_home() -> Home:
    """Tell where the calling task lives.

    Raises:
        RuntimeError: neither trio nor an asyncio loop runs here.
    """
    # trio first: a trio run inside asyncio's thread shows its tasks a running loop.
    return TrioHome() if trio.lowlevel.in_trio_task() else LoopHome()


@final
class Waiter:
    """One wait of one task, in trio or in asyncio.

    `wake` may be called from any thread, before the wait or during it, and more than once.
    """

    def __init__(self) -> None:
        self._home = current_home()
        self._woken = False
        self._resume: Callable[[], object] | None = None

    def wake(self) -> None:
        """End the wait."""
        if get_ident() == self._home.thread:
            self._wake_here()
        else:
            self._home.call_soon(self._wake_here)

    def _wake_here(self) -> None:
        self._woken = True
        resume, self._resume = self._resume, None
        if resume is not None:
            resume()

    async def wait(self) -> None:
        """Wait until `wake` has been called."""
        if self._woken:
            return
        try:
            if isinstance(self._home, TrioHome):
                await self._wait_in_trio()
            else:
                await self._wait_in_asyncio()
        finally:
            self._resume = None

    async def _wait_in_trio(self) -> None:
        task = trio.lowlevel.current_task()
        self._resume = lambda: trio.lowlevel.reschedule(task)

        def give_up(_raise_cancel: Callable[[], object]) -> trio.lowlevel.Abort:
            self._resume = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(give_up)

    async def _wait_in_asyncio(self) -> None:
        future = asyncio.get_running_loop().create_future()

        def resume() -> None:
            if not future.done():  # cancelled in this same step of the loop
                future.set_result(None)

        self._resume = resume
        await future
