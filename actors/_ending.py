"""The end that an incarnation was asked for: why, whether for good, and until when.

Sans-IO: an `Ending` only keeps what was asked. `_cell.py` hands in the time, and sets the
deadline of the cancel scope.
"""

from math import inf
from typing import final

from ._reasons import ExitReason


@final
class Ending:
    """One request to end, which asked again can only become more urgent, or final."""

    __slots__ = ("cancel_at", "deadline", "for_good", "grace_given", "reason", "since")

    def __init__(
        self, reason: ExitReason, since: float, deadline: float = inf, *, for_good: bool
    ) -> None:
        self.since = since
        self.reason = reason
        self.for_good = for_good  # no restart will follow
        self.grace_given = False  # the actor may end by itself
        self.cancel_at = inf
        self.deadline = deadline  # the whole end, cleanup included, is over by then

    def give_grace(self, until: float) -> None:
        """Let the actor end by itself, and cancel it at `until`."""
        self.grace_given = True
        self.cancel_at = min(self.cancel_at, until)

    def ask_again(self, reason: ExitReason, *, for_good: bool) -> None:
        """Take the reason of one who, unlike those before, wants it to end for good."""
        if for_good and not self.for_good:
            self.reason = reason
            self.for_good = True

    def be_over_by(self, deadline: float, now: float, cleanup_timeout: float) -> None:
        """Cancel the actor so early that it can clean up before `deadline`."""
        self.deadline = min(self.deadline, deadline)
        self.cancel_at = min(self.cancel_at, time_to_clean_up(self.deadline, now, cleanup_timeout))


def time_to_clean_up(deadline: float, now: float, cleanup_timeout: float) -> float:
    """Tell when to begin with it at the latest, if all is to be over by `deadline`.

    It is a part of the whole, but never most of it.
    """
    if deadline == inf:
        return inf
    return deadline - min(cleanup_timeout, max(deadline - now, 0) / 4)
