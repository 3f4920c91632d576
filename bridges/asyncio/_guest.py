"""A trio run inside the asyncio loop of somebody else, for code that speaks only trio.

There is one in a thread: the first scope that needs it starts it, all of the loop share it,
and the last one ends it, before the asyncio task that waits for that scope goes on. To trio
it is a guest run. Such a run waits in a thread of its own, and each time that it is woken
costs two switches of threads. Here the loop waits for it:

    a trio task can run           ticks of trio, a few in a row, in callbacks of the loop
    trio waits for descriptors    the loop watches a copy of trio's own, which is pollable
    trio waits for a deadline     a timer; trio's clock is the loop's
    asyncio code wakes a task     trio writes a byte for itself, and its descriptor is readable

This takes a look into trio (`_Inside`). Where it fails, since a version or a platform is
different, trio has its thread, and nothing else changes.
"""

import asyncio
import contextvars
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from typing import Any, Final, TypeVar, final

import outcome
import trio

from ._errors import NoHostedLoop
from ._loop import set_outer_loop
from ._outer import OuterLoop

T = TypeVar("T")
Tick = Callable[[], object]

TURNS: Final = 4  # trio's ticks in a row before asyncio gets a turn; more is faster, less fair
LAST_TICKS: Final = 1000  # for a run whose loop is closed; it is cancelled, and waits no more


class _Here(threading.local):
    guest: "_Guest | None" = None


_here: Final = _Here()


async def visit_trio(fn: Callable[[OuterLoop], Awaitable[T]]) -> T:
    """From asyncio: await `fn(outer)`, while `outer.run_trio` leads to trio tasks.

    Cancelled while the trio run ends, it waits all the same, and is cancelled then.

    Raises:
        NoHostedLoop: another loop of this thread has the trio run, and is not closed.
    """
    guest = await _join()
    if guest is None:
        return await fn(OuterLoop(asyncio.get_running_loop()))
    ended: outcome.Outcome[T]
    try:
        ended = outcome.Value(await fn(guest.outer))
    except GeneratorExit:
        guest.forsake()
        raise
    except BaseException as error:  # noqa: BLE001 -- raised when trio has ended
        ended = outcome.Error(error)
    cancellation = await guest.leave()
    try:
        if cancellation is not None and isinstance(ended, outcome.Value):
            raise cancellation
        return ended.unwrap()
    finally:
        del ended, cancellation  # their tracebacks lead here: no reference cycle


async def _join() -> "_Guest | None":
    """Give the run that this thread's loop has, or a new one; None if it is somebody else's."""
    loop = asyncio.get_running_loop()
    while (guest := _here.guest) is not None:
        if guest.loop is loop:
            if not guest.ending:
                break
            await guest.over.wait()
        elif not guest.loop.is_closed() or not guest.end_by_force():
            raise NoHostedLoop("trio runs inside another asyncio loop of this thread already")
    if guest is None:
        if trio.lowlevel.in_trio_run():
            return None
        guest = _here.guest = _Guest(loop)
    guest.scopes += 1
    return guest


@final
class _Guest:
    """One trio run, and how its loop turns it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.outer = OuterLoop(loop, told=True)
        self.scopes = 0
        self.ending = False
        self.over = asyncio.Event()
        self._stop = trio.Event()
        self._context = contextvars.Context()  # no scope's own
        self._tick: Tick | None = None
        self._turning = False
        self._due = False  # another tick is asked for
        self._idle_until: float | None = None  # as far as the tick that runs knows
        self._asleep = False
        self._timer: asyncio.TimerHandle | None = None
        self._inside: _Inside | None = None
        self._context.run(self._start)

    def _start(self) -> None:
        loop = self.loop
        trio.lowlevel.start_guest_run(
            self._stop.wait,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            run_sync_soon_not_threadsafe=self._tick_soon,
            done_callback=self._end,
            # asyncio has it, if anybody; and nobody is woken by a signal whom trio would know.
            host_uses_signal_set_wakeup_fd=True,
            clock=_Clock(self),
        )
        set_outer_loop(self.outer)
        self._inside = _look_inside(self._tick)
        if self._inside is not None:
            try:
                loop.add_reader(self._inside.descriptor, self._wake)
            except NotImplementedError:  # on Windows
                self._inside.close()
                self._inside = None

    # -- scopes

    async def leave(self) -> asyncio.CancelledError | None:
        """Let one scope go, the last one with the run; give a cancellation that came meanwhile."""
        self.scopes -= 1
        cancellation: asyncio.CancelledError | None = None
        if self.scopes == 0 and not self.over.is_set():
            self.ending = True
            self._stop.set()
            while not self.over.is_set():
                try:
                    await self.over.wait()
                except asyncio.CancelledError as error:
                    cancellation = error
        return cancellation

    def forsake(self) -> None:
        """Let one scope go whose coroutine is closed, and can't wait for anything."""
        self.scopes -= 1
        if self.scopes == 0:
            self.ending = True
            with suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(self._stop.set)

    def end_by_force(self) -> bool:
        """End the run of a loop that was closed while it had tasks; tell whether it has ended."""
        self.ending = True
        if self._inside is not None:
            self._context.run(self._turn_to_the_end, self._inside)
        return _here.guest is not self

    def _turn_to_the_end(self, inside: "_Inside") -> None:
        assert self._tick is not None
        self._turning = True
        self._stop.set()
        for _ in range(LAST_TICKS):
            inside.wake()
            self._tick()
            if _here.guest is not self:
                return

    # -- turning

    def seconds_until(self, deadline: float) -> float:
        """Tell trio, which has nothing to do before `deadline`, for how long it may wait."""
        if self._inside is None or self._inside.waits_for_idleness:
            return deadline - self.loop.time()
        self._idle_until = deadline
        return 0.0  # it shall not wait itself

    def _tick_soon(self, tick: Tick) -> None:
        self._tick = tick
        inside = self._inside
        if inside is not None and self._idle_until is not None and not inside.has_events:
            self._sleep(inside, self._idle_until)
            return
        self._due = True
        if not self._turning:
            self.loop.call_soon(self._turn, context=self._context)

    def _turn(self) -> None:
        assert self._tick is not None
        self._turning = True
        try:
            for _ in range(TURNS):
                self._due, self._idle_until = False, None
                self._tick()
                if not self._due:
                    return
        finally:
            self._turning = False
        self.loop.call_soon(self._turn, context=self._context)

    def _sleep(self, inside: "_Inside", deadline: float) -> None:
        self._asleep = True
        inside.sleep()
        if self._timer is not None:
            if self._timer.when() == deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline < inf:
            self._timer = self.loop.call_at(deadline, self._wake_in_time, context=self._context)

    def _wake_in_time(self) -> None:
        self._timer = None
        self._wake()

    def _wake(self) -> None:
        if self._asleep and self._inside is not None:
            self._asleep = False
            self._inside.wake()
            self._turn()

    def _end(self, ended: outcome.Outcome[object]) -> None:
        """Learn that the run is over: all its tasks have ended, or it has crashed."""
        _here.guest = None
        closed = self.loop.is_closed()
        if self._timer is not None:
            self._timer.cancel()
        if self._inside is not None:
            if not closed:
                self.loop.remove_reader(self._inside.descriptor)
            self._inside.close()
        if closed:
            return
        self.over.set()
        if isinstance(ended, outcome.Error):
            self.outer.give_up(ended.error)
            if isinstance(ended.error, KeyboardInterrupt):
                raise ended.error  # in a callback of the loop, as if it had come there


@final
class _Clock(trio.abc.Clock):
    """The loop's time, and how long trio waits."""

    def __init__(self, guest: _Guest) -> None:
        self._time = guest.loop.time
        self._guest = guest

    def start_clock(self) -> None:
        """Do nothing: the loop has started it."""

    def current_time(self) -> float:
        """Give the loop's time, in seconds."""
        return self._time()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Tell for how long trio may wait."""
        return self._guest.seconds_until(deadline)


@final
class _Inside:
    """What trio does not tell of a guest run: the only place that knows.

    Source: `GuestState` and `Runner` in `trio._core._run`, trio 0.31 to 0.35.
    """

    def __init__(self, state: Any) -> None:
        self._state = state
        self._runner = runner = state.runner
        self._get_events = runner.io_manager.get_events
        # Its absence is noticed now, and not when it is needed.
        _ = state.unrolled_run_next_send, runner.guest_tick_scheduled, runner.waiting_for_idle
        selector = getattr(runner.io_manager, "_epoll", None) or runner.io_manager._kqueue
        # A copy, which the loop can let go of when trio has closed its own already.
        self.descriptor: int = os.dup(selector.fileno())

    @property
    def has_events(self) -> bool:
        """Whether the last tick has found something that the next has to know of."""
        events = self._state.unrolled_run_next_send
        return not isinstance(events, outcome.Value) or bool(events.value)

    @property
    def waits_for_idleness(self) -> bool:
        """Whether somebody is in `trio.testing.wait_all_tasks_blocked`."""
        return bool(self._runner.waiting_for_idle)

    def sleep(self) -> None:
        """Have trio make its descriptor readable if there is something to do."""
        self._runner.guest_tick_scheduled = False

    def wake(self) -> None:
        """Be told of no more until the next tick, which knows what has happened."""
        self._runner.guest_tick_scheduled = True
        if not self.has_events:
            self._state.unrolled_run_next_send = outcome.capture(self._get_events, 0)

    def close(self) -> None:
        """Let go of the descriptor."""
        os.close(self.descriptor)


def _look_inside(tick: Any) -> _Inside | None:
    try:
        return _Inside(tick.__self__)
    except (AttributeError, OSError):
        return None
