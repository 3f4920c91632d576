"""Virtual time: it passes when nothing else can happen, and never while a thread is at work."""

import socket
import time
from typing import Any

import pytest
import trio
import trio.testing

from greenroom.actors import Actor, ChildSpec, ExitReason, open_actor_system
from greenroom.actors.testing import Deadlock, note, simulate


def test_a_day_passes_at_once_and_exactly() -> None:
    async def scenario() -> float:
        for _ in range(24):
            await trio.sleep(3600)
        return trio.current_time()

    begun = time.perf_counter()
    run = simulate(scenario)
    assert run.value == run.ended_at == 24 * 3600
    assert time.perf_counter() - begun < 10


def test_deadlines_are_met_in_their_order() -> None:
    async def wake(seconds: float) -> None:
        await trio.sleep(seconds)
        note(f"{trio.current_time():g}")

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            for seconds in (0.3, 0.1, 7, 0.2):
                nursery.start_soon(wake, seconds)

    assert simulate(scenario).notes == ("0.1", "0.2", "0.3", "7")


def test_time_stands_still_while_a_thread_is_at_work() -> None:
    async def scenario() -> float:
        with trio.fail_after(0.001):
            await trio.to_thread.run_sync(time.sleep, 0.05, abandon_on_cancel=True)
        return trio.current_time()

    run = simulate(scenario)
    assert run.value == 0
    assert run.waited_outside


def test_a_socket_that_has_something_to_say_is_heard_before_time_goes_on() -> None:
    async def scenario() -> float:
        one, other = (trio.socket.from_stdlib_socket(end) for end in socket.socketpair())
        with one, other, trio.fail_after(0.001):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.recv, 5)
                await other.send(b"hello")
        return trio.current_time()

    assert simulate(scenario).value == 0


def test_a_socket_that_stays_silent_does_not_stop_time() -> None:
    async def scenario() -> float:
        one, other = (trio.socket.from_stdlib_socket(end) for end in socket.socketpair())
        with one, other, trio.move_on_after(60):
            await one.recv(5)
        return trio.current_time()

    run = simulate(scenario)
    assert run.value == 60
    assert run.waited_outside


def test_waiting_for_all_others_to_be_blocked_comes_before_time() -> None:
    async def scenario() -> float:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 10)
            await trio.testing.wait_all_tasks_blocked()
            now = trio.current_time()
            nursery.cancel_scope.cancel()
        return now

    assert simulate(scenario).value == 0


def test_a_deadlock_is_told_with_the_places_where_the_tasks_wait() -> None:
    async def wait_for_ever() -> None:
        await trio.Event().wait()

    async def scenario() -> None:
        await trio.sleep(2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_ever)

    with pytest.raises(Deadlock, match="at 2 seconds all tasks wait") as failure:
        simulate(scenario)
    mine, other = failure.value.waiting
    assert mine.startswith("scenario in ")
    assert other.startswith("wait_for_ever in ")
    assert "test_clock" in other
    assert failure.value.trace.endswith("(simulation): is over, cancelled")


def test_a_deadlock_that_cannot_be_cancelled_ends_as_well() -> None:
    async def stubborn() -> None:
        with trio.CancelScope(shield=True):
            await trio.Event().wait()

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stubborn)
            nursery.start_soon(stubborn)

    with pytest.raises(Deadlock) as failure:
        simulate(scenario)
    assert "(simulation): is over, raised BaseExceptionGroup" in failure.value.trace


def test_an_actor_that_waits_for_ever_while_it_cleans_up_ends_as_well() -> None:
    class Stubborn(Actor[Any]):
        async def stopped(self, reason: ExitReason) -> None:
            with trio.CancelScope(shield=True):
                await trio.Event().wait()

    async def scenario() -> None:
        async with open_actor_system("shop") as system:
            system.spawn(ChildSpec("till", Stubborn))

    with pytest.raises(Deadlock, match=r"till in .*Stubborn\.stopped"):
        simulate(scenario)
