"""When an application that has failed may go on in place, with its client still connected.

Sans-IO: this module only decides, and is handed the time. `scopes.py` calls a raw
application again; a consumer, which has a loop of its own, makes a new instance of itself.

Source: Erlang/OTP, stdlib `supervisor`, "Restart intensity and period".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar, final

from ..actors import Crash, RestartsExhausted, RestartWindow, flatten
from ._errors import ApplicationExited, CannotRestart, ClientDisconnected
from ._types import App

EXTENSION: Final = "greenroom.restart"  # where an application that is called again learns of it
INTENSITY: Final = 3  # one mistake is forgiven, and the next; what fails at once soon ends
PERIOD: Final = 5.0  # OTP's

# Scopes with one question and one answer, of which nobody may begin to give a second.
ANSWERED_ONCE: Final = frozenset({"http", "lifespan"})

# Ends that are meant, or that another try would not change.
FINAL: Final = (ApplicationExited, CannotRestart, ClientDisconnected)

AnyApp = TypeVar("AnyApp", bound=Callable[..., object])


@final
@dataclass(frozen=True, slots=True)
class RestartedInPlace:
    """Why and how often an application was started again for one scope.

    Args:
        cause: what ended it the last time.
        count: its restarts in this scope so far, this one included.
    """

    cause: Crash
    count: int


@final
class ScopeRestarts:
    """The restarts in place of one scope: at most `intensity` within any `period` seconds.

    Raises:
        ValueError: `intensity` is negative, or `period` is not positive.
    """

    __slots__ = ("_count", "_window")

    def __init__(self, intensity: float = INTENSITY, period: float = PERIOD) -> None:
        self._window = RestartWindow(intensity, period)
        self._count = 0

    def after(self, error: Exception, now: float, *, possible: bool) -> RestartedInPlace | None:
        """Give the restart that follows a crash by `error`, or None if none does.

        Once None was given, the scope has to end. What keeps it from one restart more
        is then told in a note of `error`.

        Args:
            error: what the application raised.
            now: in seconds on a clock that never runs backwards.
            possible: whether the scope is in a state to go on from: its client is
                connected, and nobody has begun to end it.
        """
        crash = Crash(flatten(error))
        if not possible or isinstance(crash.error, FINAL):
            return None
        if not self._window.allows(now):
            limit = RestartsExhausted(self._window.intensity, self._window.period)
            error.add_note(f"It is not restarted in place again: {limit}.")
            return None
        self._count += 1
        return RestartedInPlace(crash, self._count)


def restarts_in_place(
    *, intensity: float = INTENSITY, period: float = PERIOD
) -> Callable[[AnyApp], AnyApp]:
    """Mark an application that can go on after a crash with its client still connected.

    After a crash it is called again, with the same scope dict, `receive` and `send`, if its
    WebSocket was accepted and is still open, or in a scope of `open_scopes`. So the first
    event is then not `websocket.connect`, but whatever came after the event in whose
    handling it crashed. `scope["extensions"]["greenroom.restart"]` is a
    `RestartedInPlace`, and what it has put into the scope is still there. Raising
    `CannotRestart` ends the scope. A request of HTTP is never restarted.

    Args:
        intensity: restarts of one scope within `period`, 0 or more, infinity for no limit;
            at one crash more it ends as without the mark, a WebSocket with 1011.
        period: in seconds, more than 0.

    >>> @restarts_in_place(intensity=1)
    ... async def app(scope, receive, send): ...
    >>> restarts_of(app).after(OSError("gone"), 0.0, possible=True)
    RestartedInPlace(cause=Crash(error=OSError('gone')), count=1)

    Raises:
        ValueError: `intensity` is negative, or `period` is not positive.
    """
    limits = (intensity, period)
    ScopeRestarts(*limits)

    def mark(app: AnyApp) -> AnyApp:
        app.greenroom_restarts = limits  # type: ignore[attr-defined]
        return app

    return mark


def restarts_of(app: App) -> ScopeRestarts | None:
    """Give what decides on the restarts of one scope of `app`, None if it has no mark."""
    limits: tuple[float, float] | None = getattr(app, "greenroom_restarts", None)
    return None if limits is None else ScopeRestarts(*limits)


def carry_mark(source: App, target: AnyApp) -> AnyApp:
    """Mark `target`, which calls `source`, as `source` is marked."""
    limits: tuple[float, float] | None = getattr(source, "greenroom_restarts", None)
    if limits is not None:
        target.greenroom_restarts = limits  # type: ignore[attr-defined]
    return target
