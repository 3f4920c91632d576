"""Messages that an actor sends to itself later, each under a key.

A timer belongs to one incarnation. Its tick waits in the mailbox like any message, behind
those that came before it, and is void by the time its turn comes if the timer was cancelled
or set anew meanwhile: no old tick is ever delivered.
"""

from collections.abc import Callable, Hashable
from enum import Enum
from math import floor, inf
from typing import TYPE_CHECKING, Any, Final, Protocol, final

import trio

from ._alarms import Alarm
from ._checks import expect_member
from ._envelopes import VOID, Notice
from ._lanes import Loss

if TYPE_CHECKING:
    from ._mailbox import Mailbox


class TimerMode(Enum):
    """From when on the time to the next tick of a periodic timer counts.

    FIXED_RATE:  from the time at which the last tick was due.
    FIXED_DELAY: from the end of the handling of the last tick.
    """

    FIXED_RATE = "fixed rate"
    FIXED_DELAY = "fixed delay"


class Owner(Protocol):
    """What timers need of the inbox that they belong to."""

    @property
    def mailbox(self) -> "Mailbox":
        """Where ticks go."""

    def call_at(self, deadline: float, call: Callable[[], object]) -> Alarm:
        """Have `call` made at `deadline`."""


@final
class Timer(Notice):
    """One timer, and its tick in the mailbox: there is never more than one."""

    __slots__ = ("_alarm", "_due", "_queued", "_timers", "interval", "key", "message", "mode")

    def __init__(
        self,
        timers: "Timers",
        key: Hashable,
        message: Any,
        due: float,
        interval: float,
        mode: TimerMode,
    ) -> None:
        self._timers = timers
        self.key: Final = key
        self.message: Final = message
        self.interval: Final = interval  # seconds; infinite for a single tick
        self.mode: Final = mode
        self._due = due
        self._queued = False  # the tick is in the mailbox, or in the actor's hands
        self._alarm = timers.owner.call_at(due, self._ring)

    def cancel(self) -> None:
        """Ring no more."""
        self._alarm.cancel()

    def open(self) -> Any:
        """Give the message, unless the timer is no longer set."""
        if not self._timers.holds(self):
            return VOID
        if self.interval == inf:
            self._timers.cancel(self.key)
        return self.message

    def handled(self) -> None:
        """Wait for the next tick."""
        self._queued = False
        if self.mode is TimerMode.FIXED_DELAY and self._timers.holds(self):
            self._set(trio.current_time() + self.interval)

    def lost(self, loss: Loss) -> Any:
        """Go on after a tick that a full lane has dropped, and end with an actor that stops."""
        if not self._timers.holds(self):
            return VOID
        if loss is Loss.STOPPING or self.interval == inf:
            self._timers.cancel(self.key)
        self.handled()
        return VOID if loss is Loss.STOPPING else self.message

    def _ring(self) -> None:
        if not self._queued:  # else the actor is late, and gets one tick for several
            self._queued = True
            self._timers.owner.mailbox.put_soon(self, self._timers.lane)
        if self.mode is TimerMode.FIXED_RATE and self.interval != inf and self._timers.holds(self):
            late = floor((trio.current_time() - self._due) / self.interval)
            self._set(self._due + (late + 1) * self.interval)

    def _set(self, due: float) -> None:
        self._due = due
        self._alarm = self._timers.owner.call_at(due, self._ring)


@final
class Timers:
    """The timers of one incarnation, by key; see `Context.timers`."""

    __slots__ = ("_closed", "_timers", "lane", "owner")

    def __init__(self, owner: Owner, lane: int) -> None:
        self.owner: Final = owner
        self.lane: Final = lane
        self._timers: dict[Hashable, Timer] = {}
        self._closed = False

    def start_single(self, key: Hashable, message: Any, delay: float) -> None:
        """Have `message` handled once, `delay` seconds from now, like one that was sent then.

        Takes the place of the timer with the same key, whose tick will not be delivered even
        if it waits in the mailbox already. A full mailbox takes the tick as soon as it has
        room. A restart of the actor ends its timers.

        Raises:
            ValueError: `delay` is negative, or no number.
            RuntimeError: the incarnation has ended.
        """
        if not 0 <= delay < inf:
            raise ValueError(f"delay must be 0 seconds or more, and finite; it is {delay!r}")
        self._start(key, message, delay, inf, TimerMode.FIXED_RATE)

    def start_periodic(
        self,
        key: Hashable,
        message: Any,
        interval: float,
        mode: TimerMode = TimerMode.FIXED_RATE,
    ) -> None:
        """Have `message` handled every `interval` seconds; for the first time after one.

        There is never more than one tick in the mailbox: an actor that is late gets one for
        several. For the rest see `start_single`.

        Raises:
            ValueError: `interval` is not positive, or less than the clock can tell.
            RuntimeError: the incarnation has ended.
        """
        now = trio.current_time()
        if not now < now + interval < inf:  # else it would be due again at once, for ever
            raise ValueError(
                f"interval must be more than 0 seconds, and finite; it is {interval!r}"
            )
        self._start(key, message, interval, interval, mode)

    def cancel(self, key: Hashable) -> bool:
        """End a timer, and tell whether there was one. Its tick is not delivered any more."""
        timer = self._timers.pop(key, None)
        if timer is None:
            return False
        timer.cancel()
        return True

    def active(self, key: Hashable) -> bool:
        """Tell whether a tick of this timer is still to come."""
        return key in self._timers

    def holds(self, timer: Timer) -> bool:
        """Tell whether `timer` is the one that is set under its key."""
        return self._timers.get(timer.key) is timer

    def close(self) -> None:
        """End all timers, with the incarnation."""
        self._closed = True
        for key in list(self._timers):
            self.cancel(key)

    def _start(
        self, key: Hashable, message: Any, delay: float, interval: float, mode: TimerMode
    ) -> None:
        expect_member("mode", mode, TimerMode)
        if self._closed:
            raise RuntimeError("the actor's incarnation is over; its timers have ended with it")
        self.cancel(key)
        due = trio.current_time() + delay
        self._timers[key] = Timer(self, key, message, due, interval, mode)
