"""One channel of the layer in memory: what waits on its name, and who reads it."""

from asyncio import QueueEmpty
from math import inf
from threading import get_ident
from typing import TYPE_CHECKING, Final, final

from ...actors import Delivery, Mailbox
from .._types import Message
from ._home import Home, Waiter, current_home

if TYPE_CHECKING:
    from ._memory import InMemoryChannelLayer

_ACCEPTED: Final = Delivery.ACCEPTED


@final
class Channel:
    """What waits on one name, and who reads it."""

    __slots__ = ("queue", "subscription", "waiters")

    def __init__(self) -> None:
        # Lists, since they are empty in nearly every channel, and an empty deque takes 760
        # bytes; what a layer's capacity lets into one is short enough for `pop(0)`.
        self.queue: list[tuple[float, Message]] = []  # (when it expires, message)
        self.waiters: list[Waiter] = []
        self.subscription: Subscription | None = None

    def qsize(self) -> int:
        """Tell how many messages wait here."""
        return self.subscription.depth() if self.subscription else len(self.queue)

    def empty(self) -> bool:
        """Tell whether no message waits here."""
        return not self.qsize()

    def get_nowait(self) -> tuple[float, Message]:
        """Take the next message, with the time when it expires: never, in a mailbox.

        For a test that looks into `layer.channels` after it has sent something.

        Raises:
            asyncio.QueueEmpty: none waits here.
        """
        if self.empty():
            raise QueueEmpty
        return self.subscription.take() if self.subscription else self.queue.pop(0)


@final
class Subscription:
    """One channel's messages going into one lane of a mailbox; made by `subscribe`."""

    __slots__ = ("_home", "_lane", "_layer", "_mailbox", "_on_the_way", "channel")

    def __init__(
        self, layer: "InMemoryChannelLayer", channel: str, mailbox: Mailbox, lane: int
    ) -> None:
        self.channel = channel
        self._layer = layer
        self._mailbox = mailbox
        self._lane = lane
        self._home: Home = current_home()
        self._on_the_way = 0  # sent by other threads, not in the lane yet

    def depth(self) -> int:
        """Tell how many messages wait in the lane, or are on the way there."""
        return self._mailbox.depth(self._lane) + self._on_the_way

    def deliver(self, message: Message) -> bool:
        """Put `message` into the lane; False when there is no room. From any thread.

        The caller holds the layer's lock, and has found `depth` below the capacity.
        """
        # What other threads have sent before goes first, by the same way.
        if self._on_the_way or get_ident() != self._home.thread:
            self._on_the_way += 1
            self._home.call_soon(self._arrive, message)
            return True
        delivery = self._mailbox.put(message, self._lane)
        return delivery is _ACCEPTED or delivery.accepted

    def _arrive(self, message: Message) -> None:
        with self._layer._lock:
            self._mailbox.put(message, self._lane)
            self._on_the_way -= 1

    def take(self) -> tuple[float, Message]:
        """Take the next message out of the lane, in the mailbox's thread."""
        return inf, self._mailbox.get_nowait_from(self._lane)

    def close(self) -> None:
        """End it: the channel leaves its groups, and nothing is delivered any more."""
        self._layer._end(self)
