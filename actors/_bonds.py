"""What ties one actor to another's end: to be told of it, or to share it.

Bonds belong to cells, so they outlast the restarts of both sides.

    watch    Terminated(ref, reason) for the watcher, once for each death
    link     the end of either, unless it is `Normal`, stops the other with `LinkBroken`
"""

from typing import TYPE_CHECKING, ClassVar, Final, final
from weakref import WeakSet

from ._envelopes import VOID, Notice
from ._reach import expect_signals
from ._reasons import LinkBroken, Normal
from ._signals import Terminated

if TYPE_CHECKING:
    from ._cell import Cell


@final
class _Watch(Notice):
    """One actor's interest in another's end; then what lies in its mailbox."""

    __slots__ = ("_bonds", "_cell", "void")

    is_signal: ClassVar[bool] = True

    def __init__(self, bonds: "Bonds", cell: "Cell") -> None:
        self._bonds = bonds
        self._cell = cell
        self.void = False

    def announce(self, _: "Cell") -> None:
        """Put it into the watcher's mailbox."""
        self._bonds.cell.open_inbox().signal(self)

    def open(self) -> object:
        """Give the signal, unless the watcher has lost interest meanwhile."""
        if self.void:
            return VOID
        cell = self._cell
        self._bonds.told(cell)
        assert cell.reason is not None
        return Terminated(cell.ref, cell.reason)


@final
class _Link:
    """The bond between two actors, the same for both."""

    __slots__ = ("_one", "_other")

    def __init__(self, one: "Bonds", other: "Bonds") -> None:
        self._one = one
        self._other = other

    def tie(self) -> None:
        """Put it between the two; it breaks at once if one of them has ended."""
        one, other = self._one, self._other
        one.links[other.cell] = other.links[one.cell] = self
        one.cell.at_end(self, self._broken)
        other.cell.at_end(self, self._broken)

    def untie(self) -> None:
        """Take it away from both."""
        for bonds, partner in ((self._one, self._other), (self._other, self._one)):
            bonds.links.pop(partner.cell, None)
            bonds.cell.not_at_end(self)

    def _broken(self, ended: "Cell") -> None:
        self.untie()
        partner = self._other.cell if ended is self._one.cell else self._one.cell
        reason = ended.reason
        assert reason is not None
        if not isinstance(reason, Normal):
            # Along a chain of links all learn of the end that was the first.
            if not isinstance(reason, LinkBroken):
                reason = LinkBroken(ended.ref, reason)
            partner.stop(reason, for_good=False)  # its restart policy says what follows


@final
class Bonds:
    """Whom one actor watches, and with whom it is linked."""

    __slots__ = ("_told", "_watches", "cell", "links")

    def __init__(self, cell: "Cell") -> None:
        self.cell: Final = cell
        self.links: Final[dict[Cell, _Link]] = {}
        self._watches: Final[dict[Cell, _Watch]] = {}
        # Whose death the actor knows of, as long as anybody can ask about it again.
        self._told: WeakSet[Cell] | None = None
        cell.at_end(self, self._let_go)

    def watch(self, cell: "Cell") -> None:
        """Have the actor told when `cell` ends, or that it has, if it does not know.

        Raises:
            ValueError: it is the actor itself.
            TypeError: the actor does nothing with signals.
        """
        if cell is self.cell:
            raise ValueError(f"{cell.path} cannot watch itself: override `stopped` instead")
        expect_signals(self.cell, "Terminated")
        knows = self._told is not None and cell in self._told
        if cell not in self._watches and not knows and self.cell.alive:
            watch = self._watches[cell] = _Watch(self, cell)
            cell.at_end(watch, watch.announce)

    def unwatch(self, cell: "Cell") -> None:
        """Have the actor not told, not even what is in its mailbox already."""
        watch = self._watches.pop(cell, None)
        if watch is not None:
            watch.void = True
            cell.not_at_end(watch)

    def told(self, cell: "Cell") -> None:
        """Note that the actor has been told of an end."""
        del self._watches[cell]
        if self._told is None:
            self._told = WeakSet()
        self._told.add(cell)

    def link(self, partner: "Bonds") -> None:
        """Let the two end together.

        Raises:
            ValueError: they are one.
        """
        if partner is self:
            raise ValueError(f"{self.cell.path} cannot be linked with itself")
        if partner.cell not in self.links:
            _Link(self, partner).tie()

    def unlink(self, partner: "Bonds") -> None:
        """Let the two go their own ways."""
        link = self.links.get(partner.cell)
        if link is not None:
            link.untie()

    def _let_go(self, ended: "Cell") -> None:
        ended.bonds = None
        for cell in tuple(self._watches):
            self.unwatch(cell)
