"""Arguments of the wrong kind and calls at the wrong place: refused at once, not at a crash."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from tests.actors.acting import Player, once, player, settled

from greenroom.actors import (
    Actor,
    AutoShutdown,
    ChildSpec,
    Context,
    ForeignSystem,
    InFlight,
    Lane,
    Overflow,
    Restart,
    Strategy,
    Supervisor,
    open_actor_system,
    open_dynamic_supervisor,
)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"restart": "temporary"}, "restart must be one of Restart.PERMANENT, "),
        ({"in_flight": "redeliver"}, "in_flight must be one of InFlight.DEAD_LETTER, "),
        ({"on_failure": 3}, "on_failure must be a function, or None; it is 3"),
        ({"backoff": 1.0}, "backoff must be a Backoff, or None; it is 1.0"),
        ({"expected": ("OSError",)}, "expected must be a tuple of exception classes; it is "),
        ({"expected": OSError}, "expected must be a tuple of exception classes; it is "),
        ({"shutdown": "5"}, "shutdown must be a number; it is '5'"),
        ({"start_timeout": None}, "start_timeout must be a number; it is None"),
        ({"stash_capacity": "many"}, "stash_capacity must be a number; it is 'many'"),
    ],
)
def test_a_spec_refuses_arguments_of_another_kind(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError) as failure:
        ChildSpec(**{"id": "child", "factory": Player, **bad})
    assert message in str(failure.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Lane(1, "close"),  # type: ignore[arg-type]
        lambda: Supervisor(strategy="one for all"),  # type: ignore[arg-type]
        lambda: Supervisor(auto_shutdown="any"),  # type: ignore[arg-type]
        lambda: Supervisor(on_exit=3),  # type: ignore[arg-type]
        lambda: Supervisor(once(Player)),  # type: ignore[arg-type]
        lambda: Supervisor([Player]),  # type: ignore[list-item]
    ],
)
def test_lanes_and_supervisors_refuse_the_names_of_things_for_the_things(
    make: Callable[[], object],
) -> None:
    with pytest.raises(TypeError, match=r"must be|write"):
        make()


def test_members_themselves_are_taken() -> None:
    Lane(1, Overflow.CLOSE)
    Supervisor(strategy=Strategy.ONE_FOR_ALL, auto_shutdown=AutoShutdown.ANY)
    ChildSpec("a", Player, restart=Restart.TRANSIENT, in_flight=InFlight.REDELIVER)


@pytest.mark.parametrize("capacity", [1.5, float("nan"), 0])
def test_a_lane_holds_a_whole_number_of_messages(capacity: Any) -> None:
    with pytest.raises(ValueError, match="capacity must be 1 or more, or None"):
        Lane(capacity)


async def test_a_class_in_place_of_a_spec_is_refused_with_what_to_write() -> None:
    async with open_actor_system("s") as system:
        with pytest.raises(TypeError, match=r'as ChildSpec\("a name", YourActor\)'):
            system.spawn(Player)  # type: ignore[arg-type]
        assert not list(system.children)


async def test_an_instance_that_has_lived_is_not_taken_for_another_actor(
    autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    one = Player()
    async with open_actor_system("s") as system:
        first = system.spawn(ChildSpec("first", lambda: one))
        assert await first.wait_started()
        with pytest.raises(TypeError, match="must make a new actor each time"):
            system.spawn(ChildSpec("second", lambda: one))
        assert list(system.children) == [first]


async def test_an_actor_is_started_in_its_own_thread_and_nothing_is_left_behind_elsewhere() -> None:
    async with open_actor_system("s") as system:
        parent = system.spawn(once(Player))

        async def spawn_elsewhere(ctx: Context) -> None:
            for start in (system.spawn, ctx.spawn):
                with pytest.raises(ForeignSystem):
                    await trio.to_thread.run_sync(start, player(id="lost"))
            with pytest.raises(ForeignSystem):
                await trio.to_thread.run_sync(lambda: ctx.nursery)
            with pytest.raises(ForeignSystem):
                await trio.to_thread.run_sync(system.stop)

        await parent.ask(spawn_elsewhere)
        assert list(system.children) == [parent]


async def test_a_context_of_the_past_starts_nothing_and_ties_nobody(
    autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    contexts: list[Context] = []

    async def give_away(ctx: Context) -> None:
        contexts.append(ctx)

    async with open_actor_system("s") as system:
        other = system.spawn(player(id="other"))
        for end in ("restarted", "ended"):
            actor = system.spawn(player(id=end))
            await actor.ask(give_away)
            if end == "restarted":
                actor.tell(OSError("gone"))
                await settled()
            else:
                actor.stop()
                await actor.join()
            past = contexts.pop()
            for use in (
                lambda: past.spawn(player(id="orphan")),  # noqa: B023 - used in this round
                lambda: past.nursery,  # noqa: B023
                lambda: past.watch(other),  # noqa: B023
                lambda: past.link(other),  # noqa: B023
            ):
                with pytest.raises(RuntimeError, match=r"incarnation of /s/.* that is over"):
                    use()
    assert trio.current_time() == 0


async def test_messages_are_handled_by_one_loop_at_a_time() -> None:
    async with open_actor_system("s") as system:
        actor = system.spawn(once(Player))

        async def loop_again(ctx: Context) -> str:
            with pytest.raises(RuntimeError, match="handles its messages already"):
                await ctx.handle_messages()
            return "still here"

        assert await actor.ask(loop_again) == "still here"


async def test_an_actor_that_kills_itself_begins_no_further_message() -> None:
    async def kill_itself(ctx: Context) -> None:
        ctx.self.kill()

    log: list[Any] = []
    async with open_actor_system("s") as system:
        actor = system.spawn(player(log))
        actor.tell(kill_itself)
        for number in range(10):
            actor.tell(number)
        await actor.join()
    assert not [entry for entry in log if entry in range(10)]


async def test_handlers_that_take_long_without_waiting_let_others_have_their_turn(
    mock_clock: trio.testing.MockClock,
) -> None:
    handled = 0

    class Busy(Actor[int]):
        async def receive(self, message: int) -> None:
            nonlocal handled
            handled += 1
            mock_clock.jump(0.004)  # of computing

    async with open_dynamic_supervisor() as supervisor:
        busy = supervisor.start_child(once(Busy))
        await busy.wait_started()
        for number in range(64):
            busy.tell(number)
        seen = []
        while handled < 64:
            await trio.lowlevel.checkpoint()
            seen.append(handled)
    turns = [after - before for before, after in zip([0, *seen], seen, strict=False)]
    assert max(turns) <= 8  # and not 64


async def test_a_ref_is_the_same_in_a_copied_message_and_refuses_to_be_pickled() -> None:
    async with open_actor_system("s") as system:
        actor = system.spawn(once(lambda: Player()))
        assert copy.deepcopy({"reply to": actor}) == {"reply to": actor}
        with pytest.raises(TypeError, match="send a name that the other side finds"):
            pickle.dumps(actor)
