"""Trio as its manual shows it: a memory channel in front of each task."""

from math import inf

import trio
from trio.lowlevel import checkpoint
from trio.testing import wait_all_tasks_blocked

from .meters import CPUTime, Memory

run = trio.run


async def hop(size: int) -> float:
    """Let two tasks tell each other in turn."""
    to_one, from_other = trio.open_memory_channel[int](inf)
    to_other, from_one = trio.open_memory_channel[int](inf)
    over = trio.Event()

    async def live(
        messages: trio.MemoryReceiveChannel[int], peer: trio.MemorySendChannel[int]
    ) -> None:
        async for left in messages:
            if left:
                peer.send_nowait(left - 1)
            else:
                over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(live, from_other, to_other)
        nursery.start_soon(live, from_one, to_one)
        await wait_all_tasks_blocked()
        with CPUTime(size) as cost:
            to_one.send_nowait(size)
            await over.wait()
        nursery.cancel_scope.cancel()
    return cost.each


async def tell_each(size: int, receivers: int, burst: int) -> float:
    """Tell each of `receivers` tasks `burst` messages, let others run, and so on."""
    handled = 0

    async def live(messages: trio.MemoryReceiveChannel[str]) -> None:
        nonlocal handled
        async for _ in messages:
            handled += 1

    channels = [trio.open_memory_channel[str](inf) for _ in range(receivers)]
    async with trio.open_nursery() as nursery:
        for _, messages in channels:
            nursery.start_soon(live, messages)
        await wait_all_tasks_blocked()
        turns = -(-size // (receivers * burst))
        total = turns * receivers * burst
        with CPUTime(total) as cost:
            for _ in range(turns):
                for sender, _ in channels:
                    for _ in range(burst):
                        sender.send_nowait("news")
                await checkpoint()
            while handled < total:
                await checkpoint()
        nursery.cancel_scope.cancel()
    return cost.each


async def idle(size: int) -> float:
    """Park tasks, each in a cancel scope and before a channel of its own."""
    senders = []

    async def live() -> None:
        sender, messages = trio.open_memory_channel[str](inf)
        senders.append(sender)
        with trio.CancelScope():
            async for _ in messages:
                pass

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(live)
        await wait_all_tasks_blocked()
        with Memory(size) as memory:
            for _ in range(size):
                nursery.start_soon(live)
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return memory.each
