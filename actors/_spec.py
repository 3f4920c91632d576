"""How a supervisor makes, restarts and stops one child."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from math import inf
from typing import Any, Final, TypeAlias, final

from ._actor import Actor
from ._checks import expect_callable, expect_member, expect_number
from ._lanes import Lane
from ._restarts import Backoff, RestartWindow

INFINITY: Final = inf

_DEFAULT_LANE: Final = Lane(capacity=1000)


class Restart(Enum):
    """Whether a child that ended without having been asked to is started again.

    PERMANENT: always.
    TRANSIENT: after an abnormal end, such as a crash.
    TEMPORARY: never.
    """

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    TEMPORARY = "temporary"


class Directive(IntEnum):
    """What is to happen after an exception; of several, the strictest wins.

    In the order of their strictness:

    RESUME:   lose the message, keep the actor and its state.
    RESTART:  do as the child's `restart` says.
    STOP:     do not start it again.
    ESCALATE: let the supervisor crash with it.
    """

    RESUME = 0
    RESTART = 1
    STOP = 2
    ESCALATE = 3


Decider: TypeAlias = Callable[[BaseException], Directive]


class InFlight(Enum):
    """What becomes of the message in whose handling an actor crashed.

    DEAD_LETTER: it is lost, and becomes a dead letter.
    REDELIVER:   the next incarnation gets it first, once; then it becomes a dead letter.
    """

    DEAD_LETTER = "dead letter"
    REDELIVER = "redeliver"


@final
@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How a supervisor makes, restarts and stops one child. One spec may serve thousands.

    Args:
        id: the child's name among its siblings; a `DynamicSupervisor` makes it unique.
        factory: makes one incarnation; called with the arguments of `start_child`. The
            first time it is called by `start_child` itself, in the caller's context. What
            has to outlive a crash is such an argument, or in another actor's care: the
            crashed instance is not used again.
        restart: whether the child is started again after it ended by itself. One that was
            asked to stop, or was killed, is not.
        shutdown: seconds that a child gets to stop before it is cancelled; `INFINITY` for
            no limit. By default 5, and for a supervisor as long as its children get.
        cleanup_timeout: seconds for `Actor.stopped`.
        start_timeout: seconds for `Actor.started`.
        mailbox: the lane for the actor's messages. 1000 hold a burst, and a sender that is
            always faster than the actor hears of it.
        significant: whether its end counts for the supervisor's `auto_shutdown`.
        on_failure: asked with every exception inside a crash; by default `RESTART`.
        in_flight: what becomes of the message in whose handling it crashed.
        backoff: a pause before restarts; none by default.
        drain: whether an actor that is asked to stop first handles the messages that wait,
            as far as `shutdown` allows; no more are accepted meanwhile.
        stash_capacity: messages that `Context.stash` holds, 0 or more; as many as wait in
            the mailbox by default.
        intensity: restarts allowed within `period`, for this child alone, `INFINITY` for any
            number; by default what its supervisor says.
        period: seconds; see `intensity`.
        expected: exceptions that are part of its life, such as a lost connection's: a crash
            with nothing else in it is logged in a line, and not with its traceback.

    Raises:
        ValueError: `id` is empty or holds a "/", or a number is out of its range.
        TypeError: `factory` cannot be called, or another argument is of another kind than it
            says here.
    """

    id: str
    factory: Callable[..., Actor[Any]] = field(repr=False)
    restart: Restart = Restart.PERMANENT
    shutdown: float | None = None
    cleanup_timeout: float = 1
    start_timeout: float = 5
    mailbox: Lane = _DEFAULT_LANE
    significant: bool = False
    on_failure: Decider | None = None
    in_flight: InFlight = InFlight.DEAD_LETTER
    backoff: Backoff | None = None
    drain: bool = False
    stash_capacity: int = 1000
    intensity: float | None = None
    period: float | None = None
    expected: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id or "/" in self.id:
            raise ValueError(f"id must be a name without '/'; it is {self.id!r}")
        if not callable(self.factory):
            raise TypeError(
                f"factory must be what makes an Actor, as its class; it is {self.factory!r}"
            )
        if not isinstance(self.mailbox, Lane):
            raise TypeError(f"mailbox must be a Lane, as Lane(capacity=10); it is {self.mailbox!r}")
        expect_member("restart", self.restart, Restart)
        expect_member("in_flight", self.in_flight, InFlight)
        expect_callable("on_failure", self.on_failure)
        if self.backoff is not None and not isinstance(self.backoff, Backoff):
            raise TypeError(f"backoff must be a Backoff, or None; it is {self.backoff!r}")
        if not isinstance(self.expected, tuple) or not all(
            isinstance(kind, type) and issubclass(kind, BaseException) for kind in self.expected
        ):
            raise TypeError(
                f"expected must be a tuple of exception classes; it is {self.expected!r}"
            )
        for name in ("shutdown", "cleanup_timeout", "start_timeout"):
            seconds = getattr(self, name)
            if seconds is not None or name != "shutdown":
                expect_number(name, seconds)
                if not seconds >= 0:
                    raise ValueError(f"{name} must be 0 seconds or more; it is {seconds!r}")
        expect_number("stash_capacity", self.stash_capacity)
        if self.stash_capacity < 0:
            raise ValueError(f"stash_capacity must be 0 or more; it is {self.stash_capacity!r}")
        if self.intensity is not None or self.period is not None:
            self.window(RestartWindow())  # whose own checks are the ones to make

    def window(self, default: RestartWindow) -> RestartWindow:
        """Make the window that counts this child's restarts."""
        return RestartWindow(
            default.intensity if self.intensity is None else self.intensity,
            default.period if self.period is None else self.period,
        )

    def make_actor(self, args: tuple[object, ...]) -> Actor[Any]:
        """Make one incarnation.

        Raises:
            TypeError: the factory gave something else, or an actor that has lived already.
        """
        actor = self.factory(*args)
        if not isinstance(actor, Actor):
            if isinstance(actor, Coroutine):
                actor.close()
            raise TypeError(
                f"the factory of child {self.id!r} must return an Actor; it returned {actor!r}"
            )
        if getattr(actor, "ctx", None) is not None:
            raise TypeError(
                f"the factory of child {self.id!r} must make a new actor each time; it returned "
                f"one that has lived already: {actor!r}"
            )
        return actor


def expect_spec(spec: object) -> None:
    """See that somebody who starts a child says how.

    Raises:
        TypeError: `spec` is no `ChildSpec`.
    """
    if not isinstance(spec, ChildSpec):
        example = 'ChildSpec("a name", YourActor)'
        raise TypeError(f"spec must be a ChildSpec, as {example}; it is {spec!r}")
