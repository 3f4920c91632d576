"""What a mailbox is made of and answers with: lanes, what a full one does, and what was lost.

Plain values: `_mailbox.py` puts and takes.
"""

import logging
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, final

from ._checks import expect_callable, expect_member

# The lanes of every actor.
CONTROL: Final = 0  # requests to stop, and signals: no limit, never behind a message
MESSAGES: Final = 1

logger = logging.getLogger(__name__)


class Overflow(Enum):
    """What a full lane does with a message that is put without waiting.

    REJECT:      refuse it and say so: the sender decides.
    DROP_NEW:    lose it: what came first is worth more.
    DROP_OLDEST: lose the oldest: what came last is worth more.
    COALESCE:    let it take over from the oldest with the same key; if there is none, as REJECT.
    CLOSE:       refuse it and end the actor, which is too slow to be kept.
    """

    REJECT = "reject"
    DROP_NEW = "drop new"
    DROP_OLDEST = "drop oldest"
    COALESCE = "coalesce"
    CLOSE = "close"


class Delivery(Enum):
    """What became of a message that was put."""

    ACCEPTED = "accepted"
    DROPPED_OLDEST = "accepted, the oldest was dropped"
    COALESCED = "accepted, an older one with the same key was dropped"
    REJECTED = "rejected, the lane is full"
    DROPPED_NEW = "dropped, the lane is full"
    CLOSED = "refused, the actor is closed for being too slow"
    STOPPING = "refused, the actor is stopping"
    DEAD = "refused, the actor has ended"

    @property
    def accepted(self) -> bool:
        """Whether the message is in the mailbox now."""
        return self in _ACCEPTING


_ACCEPTING: Final = {Delivery.ACCEPTED, Delivery.DROPPED_OLDEST, Delivery.COALESCED}


class Loss(Enum):
    """Why a message will not be handled."""

    REJECTED = "the lane was full"
    DROPPED = "dropped by a full lane"
    COALESCED = "a newer one with the same key took its place"
    OVERLOAD = "the actor was too slow and is closed"
    STOPPING = "the actor was stopping"
    DEAD = "the actor had ended"
    LEFT_OVER = "the actor ended before its turn came"
    CRASHED = "the actor crashed while handling it"
    CANCELLED = "the actor was cancelled while handling it"
    UNHANDLED = "the actor takes no messages"
    EXPIRED = "its deadline had passed, or its asker waited no longer, when its turn came"
    LATE = "it is a reply that nobody waits for any more"


@final
@dataclass(frozen=True, slots=True)
class Lane:
    """How much one lane holds, and what it does when it is full.

    Args:
        capacity: messages that may wait in the lane, 1 or more; `None` for no limit.
        overflow: what a full lane does with a message that is put without waiting.
        key: what `Overflow.COALESCE` compares; needed there and only there.

    Raises:
        ValueError: `capacity` is below 1, or `key` and `overflow` do not fit.
    """

    capacity: int | None = None
    overflow: Overflow = Overflow.REJECT
    key: Callable[[Any], Hashable] | None = None

    def __post_init__(self) -> None:
        expect_member("overflow", self.overflow, Overflow)
        expect_callable("key", self.key)
        if self.capacity is not None and not (
            isinstance(self.capacity, int) and self.capacity >= 1
        ):
            raise ValueError(f"capacity must be 1 or more, or None; it is {self.capacity!r}")
        if (self.overflow is Overflow.COALESCE) != (self.key is not None):
            raise ValueError(
                f"key belongs to Overflow.COALESCE, and to it only; overflow is {self.overflow}"
            )

    def find_the_key_of(self, item: Any, items: Iterable[Any]) -> int | None:
        """Tell the place of the first of `items` with the same key as `item`, if there is one."""
        assert self.key is not None
        try:
            key = self.key(item)
            return next((at for at, other in enumerate(items) if self.key(other) == key), None)
        except Exception:
            # The key belongs to the receiver; its fault must not reach the sender.
            logger.exception("the key of a coalescing lane failed; the message is rejected")
            return None


@final
@dataclass(frozen=True, slots=True)
class LaneCounts:
    """What has passed through one lane: `accepted == taken + evicted + waiting`.

    Args:
        accepted: messages let in.
        taken: messages handed to the receiver.
        evicted: messages let in and lost later, for a newer one or at the end.
        refused: messages never let in.
        waiting: messages in the lane now.
    """

    accepted: int
    taken: int
    evicted: int
    refused: int
    waiting: int
