"""How the rest of the program holds an actor: by a reference that outlives restarts."""

from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

from ._lanes import Delivery
from ._reasons import ExitReason, Killed, Shutdown

if TYPE_CHECKING:
    from ._cell import Cell

M = TypeVar("M")


@final
class ActorRef(Generic[M]):
    """One actor, from its first start to its last end; restarts do not change it.

    References to the same actor are equal. They give no access to the actor's attributes,
    and may be used in the system's own thread only.
    """

    __slots__ = ("_cell",)

    def __init__(self, cell: "Cell") -> None:
        self._cell = cell

    def tell(self, message: M, *, sender: "ActorRef[Any] | None" = None) -> Delivery:
        """Put a message into the actor's mailbox; never wait, never raise because of it.

        A message that cannot be delivered becomes a dead letter, and the answer says so.
        """
        cell = self._cell
        return (cell.inbox or cell.open_inbox()).tell(message, sender)

    async def send(self, message: M, *, sender: "ActorRef[Any] | None" = None) -> Delivery:
        """Put a message into the actor's mailbox as soon as it has room.

        Wrap it in `trio.fail_after` for a limit. Cancelled while waiting, it was not sent.
        """
        return await self._cell.open_inbox().send(message, sender)

    def stop(self, by: str = "") -> None:
        """Ask the actor to end for good, in the time that its spec gives; see `join`.

        A handler that is running may finish; messages that wait become dead letters. A
        supervisor does not start it again, whatever its spec says: who stops an actor and
        joins it would wait for ever.
        """
        self._cell.stop(Shutdown(by))

    def kill(self, by: str = "") -> None:
        """Cancel the actor now, and for good. `Actor.stopped` still runs."""
        self._cell.kill(Killed(by))

    async def wait_started(self) -> bool:
        """Wait until the actor is ready; tell whether it is, or has ended instead."""
        return await self._cell.wait_started()

    async def join(self) -> ExitReason:
        """Wait until the actor has ended for good, and tell why."""
        return await self._cell.join()

    @property
    def path(self) -> str:
        """Where in the tree the actor is, such as "/chat/rooms/lobby"."""
        return self._cell.path

    @property
    def uid(self) -> int:
        """A number that no other actor of this process has had."""
        return self._cell.uid

    @property
    def alive(self) -> bool:
        """Whether the actor has not ended for good; it may be between two incarnations."""
        return self._cell.alive

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ActorRef):
            return self._cell is other._cell
        return NotImplemented

    def __hash__(self) -> int:
        return self._cell.uid

    def __repr__(self) -> str:
        return f"<ActorRef {self.path}{'' if self.alive else ', ended'}>"
