"""One thread for the length of a handler, for all its blocking calls."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.testing
from asgiref.sync import SyncToAsync, async_to_sync, sync_to_async

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.threads import Lease, ThreadPool, run_sync


async def test_all_sync_to_async_calls_of_a_block_share_one_thread(pool: ThreadPool) -> None:
    async def handler() -> set[threading.Thread]:
        async with Lease(pool) as lease:
            return {
                await sync_to_async(threading.current_thread)(),
                await sync_to_async(threading.current_thread)(),
                await run_sync(threading.current_thread, pool=lease),
            }

    async with open_hosted_loop() as loop:
        threads = await loop.run_asyncio(handler)
        assert len(threads) == 1
        assert threading.current_thread() not in threads


async def test_trio_code_leases_a_thread_too(pool: ThreadPool) -> None:
    async with Lease(pool) as lease:
        thread = await run_sync(threading.current_thread, pool=lease)
        assert await run_sync(threading.current_thread, pool=lease) is thread
    with pytest.raises(RuntimeError, match="ended"):
        await run_sync(int, pool=lease)


async def test_a_block_without_blocking_calls_takes_no_thread(pool: ThreadPool) -> None:
    async def handler() -> None:
        async with Lease(pool, around=lambda: pytest.fail("entered")):
            await asyncio.sleep(0)

    async with open_hosted_loop() as loop:
        await loop.run_asyncio(handler)
    assert pool.threads == 0


def test_around_is_entered_before_the_first_call_and_left_at_the_end(pool: ThreadPool) -> None:
    seen: list[object] = []

    @contextmanager
    def around() -> Iterator[None]:
        seen.append(threading.current_thread())
        yield
        seen.append(threading.current_thread())

    async def handler() -> None:
        async with Lease(pool, around=around):
            seen.append(await sync_to_async(threading.current_thread)())
            seen.append(await sync_to_async(threading.current_thread)())
        assert len(seen) == 4  # left before the block is

    asyncio.run(handler())
    assert len(set(seen)) == 1


async def test_a_failure_of_around_fails_the_first_call(pool: ThreadPool) -> None:
    def around() -> None:
        raise OSError("no database")

    async with Lease(pool, around=around) as lease:  # type: ignore[arg-type]
        with pytest.raises(OSError, match="no database"):
            await run_sync(int, pool=lease)
        assert await run_sync(int, pool=lease) == 0


async def test_around_is_left_although_the_block_is_cancelled(pool: ThreadPool) -> None:
    seen = []

    @contextmanager
    def around() -> Iterator[None]:
        yield
        seen.append("left")

    async def handler() -> None:
        async with Lease(pool, around=around):
            await sync_to_async(int)()
            await asyncio.sleep(3600)

    async def trio_handler() -> None:
        async with Lease(pool, around=around) as lease:
            await run_sync(int, pool=lease)
            await trio.sleep_forever()

    async with open_hosted_loop() as loop:
        with trio.move_on_after(0.05) as scope:
            await loop.run_asyncio(handler)
        assert scope.cancelled_caught
        with trio.move_on_after(0.05) as scope:
            await trio_handler()
        assert scope.cancelled_caught
    assert seen == ["left", "left"]


async def test_handlers_that_keep_their_threads_do_not_exhaust_the_pool(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pool = ThreadPool(1, spare=1)

    async with Lease(pool) as first:
        one = await run_sync(threading.current_thread, pool=first)
        async with Lease(pool) as second:
            two = await run_sync(threading.current_thread, pool=second)
            assert one is not two
    pool.close()


async def test_a_block_that_never_got_its_thread_ends_without_one() -> None:
    pool = ThreadPool(1)
    release = threading.Event()
    entered: list[str] = []

    @contextmanager
    def around() -> Iterator[None]:
        entered.append("entered")
        yield

    async def occupy() -> None:
        await run_sync(release.wait, 10, pool=pool)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(occupy)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.001):
            async with Lease(pool, around=around) as lease:
                await run_sync(int, pool=lease)
        release.set()
    assert await run_sync(int, pool=pool) == 0
    assert entered == []
    pool.close()


async def test_nothing_of_a_loop_stays_in_a_leased_thread(pool: ThreadPool) -> None:
    async def handler() -> dict[str, object]:
        def look() -> dict[str, object]:
            return dict(SyncToAsync.threadlocal.__dict__)

        async with Lease(pool) as lease:
            await sync_to_async(int)()
            looked: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()

            class Look:
                def run(self, before: object = None) -> Callable[[], object]:
                    left = look()
                    return lambda: loop.call_soon_threadsafe(looked.set_result, left)

            lease.enqueue(Look())
            return await looked

    async with open_hosted_loop() as loop:
        assert await loop.run_asyncio(handler) == {}


def test_task_that_outlives_the_block_has_a_thread_for_each_call(pool: ThreadPool) -> None:
    seen: list[str] = []

    @contextmanager
    def around() -> Iterator[None]:
        seen.append("enter")
        yield
        seen.append("leave")

    async def outlives(inside: asyncio.Event, over: asyncio.Event) -> None:
        await sync_to_async(seen.append)("inside")
        inside.set()
        await over.wait()
        for _ in range(2):
            await sync_to_async(seen.append)("outside")
        with pytest.raises(LookupError):
            await sync_to_async(fail)()

    def fail() -> None:
        raise LookupError

    async def main() -> None:
        inside, over = asyncio.Event(), asyncio.Event()
        async with Lease(pool, around=around):
            task = asyncio.create_task(outlives(inside, over))
            await inside.wait()
        over.set()
        await task

    asyncio.run(main())
    alone = ["enter", "outside", "leave"]
    assert seen == ["enter", "inside", "leave", *alone, *alone, "enter"]


def test_call_that_no_thread_has_begun_when_the_block_ends_is_made_nevertheless() -> None:
    pool = ThreadPool(1, name="test")
    release = threading.Event()

    async def main() -> str:
        occupied = asyncio.create_task(run_sync(release.wait, 10, pool=pool))
        await asyncio.sleep(0)
        async with Lease(pool):
            task = asyncio.create_task(sync_to_async(threading.current_thread)())
            await asyncio.sleep(0)
        release.set()
        await occupied
        return (await task).name

    assert asyncio.run(asyncio.wait_for(main(), 10)).startswith("test-")
    pool.close()


def test_who_waits_in_async_to_sync_makes_the_calls_itself(pool: ThreadPool) -> None:
    async def block() -> set[threading.Thread]:
        async with Lease(pool) as lease:
            return {
                await sync_to_async(threading.current_thread)(),
                await run_sync(async_to_sync(nested), pool=lease),
            }

    async def nested() -> threading.Thread:
        return await sync_to_async(threading.current_thread)()

    here, leased = sorted(
        async_to_sync(block)(), key=lambda thread: thread is not threading.current_thread()
    )
    assert here is threading.current_thread()
    assert leased.name.startswith("test-")


def test_nothing_of_a_block_is_kept_by_asgiref(pool: ThreadPool) -> None:
    kept: list[weakref.ref[Lease]] = []

    async def block() -> None:
        for _ in range(3):
            async with Lease(pool) as lease:
                await sync_to_async(int)()
            kept.append(weakref.ref(lease))
            del lease

    asyncio.run(block())
    both = threading.Barrier(2)  # so that no thread is still about to leave its lease

    async def use_all() -> None:
        await asyncio.gather(*(run_sync(both.wait, 10, pool=pool) for _ in range(2)))

    asyncio.run(use_all())
    gc.collect()
    assert [each() for each in kept] == [None] * 3
