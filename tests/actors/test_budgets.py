"""How often one child may be restarted, whatever its supervisor says, and what follows."""

import logging
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actors.acting import Player, player, settled

from greenroom.actors import (
    ActorRef,
    ChildSpec,
    Crash,
    DynamicSupervisor,
    Restart,
    RestartsExhausted,
    RestartWindow,
    Strategy,
    Supervisor,
    open_actor_system,
)


def permanent(**options: Any) -> ChildSpec:
    return player(**{"restart": Restart.PERMANENT, **options})


limits = st.one_of(st.none(), st.integers(0, 3))


@settings(deadline=None)
@given(
    crashes=st.lists(st.integers(0, 8), max_size=6).map(sorted),
    intensity=limits,
    period=st.one_of(st.none(), st.integers(1, 3)),
    of_supervisor=st.integers(0, 3),
    together=st.booleans(),
)
def test_i14_the_budget_of_a_child_is_its_own_and_the_supervisors_where_it_says_nothing(
    crashes: list[int],
    intensity: int | None,
    period: int | None,
    of_supervisor: int,
    together: bool,
) -> None:
    supervisor = DynamicSupervisor(
        intensity=of_supervisor, period=2, per_child=not together, give_up=False
    )

    async def main() -> list[bool]:
        alive = []
        async with open_actor_system("system", root=[ChildSpec("top", lambda: supervisor)]):
            ref = supervisor.start_child(permanent(intensity=intensity, period=period))
            for at in crashes:
                await trio.sleep_until(at)
                ref.tell(OSError())
                await settled()
                alive.append(ref.alive)
        return alive

    logging.disable(logging.CRITICAL)
    try:
        alive = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        logging.disable(logging.NOTSET)
    window = RestartWindow(
        of_supervisor if intensity is None else intensity, 2 if period is None else period
    )
    expected = True
    for at, lives in zip(crashes, alive, strict=True):
        expected = expected and window.allows(at)
        assert lives == expected


async def test_i14_a_child_with_a_budget_of_its_own_spends_nothing_of_the_common_one(
    quiet: None,
) -> None:
    supervisor = Supervisor(
        [permanent(id="own", intensity=3), permanent(id="one"), permanent(id="two")],
        intensity=2,
        per_child=False,
    )
    async with open_actor_system("system", root=[ChildSpec("top", lambda: supervisor)]):
        own, one, two = supervisor.children
        for ref in (own, own, own, one, two):
            ref.tell(OSError())
            await settled()
        assert own.alive
        assert one.alive
        assert two.alive


async def test_a_supervisor_that_gives_up_tells_of_the_budget_that_was_used_up(
    quiet: None,
) -> None:
    supervisor = Supervisor([permanent(intensity=0, period=60)], intensity=5)
    error = OSError("the last crash")
    with pytest.raises(RestartsExhausted) as failure:  # noqa: PT012 - the block is the situation
        async with open_actor_system(
            "system", root=[ChildSpec("top", lambda: supervisor)], intensity=0
        ):
            (ref,) = supervisor.children
            ref.tell(error)
            await trio.sleep_forever()
    cause = failure.value.__cause__
    assert isinstance(cause, RestartsExhausted)
    assert str(cause) == f"more than 0 restarts of {ref.path} within 60 seconds"
    assert cause.__cause__ is error


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_i12_a_supervisor_that_does_not_give_up_lets_a_hopeless_child_go_alone(
    kind: type[Supervisor], caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = kind(give_up=False, intensity=1)
    async with open_actor_system("system", root=[ChildSpec("top", lambda: supervisor)]) as system:
        hopeless: ActorRef[Any] = supervisor.start_child(permanent(id="hopeless"))
        sibling = supervisor.start_child(permanent(id="sibling"))
        error = OSError("the last crash")
        hopeless.tell(OSError("the first crash"))
        hopeless.tell(error)
        hopeless.tell("never handled")
        assert await hopeless.join() == Crash(error)
        assert list(supervisor.children) == [sibling]
        assert await sibling.ask("hello") == "hello"
        (top,) = system.children
        assert top.alive
    text = f"not started again: more than 1 restarts of {hopeless.path} within 5 seconds"
    assert text in caplog.text


async def test_a_group_whose_failed_child_is_let_go_stays_as_it_is(quiet: None) -> None:
    supervisor = Supervisor(
        [permanent(id="one"), permanent(id="two", intensity=0), permanent(id="three")],
        strategy=Strategy.ONE_FOR_ALL,
        give_up=False,
    )
    async with open_actor_system("system", root=[ChildSpec("top", lambda: supervisor)]):
        one, two, three = supervisor.children

        async def incarnation(ctx: Any) -> int:
            return int(ctx.incarnation)

        two.tell(OSError())
        await two.join()
        await settled()
        assert list(supervisor.children) == [one, three]
        assert [await ref.ask(incarnation) for ref in (one, three)] == [0, 0]


def test_a_budget_may_be_given_in_part_and_is_checked_with_the_defaults() -> None:
    assert ChildSpec("one", Player, intensity=3).window(RestartWindow(1, 9)) == RestartWindow(3, 9)
    assert ChildSpec("one", Player, period=3).window(RestartWindow(1, 9)) == RestartWindow(1, 3)
    assert ChildSpec("one", Player).window(RestartWindow(1, 9)) == RestartWindow(1, 9)
