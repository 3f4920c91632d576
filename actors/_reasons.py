"""Why an actor ended.

Sans-IO: the reasons are values, and `sort_out` only reads an exception. `_cell.py`
catches and acts.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, final

import trio

if TYPE_CHECKING:
    from ._ref import ActorRef


@dataclass(frozen=True, slots=True)
class ExitReason:
    """Why one incarnation of an actor ended.

    Always a `Normal`, `Shutdown`, `Killed`, `DeadlineExceeded`, `Overload`, `LinkBroken`,
    `InitFailed` or `Crash`.
    """

    abnormal: ClassVar[bool] = False
    """Whether a transient child is started again."""


@final
@dataclass(frozen=True, slots=True)
class Normal(ExitReason):
    """The actor came to its own end."""


@final
@dataclass(frozen=True, slots=True)
class Shutdown(ExitReason):
    """The actor was asked to stop, or what it ran in was cancelled.

    Args:
        by: who asked, for reports.
    """

    by: str = ""


@final
@dataclass(frozen=True, slots=True)
class Killed(ExitReason):
    """The actor was cancelled at once.

    Args:
        by: who asked, for reports.
    """

    abnormal: ClassVar[bool] = True
    by: str = ""


@final
@dataclass(frozen=True, slots=True)
class DeadlineExceeded(ExitReason):
    """The actor was asked to stop, and was cancelled when its time to do so was over."""

    abnormal: ClassVar[bool] = True


@final
@dataclass(frozen=True, slots=True)
class LinkBroken(ExitReason):
    """An actor that this one is linked to has ended; see `Context.link`.

    Args:
        ref: the actor that ended first.
        reason: why it did.
    """

    abnormal: ClassVar[bool] = True
    ref: "ActorRef[Any]"
    reason: ExitReason


@final
@dataclass(frozen=True, slots=True)
class Overload(ExitReason):
    """The actor was too slow for its mailbox, whose policy is `Overflow.CLOSE`."""

    abnormal: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Crash(ExitReason):
    """An exception left the actor.

    Args:
        error: the exception object that left it, with its traceback. Groups with one
            member are opened: how deep an actor's nurseries were tells nothing.
    """

    abnormal: ClassVar[bool] = True
    error: BaseException

    @property
    def leaves(self) -> tuple[BaseException, ...]:
        """The exceptions inside `error` that are not groups."""
        return tuple(leaves_of(self.error))


@final
@dataclass(frozen=True, slots=True)
class InitFailed(Crash):
    """An exception left the actor's constructor or `started`, or it took too long."""


NORMAL: Final = Normal()

# What is not the actor's own: the end of the program, the end of the coroutine, a broken trio.
_NOT_ITS_OWN: Final = (KeyboardInterrupt, SystemExit, GeneratorExit, trio.TrioInternalError)


def flatten(error: BaseException) -> BaseException:
    """Open groups that have one member, from the outside in.

    >>> flatten(ExceptionGroup("", [ExceptionGroup("", [OSError("gone")])]))
    OSError('gone')
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def leaves_of(error: BaseException) -> list[BaseException]:
    """Give the exceptions inside `error` that are not groups, in order."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves_of(inner)]
    return [error]


def sort_out(
    error: BaseException, *, cancelled: bool
) -> tuple[BaseException | None, BaseException | None]:
    """Part what left an actor into its own crash and what has to travel on.

    Everything that is neither trio's cancellation nor the end of the program is a crash:
    also `asyncio.CancelledError`, which is no `Exception`, and a stray `trio.Cancelled`.

    Args:
        error: what left the actor's own cancel scope.
        cancelled: whether something around the actor is cancelled, so that a
            `trio.Cancelled` belongs there.

    Returns:
        The crash (flattened) and what to raise again; either may be `None`.
    """
    not_its_own = (*_NOT_ITS_OWN, trio.Cancelled) if cancelled else _NOT_ITS_OWN
    crash: BaseException | None
    passing: BaseException | None
    if isinstance(error, BaseExceptionGroup):
        passing, crash = error.split(not_its_own)
        if passing is None:
            crash = error  # and not the copy that `split` makes
    elif isinstance(error, not_its_own):
        passing, crash = error, None
    else:
        passing, crash = None, error
    return None if crash is None else flatten(crash), passing
