"""Calls into the trio thread from other threads: all arrive, in order, until the run ends."""

import threading

import pytest
import trio
import trio.testing

from greenroom.bridges.asyncio._doorbell import Ring, current_ring


async def test_calls_of_each_thread_arrive_in_their_order_in_the_trio_thread() -> None:
    home = threading.current_thread()
    arrived: dict[int, list[int]] = {number: [] for number in range(4)}
    all_there = trio.Event()
    ring = current_ring()

    def arrive(thread: int, number: int) -> None:
        assert threading.current_thread() is home
        arrived[thread].append(number)
        if sum(map(len, arrived.values())) == 4000:
            all_there.set()

    def call(thread: int) -> None:
        for number in range(1000):
            ring(arrive, thread, number)

    for thread in arrived:
        threading.Thread(target=call, args=(thread,)).start()
    with trio.fail_after(20):
        await all_there.wait()
    assert all(numbers == list(range(1000)) for numbers in arrived.values())


async def test_a_call_that_rings_again_is_answered_again() -> None:
    rung_twice = trio.Event()
    ring = current_ring()
    ring(ring, rung_twice.set)
    with trio.fail_after(20):
        await rung_twice.wait()


def test_a_finished_run_refuses_and_the_next_one_has_its_own() -> None:
    async def main() -> Ring:
        ring = current_ring()
        assert current_ring() == ring
        return ring

    first = trio.run(main)
    with pytest.raises(trio.RunFinishedError):
        first(print)
    assert trio.run(main) != first


async def test_without_event_descriptors_trios_own_entry_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("os.eventfd", raising=False)
    done = trio.Event()
    current_ring()(done.set)
    with trio.fail_after(20):
        await done.wait()


def test_a_system_task_that_waits_for_a_thread_at_the_end_of_the_run_still_hears_of_it() -> None:
    heard = []

    async def wait_for_thread(ring: Ring, may_call: threading.Event) -> None:
        called = trio.Event()
        threading.Thread(target=lambda: (may_call.wait(20), ring(called.set))).start()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()  # the doorbell's task has ended
                may_call.set()
                await called.wait()
                heard.append(True)

    async def main() -> None:
        trio.lowlevel.spawn_system_task(wait_for_thread, current_ring(), threading.Event())
        await trio.testing.wait_all_tasks_blocked()

    trio.run(main)
    assert heard == [True]
