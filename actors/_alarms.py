"""Calls that are due at a time: one task and one heap for all timers of a tree.

A cancel scope for each of them would cost several times as much, and most, such as the
limit of an ask, are taken back long before they are due. Times are on trio's clock.
"""

import heapq
import logging
from collections.abc import Callable
from contextvars import Context
from itertools import count
from math import inf
from typing import Any, Final, final

import trio

# Alarms taken back that may lie in the heap before it is made anew.
LITTER: Final = 64

logger = logging.getLogger(__name__)


@final
class Alarm:
    """One call in the future."""

    __slots__ = ("_alarms", "_call")

    def __init__(self, alarms: "Alarms", call: Callable[[], object]) -> None:
        self._alarms = alarms
        self._call: Callable[[], object] | None = call

    @property
    def pending(self) -> bool:
        """Whether the call is still to come."""
        return self._call is not None

    def cancel(self) -> None:
        """Take the call back, unless it was made; asked again, nothing happens."""
        if self._call is not None:
            self._call = None
            self._alarms.taken_back()

    def ring(self) -> None:
        """Make the call; what it raises is logged."""
        call, self._call = self._call, None
        if call is not None:
            try:
                call()
            except Exception:
                logger.exception("a timer failed")


@final
class Alarms:
    """All alarms of one tree.

    Args:
        start_task: starts a task that outlives the actors; called when the first alarm is set.
    """

    def __init__(self, start_task: Callable[[Callable[[], Any], str], None]) -> None:
        self._start_task = start_task
        self._heap: list[tuple[float, int, Alarm]] = []
        self._next_number = count().__next__  # equal times ring in the order they were set
        self._litter = 0
        self._running = False
        self._closed = False
        self._nap: trio.CancelScope | None = None

    def call_at(self, deadline: float, call: Callable[[], object]) -> Alarm:
        """Have `call` made at `deadline`, in a task of its own; at once if that is past."""
        alarm = Alarm(self, call)
        if deadline == inf:
            return alarm
        heapq.heappush(self._heap, (deadline, self._next_number(), alarm))
        if self._nap is not None:
            if deadline < self._nap.deadline:
                self._nap.deadline = deadline
        elif not self._running and not self._closed:
            self._running = True
            # In a context of its own: that of whoever is first would keep him alive.
            Context().run(self._start_task, self._run, "alarms")
        return alarm

    def taken_back(self) -> None:
        """Count an alarm that lies in the heap for nothing, and clear the heap of many."""
        self._litter += 1
        if self._litter > LITTER and self._litter * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].pending]
            heapq.heapify(self._heap)
            self._litter = 0

    def close(self) -> None:
        """Make no more calls, and end the task."""
        self._closed = True
        self._heap.clear()
        if self._nap is not None:
            self._nap.cancel(reason="the actors have ended")

    async def _run(self) -> None:
        # Actors that clean up after a cancellation from outside may still need their timers.
        with trio.CancelScope(shield=True):
            while not self._closed:
                self._ring_due(trio.current_time())
                first = self._heap[0][0] if self._heap else inf
                with trio.CancelScope(deadline=first) as self._nap:
                    await trio.sleep_forever()
                self._nap = None

    def _ring_due(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            _, _, alarm = heapq.heappop(self._heap)
            if alarm.pending:
                alarm.ring()
            else:
                self._litter = max(self._litter - 1, 0)
