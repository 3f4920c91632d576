"""Groups of actors that get the same messages, with a report of who got them.

A group exists as long as it has members. An actor stays a member over restarts, and leaves
in the step in which it ends.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from ._envelopes import Envelope
from ._errors import ForeignSystem
from ._lanes import MESSAGES, Delivery
from ._reach import live_cell_of
from ._ref import ActorRef

if TYPE_CHECKING:
    from ._cell import Cell

_ACCEPTED: Final = Delivery.ACCEPTED

_Put: TypeAlias = Callable[[Any, int], Delivery]


@final
@dataclass(frozen=True, slots=True)
class SendReport:
    """What became of a message to a group: `sent == accepted + len(refused)`.

    Args:
        sent: members that the group had.
        accepted: members that have the message in their mailboxes.
        refused: the others, each with what became of the message; dead letters tell of
            them too. Empty if everybody has it.
    """

    sent: int
    accepted: int
    refused: tuple[tuple[ActorRef[Any], Delivery], ...]


class _Group:
    """The members of one group, in the order in which they joined."""

    __slots__ = ("farewell", "members", "round")

    def __init__(self, farewell: Callable[["Cell"], object]) -> None:
        self.farewell: Final = farewell  # of a member that ends
        self.members: Final[dict[Cell, _Put]] = {}
        # The same, for those who send: a member may leave while a message goes round.
        self.round: tuple[tuple[Cell, _Put], ...] | None = None

    def change(self) -> dict["Cell", _Put]:
        """Give the members, to add or remove one."""
        self.round = None
        return self.members


@final
class Groups:
    """Named groups of live actors."""

    __slots__ = ("_groups", "_thread")

    def __init__(self) -> None:
        self._thread = get_ident()
        self._groups: Final[dict[str, _Group]] = {}

    def join(self, name: str, ref: ActorRef[Any]) -> None:
        """Make an actor the last member of a group; one that is a member stays what it is.

        Raises:
            AlreadyEnded: the actor has ended.
            ForeignSystem: the actor lives in another thread.
            ValueError: `name` is empty.
        """
        if not name or not isinstance(name, str):
            raise ValueError(f"name must be a text that is not empty; it is {name!r}")
        cell = live_cell_of(ref)
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = _Group(partial(self._remove, name))
        if cell not in group.members:
            group.change()[cell] = cell.open_inbox().mailbox.put
            cell.at_end(group, group.farewell)

    def leave(self, name: str, ref: ActorRef[Any]) -> None:
        """Let an actor leave a group, if it is in it."""
        group = self._groups.get(name)
        if group is not None and ref._cell in group.members:
            ref._cell.not_at_end(group)
            self._remove(name, ref._cell)

    def members(self, name: str) -> tuple[ActorRef[Any], ...]:
        """Give the members in the order in which they joined."""
        group = self._groups.get(name)
        return () if group is None else tuple(cell.ref for cell in group.members)

    def send(
        self,
        name: str,
        message: Any,
        *,
        sender: ActorRef[Any] | None = None,
        deadline: float = inf,
    ) -> SendReport:
        """Put a message into the mailbox of every member, in the order in which they joined.

        As with `ActorRef.tell` this never waits, and a full mailbox does what its overflow
        policy says. The sender gets the message too if it is a member.

        Args:
            name: the group; one without members gets nothing.
            message: what each member's `receive` gets: all get the same object.
            sender: what they find in `Context.sender`.
            deadline: see `ActorRef.tell`.

        Raises:
            ForeignSystem: this is another thread than the members'.
        """
        if get_ident() != self._thread:
            raise ForeignSystem(f"group {name!r}")
        group = self._groups.get(name)
        if group is None:
            return SendReport(0, 0, ())
        members = group.round
        if members is None:
            members = group.round = tuple(group.members.items())
        if sender is not None or deadline != inf:
            message = Envelope(message, sender, deadline)
        refused: list[tuple[ActorRef[Any], Delivery]] = []
        for cell, put in members:
            delivery = put(message, MESSAGES)
            if delivery is not _ACCEPTED and not delivery.accepted:
                refused.append((cell.ref, delivery))
        sent = len(members)
        return SendReport(sent, sent - len(refused), tuple(refused))

    def names(self) -> tuple[str, ...]:
        """Give the names of all groups that have members, sorted."""
        return tuple(sorted(self._groups))

    def _remove(self, name: str, cell: "Cell") -> None:
        group = self._groups[name]
        del group.change()[cell]
        if not group.members:
            del self._groups[name]
