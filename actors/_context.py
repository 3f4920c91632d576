"""What one incarnation can do to the world around it."""

from typing import TYPE_CHECKING, Any, final

from ._mailbox import Mailbox
from ._ref import ActorRef
from ._spec import ChildSpec
from ._tasks import ActorNursery

if TYPE_CHECKING:
    from ._cell import Cell


@final
class Context:
    """Given to an actor for the length of one incarnation."""

    __slots__ = ("_cell", "incarnation")

    def __init__(self, cell: "Cell") -> None:
        self._cell = cell
        self.incarnation = cell.incarnation
        """How often the actor was started before."""

    @property
    def self(self) -> ActorRef[Any]:
        """The actor's own reference."""
        return self._cell.ref

    @property
    def parent(self) -> ActorRef[Any] | None:
        """The supervisor's reference; `None` at the root."""
        return self._cell.keeper.ref

    @property
    def sender(self) -> ActorRef[Any] | None:
        """Who sent the message that is being handled, if that was said."""
        return None if self._cell.inbox is None else self._cell.inbox.sender

    @property
    def mailbox(self) -> Mailbox:
        """The actor's mailbox, for those that override `Actor.run`: messages are in lane 1."""
        return self._cell.open_inbox().mailbox

    @property
    def stop_requested(self) -> bool:
        """Whether the actor was asked to stop; a long handler may look and end early."""
        return self._cell.ending is not None

    @property
    def nursery(self) -> ActorNursery:
        """Tasks beside the actor's own, which end with this incarnation at the latest.

        A task that fails crashes the actor.
        """
        return self._cell.open_companions().tasks

    def spawn(self, spec: ChildSpec, *args: object) -> ActorRef[Any]:
        """Start a child of this actor, and return at once; see `Supervisor.start_child`.

        Children are supervised like those of a `DynamicSupervisor`, and end with this
        incarnation at the latest, before `Actor.stopped`. If they need more restarts than
        it allows, the actor crashes.
        """
        return self._cell.open_companions().spawn(spec, args)

    async def handle_messages(self) -> None:
        """Hand one message after the other to `Actor.receive`, until asked to stop."""
        cell = self._cell
        assert cell.actor is not None
        await cell.open_inbox().handle_messages(cell.actor)
