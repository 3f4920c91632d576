"""How actors ended, in words: a report may be kept long, an exception holds all that it touched."""

from dataclasses import dataclass
from traceback import walk_tb
from typing import final

from ._places import in_words, telling
from ._reasons import Crash, ExitReason, Killed, LinkBroken, Shutdown


@final
@dataclass(frozen=True, slots=True)
class ActorEnd:
    """An abnormal end for good.

    Args:
        path: where the actor was.
        uid: its number.
        reason: why it ended, in words.
        at: when, on trio's clock; None if it was not running any more.
    """

    path: str
    uid: int
    reason: str
    at: float | None

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def words_for(reason: ExitReason) -> str:
    """Say why an actor ended.

    >>> words_for(Crash(OSError("gone")))
    'Crash: OSError: gone'
    >>> words_for(Killed("the operator"))
    'Killed by the operator'
    """
    name = type(reason).__name__
    match reason:
        case Crash(error):
            return f"{name}: {_error_in_words(error)}"
        case Killed(by) | Shutdown(by) if by:
            return f"{name} by {by}"
        case LinkBroken(ref, first):
            return f"{name}: {ref.path} ended first: {words_for(first)}"
        case _:
            return name


def _error_in_words(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - whoever wrote it; the report goes on
        text = "(its text failed)"
    words = f"{type(error).__qualname__}: {text}" if text else type(error).__qualname__
    call = telling((frame.f_code, line) for frame, line in walk_tb(error.__traceback__))
    return words if call is None else f"{words} ({in_words(call)})"
