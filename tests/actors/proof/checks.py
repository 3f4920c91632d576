"""What holds for every run, whatever breaks it off."""

from collections import Counter
from math import inf

import trio
from tests.actors.proof.record import Record, What

from greenroom.actors import AskError, AskTimeout, Delivery


def check_i1(record: Record) -> None:
    """Each message is in one place: handled, lost, waiting, or in the actor's hands."""
    messages = record.messages
    for actor in record.actors:
        known: set[int] = set()
        handled: list[int] = []
        lost: list[int] = []
        latest = None
        for event in record.of(actor=actor):
            number = event.number
            if event.what is What.ANSWERED and isinstance(event.detail, Delivery):
                known.add(number)
            elif event.what is What.TAKEN:
                latest = number
                known.add(number)
            elif event.what is What.DONE and number in messages:
                handled.append(number)
            elif event.what is What.LOST and number in messages:
                lost.append(number)
            if event.load is not None:
                waiting = [number for number in event.load.all if number in messages]
                places = Counter([*handled, *lost, *waiting])
                assert not places or max(places.values()) == 1, f"{event}: {places}"
                in_hands = known & messages.keys() - places.keys()
                assert in_hands <= {latest}, f"{event}: {in_hands} are nowhere"
        mine = {number for number, event in messages.items() if event.actor == actor}
        unsent = {
            event.number
            for event in record.of(What.ANSWERED, actor=actor)
            if isinstance(event.detail, trio.Cancelled)
        }
        assert {*handled, *lost} == mine - unsent


def check_i9(record: Record) -> None:
    """Each question has one outcome, and it is one of those that there are."""
    assert record.hanging == []
    offers = record.messages
    settled = Counter(event.number for event in record.of(What.SETTLED))
    questions = {number for number, event in offers.items() if event.detail.way == "ask"}
    assert settled == Counter(questions)
    for number, event in record.outcomes.items():
        outcome = event.detail
        replied = [reply.detail for reply in record.of(What.REPLIED, number=number)]
        if isinstance(outcome, AskTimeout):
            assert event.at <= offers[number].detail.deadline
        assert isinstance(outcome, AskError | trio.Cancelled) or outcome in replied


def check_i25(record: Record) -> None:
    """Each start that went well is followed by one cleaning up, before the next start."""
    for actor in record.actors:
        steps = record.of(What.STARTED, What.STOPPING, What.STOPPED, actor=actor)
        kinds = [event.what for event in steps]
        assert kinds == [What.STARTED, What.STOPPING, What.STOPPED] * (len(kinds) // 3)
        lives = [event.life for event in steps]
        assert lives == sorted(lives)
        assert all(count == 3 for count in Counter(lives).values())


def check_i27(record: Record) -> None:
    """Nothing is left of a system that is closed."""
    assert record.tasks_left == 0
    assert record.next_deadline == inf
    assert record.names_left == ()
    ended = [event.actor for event in record.of(What.ENDED)]
    assert sorted(ended) == sorted(record.entered)
