"""When a child that ended may be started again, and after which pause.

Sans-IO: this module only decides. `_supervisor.py` waits, restarts and reports, and hands
in the time and the chance, so a test needs no clock and no event loop.

Source: Erlang/OTP, stdlib `supervisor`, "Restart intensity and period".
"""

from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import final


@final
@dataclass(slots=True)
class RestartWindow:
    """At most `intensity` restarts within any `period` seconds.

    The defaults are OTP's.

    Args:
        intensity: restarts allowed in one window, 0 or more; infinity for no limit.
        period: length of the window in seconds, more than 0.

    Raises:
        ValueError: `intensity` is negative, or `period` is not positive.
    """

    intensity: float = 1
    period: float = 5
    _times: deque[float] = field(default_factory=deque, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.intensity >= 0:
            raise ValueError(f"intensity must be 0 or more; it is {self.intensity!r}")
        if not self.period > 0:
            raise ValueError(f"period must be more than 0 seconds; it is {self.period!r}")

    def allows(self, now: float) -> bool:
        """Count one restart at `now`, and tell whether it is still within bounds.

        `now` is in seconds on a clock that never runs backwards, such as
        `trio.current_time()`.
        """
        if self.intensity == inf:
            return True
        # A restart exactly `period` seconds old still counts: OTP keeps R >= Now - P.
        while self._times and self._times[0] < now - self.period:
            self._times.popleft()
        self._times.append(now)
        return len(self._times) <= self.intensity


@final
@dataclass(frozen=True, slots=True)
class Backoff:
    """A pause before each restart that grows while the child keeps failing.

    Args:
        first: the pause before the first restart in seconds, 0 or more.
        longest: no pause is longer, jitter aside; not below `first`.
        factor: how much longer each pause is than the one before, 1 or more.
        jitter: up to this part of the pause is added at random, so that a crowd that
            failed together does not come back together; from 0 to 1.
        reset_after: a child that has run this many seconds starts from `first` again;
            0 or more.

    Raises:
        ValueError: an argument is out of its range.
    """

    first: float = 0.1
    longest: float = 30
    factor: float = 2
    jitter: float = 0.2
    reset_after: float = 60

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.longest:
            raise ValueError(
                f"0 <= first <= longest must hold; they are {self.first!r} and {self.longest!r}"
            )
        if self.factor < 1:
            raise ValueError(f"factor must be 1 or more; it is {self.factor!r}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be from 0 to 1; it is {self.jitter!r}")
        if self.reset_after < 0:
            raise ValueError(f"reset_after must be 0 seconds or more; it is {self.reset_after!r}")

    def pause(self, failures: int, chance: float = 0.0) -> float:
        """Tell how many seconds to wait before the restart that follows a failure.

        Args:
            failures: failures in a row so far, 1 or more.
            chance: a number from 0 to 1 that says how much of the jitter applies.
        """
        try:
            pause = self.first * self.factor ** (failures - 1)
        except OverflowError:
            pause = self.longest
        return min(pause, self.longest) * (1 + self.jitter * chance)
