"""The message side of a cell: its mailbox, the loop that empties it, and what gets lost.

A cell has an inbox from the moment that it is first needed: an actor whose life is one
coroutine, and that nobody writes to, has none. Restarts leave it and what waits in it alone.
"""

import logging
from typing import TYPE_CHECKING, Any, Final, final

from ._actor import Actor
from ._dead_letters import DeadLetter
from ._lanes import Delivery, Lane, Loss
from ._mailbox import Mailbox
from ._reasons import Crash, ExitReason, Overload
from ._ref import ActorRef
from ._spec import Directive, InFlight

if TYPE_CHECKING:
    from ._cell import Cell

CONTROL: Final = 0  # the lane of requests to stop; unlimited, and never behind a message
MESSAGES: Final = 1

_CONTROL_LANE: Final = Lane()
_NOTHING: Final = object()  # a message may be None

logger = logging.getLogger(__name__)


class _Stop:
    """The control message that ends a message loop."""


class _Envelope:
    """A message with its sender."""

    __slots__ = ("message", "sender")

    def __init__(self, message: Any, sender: ActorRef[Any]) -> None:
        self.message = message
        self.sender = sender


_STOP: Final = _Stop()


@final
class Inbox:
    """The messages of one actor, over all its incarnations, and the one in its hands."""

    __slots__ = ("_cell", "_in_flight", "_redeliver", "mailbox", "sender")

    def __init__(self, cell: "Cell") -> None:
        self._cell = cell
        self._in_flight: Any = _NOTHING
        self._redeliver: Any = _NOTHING
        self.sender: ActorRef[Any] | None = None
        self.mailbox: Final = Mailbox(_CONTROL_LANE, cell.spec.mailbox)
        self.mailbox.on_loss = self._lost
        self.mailbox.on_overload = self._overloaded

    def tell(self, message: Any, sender: ActorRef[Any] | None) -> Delivery:
        """Put a message into the mailbox, never waiting."""
        if sender is not None:
            message = _Envelope(message, sender)
        return self.mailbox.put(message, MESSAGES)

    async def send(self, message: Any, sender: ActorRef[Any] | None) -> Delivery:
        """Put a message into the mailbox as soon as it has room."""
        if sender is not None:
            message = _Envelope(message, sender)
        return await self.mailbox.feed(message, MESSAGES)

    def ask_to_stop(self) -> None:
        """End the message loop after the message that it handles now."""
        self.mailbox.put(_STOP, CONTROL)

    async def handle_messages(self, actor: Actor[Any]) -> None:
        """Hand one message after the other to `actor`, until it is asked to stop."""
        mailbox = self.mailbox
        message = self._redeliver
        if message is _NOTHING or self._cell.ending is not None:
            message = await mailbox.get()
        while message is not _STOP:
            self._in_flight = message
            if type(message) is _Envelope:
                self.sender = message.sender
                message = message.message
            try:
                await actor.receive(message)
            except Exception as error:
                if self._cell.directive_for(Crash(error)) is not Directive.RESUME:
                    raise
                logger.exception("%s goes on after a message that failed", self._cell.path)
                self.lose(self._in_flight, Loss.CRASHED)
            self._in_flight = self._redeliver = _NOTHING
            self.sender = None
            message = await mailbox.get()

    def lose(self, message: Any, loss: Loss) -> None:
        """Make a dead letter of a message to this actor."""
        sender = None
        if type(message) is _Envelope:
            message, sender = message.message, message.sender
        cell = self._cell
        cell.keeper.dead_letters.publish(DeadLetter(message, cell.ref, sender, loss))

    def renew(self, reason: ExitReason | None) -> None:
        """Get ready for the next incarnation, after one that was asked to end for `reason`."""
        self.sender = None
        if reason is not None:
            self.mailbox.clear(CONTROL)
            if type(reason) is Overload:
                self.mailbox.clear(MESSAGES)
        if self._in_flight is not _NOTHING:
            message, self._in_flight = self._in_flight, _NOTHING
            if self._cell.spec.in_flight is InFlight.REDELIVER and self._redeliver is _NOTHING:
                self._redeliver = message
            else:
                self._redeliver = _NOTHING
                self.lose(message, Loss.CRASHED)

    def close(self, reason: ExitReason) -> None:
        """Lose what waits, and refuse what comes, after the actor's end for `reason`."""
        if self._in_flight is not _NOTHING:
            message, self._in_flight, self._redeliver = self._in_flight, _NOTHING, _NOTHING
            self.lose(message, Loss.CRASHED if isinstance(reason, Crash) else Loss.CANCELLED)
        elif self._redeliver is not _NOTHING:
            message, self._redeliver = self._redeliver, _NOTHING
            self.lose(message, Loss.LEFT_OVER)
        self.mailbox.close()

    def _lost(self, message: Any, lane: int, loss: Loss) -> None:
        if lane == MESSAGES:
            self.lose(message, loss)

    def _overloaded(self) -> None:
        # Not for good: what happens next is the restart policy's to say.
        self._cell.stop(Overload(), for_good=False)
