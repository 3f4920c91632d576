"""Where messages end that nobody will handle: counted, kept a while, logged, passed on.

Nothing is lost in silence: every message that an actor was sent and did not get becomes
one dead letter with its reason.
"""

import inspect
import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from ._lanes import Loss

if TYPE_CHECKING:
    from ._ref import ActorRef

# Each of the first few is logged, then each that doubles the count: a flood stays readable.
LOGGED_ONE_BY_ONE: Final = 10

logger = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message that will not be handled.

    Args:
        message: what was sent.
        target: the actor that it was sent to.
        sender: who sent it, if that was said.
        loss: why it will not be handled.
    """

    message: Any
    target: "ActorRef[Any]"
    sender: "ActorRef[Any] | None"
    loss: Loss


@final
class DeadLetters:
    """All dead letters of one system: how many, the latest, and who wants to know.

    Args:
        keep: how many of the latest are kept in `recent`, 0 or more; their messages stay
            in memory that long.

    Raises:
        ValueError: `keep` is negative.
    """

    def __init__(self, keep: int = 100) -> None:
        if keep < 0:
            raise ValueError(f"keep must be 0 or more; it is {keep!r}")
        self.recent: Final[deque[DeadLetter]] = deque(maxlen=keep)
        self.by_loss: Final[Counter[Loss]] = Counter()
        self._subscribers: list[Callable[[DeadLetter], object]] = []
        self._telling = False

    @property
    def count(self) -> int:
        """How many there have been."""
        return self.by_loss.total()

    def subscribe(self, callback: Callable[[DeadLetter], object]) -> Callable[[], None]:
        """Have `callback` called with every dead letter from now on, in the sender's stack.

        Except for those that subscribers bring about while they are told of one: these are
        counted, kept and logged, but told to nobody, or it would never end.

        Returns:
            A function that ends the subscription; more calls do nothing.

        Raises:
            TypeError: `callback` is a coroutine function.
        """
        if inspect.iscoroutinefunction(callback):
            raise TypeError(
                f"callback must be a plain function, as nobody awaits it; it is {callback!r}: "
                "use the tell of an actor"
            )
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return unsubscribe

    def publish(self, letter: DeadLetter) -> None:
        """Count, keep, log and pass on one dead letter. Never raises."""
        self.by_loss[letter.loss] += 1
        self.recent.append(letter)
        if worth_a_line(self.count):
            logger.warning(
                "dead letter %d: %s for %s: %s",
                self.count,
                type(letter.message).__qualname__,
                letter.target.path,
                letter.loss.value,
            )
        if self._telling:
            return
        self._telling = True
        try:
            for callback in tuple(self._subscribers):
                try:
                    callback(letter)
                except Exception:
                    logger.exception("a subscriber to dead letters failed")
        finally:
            self._telling = False


def worth_a_line(count: int) -> bool:
    """Tell whether the dead letter with this number is logged.

    >>> [count for count in range(1, 100) if worth_a_line(count)]
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 40, 80]
    """
    if count <= LOGGED_ONE_BY_ONE:
        return True
    doublings, rest = divmod(count, LOGGED_ONE_BY_ONE)
    return not rest and not doublings & (doublings - 1)
