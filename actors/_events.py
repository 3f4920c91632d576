"""What happens in a tree of actors, told to whoever wants to know: logs, metrics, tests.

Where nobody listens, an event costs one look at `EventStream.subscriptions`: it is not even
made. Those who publish in a hot place look there first.
"""

import inspect
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, final

from ._dead_letters import DeadLetter
from ._reasons import ExitReason
from ._ref import ActorRef

E = TypeVar("E")

logger = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True)
class ActorStarted:
    """An incarnation of an actor is ready for its first message."""

    ref: ActorRef[Any]
    incarnation: int


@final
@dataclass(frozen=True, slots=True)
class ActorRestarted:
    """An incarnation has ended, and another one follows.

    Args:
        ref: the actor.
        incarnation: the number of the one that follows; the first of all has 0.
        cause: why the one before ended.
        pause: seconds until it starts, by the spec's `backoff`.
    """

    ref: ActorRef[Any]
    incarnation: int
    cause: ExitReason
    pause: float


@final
@dataclass(frozen=True, slots=True)
class ActorEnded:
    """An actor has ended for good."""

    ref: ActorRef[Any]
    reason: ExitReason


@final
@dataclass(frozen=True, slots=True)
class ActorStuck:
    """An actor was asked to stop, and cancelled, and has not ended.

    Args:
        ref: the actor.
        frames: where it hangs, one line for each call, the innermost last.
    """

    ref: ActorRef[Any]
    frames: tuple[str, ...]


class _Subscription:
    """Who wants the events of one class."""

    __slots__ = ("active", "callback", "kind")

    def __init__(self, kind: type[Any], callback: Callable[[Any], object]) -> None:
        self.kind = kind
        self.callback = callback
        self.active = True


@final
class EventStream:
    """Passes events on to those who subscribed to their class.

    Publishes `ActorStarted`, `ActorRestarted`, `ActorEnded`, `ActorStuck` and `DeadLetter`
    by itself. Anything else may be published too.

    >>> stream = EventStream()
    >>> unsubscribe = stream.subscribe(int, print)
    >>> stream.publish("no number")
    >>> stream.publish(3)
    3
    """

    __slots__ = ("_told", "_waiting", "subscriptions")

    subscriptions: tuple[_Subscription, ...]
    """Who wants which events; empty if there is nobody to publish for."""

    def __init__(self) -> None:
        self.subscriptions = ()
        self._waiting: Final[deque[object]] = deque()
        self._told: type | None = None  # the class of the event that is being told

    def subscribe(self, kind: type[E], callback: Callable[[E], object]) -> Callable[[], None]:
        """Have `callback` called with every event of a class, or of those derived from it.

        It is called in the step in which the event happens, and must not wait; what it
        raises is logged. To let an actor have the events, subscribe its `ref.tell`.

        Returns:
            A function that ends the subscription; more calls do nothing.

        Raises:
            TypeError: `kind` is no class, or `callback` is a coroutine function.
        """
        if not isinstance(kind, type):
            raise TypeError(f"kind must be the class of the events; it is {kind!r}")
        if inspect.iscoroutinefunction(callback):
            raise TypeError(
                f"callback must be a plain function, as nobody awaits it; it is {callback!r}: "
                "use the tell of an actor"
            )
        subscription = _Subscription(kind, callback)
        self.subscriptions = (*self.subscriptions, subscription)

        def unsubscribe() -> None:
            subscription.active = False
            self.subscriptions = tuple(each for each in self.subscriptions if each.active)

        return unsubscribe

    def publish(self, event: object) -> None:
        """Pass an event on. Never raises because of a subscriber.

        An event that a callback brings about comes after the one that it was told, for
        everybody. Except for a dead letter brought about by one who was told of a dead
        letter: nobody is told of that, or the two would go on for ever.
        """
        if not self.subscriptions or (self._told is DeadLetter and type(event) is DeadLetter):
            return
        self._waiting.append(event)
        if self._told is not None:
            return
        try:
            while self._waiting:
                self._tell(self._waiting.popleft())
        finally:
            self._told = None

    def _tell(self, event: object) -> None:
        self._told = type(event)
        for subscription in self.subscriptions:
            # Another callback may have ended the subscription a moment ago.
            if isinstance(event, subscription.kind) and subscription.active:
                try:
                    subscription.callback(event)
                except Exception:
                    kind = subscription.kind.__qualname__
                    logger.exception("a subscriber to %s failed", kind)
