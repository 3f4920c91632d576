"""I29 of the actors' contract: whenever a program is cancelled, no promise is broken."""

import logging
from collections.abc import Iterator

import pytest
from tests.actors.proof.cases import CASES
from tests.actors.proof.checks import check_i1, check_i9, check_i25, check_i27
from tests.actors.proof.play import Stage
from tests.actors.proof.record import Record
from tests.actors.proof.worlds import World

from greenroom.actors.testing import every_cancellation

WORLDS = {name: CASES[name] for name in ("crashes", "questions", "timers")}
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
