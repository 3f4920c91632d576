"""I1 to I8 of the actors' contract: what becomes of each message."""

from collections import Counter

from tests.actors.proof.checks import check_i1
from tests.actors.proof.properties import in_every_world
from tests.actors.proof.record import BRACKETS, CLOSING, Event, Offer, Record, What, returns_for

from greenroom.actors import Delivery, InFlight, Loss, Overflow, Terminated

# What a refusal is called by the one who sent, and by the dead letter.
REFUSALS = {
    Delivery.REJECTED: Loss.REJECTED,
    Delivery.DROPPED_NEW: Loss.DROPPED,
    Delivery.CLOSED: Loss.OVERLOAD,
    Delivery.STOPPING: Loss.STOPPING,
    Delivery.DEAD: Loss.DEAD,
}

# What a full lane answers.
FULL = {
    Overflow.REJECT: {Delivery.REJECTED},
    Overflow.DROP_NEW: {Delivery.DROPPED_NEW},
    Overflow.DROP_OLDEST: {Delivery.DROPPED_OLDEST},
    Overflow.COALESCE: {Delivery.COALESCED, Delivery.REJECTED},
    Overflow.CLOSE: {Delivery.CLOSED},
}


def between(record: Record, number: int) -> list[Event]:
    """Give what happened between the offer of a message and the answer to it."""
    kinds = (What.OFFERED, What.ANSWERED)
    begin, end = (
        at
        for at, event in enumerate(record.events)
        if event.number == number and event.what in kinds
    )
    return record.events[begin + 1 : end]


@in_every_world
def test_i1_every_accepted_message_is_handled_lost_or_waiting_or_the_one_in_hands(
    record: Record,
) -> None:
    check_i1(record)


@in_every_world
def test_i1_nothing_waits_for_an_actor_that_has_nothing_to_do(record: Record) -> None:
    for event in record.of(What.QUIET):
        if record.idle(event.actor) and event.load is not None:
            assert event.load.again == event.load.lane == ()


@in_every_world
def test_i2_messages_of_one_sender_are_handled_in_the_order_of_sending_and_those_put_back_first(
    record: Record,
) -> None:
    messages = record.messages
    for actor in record.actors:
        returns = returns_for(record, actor)
        newest: Counter[str] = Counter()
        for event in record.of(actor=actor):
            if event.what is What.TAKEN and returns.again:
                assert event.number == returns.again[0]
            elif event.what is What.TAKEN and event.number in messages:
                sender = messages[event.number].detail.sender
                assert event.number > newest[sender]
                newest[sender] = event.number
            returns.see(event)


@in_every_world
def test_i3_a_message_is_taken_once_and_again_only_from_the_stash_or_to_be_redelivered_once(
    record: Record,
) -> None:
    for number, offer in record.messages.items():
        role = record.role(offer.actor)
        count = Counter(event.what for event in record.of(number=number))
        once_more = role.in_flight is InFlight.REDELIVER and count[What.BROKEN_OFF] > 0
        assert count[What.TAKEN] <= 1 + count[What.STASHED] + once_more
        assert count[What.DONE] <= 1


@in_every_world
def test_i4_an_actor_does_one_thing_at_a_time_and_lives_once_at_a_time(
    record: Record,
) -> None:
    for actor in record.actors:
        doing: Event | None = None
        life = 0
        for event in record.of(*BRACKETS, *CLOSING, actor=actor):
            if event.what in CLOSING:
                assert doing is not None
                assert event.what in BRACKETS[doing.what]
                assert (event.number, event.life) == (doing.number, doing.life)
                doing = None
            else:
                assert doing is None, f"{event} during {doing}"
                # One that is stopped before its first step does not begin at all.
                begins = event.what is What.STARTING and event.life > 0
                assert event.life > life if begins else event.life == life
                life = event.life
                doing = event


@in_every_world
def test_i5_a_lane_holds_up_to_its_capacity_and_refuses_only_what_is_beyond(
    record: Record,
) -> None:
    answers = {event.number: event.detail for event in record.of(What.ANSWERED)}
    for event in record:
        room = record.role(event.actor).capacity
        if event.load is None or room is None:
            continue
        assert len(event.load.lane) <= room
        if event.what is What.OFFERED and event.detail.way == "tell":
            full = len(event.load.lane) == room
            policy = FULL[record.role(event.actor).overflow]
            closed = {Delivery.DEAD, Delivery.STOPPING}
            assert answers[event.number] in closed | (policy if full else {Delivery.ACCEPTED})


@in_every_world
def test_i5_signals_and_requests_to_stop_come_before_all_messages_and_none_is_dropped(
    record: Record,
) -> None:
    for watcher in record.actors:
        expected: set[str] = set()  # whose ends it will be told of next
        watched: set[str] = set()
        told: set[str] = set()
        dead: set[str] = set()
        stops = False
        for event in record:
            if event.what is What.ENDED:
                dead.add(event.actor)
            elif event.actor == watcher and event.what is What.WATCHES:
                watched.add(event.detail)
            elif event.actor == watcher and event.what is What.STOP:
                stops |= not (record.role(watcher).drain if event.detail is None else event.detail)
            elif event.actor == watcher and event.what is What.SIGNAL:
                if isinstance(event.detail, Terminated):
                    name = event.detail.ref.path.rpartition("/")[2]
                    assert name in expected
                    told.add(name)
            elif event.actor == watcher and event.what is What.TAKEN:
                assert not expected
                assert not stops
            elif event.actor == watcher and event.what is What.QUIET:
                assert not expected or not record.idle(watcher)
            expected = watched & dead - told


@in_every_world
def test_i6_every_loss_is_one_dead_letter_with_its_reason_and_all_counts_are_equal(
    record: Record,
) -> None:
    letters: dict[int, list[Loss]] = {number: [] for number in record.messages}
    for event in record.of(What.LOST):
        letters.setdefault(event.number, []).append(event.detail)
    late = len(record.of(What.LATE))
    assert record.losses == Counter(
        [loss for losses in letters.values() for loss in losses] + [Loss.LATE] * late
    )
    for event in record.of(What.ANSWERED):
        if event.detail in REFUSALS:
            assert letters[event.number] == [REFUSALS[event.detail]]
        if record.messages[event.number].detail.way == "tell":
            check_what_a_tell_has_lost(record, event)
    for number in record.messages:
        assert len(letters[number]) <= 1
        if letters[number] == [Loss.EXPIRED]:
            check_that_it_has_expired(record, number)


def check_what_a_tell_has_lost(record: Record, answer: Event) -> None:
    """A message is lost to let this one in, or this one itself, or none."""
    offer = record.messages[answer.number]
    assert offer.load is not None
    lost = [(event.number, event.detail) for event in between(record, answer.number)]
    ticks = {event.number for event in record.of(What.SET)}
    if answer.detail is Delivery.DROPPED_OLDEST:
        oldest = offer.load.lane[0]
        # The tick of a timer that is no longer set is no loss.
        assert lost == [(oldest, Loss.DROPPED)] or (oldest in ticks and not lost)
    elif answer.detail is Delivery.COALESCED:
        same = [
            number
            for number in offer.load.lane
            if number not in ticks and record.messages[number].detail.key == offer.detail.key
        ]
        assert lost == [(same[0], Loss.COALESCED)]
    elif answer.detail is Delivery.ACCEPTED:
        assert lost == []
    else:
        assert (answer.number, REFUSALS[answer.detail]) in lost


def check_that_it_has_expired(record: Record, number: int) -> None:
    """It came too late, or nobody waited for the answer any more."""
    (event,) = record.of(What.LOST, number=number)
    offer: Offer = record.messages[number].detail
    over = record.outcomes.get(number)
    assert offer.deadline <= event.at or (over is not None and over.turn <= event.turn + 1)


@in_every_world
def test_i7_tell_never_waits_and_never_raises_whatever_has_become_of_the_target(
    record: Record,
) -> None:
    answers = {event.number: event for event in record.of(What.ANSWERED)}
    for number, offer in record.messages.items():
        if offer.detail.way == "tell":
            answer = answers[number]
            assert isinstance(answer.detail, Delivery)
            assert (answer.at, answer.turn) == (offer.at, offer.turn)
            meanwhile = {event.what for event in between(record, number)}
            assert meanwhile <= {What.LOST, What.ENDED}


@in_every_world
def test_i8_a_message_whose_deadline_has_passed_or_whose_asker_is_gone_is_never_handled(
    record: Record,
) -> None:
    messages = record.messages
    promised = {event.number for event in record.of(What.PROMISED)}
    settled: set[int] = set()
    for event in record:
        if event.what is What.SETTLED and event.number not in promised:
            settled.add(event.number)
        if event.what is What.TAKEN and event.number in messages:
            assert event.at < messages[event.number].detail.deadline
            assert event.number not in settled
