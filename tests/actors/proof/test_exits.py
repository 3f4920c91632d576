"""I25 and I28 of the actors' contract: how each incarnation begins and ends."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from traceback import extract_tb
from types import TracebackType

from tests.actors.proof.checks import check_i25
from tests.actors.proof.properties import in_every_world
from tests.actors.proof.record import Event, Record, What

from greenroom.actors import (
    Crash,
    DeadlineExceeded,
    Directive,
    ExitReason,
    InitFailed,
    Killed,
    Loss,
    Overload,
    Shutdown,
)

# Where errors are raised on purpose.
RAISERS = {"do", "fail_beside", "crash_point"}


@dataclass
class Life:
    """One incarnation, from what was told about it."""

    events: list[Event] = field(default_factory=list)

    def of(self, what: What) -> list[Event]:
        return [event for event in self.events if event.what is what]

    @property
    def reason(self) -> ExitReason:
        """What its supervisor says about its end."""
        reason = self.events[-1].detail
        assert isinstance(reason, ExitReason)
        return reason

    @property
    def errors(self) -> list[BaseException]:
        """What left it, by the objects themselves; in `stopped` only if nothing did before."""
        raised = self.of(What.RAISED)
        for event in self.of(What.BROKEN_OFF):
            leaves = leaves_of(event.detail)
            if getattr(leaves[0], "directive", None) is Directive.RESUME:
                raised = [each for each in raised if each.detail not in leaves]
        stopping = [self.events.index(event) for event in self.of(What.STOPPING)]
        before = [
            event.detail
            for event in raised
            if not stopping or self.events.index(event) < stopping[0]
        ]
        return before or [event.detail for event in raised]


def leaves_of(error: BaseException) -> list[BaseException]:
    return [*error.exceptions] if isinstance(error, BaseExceptionGroup) else [error]


def tracebacks(
    error: BaseException, around: TracebackType | None = None
) -> Iterator[TracebackType | None]:
    """Give where each exception in a group was raised: itself, or the group around it."""
    own = error.__traceback__ or around
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from tracebacks(inner, own)
    else:
        yield own


def lives(record: Record, actor: str) -> Iterator[Life]:
    """Give what happened in and to each incarnation, its end last."""
    events: list[Event] = []
    for event in record.of(actor=actor):
        events.append(event)
        if event.what in (What.RESTARTED, What.ENDED):
            yield Life(events)
            events = []


@in_every_world
def test_i25_each_start_that_went_well_is_cleaned_up_after_exactly_once(record: Record) -> None:
    check_i25(record)


@in_every_world
def test_i28_a_crash_is_told_by_the_very_exceptions_with_their_tracebacks(record: Record) -> None:
    for actor in record.actors:
        for life in lives(record, actor):
            reason, errors = life.reason, life.errors
            assert isinstance(reason, Crash) == bool(errors)
            if isinstance(reason, Crash):
                assert {id(leaf) for leaf in reason.leaves} == {id(error) for error in errors}
                assert isinstance(reason, InitFailed) == bool(life.of(What.NOT_STARTED))
                for traceback in tracebacks(reason.error):
                    assert traceback is not None
                    assert extract_tb(traceback)[-1].name in RAISERS


@in_every_world
def test_i28_who_has_to_know_of_an_exit_is_told_the_same_reason(record: Record) -> None:
    for actor in record.actors:
        cause: ExitReason | None = None
        for life in lives(record, actor):
            for start in life.of(What.STARTING):
                assert start.detail is cause
            told = [event.detail for event in life.of(What.STOPPING)]
            failed_then = bool(life.errors) and not isinstance(told[0] if told else None, Crash)
            assert failed_then or all(reason is life.reason for reason in told)
            cause = life.reason
    for signal in record.of(What.SIGNAL):
        ref = getattr(signal.detail, "ref", None)
        if ref is not None:
            (end,) = record.of(What.ENDED, actor=ref.path.rpartition("/")[2])
            assert signal.detail.reason is end.detail


@in_every_world
def test_i28_an_exit_without_a_crash_tells_who_wanted_it(record: Record) -> None:
    for actor in record.actors:
        everything = record.of(actor=actor)
        kills = bool(record.of(What.KILL, actor=actor)) or record.plan.target is not None
        floods = any(event.detail is Loss.OVERLOAD for event in everything)
        for life in lives(record, actor):
            match life.reason:
                case Killed():
                    assert kills
                case Overload():
                    assert floods
                case reason:
                    assert isinstance(reason, Crash | Shutdown | DeadlineExceeded)
