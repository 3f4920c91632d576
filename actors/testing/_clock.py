"""Time that passes only when nothing else can happen.

`trio.testing.MockClock` jumps also while a thread is at work, which makes false time-outs,
and spins where all tasks wait for ever. This clock waits for threads and sockets, in real
time, and tells when nothing will happen any more.
"""

import time
from collections.abc import Callable
from math import inf
from typing import Final, final

import trio
import trio.testing

# Longer than any wait that a task has asked for: trio itself waits for a day at most.
_IDLE: Final = 3600.0

# How long sockets may be silent, in real seconds, before virtual time goes on without them.
_SILENCE: Final = 0.02

# Trio waits for one itself, by which other threads wake its loop.
_OWN_SOCKETS: Final = 1


@final
class VirtualClock(trio.abc.Clock):
    """Starts at 0, and jumps to the next deadline when all tasks wait.

    Args:
        on_deadlock: called when all tasks wait, and there is no deadline, thread or socket
            to wake one.
    """

    def __init__(self, on_deadlock: Callable[[], object]) -> None:
        self.now = 0.0
        self.broken: BaseException | None = None
        """Set to break the run off: raised in trio's loop when it asks for the time."""
        self.waited_outside = False
        """Whether a thread or a socket was waited for, in real time."""
        self._on_deadlock = on_deadlock
        self._next = inf
        self._waits_since = 0.0

    def start_clock(self) -> None:
        """Do nothing: virtual time stands still by itself."""

    def current_time(self) -> float:
        """Give the virtual time."""
        if self.broken is not None:
            raise self.broken
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Note the next deadline; trio asks when no task can run."""
        self._next = deadline
        if deadline <= self.now:
            return 0
        return _SILENCE if deadline < inf and _sockets_waiting() else inf

    def before_io_wait(self, timeout: float) -> None:
        """Jump, if all tasks wait and nothing from outside can wake one."""
        if timeout == _SILENCE:
            self._waits_since = time.perf_counter()
            self.waited_outside = True
            return
        if timeout < _IDLE:
            return  # a task can run, or waits until all others are blocked
        if trio.lowlevel.current_statistics().run_sync_soon_queue_size:
            return  # a call from a thread, or of trio's own, is about to be made
        if trio.testing.active_thread_count() or (self._next == inf and _sockets_waiting()):
            self.waited_outside = True
            return
        if self._next < inf:
            self.now = self._next
        else:
            self._on_deadlock()
        _wake_up()

    def after_io_wait(self, timeout: float) -> None:
        """Jump, if all sockets were silent for long enough."""
        silent = timeout == _SILENCE and time.perf_counter() - self._waits_since >= _SILENCE
        if silent and not trio.testing.active_thread_count():
            self.now = max(self.now, self._next)


def _sockets_waiting() -> int:
    """Count the tasks that wait for sockets; where trio does not say, there are none."""
    statistics = trio.lowlevel.current_statistics().io_statistics
    reading = getattr(statistics, "tasks_waiting_read", 0)
    return max(reading + getattr(statistics, "tasks_waiting_write", 0) - _OWN_SOCKETS, 0)


def _wake_up() -> None:
    """End the wait that trio's loop is about to begin."""
    trio.lowlevel.current_trio_token().run_sync_soon(_nothing, idempotent=True)


def _nothing() -> None:
    pass
