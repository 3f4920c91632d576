"""What becomes of messages that an actor will not handle, and of those who wait for an answer."""

from typing import TYPE_CHECKING, Any

from ._dead_letters import DeadLetter
from ._envelopes import VOID, Envelope, Notice, Special
from ._lanes import MESSAGES, Loss
from ._reasons import NORMAL, ExitReason, Overload
from ._ref import ActorRef

if TYPE_CHECKING:
    from ._cell import Cell


def lose(cell: "Cell", item: Any, loss: Loss) -> None:
    """Make a dead letter of a message to an actor, and tell who waits for its answer."""
    sender = None
    if isinstance(item, Envelope):
        if item.ask is not None:
            item.ask.lose(loss, end_reason(cell))
        item, sender = item.message, item.sender
    elif isinstance(item, Special):
        item = item.lost(loss) if isinstance(item, Notice) else VOID
        if item is VOID:
            return
    publish(cell, item, sender, loss)


def publish(cell: "Cell", message: Any, sender: ActorRef[Any] | None, loss: Loss) -> None:
    """Make a dead letter of a message, or of a reply that comes too late."""
    cell.keeper.commons.dead_letters.publish(DeadLetter(message, cell.ref, sender, loss))


def end_reason(cell: "Cell") -> ExitReason:
    """Say why an actor does not do what it was asked for: it has ended, ends, or began anew."""
    if cell.reason is not None:
        return cell.reason
    if cell.ending is not None:
        return cell.ending.reason
    return cell.cause or NORMAL


def lost(cell: "Cell", item: Any, lane: int, loss: Loss) -> None:
    """Hear from the mailbox that it has lost something."""
    if lane == MESSAGES or isinstance(item, Notice):
        lose(cell, item, loss)


def overloaded(cell: "Cell") -> None:
    """Hear from the mailbox that the actor is too slow for it."""
    # Not for good: what happens next is the restart policy's to say.
    cell.stop(Overload(), for_good=False)
