"""Random trees of waiting, crossing, threads and timeouts, cancelled at random, for a while."""

import asyncio
import contextlib
import random
import time
from collections import Counter

import pytest
import trio
from asgiref.sync import async_to_sync, sync_to_async

from greenroom.bridges.asyncio import HostedLoop, OuterLoop, call_app, open_hosted_loop
from greenroom.bridges.threads import Lease, ThreadPool, call_home, run_sync
from greenroom.runtime import speaks

ACTORS = 30
SECONDS = 1.5


class Chaos:
    """One run of the soak: its dice, its loop and its threads."""

    def __init__(self, seed: int, loop: HostedLoop | OuterLoop, pool: ThreadPool) -> None:
        self.dice = random.Random(seed)
        self.loop = loop
        self.pool = pool
        self.leaves = (
            self.sleep,
            self.gather,
            self.time_out,
            self.call_thread,
            self.call_thread_and_back,
            self.call_thread_and_home,
            self.lease_thread,
            self.queue,
            self.cross_to_trio,
            self.cross_there_and_back,
            self.leave_a_task,
        )

    def moment(self) -> float:
        return self.dice.random() * 0.004

    async def nap(self) -> None:
        await asyncio.sleep(0)

    async def sleep(self) -> None:
        await asyncio.sleep(self.dice.choice([0, self.moment()]))

    async def gather(self) -> None:
        await asyncio.gather(*[asyncio.sleep(self.moment()) for _ in range(3)])

    async def time_out(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(0.004), self.moment() * 2)

    async def call_thread(self) -> None:
        await run_sync(time.sleep, self.moment() / 2, pool=self.pool)

    async def call_thread_and_back(self) -> None:
        await run_sync(async_to_sync(self.nap), pool=self.pool)

    async def call_thread_and_home(self) -> None:
        await run_sync(call_home, self.nap, pool=self.pool)

    async def lease_thread(self) -> None:
        async with Lease(self.pool):
            await sync_to_async(int)()
            await sync_to_async(time.sleep)(self.moment() / 4)

    async def queue(self) -> None:
        queue: asyncio.Queue[int] = asyncio.Queue()
        taker = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.put_nowait(1)
        await taker

    async def cross_to_trio(self) -> None:
        await self.loop.run_trio(trio.sleep, self.moment())

    async def cross_there_and_back(self) -> None:
        await self.loop.run_trio(self.loop.run_asyncio, self.sleep)

    async def leave_a_task(self) -> None:
        asyncio.create_task(asyncio.sleep(60))  # noqa: RUF006

    async def tree(self, depth: int = 0) -> None:
        await self.dice.choice(self.leaves)()
        if depth < 2 and self.dice.random() < 0.4:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.dice.randrange(1, 3)):
                    group.create_task(self.tree(depth + 1))

    async def app(self, scope: object, receive: object, send: object) -> None:
        await self.tree()


@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_is_cancelled_whenever_nothing_hangs_and_nothing_is_left(seed: int) -> None:
    await soak(seed)


def test_nor_does_it_where_trio_is_the_guest_of_another_servers_loop() -> None:
    @speaks("trio")
    async def app(scope: object, receive: object, send: object) -> None:
        await soak(3)

    async def main() -> None:
        await call_app(app, {}, nothing, nothing)  # type: ignore[arg-type]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not trio.lowlevel.in_trio_run()

    asyncio.run(main())


async def nothing(*_: object) -> dict[str, object]:
    return {}


async def soak(seed: int) -> None:
    pool = ThreadPool(4, name="soak")
    counts: Counter[str] = Counter()

    async def actor() -> None:
        while trio.current_time() < end:
            with trio.move_on_after(chaos.dice.choice([0.001, 0.005, 0.02, 1])) as scope:
                await call_app(chaos.app, {}, nothing, nothing)  # type: ignore[arg-type]
                counts["done"] += 1
            counts["cancelled"] += scope.cancelled_caught

    async with open_hosted_loop() as loop:
        before = asyncio.all_tasks(loop.loop)
        chaos = Chaos(seed, loop, pool)
        complaints: list[object] = []
        loop.set_exception_handler(lambda _loop, context: complaints.append(context))
        end = trio.current_time() + SECONDS
        with trio.fail_after(SECONDS + 20):
            async with trio.open_nursery() as nursery:
                for _ in range(ACTORS):
                    nursery.start_soon(actor)
        assert asyncio.all_tasks(loop.loop) == before
        assert complaints == []
        with trio.fail_after(10):
            assert await run_sync(int, pool=pool) == 0
    assert (pool.busy, pool.pending) == (0, 0)
    assert pool.threads <= 8
    assert counts["done"] > 20
    assert counts["cancelled"] > 20
    pool.close()
