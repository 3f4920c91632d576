"""I29 of the actors' contract: whenever a program is cancelled, no promise is broken."""

import logging
from collections.abc import Iterator

import pytest
from tests.actors.proof.checks import check_i1, check_i9, check_i25, check_i27
from tests.actors.proof.play import Stage
from tests.actors.proof.record import Record
from tests.actors.proof.worlds import (
    Answer,
    Ask,
    Fail,
    FailBeside,
    Message,
    ReplyLater,
    Role,
    Send,
    SetTimer,
    Sleep,
    Stash,
    Stop,
    Tell,
    Unstash,
    Watch,
    World,
)

from greenroom.actors import InFlight, Overflow, TimerMode
from greenroom.actors.testing import every_cancellation

A_SECOND = Message((Sleep(1),))

CRASHES = World(
    roles=(
        Role(capacity=2, in_flight=InFlight.REDELIVER, start=1, farewell=0.5),
        Role(pause=1, overflow=Overflow.DROP_OLDEST, farewell=2),
    ),
    scripts=(
        (
            Tell(0, Message((Watch(1), Stash(), Fail()))),
            Tell(0, Message((Sleep(1), Unstash(), Fail(errors=2)))),
            Send(0, A_SECOND),
            Send(0, Message((FailBeside(1),))),
            Sleep(3),
            Stop(1),
        ),
        (Tell(1, Message((Fail(),)), times=3), Ask(1, A_SECOND), Ask(0, A_SECOND)),
    ),
)

QUESTIONS = World(
    roles=(Role(capacity=1), Role(farewell=0.5), Role(capacity=2, drain=True)),
    scripts=(
        (Ask(0, Message((Ask(1, A_SECOND, timeout=2), Ask(2, A_SECOND)))), Ask(1)),
        (Ask(1, Message((ReplyLater(1, times=2),))), Ask(2, Message((ReplyLater(None),)), 2)),
        (Sleep(1), Send(0, A_SECOND), Answer(), Ask(0, Message((Stash(),)), patience=2)),
    ),
)

TIMERS = World(
    roles=(Role(capacity=1, shutdown=5, drain=True), Role(capacity=1, overflow=Overflow.CLOSE)),
    scripts=(
        (
            Tell(0, Message((SetTimer(0, 1, TimerMode.FIXED_RATE, A_SECOND),))),
            Tell(1, Message((SetTimer(0, 2, TimerMode.FIXED_DELAY, Message((Tell(0),))),))),
            Sleep(3),
            Tell(1, A_SECOND, times=3),
            Stop(0, drain=True),
        ),
    ),
)

WORLDS = {"crashes": CRASHES, "questions": QUESTIONS, "timers": TIMERS}
TARGETS = [None, "/stage/ann", "/stage/bob"]


def cancelled_everywhere(world: World, target: str | None) -> Iterator[tuple[str, Record]]:
    """Play a world once for each step at which it, or one of its actors, can be cancelled."""
    stages: list[Stage] = []

    async def scenario() -> None:
        stages.append(Stage(world))
        await stages[-1].play()

    for run in every_cancellation(scenario, target=target, max_steps=5000):
        assert run.tasks_left == ()
        yield run.trace, stages[-1].record


@pytest.mark.parametrize("target", TARGETS, ids=["everything", "ann", "bob"])
@pytest.mark.parametrize("name", WORLDS)
def test_i29_cancelled_at_any_step_no_message_question_start_or_resource_is_forgotten(
    name: str, target: str | None
) -> None:
    logging.disable()
    try:
        for trace, record in cancelled_everywhere(WORLDS[name], target):
            try:
                for check in (check_i1, check_i9, check_i25, check_i27):
                    check(record)
            except AssertionError as error:
                error.add_note(trace)
                raise
    finally:
        logging.disable(logging.NOTSET)
