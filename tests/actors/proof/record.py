"""What happened in a world, event by event, as data for those who check it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Any

from tests.actors.proof.worlds import NAMES, Role, World

from greenroom.actors import InFlight, Loss
from greenroom.actors.testing import Plan


class What(Enum):
    """The kinds of events, each with what its `detail` is."""

    # A message from its sender's side. `number` is that of the message, always.
    OFFERED = "is offered to"  # Offer
    ANSWERED = "was offered: the answer"  # Delivery; an exception if there was none
    SETTLED = "was asked: the outcome"  # the reply, or the exception
    LOST = "becomes a dead letter of"  # Loss
    LATE = "is a reply that comes too late"  # the reply, or the error that was to be one
    # In the actor. All that begins in it ends, in whatever way.
    STARTING = "starts"  # the cause, or None
    STARTED = "has started"
    NOT_STARTED = "has failed to start"
    TAKEN = "is taken by"
    DONE = "is done by"
    KEPT = "is left in the stash by"  # the end of a handler that has stashed it
    BROKEN_OFF = "is broken off by"  # the exception, or the cancellation
    SIGNAL = "gets a signal"  # the signal
    SIGNAL_OVER = "is through with the signal"
    STOPPING = "cleans up"  # the reason
    STOPPED = "has cleaned up"
    # What a handler does.
    RAISED = "raises"  # the exception
    STASHED = "is stashed by"
    STASH_FULL = "finds no room in the stash of"
    UNSTASHED = "takes up its stash"  # how many
    SET = "is the tick of a timer of"  # Setting
    UNSET = "cancels its timer"  # key
    REPLIED = "is replied to by"  # the reply, or the error that is to be one
    PROMISED = "is to be replied to later by"
    WATCHES = "watches"  # name
    # From outside.
    STOP = "is asked to stop"  # whether it drains
    KILL = "is killed"
    RESTARTED = "has ended and is started again"  # the cause
    ENDED = "has ended for good"  # the reason
    QUIET = "has had all the time that it needs"
    CLOSED = "is over"


# An event of one of the first kind, and one of the others, are a pair of brackets.
BRACKETS: dict[What, frozenset[What]] = {
    What.STARTING: frozenset({What.STARTED, What.NOT_STARTED}),
    What.TAKEN: frozenset({What.DONE, What.KEPT, What.BROKEN_OFF}),
    What.SIGNAL: frozenset({What.SIGNAL_OVER}),
    What.STOPPING: frozenset({What.STOPPED}),
}
CLOSING: frozenset[What] = frozenset().union(*BRACKETS.values())


@dataclass(frozen=True, slots=True)
class Offer:
    """How a message was sent."""

    way: str  # tell, send, ask
    sender: str
    key: int
    deadline: float
    within: int | None = None  # the message in whose handler it was sent


@dataclass(frozen=True, slots=True)
class Setting:
    """How a timer was set."""

    key: int
    seconds: float
    mode: Any = None


@dataclass(frozen=True, slots=True)
class Load:
    """The numbers of what waits for an actor."""

    again: tuple[int, ...] = ()  # what comes once more, before the mailbox's own
    lane: tuple[int, ...] = ()
    stash: tuple[int, ...] = ()

    @property
    def all(self) -> tuple[int, ...]:
        """Wherever they wait."""
        return self.again + self.lane + self.stash


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Args:
        what: the kind.
        actor: whom it is about.
        number: of the message; 0 if it is about none.
        detail: see `What`.
        life: incarnation, if it happened inside the actor.
        load: what waits for the actor, where that can be told: not amid a loss or an end.
        at: virtual time.
        turn: passes of trio's loop so far.
    """

    what: What
    actor: str
    number: int
    detail: Any
    life: int
    load: Load | None
    at: float
    turn: int

    def __str__(self) -> str:
        number = f"{self.number} " if self.number else ""
        detail = "" if self.detail is None else f": {self.detail!r}"
        what = f"{number}{self.what.value} {self.actor}" if number else None
        return f"{what or f'{self.actor} {self.what.value}'}{detail}"


@dataclass(slots=True, eq=False)
class Record:
    """All events of one run, in order, and what was left after it."""

    world: World
    plan: Plan = field(default_factory=Plan)
    entered: list[str] = field(default_factory=list)  # actors that were started
    events: list[Event] = field(default_factory=list)
    losses: dict[Loss, int] = field(default_factory=dict)  # by the system's own count
    refused: dict[str, int] = field(default_factory=dict)  # by the mailboxes' own count
    hanging: list[int] = field(default_factory=list)  # questions without an outcome in the end
    tasks_left: int = 0
    names_left: tuple[str, ...] = ()
    next_deadline: float = inf

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __repr__(self) -> str:
        lines = [f"{event.at:6.2f} {event.turn:4d}  {event}" for event in self.events]
        return "\n".join(["", *lines, ""])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # for Hypothesis, which would print all fields

    def of(self, *kinds: What, actor: str | None = None, number: int | None = None) -> list[Event]:
        """Give the events of some kinds, in order."""
        return [
            event
            for event in self.events
            if (not kinds or event.what in kinds)
            and (actor is None or event.actor == actor)
            and (number is None or event.number == number)
        ]

    @property
    def actors(self) -> list[str]:
        """Give the names of the actors."""
        return list(NAMES[: len(self.world.roles)])

    @property
    def messages(self) -> dict[int, Event]:
        """Give what was offered, by number."""
        return {event.number: event for event in self.of(What.OFFERED)}

    @property
    def outcomes(self) -> dict[int, Event]:
        """Give how each question was settled, by its number."""
        return {event.number: event for event in self.of(What.SETTLED)}

    def idle(self, actor: str) -> bool:
        """Tell whether an actor had nothing to do in the end, while its system was open."""
        doing = False
        for event in self.of(actor=actor):
            if event.what is What.QUIET:
                return not doing
            if event.what in BRACKETS or event.what in (What.RESTARTED, What.ENDED):
                doing = True
            elif event.what in CLOSING:
                doing = False
        return False

    def role(self, actor: str) -> Role:
        """Give what the spec of an actor says."""
        return self.world.roles[NAMES.index(actor)]


@dataclass(slots=True)
class Returns:
    """What comes to one actor once more, as plainly as it can be said.

    The stash comes back when it is taken up and when the actor is started anew; before it
    the message at which an incarnation broke off, once, if the spec says so.
    """

    redeliver: bool
    again: list[int] = field(default_factory=list)
    stash: list[int] = field(default_factory=list)
    in_hands: int | None = None
    is_tick: bool = False  # what is in its hands comes from a timer, and not from the stash
    redelivered: set[int] = field(default_factory=set)
    ticks: set[int] = field(default_factory=set)

    def takes_again(self, event: Event) -> bool:
        """Tell whether a message that is taken is one that comes once more; ask before `see`."""
        return bool(self.again) and self.again[0] == event.number

    def see(self, event: Event) -> None:
        """Learn of the next event of the actor."""
        number = event.number
        match event.what:
            case What.SET:
                self.ticks.add(number)
            case What.TAKEN:
                again = self.takes_again(event)
                if again:
                    self.again.pop(0)
                self.in_hands = number
                self.is_tick = number in self.ticks and not again
            case What.DONE:
                self.in_hands = None
            case What.STASHED:
                self.in_hands = None
                self.stash.append(number)
            case What.UNSTASHED:
                self._take_up_stash()
            case What.LOST if event.detail in (Loss.CRASHED, Loss.CANCELLED):
                self.in_hands = None
            case What.LOST if event.detail in (Loss.EXPIRED, Loss.LEFT_OVER):
                for waiting in (self.again, self.stash):
                    if number in waiting:
                        waiting.remove(number)
                        break
            case What.RESTARTED:
                if self.in_hands is not None and self.redeliver and not self.is_tick:
                    assert self.in_hands not in self.redelivered
                    self.redelivered.add(self.in_hands)
                    self.again.insert(0, self.in_hands)
                self.in_hands = None
                self._take_up_stash()

    def _take_up_stash(self) -> None:
        self.again = self.stash + self.again
        self.stash = []


def returns_for(record: Record, actor: str) -> Returns:
    """Make what tells which messages come to an actor once more."""
    return Returns(record.role(actor).in_flight is InFlight.REDELIVER)
