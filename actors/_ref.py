"""How the rest of the program holds an actor: by a reference that outlives restarts."""

from collections.abc import Coroutine
from math import inf
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, final

from ._errors import ForeignSystem, SupervisorClosed
from ._lanes import Delivery
from ._reasons import ExitReason, Killed, Shutdown

if TYPE_CHECKING:
    from ._cell import Cell
    from ._spec import ChildSpec

M = TypeVar("M")

NUMBER: Final = (float, int)  # made once: this is looked at for each ask


@final
class ActorRef(Generic[M]):
    """One actor, from its first start to its last end; restarts do not change it.

    References to the same actor are equal. They give no access to the actor's attributes,
    and may be used in the system's own thread only.
    """

    __slots__ = ("_cell",)

    def __init__(self, cell: "Cell") -> None:
        self._cell = cell

    def tell(
        self, message: M, *, sender: "ActorRef[Any] | None" = None, deadline: float = inf
    ) -> Delivery:
        """Put a message into the actor's mailbox; never wait, never raise because of it.

        A message that cannot be delivered becomes a dead letter, and the answer says so.

        Args:
            message: what the actor's `receive` gets.
            sender: what the actor finds in `Context.sender`.
            deadline: on trio's clock; if its turn has not come by then, the message is not
                handled any more, but becomes a dead letter.

        Raises:
            ForeignSystem: this is another thread than the actor's.
        """
        cell = self._cell
        return (cell.inbox or cell.open_inbox()).tell(message, sender, deadline)

    async def send(
        self, message: M, *, sender: "ActorRef[Any] | None" = None, deadline: float = inf
    ) -> Delivery:
        """Put a message into the actor's mailbox as soon as it has room.

        Wrap it in `trio.fail_after` for a limit. Cancelled while waiting, it was not sent.
        For the rest see `tell`.
        """
        return await self._cell.open_inbox().send(message, sender, deadline)

    def ask(
        self, message: M, *, timeout: float = inf, sender: "ActorRef[Any] | None" = None
    ) -> Coroutine[Any, Any, Any]:
        """Put a message into the actor's mailbox, and give what its `receive` returns for it.

        The time to wait is limited by `timeout`, by the cancel scopes around this call, and,
        in the handler of an actor, by what limits the message that it handles. When it is
        over, the message is not handled any more if it still waits for its turn, and what is
        being asked further in order to answer it times out as well; a handler that ends with
        that `AskTimeout` ends alone, without a crash of its actor. What has to be done in any
        case, such as to take back a step, does not belong in that handler: tell it to
        yourself, and a handler of its own has all the time it needs. `timeout` is a
        parameter, since a `trio.fail_after` for each ask doubles its cost; both hold.

        Args:
            message: what the actor's `receive` gets.
            timeout: seconds to wait, 0 or more; by default as long as the caller may.
            sender: what the actor finds in `Context.sender`.

        Raises:
            AskTimeout: there was no reply in time.
            RemoteError: the actor's handler raised.
            ActorDied: the actor has ended, or was started anew, before it replied.
            MailboxFull: its mailbox had no room.
            SelfAsk: the actor asks itself in a handler.
            ForeignSystem: this is another thread than the actor's.
            ValueError: `timeout` is negative, or no number.
        """
        if not (isinstance(timeout, NUMBER) and timeout >= 0):
            raise ValueError(f"timeout must be 0 seconds or more, or left out; it is {timeout!r}")
        cell = self._cell
        return (cell.inbox or cell.open_inbox()).ask(message, sender, timeout)

    def stop(self, by: str = "", *, drain: bool | None = None) -> None:
        """Ask the actor to end for good, in the time that its spec gives; see `join`.

        A handler that is running may finish. Messages that wait become dead letters, or are
        handled first if `drain` says so; by default as `ChildSpec.drain` does. A supervisor
        does not start it again, whatever its spec says: who stops an actor and joins it would
        wait for ever.
        """
        from ._stuck import expect_the_end  # which holds references itself

        cell = self._cell_here()
        cell.stop(Shutdown(by), drain=drain)
        expect_the_end(cell, cell.patience)

    def kill(self, by: str = "") -> None:
        """Cancel the actor now, and for good. `Actor.stopped` still runs."""
        from ._stuck import expect_the_end  # which holds references itself

        cell = self._cell_here()
        cell.kill(Killed(by))
        expect_the_end(cell, 2 * cell.spec.cleanup_timeout)

    def start_child(self, spec: "ChildSpec", *args: object) -> "ActorRef[Any]":
        """Start a child of this actor, which is a supervisor; see `Supervisor.start_child`.

        Raises:
            SupervisorClosed: it is stopping, between two incarnations, or has ended.
            TypeError: it is no supervisor.
            ForeignSystem: this is another thread than the actor's.
        """
        from ._supervisor import Supervisor  # who holds references itself

        actor = self._cell_here().actor
        if actor is None:
            raise SupervisorClosed(self.path)
        if not isinstance(actor, Supervisor):
            kind = type(actor).__qualname__
            raise TypeError(f"{self.path} is a {kind}, and only a Supervisor starts children")
        return actor.start_child(spec, *args)

    async def wait_started(self) -> bool:
        """Wait until the actor is ready; tell whether it is, or has ended instead."""
        return await self._cell_here().wait_started()

    async def join(self) -> ExitReason:
        """Wait until the actor has ended for good, and tell why."""
        return await self._cell_here().join()

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

    def _cell_here(self) -> "Cell":
        cell = self._cell
        if cell.keeper.commons.thread != get_ident():
            raise ForeignSystem(cell.path)
        return cell

    def __deepcopy__(self, memo: object) -> "ActorRef[M]":
        return self  # the actor is the same for who copies a message

    def __reduce__(self) -> str:
        raise TypeError(
            f"{self!r} has a meaning in its own system only, and can't be pickled: "
            "send a name that the other side finds in its registry"
        )

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ActorRef):
            return self._cell is other._cell
        return NotImplemented

    def __hash__(self) -> int:
        return self._cell.uid

    def __repr__(self) -> str:
        return f"<ActorRef {self.path}{'' if self.alive else ', ended'}>"
