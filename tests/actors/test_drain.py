"""Actors that are asked to end and handle first what waits in their mailboxes."""

from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actors.acting import Player, forever, losses, once, player, settled, sleep

from greenroom.actors import (
    ActorRef,
    ChildSpec,
    Context,
    Crash,
    DeadlineExceeded,
    Delivery,
    Directive,
    Drain,
    ExitReason,
    InFlight,
    Lane,
    Loss,
    Overflow,
    Restart,
    Shutdown,
    Strategy,
    Supervisor,
    open_actor_system,
    open_dynamic_supervisor,
)


class Clerk(Player):
    """Writes down the drain, and needs a second for each message."""

    async def receive(self, message: Any) -> Any:
        await trio.sleep(1)
        return await super().receive(message)

    async def stopped(self, reason: ExitReason) -> None:
        self.log.append(reason)


@settings(deadline=None)
@given(
    before=st.integers(0, 4),
    begun_after=st.integers(0, 4),
    after=st.integers(0, 3),
    shutdown=st.integers(0, 5),
)
def test_i1_i2_i26_a_drain_handles_all_that_waited_in_order_as_far_as_the_time_allows(
    before: int, begun_after: int, after: int, shutdown: int
) -> None:
    log: list[Any] = []

    async def main() -> tuple[float, list[tuple[Any, Loss]]]:
        async with open_dynamic_supervisor() as supervisor:
            ref = supervisor.start_child(once(lambda: Clerk(log), shutdown=shutdown))
            await ref.wait_started()
            for number in range(before):
                assert ref.tell(number) is Delivery.ACCEPTED
            # In the middle between two messages, so that it is clear what is handled by then.
            await trio.sleep(begun_after + 0.5)
            ref.stop(drain=True)
            for number in range(before, before + after):
                assert ref.tell(number) is Delivery.STOPPING
            await ref.join()
            return trio.current_time(), losses(supervisor)

    at, lost = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    handled = [item for item in log if isinstance(item, int)]
    end = max(before, begun_after + 0.5)
    in_time = end <= begun_after + 0.5 + shutdown
    assert at == min(end, begun_after + 0.5 + shutdown)
    assert handled == [*range(min(before, begun_after + shutdown))]
    assert log[-1] == (Shutdown() if in_time else DeadlineExceeded())
    assert lost == [
        *((number, Loss.STOPPING) for number in range(before, before + after)),
        *((number, Loss.CANCELLED) for number in range(len(handled), before)[:1]),
        *((number, Loss.LEFT_OVER) for number in range(len(handled), before)[1:]),
    ]


@pytest.mark.parametrize(
    ("by_spec", "asked_for", "drains"),
    [(True, None, True), (True, False, False), (False, None, False), (False, True, True)],
)
async def test_the_spec_says_whether_an_actor_drains_unless_the_stop_does(
    by_spec: bool, asked_for: bool | None, drains: bool
) -> None:
    log: list[Any] = []
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(log, drain=by_spec))
        await ref.wait_started()
        ref.tell("waiting")
        ref.stop(drain=asked_for)
        await ref.join()
    assert log == ([Drain(), "waiting"] if drains else [])


async def test_actors_drain_one_after_the_other_when_their_system_ends() -> None:
    """In reverse, so that what is drained can still be handed to those who started before."""
    log: list[Any] = []

    def forward(number: int) -> Any:
        async def line(ctx: Context) -> None:
            assert store.tell(number) is Delivery.ACCEPTED

        return line

    root = [player(log, id="store", drain=True), player(id="front", drain=True)]
    async with open_actor_system("system", root=root) as system:
        store, front = system.children
        for number in range(5):
            front.tell(forward(number))
    assert [item for item in log if item != Drain()] == [0, 1, 2, 3, 4]
    assert not system.dead_letters.count


async def test_a_busy_actor_takes_nothing_from_the_moment_that_it_is_asked_to_drain(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Or a sender that is always faster could keep it from ending."""
    log: list[Any] = []
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(log))
        ref.tell(sleep(2))
        await settled()
        ref.tell("waiting")
        ref.stop("test", drain=True)
        assert ref.tell("too late") is Delivery.STOPPING
        assert await ref.send("too late") is Delivery.STOPPING
        assert await ref.join() == Shutdown("test")
        assert losses(supervisor) == [("too late", Loss.STOPPING)] * 2
    assert log == [Drain(), "waiting"]


@pytest.mark.parametrize("overflow", [*Overflow])
async def test_an_actor_that_drains_is_neither_overflown_nor_overloaded(
    overflow: Overflow, autojump_clock: trio.testing.MockClock
) -> None:
    log: list[Any] = []
    key = (lambda message: 1) if overflow is Overflow.COALESCE else None
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(log, mailbox=Lane(1, overflow, key)))
        ref.tell(sleep(1))
        await settled()
        ref.tell("waiting")
        ref.stop("test", drain=True)
        assert ref.tell("too late") is Delivery.STOPPING
        assert await ref.join() == Shutdown("test")
        assert losses(supervisor) == [("too late", Loss.STOPPING)]
    assert log == [Drain(), "waiting"]


async def test_senders_that_wait_for_room_are_sent_away_by_a_drain(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[Any] = []
    answers: list[Delivery] = []

    async def send(ref: ActorRef[Any]) -> None:
        answers.append(await ref.send("blocked"))
        assert trio.current_time() == 0

    async with open_dynamic_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.start_child(player(log, mailbox=Lane(1)))
        ref.tell(sleep(1))
        await settled()
        ref.tell("waiting")
        for _ in range(2):
            nursery.start_soon(send, ref)
        await settled()
        ref.stop(drain=True)
        await ref.join()
        assert losses(supervisor) == [("blocked", Loss.STOPPING)] * 2
    assert answers == [Delivery.STOPPING] * 2
    assert log == [Drain(), "waiting"]


async def test_a_drain_can_be_cut_short_by_a_stop_a_kill_or_a_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    for how in ("stop", "kill", "shutdown"):
        log: list[Any] = []
        begun = trio.current_time()
        async with open_dynamic_supervisor() as supervisor:
            ref = supervisor.start_child(once(lambda: Clerk(log), shutdown=2.5))  # noqa: B023
            await ref.wait_started()
            for number in range(4):
                ref.tell(number)
            ref.stop("test", drain=True)
            await trio.sleep(1.5)
            if how == "stop":
                ref.stop("now", drain=False)
            elif how == "kill":
                ref.kill()
            reason = await ref.join()
            # A stop lets the handler finish, a kill does not, and the time is that of the first.
            assert trio.current_time() - begun == {"stop": 2, "kill": 1.5, "shutdown": 2.5}[how]
            assert len(losses(supervisor)) == {"stop": 2, "kill": 3, "shutdown": 2}[how]
        assert (reason == Shutdown("test")) == (how == "stop")


async def test_a_crash_while_draining_ends_the_actor_without_a_restart(
    quiet: None,
) -> None:
    error = OSError()
    log: list[Any] = []
    spec = player(log, restart=Restart.PERMANENT, in_flight=InFlight.REDELIVER)
    async with open_actor_system("system", root=[spec]) as system:
        (ref,) = system.children
        for message in (1, error, 2):
            ref.tell(message)
        ref.stop(drain=True)
        assert isinstance(await ref.join(), Crash)
        assert losses(system) == [(error, Loss.CRASHED), (2, Loss.LEFT_OVER)]
    assert log == [Drain(), 1]


async def test_an_actor_that_resumes_goes_on_draining(quiet: None) -> None:
    error = OSError()
    log: list[Any] = []
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(player(log, on_failure=lambda error: Directive.RESUME))
        for message in (1, error, 2):
            ref.tell(message)
        ref.stop("test", drain=True)
        assert await ref.join() == Shutdown("test")
        assert losses(supervisor) == [(error, Loss.CRASHED)]
    assert log == [Drain(), 1, 2]


async def test_an_actor_that_fails_to_prepare_for_the_drain_crashes_and_loses_what_waits(
    quiet: None,
) -> None:
    class Clumsy(Player):
        async def on_signal(self, signal: Any) -> None:
            raise OSError

    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(Clumsy))
        ref.tell("waiting")
        ref.stop(drain=True)
        assert isinstance(await ref.join(), Crash)
        assert losses(supervisor) == [("waiting", Loss.LEFT_OVER)]


async def test_an_actor_asked_to_drain_before_it_is_ready_handles_what_it_got_when_it_is(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Slow(Player):
        async def started(self, ctx: Context, cause: ExitReason | None) -> None:
            await trio.sleep(2)

    log: list[Any] = []
    async with open_dynamic_supervisor() as supervisor:
        ref = supervisor.start_child(once(lambda: Slow(log)))
        ref.tell("early")
        await settled()
        ref.stop("test", drain=True)
        assert await ref.join() == Shutdown("test")
        assert trio.current_time() == 2
    assert log == [Drain(), "early"]


async def test_what_is_asked_before_a_drain_is_answered_by_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    replies: list[Any] = []

    async def ask(ref: ActorRef[Any]) -> None:
        replies.append(await ref.ask("question"))

    async with open_dynamic_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.start_child(player())
        ref.tell(sleep(1))
        await settled()
        nursery.start_soon(ask, ref)
        await settled()
        ref.stop(drain=True)
        await ref.join()
    assert replies == ["question"]


async def test_a_terminating_actor_with_queued_messages_does_not_spin(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It parks in its handler until its time is over, however much waits."""
    steps = 0

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal steps
            steps += 1

    async with open_dynamic_supervisor() as supervisor:
        for drain in (False, True):
            ref = supervisor.start_child(player(shutdown=5))
            ref.tell(forever)
            await settled()
            for number in range(500):
                ref.tell(number)
            instrument = Steps()
            trio.lowlevel.add_instrument(instrument)
            ref.stop(drain=drain)
            await ref.join()
            trio.lowlevel.remove_instrument(instrument)
            assert steps < 20
            steps = 0
        assert supervisor.dead_letters.count == 2 * 501


async def test_only_a_stop_for_good_drains(
    autojump_clock: trio.testing.MockClock, quiet: None
) -> None:
    """What waits is kept for the next incarnation when siblings are restarted together."""
    log: list[Any] = []
    family = Supervisor(
        [player(log, id="one", restart=Restart.PERMANENT, drain=True), ChildSpec("two", Player)],
        strategy=Strategy.ONE_FOR_ALL,
    )
    async with open_actor_system("system", root=[ChildSpec("family", lambda: family)]):
        one, two = family.children
        one.tell(sleep(1))
        await settled()
        one.tell("kept")
        two.tell(OSError())
        await settled()
        assert log == []
        assert one.tell("new") is Delivery.ACCEPTED
        await trio.sleep(2)
        assert log == ["kept", "new"]
