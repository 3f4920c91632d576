"""The `receive` and `send` of a scope actor, for an application written for asyncio.

A message costs a future and a callback: no trio task, no crossing. `receive` reads the
actor's mailbox, `send` writes to its transport, and both wait with a future that the
actor's own wake-up call resolves.
"""

import asyncio
from typing import final

from ...runtime import Message
from ...runtime.scopes import BUDGET, EVENTS, ScopeActor


@final
class HostedScope:
    """One scope as asyncio code sees it; `source` is the actor behind it.

    Who finds `receive` to be a bound method of this class may read `source.mailbox`
    itself, channel-layer messages included.
    """

    __slots__ = ("_loop", "_readers", "_writers", "source")

    def __init__(self, source: ScopeActor, loop: asyncio.AbstractEventLoop) -> None:
        self.source = source
        self._loop = loop
        self._readers: list[asyncio.Future[None]] = []
        self._writers: list[asyncio.Future[None]] = []

    async def receive(self) -> Message:
        """Wait for the next event of the server; several tasks may wait at once."""
        source = self.source
        mailbox = source.mailbox
        while not mailbox.depth(EVENTS):
            source.budget = BUDGET
            source.read_ready()
            if not mailbox.depth(EVENTS):
                future = self._loop.create_future()
                self._readers.append(future)
                if mailbox.wake is None:  # else another task of the scope waits already
                    mailbox.wait_with(self._wake_readers)
                await future
        source.budget -= 1
        if source.budget <= 0:
            await self._let_others_run()
        message: Message = mailbox.get_nowait_from(EVENTS)
        return message

    async def send(self, message: Message) -> None:
        """Hand one message to the client, and wait while too much is on the way to it."""
        source = self.source
        if source.send_nowait(message):
            source.budget -= 1
            if source.budget <= 0:
                await self._let_others_run()
            return
        source.budget = BUDGET
        while source.congested:
            future = self._loop.create_future()
            self._writers.append(future)
            source.wake_writer_with(self._wake_writers)
            await future

    async def _let_others_run(self) -> None:
        # As in trio, after many messages without waiting.
        self.source.budget = BUDGET
        await asyncio.sleep(0)

    def _wake_readers(self) -> None:
        _resolve(self._readers)

    def _wake_writers(self) -> None:
        _resolve(self._writers)


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():  # its task may have been cancelled
            future.set_result(None)
    futures.clear()
