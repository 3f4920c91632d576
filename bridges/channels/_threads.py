"""The threads of one consumer's blocking calls: one for each handler, or one for its life."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

import trio

from ...runtime import Message, describe
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


@final
class Blame:
    """Who is to blame for what is wrong with a database after the calls in one thread.

    asgiref keeps the thread's lease, and with it this object, until the last task that was
    started meanwhile has ended; such a task may be kept by the consumer itself. So from the
    consumer's end on, nothing here leads to it: it would stay in memory for ever.
    """

    __slots__ = ("_consumer", "_words", "message")

    def __init__(self, consumer: "AsyncConsumer") -> None:
        self._consumer: AsyncConsumer | None = consumer
        self._words = ""
        self.message: Message | None = None

    def __call__(self) -> str:
        """Name the consumer, and the message that was handled last."""
        if self._consumer is None:
            return self._words
        return _name(self._consumer, self.message)

    def end(self) -> None:
        """Let the consumer go: what comes now is of a task that has outlived it."""
        if self._consumer is not None:
            self._words = f"a task that has outlived {type(self._consumer).__name__}"
            self._consumer = self.message = None


async def live_pinned(consumer: "AsyncConsumer", live: Callable[[], Awaitable[object]]) -> None:
    """Await `live()` with one thread for all blocking calls of a consumer, from the first on.

    The thread counts as one of the pool's until the consumer's end.
    """
    # Where nothing tells the end of a handler, each call is guarded by itself.
    each = consumer._sync or trio.lowlevel.in_trio_task()
    blame = Blame(consumer)
    around = None if each else partial(database_guard, blame)
    try:
        async with Lease(around=around, pinned=True) as lease:
            token = pinned_thread.set(lease)
            consumer._thread = lease
            try:
                if consumer.scope.get("type") == "channel":
                    lease.reserve()  # a job that it has not taken yet can be another one's
                await live()
            finally:
                consumer._thread = None
                pinned_thread.reset(token)
    finally:
        blame.end()


@final
class HandlerThreads:
    """A thread for each handler whose code on asyncio makes blocking calls, for its length.

    While no handler has made one, all share the offer of a thread, which costs nothing. A
    consumer that is pinned has the same one for all.
    """

    __slots__ = ("_blame", "_consumer", "lease")

    lease: Lease

    def __init__(self, consumer: "AsyncConsumer") -> None:
        self._consumer = consumer

    async def open(self) -> None:
        """Offer a thread to what is called from now on."""
        if self._consumer._thread is not None:
            self.lease = self._consumer._thread
        else:
            self._blame = Blame(self._consumer)
            self.lease = Lease(around=partial(database_guard, self._blame))
            await self.lease.__aenter__()

    async def aclose(self, message: Message | None = None) -> None:
        """Give the thread back, if one was taken and is not pinned; `message` was handled."""
        if self._consumer._thread is None:
            self._blame.message = message
            try:
                await self.lease.__aexit__(None, None, None)
            finally:
                self._blame.end()
                del self.lease  # it knows who it is for: no reference cycle
        elif self.lease.used:
            await self.lease.refresh()

    async def renew(self, message: Message | None = None) -> None:
        """Give the thread of who has handled `message` back, and offer one to the next.

        Also if it is cancelled: there is `disconnect` to come.
        """
        try:
            await self.aclose(message)
        finally:
            await self.open()
