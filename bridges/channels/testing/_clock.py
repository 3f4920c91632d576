"""Virtual time in tests, and what threads have to do with it.

trio's `MockClock` jumps to the next deadline as soon as every task waits. It knows nothing
of threads: while a sync handler asks the database, every task waits, and the clock would
jump over the timeout of whoever waits for the handler's answer. So while a leased thread
is at work, the clock is held.
"""

import contextvars
import functools
import inspect
import sys
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final, ParamSpec, TypeVar, final

import trio

from ...asyncio import open_hosted_loop
from ...django._shared_connections import lend_in_test
from ...threads import threads_at_work

P = ParamSpec("P")
T = TypeVar("T")

LOOK_EVERY: Final = 0.001  # real seconds between two looks at threads that are at work

_holder: Final[trio.lowlevel.RunVar["_Holder | None"]] = trio.lowlevel.RunVar(
    "greenroom_clock_holder", None
)


def virtual_time(fn: Callable[P, Awaitable[T]]) -> Callable[P, T]:
    """Run a test written for asyncio in virtual time, in which waiting takes no time.

    Where nothing else is left to do the clock jumps to the end of the next
    `asyncio.sleep`, or to the next timeout, whoever waits for it: test and applications
    share one loop, whose clock it is. The decorated function is a plain one, for pytest
    as for `unittest`, and runs in the thread that calls it:

    >>> import asyncio
    >>> @virtual_time
    ... async def test_a_day() -> str:
    ...     await asyncio.sleep(24 * 60 * 60)
    ...     return "over"
    >>> test_a_day()
    'over'

    The database connections of the test are shared with the threads that work for it, so that
    `acreate()` and `database_sync_to_async` in the test itself are in its transaction, too.

    In a test for trio, `autojump_clock` of pytest-trio does the same.

    Raises:
        TypeError: `fn` is no coroutine function.
    """
    if not inspect.iscoroutinefunction(fn):
        raise TypeError(f"virtual_time is for coroutine functions, and {fn!r} is none")

    @functools.wraps(fn)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        async def main() -> T:
            async with open_hosted_loop() as loop:
                hold_clock_for_threads()
                return await loop.run_asyncio(functools.partial(fn, *args, **kwargs))

        from trio.testing import MockClock

        with lend_in_test():
            return trio.run(main, clock=MockClock(autojump_threshold=0))

    return run


def hold_clock_for_threads() -> None:
    """In a trio run whose clock jumps: let it not jump while leased threads are at work."""
    testing = sys.modules.get("trio.testing")  # it imports pytest, which few programs have
    if testing is None:
        return
    clock = trio.lowlevel.current_clock()
    if (
        isinstance(clock, testing.MockClock)
        and clock.autojump_threshold < inf
        and _holder.get() is None
    ):
        holder = _Holder()
        _holder.set(holder)
        trio.lowlevel.add_instrument(holder)
        trio.lowlevel.spawn_system_task(holder.hold, context=contextvars.Context())


@final
class _Holder(trio.abc.Instrument):
    """A task that keeps trio's clock from jumping by waiting for idleness itself.

    Then trio lets it have its way first, as with `wait_all_tasks_blocked` of any test.
    """

    def __init__(self) -> None:
        self._parked: trio.lowlevel.Task | None = None

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 -- trio's signature
        # Whoever puts threads to work, a task or a hosted loop, has done so by now; and as
        # long as a task can run, the clock does not jump.
        if self._parked is not None and threads_at_work():
            task, self._parked = self._parked, None
            trio.lowlevel.reschedule(task)

    async def hold(self) -> None:
        from trio.testing import wait_all_tasks_blocked

        try:
            while True:
                await self._wait_for_work()
                while threads_at_work():
                    await wait_all_tasks_blocked(LOOK_EVERY)
        finally:
            trio.lowlevel.remove_instrument(self)

    async def _wait_for_work(self) -> None:
        def leave(_raise_cancel: object) -> trio.lowlevel.Abort:
            self._parked = None
            return trio.lowlevel.Abort.SUCCEEDED

        if not threads_at_work():
            self._parked = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(leave)
