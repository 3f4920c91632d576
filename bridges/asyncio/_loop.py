"""A stock asyncio loop inside a trio program, in the same thread.

trio waits: for the loop's next timer, and for the loop's selector (an epoll descriptor
is itself pollable). Whenever the loop has something to do it is turned a few times,
between trio's I/O and trio's tasks. So asyncio code runs unchanged, calls across cost
no thread, and neither side can starve the other.

The loop is turned from a `trio.abc.Instrument`, which trio calls while no trio task is
current. Therefore `trio.lowlevel.in_trio_task()` is False in asyncio code, and a trio
function awaited there fails with trio's own clear error.

                 trio's tick:  I/O ──> after_io_wait ──> tasks ──> I/O ...
                                            │
    HostedLoop.run_forever(), at most TURNS turns ── future.set_result(), reschedule(task)
"""

import asyncio
import contextvars
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVarTuple, final

import sniffio
import trio

from ._crossings import Crossings
from ._doorbell import current_ring
from ._outer import OuterLoop
from ._selector import BurstSelector
from ._tasks import AnyTask, end_tasks, register_task

Args = TypeVarTuple("Args")

_hosted: Final[trio.lowlevel.RunVar["HostedLoop | OuterLoop | None"]] = trio.lowlevel.RunVar(
    "greenroom_hosted_loop", None
)


def current_hosted_loop() -> "HostedLoop | OuterLoop | None":
    """Give the loop that is hosted in this thread's trio program, None if there is none.

    In trio code that runs inside an asyncio loop (guest mode) it is that loop, in whose own
    code it is None.
    """
    if not trio.lowlevel.in_trio_run():
        return None
    hosted, running = _hosted.get(), asyncio._get_running_loop()
    if running is None or isinstance(running, HostedLoop):
        return hosted
    if not trio.lowlevel.in_trio_task():
        return None
    if hosted is None:  # a guest run that somebody else has started
        hosted = OuterLoop(running)
        _hosted.set(hosted)
    return hosted


def set_outer_loop(outer: OuterLoop) -> None:
    """Note the loop in which this thread's trio run is a guest."""
    _hosted.set(outer)


@final
class HostedLoop(asyncio.SelectorEventLoop, Crossings):
    """An asyncio loop that a trio program turns; made by `open_hosted_loop`.

    Its clock is trio's, so `asyncio.sleep` obeys a mock clock, and other threads see it
    as running for as long as it is open.
    """

    def __init__(self) -> None:
        self._burst = BurstSelector()
        self._now = trio.lowlevel.current_clock().current_time
        self._ring = current_ring()
        self._home = threading.get_ident()
        self._dirty = False  # callbacks may be ready
        self._next_timer = math.inf
        self._asleep = False  # trio may sleep, until somebody calls `_wake`
        self._parked: trio.lowlevel.Task | None = None
        self._nap = trio.CancelScope()
        self._over = False  # nothing may start any more
        self._retired = False
        self.escaped: BaseException | None = None  # what ends the block, and is raised from it
        self._on_escape: Callable[[BaseException], object] = lambda _error: None
        super().__init__(self._burst)
        self._burst.on_idle = self._turned_idle
        self._burst.on_tired = self.stop

    # -- what asyncio code and other threads see

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """This loop, as `asyncio.get_running_loop()` gives it."""
        return self

    def time(self) -> float:
        """Give trio's time, in seconds."""
        return self._now()

    def is_running(self) -> bool:
        """Tell whether asyncio code runs now; to another thread: whether it can."""
        if threading.get_ident() != self._home:
            return not self.is_closed()
        return super().is_running()

    def call_soon(
        self,
        callback: Callable[[*Args], object],
        *args: *Args,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """As asyncio's; called from trio code it wakes the loop."""
        handle = super().call_soon(callback, *args, context=context)
        self._dirty = True
        if self._asleep:
            self._wake()
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[*Args], object],
        *args: *Args,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """As asyncio's; called from trio code it makes trio wake up in time."""
        timer = super().call_at(when, callback, *args, context=context)
        if when < self._next_timer:
            self._next_timer = when
            if self._asleep:
                self._nap.deadline = when
        return timer

    def create_task(
        self, coro: Any, *, context: contextvars.Context | None = None, **kwargs: Any
    ) -> AnyTask:
        """As asyncio's; the task belongs to the scope in whose code it is created."""
        if self._over and (self.is_closed() or not self._retired):
            coro.close()
            raise RuntimeError("the block of this hosted loop has ended")
        task: AnyTask = super().create_task(coro, context=context, **kwargs)
        register_task(task, context)
        return task

    def _write_to_self(self) -> None:
        # asyncio's hook to interrupt the selector from another thread. The doorbell costs
        # less than a byte through asyncio's socket pair, which stays in place.
        if self._retired:
            super()._write_to_self()  # type: ignore[misc]
            return
        try:
            self._ring(self._wake_up)
        except trio.RunFinishedError:
            super()._write_to_self()  # type: ignore[misc]

    def _wake_up(self) -> None:
        self._dirty = True
        if self._asleep:
            self._wake()

    # -- turning, called by trio only

    def step(self) -> None:
        """Turn the loop for one burst, if it has something to do."""
        if not self._dirty and self._next_timer > self._now():
            return
        self._asleep = False
        self._burst.begin_burst()
        library, sniffio.thread_local.name = sniffio.thread_local.name, "asyncio"
        try:
            self.run_forever()
        except BaseException as error:  # noqa: BLE001 -- KeyboardInterrupt, SystemExit of a callback
            self._dirty = True
            self._untold = error
            self._on_escape(error)
        finally:
            sniffio.thread_local.name = library
        if self._parked is not None:
            if self._dirty:
                self._wake()
            else:
                self._sleep_until_timer()

    def _turned_idle(self, idle_for: float) -> None:
        self._dirty = False
        self._next_timer = self._now() + idle_for
        self.stop()

    def _sleep_until_timer(self) -> None:
        self._asleep = True
        if self._nap.deadline != self._next_timer:
            self._nap.deadline = self._next_timer

    def _wake(self) -> None:
        task, self._parked, self._asleep = self._parked, None, False
        if task is not None:
            trio.lowlevel.reschedule(task)

    async def _keep_trio_awake(self) -> None:
        # trio sleeps only when no task is runnable and no deadline is near. So this
        # task stays runnable while callbacks are ready, and sleeps until the next timer.
        while True:
            with trio.CancelScope() as self._nap:
                while True:
                    if self._dirty:
                        await trio.lowlevel.checkpoint()
                    else:
                        await self._park()

    async def _park(self) -> None:
        def leave(_raise_cancel: object) -> trio.lowlevel.Abort:
            self._parked, self._asleep = None, False
            return trio.lowlevel.Abort.SUCCEEDED

        self._parked = trio.lowlevel.current_task()
        self._sleep_until_timer()
        await trio.lowlevel.wait_task_rescheduled(leave)

    async def _watch_descriptors(self) -> None:
        descriptor = self._burst.fileno()
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            self._burst.ready = self._dirty = True
            await trio.lowlevel.checkpoint()  # trio does not sleep, and the loop turns

    async def _attend(self, stop: trio.CancelScope, stopped: trio.Event) -> None:
        try:
            with stop:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch_descriptors)
                    await self._keep_trio_awake()
        finally:
            self._asleep = False
            stopped.set()

    async def _shut_down(self) -> None:
        """End as `asyncio.run` does."""
        left = asyncio.all_tasks(self) - {asyncio.current_task()}
        await end_tasks(left)
        for task in left:
            if not task.cancelled() and task.exception() is not None:
                self.call_exception_handler(
                    {
                        "message": "a task failed while its loop was shut down",
                        "exception": task.exception(),
                        "task": task,
                    }
                )
        await self.shutdown_asyncgens()
        await self.shutdown_default_executor()

    def _retire_and_close(self) -> None:
        """Close, for good, after what others have put in front of it.

        A library that keeps connections per loop replaces the loop's `close` by one that
        first runs a coroutine until it is complete, as channels_redis does. By now trio turns
        the loop no more, so it waits by itself, on a clock that goes on by itself.
        """
        self._retired = True
        self._burst.retire()
        self._now = time.monotonic
        library, sniffio.thread_local.name = sniffio.thread_local.name, "asyncio"
        try:
            self.close()
        finally:
            sniffio.thread_local.name = library


@final
class _Turner(trio.abc.Instrument):
    """Turns a hosted loop once in each of trio's ticks."""

    def __init__(self, loop: HostedLoop) -> None:
        self._step = loop.step

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002 -- trio's signature
        self._step()


@asynccontextmanager
async def open_hosted_loop() -> AsyncIterator[HostedLoop | OuterLoop]:
    """Host an asyncio loop in this trio program, for as long as the block runs.

    There is one for a whole `trio.run`: opened again inside, the same one is given. Where
    trio itself runs inside an asyncio loop (guest mode), that loop is given. Otherwise tasks
    that are left at the end of the block are cancelled and awaited, asynchronous generators
    and the default executor are shut down. `KeyboardInterrupt` and `SystemExit` raised in a
    callback cancel the block and are raised from it.

    Raises:
        OSError: the platform's selector cannot be waited for (Windows).
    """
    hosted = current_hosted_loop()
    if hosted is not None:
        yield hosted
        return
    loop = HostedLoop()
    try:
        loop._burst.fileno()
    except OSError:
        loop.close()
        raise
    turner = _Turner(loop)
    # Shielded: a system task, too, may have opened the loop, and needs it until it has ended.
    stop, stopped = trio.CancelScope(shield=True), trio.Event()
    trio.lowlevel.add_instrument(turner)
    trio.lowlevel.spawn_system_task(loop._attend, stop, stopped, name="hosted asyncio loop")
    token = _hosted.set(loop)
    try:
        with trio.CancelScope() as block:

            def end_block(error: BaseException) -> None:
                loop.escaped = error
                block.cancel()

            loop._on_escape = end_block
            yield loop
    finally:
        try:
            with trio.CancelScope(shield=True):
                await loop.run_asyncio(loop._shut_down)
                while asyncio.all_tasks(loop):  # trio code has started them meanwhile
                    await loop.run_asyncio(loop._shut_down)
                # Now at once, so that what starts from here on finds no loop that is about to go.
                loop._over = True
                _hosted.reset(token)
                stop.cancel()
                await stopped.wait()
        finally:
            if not loop._over:
                _hosted.reset(token)
            trio.lowlevel.remove_instrument(turner)
            loop._retire_and_close()
        if loop.escaped is not None:
            raise loop.escaped
