"""From a reference to the cell behind it, for what ties actors to names and to each other."""

from threading import get_ident
from typing import TYPE_CHECKING, Any

from ._actor import Actor
from ._errors import AlreadyEnded, ForeignSystem
from ._ref import ActorRef

if TYPE_CHECKING:
    from ._cell import Cell


def cell_of(ref: ActorRef[Any]) -> "Cell":
    """Give the cell of an actor that may be used here.

    Raises:
        TypeError: `ref` is no reference.
        ForeignSystem: this is another thread than the actor's.
    """
    if not isinstance(ref, ActorRef):
        raise TypeError(
            f"ref must be an ActorRef, such as ctx.self or what spawn gives; it is {ref!r}"
        )
    cell = ref._cell
    if cell.keeper.commons.thread != get_ident():
        raise ForeignSystem(cell.path)
    return cell


def live_cell_of(ref: ActorRef[Any]) -> "Cell":
    """Give the cell of an actor that may be used here, and has not ended.

    Raises:
        AlreadyEnded: the actor has ended for good.
        TypeError: see `cell_of`.
        ForeignSystem: see `cell_of`.
    """
    cell = cell_of(ref)
    if cell.reason is not None:
        raise AlreadyEnded(cell.path, cell.reason)
    return cell


def expect_signals(cell: "Cell", what: str) -> None:
    """See to it that an actor handles signals, before it gets some.

    Raises:
        TypeError: it overrides neither `on_signal` nor `run`.
    """
    if cell.actor is None:  # between two incarnations: the next one will be asked
        return
    kind = type(cell.actor)
    if kind.on_signal is Actor.on_signal and kind.run is Actor.run:
        raise TypeError(
            f"{kind.__qualname__} would get {what}, but handles no signals: override on_signal"
        )
