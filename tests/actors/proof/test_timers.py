"""I23 and I24 of the actors' contract: what comes later, from a timer or from the stash."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from math import inf

from tests.actors.proof.properties import in_every_world
from tests.actors.proof.record import Event, Record, Setting, What, returns_for

from greenroom.actors import Loss, TimerMode

# A tick that waits in the lane may have to give way to a message.
EVICTED = {Loss.DROPPED, Loss.COALESCED}


@dataclass
class Timer:
    """A timer that is set, and when its ticks may come."""

    number: int
    setting: Setting
    set_at: float
    used: float = -inf  # the due time that the last tick stands for, at the least
    free_since: float = -inf  # when the last tick was done

    def dues(self) -> Iterator[float]:
        """Give the times at which it is due, as far as the next tick goes."""
        if self.setting.mode is TimerMode.FIXED_DELAY and self.free_since > -inf:
            yield self.free_since + self.setting.seconds
        elif self.setting.mode is TimerMode.FIXED_RATE:
            yield from count(self.set_at + self.setting.seconds, self.setting.seconds)
        else:
            yield self.set_at + self.setting.seconds

    @property
    def earliest(self) -> float:
        """When the next tick may come: it is due once more, and the one before is done."""
        return next(due for due in self.dues() if due > self.used and due >= self.free_since)

    @property
    def latest(self) -> float:
        """When the next tick comes if the actor has nothing else to do."""
        return next(due for due in self.dues() if due > self.free_since)


class Clockwork:
    """The timers of one actor, as plainly as it can be said."""

    def __init__(self, record: Record, actor: str) -> None:
        self.timers: dict[int, Timer] = {}  # by key
        self._keys = {event.number: event.detail.key for event in record.of(What.SET)}
        self._returns = returns_for(record, actor)
        self._ticking: Timer | None = None

    def see(self, event: Event) -> None:
        """Learn of the next event of the actor; if it is a tick, it is one that may come now."""
        match event.what:
            case What.SET:
                timer = Timer(event.number, event.detail, event.at)
                self.timers[event.detail.key] = timer
            case What.UNSET:
                self.timers.pop(event.detail, None)
            case What.RESTARTED | What.ENDED:
                self.timers.clear()
            case What.TAKEN if event.number in self._keys:
                # From the stash it comes as a message like any other.
                if not self._returns.takes_again(event):
                    self._ticking = self._tick(event, self._keys[event.number])
            case What.LOST if event.detail in EVICTED and event.number in self._keys:
                timer = self._tick(event, self._keys[event.number])
                timer.free_since = event.at
            case What.DONE | What.KEPT | What.BROKEN_OFF if self._ticking is not None:
                self._ticking.free_since = event.at
                self._ticking = None
        self._returns.see(event)

    def _tick(self, event: Event, key: int) -> Timer:
        timer = self.timers.get(key)
        assert timer is not None, "no such timer is set"
        assert timer.number == event.number, "it is a tick of the timer before"
        assert timer.earliest <= event.at
        timer.used = timer.earliest
        if timer.setting.mode is None:
            del self.timers[key]
        return timer


@in_every_world
def test_i23_no_old_tick_is_delivered_and_those_of_a_late_actor_are_one(record: Record) -> None:
    for actor in record.actors:
        clockwork = Clockwork(record, actor)
        for event in record.of(actor=actor):
            clockwork.see(event)


@in_every_world
def test_i23_a_tick_that_is_due_comes_as_soon_as_the_actor_has_time(record: Record) -> None:
    for actor in record.actors:
        clockwork = Clockwork(record, actor)
        for event in record.of(actor=actor):
            clockwork.see(event)
            if event.what is What.QUIET:
                late = [timer for timer in clockwork.timers.values() if timer.latest < event.at]
                assert not late or not record.idle(actor)


@in_every_world
def test_i24_the_stash_holds_up_to_its_capacity_and_what_was_in_it_comes_again_or_is_lost(
    record: Record,
) -> None:
    for actor in record.actors:
        capacity = record.role(actor).stash_capacity
        returns = returns_for(record, actor)
        for event in record.of(actor=actor):
            if event.what is What.STASHED:
                assert len(returns.stash) < capacity
            elif event.what is What.STASH_FULL:
                assert len(returns.stash) == capacity
            elif event.what is What.UNSTASHED:
                assert event.detail == len(returns.stash)
            elif event.what is What.ENDED:
                assert returns.again == returns.stash == []
            returns.see(event)
            if event.load is not None and event.what is not What.UNSTASHED:
                assert event.load.stash == tuple(returns.stash)
                assert event.load.again == tuple(returns.again)
