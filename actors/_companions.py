"""What an incarnation may have beside its own task: a nursery, and children in it.

An actor that asks for neither has no companions; those of one incarnation end with it.
"""

from typing import TYPE_CHECKING, Any, Final, final

import trio

from ._ending import time_to_clean_up
from ._keeper import Household
from ._ref import ActorRef
from ._spec import ChildSpec
from ._tasks import ActorNursery

if TYPE_CHECKING:
    from ._cell import Cell


@final
class Companions:
    """The nursery of one incarnation, and its children as soon as it spawns the first."""

    __slots__ = ("_cell", "_closing", "household", "tasks")

    def __init__(self, cell: "Cell") -> None:
        self._cell = cell
        self._closing = False
        self.household: Household | None = None
        self.tasks: Final = ActorNursery(self._task_failed)
        cell.keeper.start_helper(self.tasks.run, f"{cell.spec.id} nursery")

    def spawn(self, spec: ChildSpec, args: tuple[object, ...]) -> ActorRef[Any]:
        """Start a child of this incarnation."""
        if self.household is None:
            self.household = self._cell.keeper.open_household(self._cell)
        return self.household.start_child(spec, *args)

    async def aclose(self, crash: BaseException | None) -> BaseException | None:
        """End all of them, and add their failure to the actor's own."""
        self._closing = True
        if self.household is not None:
            self.hurry()
            await self.household.wait_closed()
        failure = await self.tasks.aclose()
        if failure is None or crash is None:
            return crash or failure
        return BaseExceptionGroup("the actor and a task of its nursery failed", [crash, failure])

    def hurry(self) -> None:
        """Have the children end in the time that is left, if they are to end at all."""
        if not self._closing or self.household is None:
            return
        cell = self._cell
        now, cleanup_timeout = trio.current_time(), cell.spec.cleanup_timeout
        deadline = time_to_clean_up(cell.last_deadline, now, cleanup_timeout)
        self.household.close(at_once=cell.scope.cancel_called, deadline=deadline)

    def _task_failed(self) -> None:
        self._cell.scope.cancel(reason="a task of the actor's nursery failed")
