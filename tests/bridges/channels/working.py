"""Workers for tests: the worlds they run in, and a layer that somebody wrote for asyncio."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.channels.consumer import AsyncConsumer, SyncConsumer
from greenroom.bridges.channels.exceptions import StopConsumer
from greenroom.bridges.channels.worker import Worker
from greenroom.runtime.layers import InMemoryChannelLayer, Waiter

Message = dict[str, Any]


class AsyncioLayer:
    """A channel layer of somebody else: it waits with futures, and knows nothing of trio."""

    def __init__(self) -> None:
        self.queues: defaultdict[str, deque[Message]] = defaultdict(deque)
        self.receiving: defaultdict[str, int] = defaultdict(int)
        self._waiting: defaultdict[str, deque[asyncio.Future[None]]] = defaultdict(deque)
        self._names = 0

    async def new_channel(self, prefix: str = "specific") -> str:
        self._names += 1
        return f"{prefix}.foreign!{self._names}"

    async def send(self, channel: str, message: Message) -> None:
        self.put(channel, message)

    def put(self, channel: str, message: Message) -> None:
        self.queues[channel].append(dict(message))
        while self._waiting[channel]:
            future = self._waiting[channel].popleft()
            if not future.done():
                future.set_result(None)
                break

    async def receive(self, channel: str) -> Message:
        self.receiving[channel] += 1
        try:
            while not self.queues[channel]:
                future = asyncio.get_running_loop().create_future()
                self._waiting[channel].append(future)
                await future
            return self.queues[channel].popleft()
        finally:
            self.receiving[channel] -= 1

    def waiting(self, channel: str) -> int:
        return len(self.queues[channel])


class TrioLayer(InMemoryChannelLayer):
    """Our layer, with the methods that tests ask of both."""

    def put(self, channel: str, message: Message) -> None:
        self.send(channel, message)

    def waiting(self, channel: str) -> int:
        entry = self.channels.get(channel)
        return 0 if entry is None else entry.qsize()


class Jobs:
    """What the handlers of one class have done, and how a test reaches into them."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.ended: list[Any] = []
        self.instances: list[Any] = []
        self._waiters: list[Waiter] = []

    def tell(self) -> None:
        """Let those go on whose condition may hold now; from any thread."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.wake()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds that only changes with `tell`, in trio or in asyncio."""
        while True:
            waiter = Waiter()
            self._waiters.append(waiter)
            if condition():
                return
            await waiter.wait()

    async def until_ended(self, count: int) -> None:
        await self.until(lambda: len(self.ended) >= count)


def recording(base: Any, jobs: Jobs) -> Any:
    """Make a consumer of the kind of `base` that records its jobs.

    `job.run` notes its number, `job.fail` raises after that, `job.stop` ends the consumer.
    """

    def begin(self: Any, message: Message) -> None:
        if self not in jobs.instances:
            jobs.instances.append(self)
        self.count = getattr(self, "count", 0) + 1
        jobs.begun.append((message["number"], self.count))
        jobs.tell()

    def finish(message: Message) -> None:
        jobs.ended.append(message["number"])
        jobs.tell()
        if message["type"] == "job.fail":
            raise OSError("no disk")
        if message["type"] == "job.stop":
            raise StopConsumer

    if issubclass(base, SyncConsumer):

        def handle(self: Any, message: Message) -> None:
            begin(self, message)
            finish(message)
    else:

        async def handle(self: Any, message: Message) -> None:  # type: ignore[misc]
            begin(self, message)
            library = trio if trio.lowlevel.in_trio_task() else asyncio
            await library.sleep(0)
            finish(message)

    body = {"job_run": handle, "job_fail": handle, "job_stop": handle}
    return type("Job", (base,), body)


class Asyncio(AsyncConsumer):
    """A consumer for asyncio, as nearly all are."""


class Trio(AsyncConsumer):
    greenroom_flavour = "trio"


class Sync(SyncConsumer):
    """A consumer whose handlers are plain functions."""


def job(number: int, kind: str = "run") -> Message:
    return {"type": f"job.{kind}", "number": number}


@asynccontextmanager
async def working(worker: Worker, world: str = "trio") -> AsyncIterator[trio.CancelScope]:
    """Run a worker in a trio test, awaited in trio or on the hosted asyncio loop."""
    async with open_hosted_loop() as loop, trio.open_nursery() as nursery:
        if world == "trio":
            nursery.start_soon(worker.arun)
        else:
            nursery.start_soon(loop.run_asyncio, worker.arun)
        yield nursery.cancel_scope
        nursery.cancel_scope.cancel()


KINDS = pytest.mark.parametrize(
    ("base", "layer_class"),
    [(base, layer) for base in (Asyncio, Trio, Sync) for layer in (TrioLayer, AsyncioLayer)],
)
WORLDS = pytest.mark.parametrize("world", ["trio", "hosted loop"])
