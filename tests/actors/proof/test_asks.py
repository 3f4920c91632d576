"""I9 to I11 of the actors' contract: what becomes of each question."""

from tests.actors.proof.checks import check_i9
from tests.actors.proof.properties import in_every_world
from tests.actors.proof.record import Event, Record, Returns, What, returns_for

from greenroom.actors import ActorDied, AskTimeout, InFlight, Loss, MailboxFull, RemoteError

ENDS = (What.RESTARTED, What.ENDED)


@in_every_world
def test_i9_every_question_ends_in_exactly_one_outcome(record: Record) -> None:
    check_i9(record)


def orphans(events: list[Event], still_open: set[int], returns: Returns) -> set[int]:
    """Give the questions that nobody will answer after the last of the events, an end."""
    if events[-1].what is What.ENDED:
        return still_open
    # It is started anew: what it has not begun to handle it will, and what comes to it again.
    for event in events:
        returns.see(event)
    begun = {event.number for event in events if event.what is What.TAKEN}
    promised = {event.number for event in events if event.what is What.PROMISED}
    return still_open & (begun - {*returns.again} | promised)


@in_every_world
def test_i10_the_end_of_the_one_who_is_asked_ends_the_question_within_one_pass(
    record: Record,
) -> None:
    outcomes = record.outcomes
    for actor in record.actors:
        still_open: set[int] = set()
        for at, event in enumerate(events := record.of(actor=actor)):
            if event.what is What.OFFERED and event.detail.way == "ask":
                still_open.add(event.number)
            still_open -= {event.number} if event.what is What.SETTLED else set()
            if event.what in ENDS:
                for number in orphans(events[: at + 1], still_open, returns_for(record, actor)):
                    outcome = outcomes[number]
                    assert outcome.turn <= event.turn + 1, f"{number} survives {event}"
                    if isinstance(outcome.detail, ActorDied) and event.what is What.ENDED:
                        refused = Loss.STOPPING in [
                            each.detail for each in record.of(What.LOST, number=number)
                        ]
                        assert refused or outcome.detail.reason is event.detail


@in_every_world
def test_i11_a_reply_that_is_late_or_the_second_is_a_dead_letter_and_changes_nothing(
    record: Record,
) -> None:
    letters = record.of(What.LATE)
    replies = record.of(What.REPLIED)
    for number, outcome in record.outcomes.items():
        mine = [event.detail for event in replies if event.number == number]
        late = [event.detail for event in letters if event.number == number]
        result = outcome.detail
        if isinstance(result, RemoteError):
            result = result.error
        # The first reply is the outcome, or nobody waits for any.
        used = mine[:1] if mine and mine[0] == result else []
        assert late == mine[len(used) :]
    assert len(letters) <= len(replies)


@in_every_world
def test_a_question_asked_for_the_sake_of_another_ends_no_later_than_that(record: Record) -> None:
    outcomes = record.outcomes
    left_to_others: set[int] = set()  # by handlers that go on
    for event in record:
        if event.what in (What.PROMISED, What.STASHED):
            left_to_others.add(event.number)
        elif event.what is What.OFFERED and event.detail.way == "ask":
            outer = event.detail.within
            if outer in outcomes and outer not in left_to_others:
                latest = max(outcomes[outer].turn, event.turn) + 1
                assert outcomes[event.number].turn <= latest


@in_every_world
def test_the_outcome_of_a_question_tells_what_has_happened(record: Record) -> None:
    """A time-out comes in time, a full mailbox has a limit, and an error is the handler's."""
    for number, outcome in record.outcomes.items():
        offer = record.messages[number]
        own = record.of(number=number)
        match outcome.detail:
            case AskTimeout() if offer.detail.within is None:
                assert outcome.at == offer.detail.deadline
            case MailboxFull():
                assert record.role(offer.actor).capacity is not None
            case RemoteError(error=error):
                assert any(error is event.detail for event in own)
            case ActorDied():
                assert record.of(*ENDS, actor=offer.actor)
                assert not has_failed_at(record, own)


def has_failed_at(record: Record, own: list[Event]) -> bool:
    """Tell whether the handler of a question has failed, and it is to be handled no more."""
    steps = {What.TAKEN, What.PROMISED, What.STASHED, What.BROKEN_OFF}
    handled = [event for event in own if event.what in steps]
    kinds = [event.what for event in handled]
    if What.PROMISED in kinds or kinds[-2:] != [What.TAKEN, What.BROKEN_OFF]:
        return False
    last = handled[-1]
    once = record.role(last.actor).in_flight is InFlight.DEAD_LETTER
    return isinstance(last.detail, Exception) and (once or kinds.count(What.BROKEN_OFF) > 1)
