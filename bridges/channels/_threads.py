"""The threads of one consumer's blocking calls: one for each handler, or one for its life."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

import trio

from ...runtime import describe
from ...runtime._types import Message
from ..django.database import database_guard
from ..threads import Lease

if TYPE_CHECKING:
    from .consumer import AsyncConsumer

# The thread of a pinned consumer, in all its code.
pinned_thread: Final[ContextVar[Lease | None]] = ContextVar("greenroom.pinned", default=None)


def guarding(consumer: "AsyncConsumer", message: Message | None = None) -> Callable[[], Any]:
    """Make a guard of the database around a handler, which names it where it is to blame."""
    return partial(database_guard, partial(_name, consumer, message))


def _name(consumer: "AsyncConsumer", message: Message | None) -> str:
    words = f"{type(consumer).__name__}, {describe(getattr(consumer, 'scope', {'type': '?'}))}"
    return words if message is None else f"{words}, handling {message.get('type')!r}"


async def live_pinned(consumer: "AsyncConsumer", live: Callable[[], Awaitable[object]]) -> None:
    """Await `live()` with one thread for all blocking calls of a consumer, from the first on.

    The thread counts as one of the pool's until the consumer's end.
    """
    # Where nothing tells the end of a handler, each call is guarded by itself.
    each = consumer._sync or trio.lowlevel.in_trio_task()
    async with Lease(around=None if each else guarding(consumer), pinned=True) as lease:
        token = pinned_thread.set(lease)
        consumer._thread = lease
        try:
            await live()
        finally:
            consumer._thread = None
            pinned_thread.reset(token)


@final
class HandlerThreads:
    """A thread for each handler whose code on asyncio makes blocking calls, for its length.

    While no handler has made one, all share the offer of a thread, which costs nothing. A
    consumer that is pinned has the same one for all.
    """

    __slots__ = ("_consumer", "_message", "lease")

    lease: Lease

    def __init__(self, consumer: "AsyncConsumer") -> None:
        self._consumer = consumer
        self._message: Message | None = None

    async def open(self) -> None:
        """Offer a thread to what is called from now on."""
        if self._consumer._thread is not None:
            self.lease = self._consumer._thread
        else:
            self.lease = Lease(around=partial(database_guard, self._who))
            await self.lease.__aenter__()

    def _who(self) -> str:
        return _name(self._consumer, self._message)

    async def aclose(self, message: Message | None = None) -> None:
        """Give the thread back, if one was taken and is not pinned; `message` was handled."""
        self._message = message
        if self._consumer._thread is None:
            try:
                await self.lease.__aexit__(None, None, None)
            finally:
                del self.lease  # it knows who it is for: no reference cycle
        elif self.lease.used:
            await self.lease.refresh()

    async def renew(self, message: Message | None = None) -> None:
        """Give the thread of who has handled `message` back, and offer one to the next."""
        await self.aclose(message)
        await self.open()
