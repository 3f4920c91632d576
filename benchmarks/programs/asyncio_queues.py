"""asyncio by hand: a task for each actor, with an `asyncio.Queue` in front of it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from .meters import CPUTime, Memory

BATCH = 100  # tasks started before others get a turn


def run(function: Callable[..., Coroutine[Any, Any, float]], *numbers: int) -> float:
    return asyncio.run(function(*numbers))


async def handle(queue: asyncio.Queue[Any], receive: Callable[[Any], object]) -> None:
    while True:
        receive(await queue.get())


def crash() -> None:
    raise OSError("gone")


async def let_others_run() -> None:
    await asyncio.sleep(0)


async def hop(size: int) -> float:
    """Let two tasks tell each other in turn."""
    one: asyncio.Queue[int] = asyncio.Queue()
    other: asyncio.Queue[int] = asyncio.Queue()
    over = asyncio.Event()

    def receive_with(peer: asyncio.Queue[int]) -> Callable[[int], None]:
        def receive(left: int) -> None:
            if left:
                peer.put_nowait(left - 1)
            else:
                over.set()

        return receive

    tasks = [
        asyncio.create_task(handle(one, receive_with(other))),
        asyncio.create_task(handle(other, receive_with(one))),
    ]
    await let_others_run()
    with CPUTime(size) as cost:
        one.put_nowait(size)
        await over.wait()
    await _cancel(tasks)
    return cost.each


async def tell_each(size: int, receivers: int, burst: int) -> float:
    """Tell each of `receivers` tasks `burst` messages, let others run, and so on."""
    handled = 0

    def receive(_: object) -> None:
        nonlocal handled
        handled += 1

    queues: list[asyncio.Queue[str]] = [asyncio.Queue() for _ in range(receivers)]
    tasks = [asyncio.create_task(handle(queue, receive)) for queue in queues]
    await let_others_run()
    turns = -(-size // (receivers * burst))
    messages = turns * receivers * burst
    with CPUTime(messages) as cost:
        for _ in range(turns):
            for queue in queues:
                for _ in range(burst):
                    queue.put_nowait("news")
            await let_others_run()
        while handled < messages:
            await let_others_run()
    await _cancel(tasks)
    return cost.each


async def ask(size: int) -> float:
    """Put a message with a future, and wait for the answer in it."""
    return await _ask(size, _ask_one)


async def ask_with_timeout(size: int) -> float:
    """Ask, for 5 seconds at most."""

    async def ask_in_time(queue: asyncio.Queue[Any]) -> Any:
        async with asyncio.timeout(5):
            return await _ask_one(queue)

    return await _ask(size, ask_in_time)


async def _ask(size: int, ask_one: Callable[[asyncio.Queue[Any]], Any]) -> float:
    def answer(question: tuple[asyncio.Future[Any], Any]) -> None:
        asker, message = question
        asker.set_result(message)

    queue: asyncio.Queue[Any] = asyncio.Queue()
    task = asyncio.create_task(handle(queue, answer))
    await let_others_run()
    with CPUTime(size) as cost:
        for _ in range(size):
            await ask_one(queue)
    await _cancel([task])
    return cost.each


async def _ask_one(queue: asyncio.Queue[Any]) -> Any:
    reply = asyncio.get_running_loop().create_future()
    queue.put_nowait((reply, "question"))
    return await reply


async def spawn(size: int) -> float:
    """Start tasks that end at once."""

    async def live() -> None:
        pass

    with CPUTime(size) as cost:
        tasks = []
        for number in range(1, size + 1):
            tasks.append(asyncio.create_task(live()))
            if not number % BATCH:
                await let_others_run()
                tasks.clear()
        await let_others_run()
    return cost.each


async def restart(size: int) -> float:
    """Catch a crash in the task, and start the next task."""
    left = size
    over = asyncio.Event()
    tasks = set()  # the loop itself keeps no task alive

    async def live() -> None:
        nonlocal left
        try:
            crash()
        except OSError:
            left -= 1
            if left:
                start()
            else:
                over.set()

    def start() -> None:
        task = asyncio.create_task(live())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    with CPUTime(size) as cost:
        start()
        await over.wait()
    return cost.each


async def idle(size: int) -> float:
    """Park tasks, each before a queue of its own."""
    tasks = [asyncio.create_task(handle(asyncio.Queue(), print)) for _ in range(BATCH)]
    await let_others_run()
    with Memory(size) as memory:
        tasks += [asyncio.create_task(handle(asyncio.Queue(), print)) for _ in range(size)]
        await let_others_run()
    await _cancel(tasks)
    return memory.each


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
