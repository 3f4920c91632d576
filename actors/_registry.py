"""Names of actors: one registry for each system, never a global one.

A name belongs to at most one live actor. It stays with the actor over restarts, and is free
again in the step in which the actor ends.
"""

from functools import partial
from typing import Any, Final, final

from ._errors import NameTaken, NotRegistered
from ._reach import live_cell_of
from ._ref import ActorRef


@final
class Registry:
    """Unique names, each for one live actor. An actor may have several."""

    __slots__ = ("_refs",)

    def __init__(self) -> None:
        self._refs: Final[dict[str, ActorRef[Any]]] = {}

    def register(self, name: str, ref: ActorRef[Any]) -> None:
        """Give an actor a name; once more, nothing happens.

        Raises:
            NameTaken: another actor has it.
            AlreadyEnded: the actor has ended.
            ForeignSystem: the actor lives in another thread.
            ValueError: `name` is empty.
        """
        if not name or not isinstance(name, str):
            raise ValueError(f"name must be a text that is not empty; it is {name!r}")
        cell = live_cell_of(ref)
        holder = self._refs.setdefault(name, ref)
        if holder != ref:
            raise NameTaken(name, holder.path)
        cell.at_end((self, name), partial(self._free, name))

    def unregister(self, name: str) -> None:
        """Free a name. One that is free is left so: its actor may have ended just before."""
        ref = self._refs.pop(name, None)
        if ref is not None:
            ref._cell.not_at_end((self, name))

    def find(self, name: str) -> ActorRef[Any] | None:
        """Give the actor that has this name now, if there is one."""
        return self._refs.get(name)

    def require(self, name: str) -> ActorRef[Any]:
        """Give the actor that has this name now.

        Raises:
            NotRegistered: there is none.
        """
        try:
            return self._refs[name]
        except KeyError:
            raise NotRegistered(name) from None

    def names(self) -> tuple[str, ...]:
        """Give all names in use, sorted."""
        return tuple(sorted(self._refs))

    def _free(self, name: str, _: object) -> None:
        del self._refs[name]
