"""Tells an actor that no message has come for a while; see `Context.set_receive_timeout`."""

from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol, final

import trio

from ._alarms import Alarm
from ._envelopes import VOID, Notice
from ._signals import ReceiveTimeout


class Owner(Protocol):
    """What the watch needs of the inbox that it belongs to."""

    @property
    def idle(self) -> bool:
        """Whether no message waits, and none is being handled."""

    def call_at(self, deadline: float, call: Callable[[], object]) -> Alarm:
        """Have `call` made at `deadline`."""

    def signal(self, notice: Notice) -> None:
        """Put a signal into the mailbox."""


@final
class IdleWatch(Notice):
    """The receive timeout of one incarnation, and its signal in the mailbox."""

    __slots__ = ("_alarm", "_last", "_owner", "_queued", "_void", "seconds")

    is_signal: ClassVar[bool] = True

    def __init__(self, owner: Owner, seconds: float) -> None:
        self._owner = owner
        self.seconds: Final = seconds
        self._last = trio.current_time()  # when the last message was handled
        self._queued = False
        self._void = False
        # Moved on only when it rings, not by each message.
        self._alarm = owner.call_at(self._last + seconds, self._ring)

    def touch(self) -> None:
        """Count the time anew, after a message."""
        self._last = trio.current_time()

    def close(self) -> None:
        """Say nothing any more."""
        self._void = True
        self._alarm.cancel()

    def open(self) -> Any:
        """Give the signal."""
        return VOID if self._void else ReceiveTimeout(self.seconds)

    def handled(self) -> None:
        """Count the time anew."""
        self._queued = False
        if not self._void:
            self.touch()
            self._alarm = self._owner.call_at(self._last + self.seconds, self._ring)

    def _ring(self) -> None:
        now = trio.current_time()
        if not self._owner.idle:
            self._last = now
        due = self._last + self.seconds
        if due > now:
            self._alarm = self._owner.call_at(due, self._ring)
        elif not self._queued:
            self._queued = True
            self._owner.signal(self)
