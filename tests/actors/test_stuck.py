"""Actors that do not end when they should: reported with the place where they hang."""

import pytest
import trio
import trio.testing
from tests.actors.acting import once, settled

from greenroom.actors import (
    INFINITY,
    Actor,
    ActorStuck,
    ChildSpec,
    Supervisor,
    open_actor_system,
)


class Shielded(Actor[float]):
    """Hears of no cancellation while it handles a message."""

    async def receive(self, seconds: float) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)


@pytest.mark.parametrize(("end", "patience"), [("stop", 2), ("kill", 1)])
async def test_an_actor_that_somebody_stops_or_kills_is_reported_when_it_is_stuck(
    end: str, patience: float, autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    reports: list[tuple[float, str]] = []
    async with open_actor_system("s") as system:
        system.events.subscribe(
            ActorStuck, lambda event: reports.append((trio.current_time(), event.frames[-1]))
        )
        actor = system.spawn(once(Shielded, shutdown=1, cleanup_timeout=0.5))
        actor.tell(60)
        await settled()
        getattr(actor, end)()
        await actor.join()
    assert [time for time, _ in reports] == [patience]


async def test_at_the_end_of_the_system_who_hangs_is_reported_and_not_those_above(
    autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    stuck: list[str] = []
    async with open_actor_system("s", shutdown_timeout=3) as system:
        system.events.subscribe(ActorStuck, lambda event: stuck.append(event.ref.path))
        group = system.spawn(ChildSpec("group", Supervisor))
        child = group.start_child(once(Shielded, shutdown=INFINITY))
        await child.wait_started()
        child.tell(60)
        await settled()
    assert stuck == ["/s/group/child"]
