"""A thread that is kept for long counts as one of the pool's, and one is left for others."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import trio
import trio.testing
from asgiref.sync import sync_to_async

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.threads import Lease, NoThreadToPin, ThreadPool, call_home, run_sync

kept = threading.local()


async def use_all(pool: ThreadPool) -> None:
    """Use both threads at the same time, so that none is still at something else."""
    both = threading.Barrier(2)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(partial(run_sync, both.wait, 10, pool=pool))


async def test_pinned_thread_stays_and_keeps_its_thread_locals(pool: ThreadPool) -> None:
    async with Lease(pool, pinned=True) as lease:
        await run_sync(setattr, kept, "value", "mine", pool=lease)
        await run_sync(int, pool=pool)  # of another thread
        assert await run_sync(lambda: kept.value, pool=lease) == "mine"
        assert not hasattr(kept, "value")


async def test_pinned_thread_counts_while_nothing_is_called(pool: ThreadPool) -> None:
    async with Lease(pool, pinned=True) as lease:
        assert pool.busy == pool.pinned == 0  # nobody has called yet
        await run_sync(int, pool=lease)
        assert pool.busy == pool.pinned == 1
        inside: list[int] = []

        async def ask() -> None:
            inside.append(pool.busy)

        await run_sync(call_home, ask, pool=lease)
        assert inside == [0]  # who waits in it makes no progress, so another may
    await use_all(pool)
    assert pool.busy == pool.pinned == 0


async def test_last_thread_cannot_be_pinned(pool: ThreadPool) -> None:
    async with Lease(pool, pinned=True) as first, Lease(pool, pinned=True) as second:
        await run_sync(int, pool=first)
        with pytest.raises(NoThreadToPin, match=r"1 of the 2 threads of the pool 'test' are pin"):
            await run_sync(int, pool=second)
        assert await run_sync(int, pool=pool) == 0
    async with Lease(pool, pinned=True) as third:
        assert await run_sync(int, pool=third) == 0


async def test_pool_of_one_thread_has_none_to_pin() -> None:
    pool = ThreadPool(1)
    async with Lease(pool, pinned=True) as lease:
        with pytest.raises(NoThreadToPin):
            await run_sync(int, pool=lease)
    pool.close()


async def test_the_log_warns_when_one_thread_is_left(caplog: pytest.LogCaptureFixture) -> None:
    pool = ThreadPool(3, name="pinned")
    async with Lease(pool, pinned=True) as first, Lease(pool, pinned=True) as second:
        await run_sync(int, pool=first)
        assert not caplog.records
        await run_sync(int, pool=second)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("2 of the 3 threads of the pool 'pinned' are pinned")
    pool.close()


async def test_pinned_thread_that_has_nothing_to_do_helps_nobody_who_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = ThreadPool(2, spare=0, name="pinned")
    answered = trio.Event()
    async with Lease(pool, pinned=True) as lease, trio.open_nursery() as nursery:
        await run_sync(int, pool=lease)
        nursery.start_soon(partial(run_sync, call_home, answered.wait, pool=pool))
        await trio.testing.wait_all_tasks_blocked(0.05)
        with trio.move_on_after(0.05):
            await run_sync(int, pool=pool)
        answered.set()
    assert "call_home waits for Event.wait; int waits for a thread" in caplog.text
    pool.close()


async def test_pinned_lease_that_waited_for_a_thread_in_vain_gives_up_its_claim() -> None:
    pool = ThreadPool(2)
    release = threading.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(partial(run_sync, release.wait, 10, pool=pool))
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.001):
            async with Lease(pool, pinned=True) as lease:
                await run_sync(int, pool=lease)
        assert pool.pinned == 0
        release.set()
    pool.close()


@pytest.mark.parametrize("ends", ["crash", "cancellation"])
async def test_thread_comes_back_after(pool: ThreadPool, ends: str) -> None:
    async def owner() -> None:
        async with Lease(pool, pinned=True) as lease:
            await run_sync(int, pool=lease)
            if ends == "crash":
                raise LookupError
            await trio.sleep_forever()

    with pytest.RaisesGroup(LookupError) if ends == "crash" else trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(owner)
            await trio.testing.wait_all_tasks_blocked()
            if isinstance(scope, trio.CancelScope):
                scope.cancel()
    await use_all(pool)
    assert pool.busy == pool.pinned == 0


async def use_twice(pool: ThreadPool) -> list[str]:
    """Call twice between two refreshes, and give what was around."""
    seen: list[str] = []

    @contextmanager
    def around() -> Iterator[None]:
        seen.append("enter")
        yield
        seen.append("leave")

    threads: set[threading.Thread] = set()
    async with Lease(pool, around=around, pinned=True) as lease:
        await lease.refresh()
        for _ in range(2):
            threads.add(await sync_to_async(threading.current_thread)())
            threads.add(await sync_to_async(threading.current_thread)())
            assert lease.used
            await lease.refresh()
            assert not lease.used
            seen.append("refreshed")
    assert len(threads) == 1
    return seen


async def test_refreshed_lease_leaves_what_is_around_and_keeps_its_thread(
    pool: ThreadPool,
) -> None:
    async with open_hosted_loop() as loop:
        seen = await loop.run_asyncio(use_twice, pool)
    assert seen == ["enter", "leave", "refreshed"] * 2


def test_refreshed_lease_does_so_natively_on_asyncio(pool: ThreadPool) -> None:
    assert asyncio.run(use_twice(pool)) == ["enter", "leave", "refreshed"] * 2
