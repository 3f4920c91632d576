"""What lies in a mailbox and is not a plain message.

A plain message is put there as it is. One with a sender, a deadline or somebody who waits
for a reply lies in an envelope; a notice becomes a message or a signal when its turn comes.
"""

from collections.abc import Callable, Hashable
from math import inf
from typing import Any, ClassVar, Final, final

from ._asks import Ask
from ._lanes import Loss
from ._ref import NUMBER, ActorRef

VOID: Final = object()
"""What a notice gives that has nothing to say any more."""


class Special:
    """Anything in a mailbox that is not a plain message."""

    __slots__ = ()


@final
class Envelope(Special):
    """A message with what travels with it.

    Raises:
        ValueError: `deadline` is no number.
    """

    __slots__ = ("ask", "deadline", "message", "redelivered", "sender")

    def __init__(
        self,
        message: Any,
        sender: ActorRef[Any] | None,
        deadline: float = inf,
        ask: Ask | None = None,
    ) -> None:
        if not (isinstance(deadline, NUMBER) and deadline <= inf):
            raise ValueError(f"deadline must be a time on trio's clock; it is {deadline!r}")
        self.message = message
        self.sender = sender
        self.deadline = deadline
        self.ask = ask
        self.redelivered = False  # an incarnation has crashed while it handled it


class Notice(Special):
    """Something that the actor learns, made when its turn comes."""

    __slots__ = ()

    is_signal: ClassVar[bool] = False
    """Whether it is for `Actor.on_signal`, not for `Actor.receive`."""

    def open(self) -> Any:
        """Give the message or signal, or `VOID`."""
        raise NotImplementedError

    def handled(self) -> None:
        """Learn that the actor has handled it."""

    def lost(self, loss: Loss) -> Any:  # noqa: ARG002 - for overriders
        """Learn that it will not be handled; give the message that is lost with it, or `VOID`."""
        return VOID


@final
class Stop(Special):
    """Ends a message loop."""


STOP: Final = Stop()


@final
class StartToDrain(Special):
    """Tells a message loop that it will end when it has handled what is in the mailbox."""


START_TO_DRAIN: Final = StartToDrain()


def content_of(item: Any) -> Any:
    """Give the message of an item; of a signal the notice itself."""
    return getattr(item, "message", item) if isinstance(item, Special) else item


def key_of_content(key: Callable[[Any], Hashable]) -> Callable[[Any], Hashable]:
    """Give the key of a coalescing lane that finds the message in its envelope."""

    def key_of(item: Any) -> Hashable:
        return item if isinstance(item, Notice) else key(content_of(item))

    return key_of
