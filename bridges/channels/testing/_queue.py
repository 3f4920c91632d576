"""What a test and an application under test say to each other: a queue for both worlds."""

import asyncio
from typing import final

import trio

from ....runtime import Message
from ....runtime.flavours import speaks
from ....runtime.layers import Waiter


@final
class MessageQueue(asyncio.Queue[Message]):
    """asyncio's queue, of any length, which may be awaited under trio as well.

    Each side of one queue may be of either world, as long as both live in one thread.
    """

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._waiters: list[Waiter] = []

    def _put(self, item: Message) -> None:
        super()._put(item)
        for waiter in self._waiters:
            waiter.wake()

    @speaks("both")
    async def put(self, item: Message) -> None:
        """Add a message, of which there may be any number."""
        if trio.lowlevel.in_trio_task():
            await trio.lowlevel.checkpoint()
        self.put_nowait(item)

    @speaks("both")
    async def get(self) -> Message:
        """Wait for the next message, and take it."""
        if not trio.lowlevel.in_trio_task():
            return await super().get()
        await trio.lowlevel.checkpoint_if_cancelled()
        while self.empty():
            waiter = Waiter()
            self.wake_with(waiter)
            try:
                await waiter.wait()
            finally:
                self.forget(waiter)
        return self.get_nowait()

    def wake_with(self, waiter: Waiter) -> None:
        """Wake `waiter` whenever a message is put, until it is forgotten."""
        self._waiters.append(waiter)

    def forget(self, waiter: Waiter) -> None:
        """Do not wake `waiter` any more."""
        self._waiters.remove(waiter)
