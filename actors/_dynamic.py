"""Keeps many children of few kinds, which come and go; see `DynamicSupervisor`."""

from typing import Any, ClassVar, Final, final

import trio

from ._cell import Cell, Phase
from ._reasons import Shutdown
from ._ref import ActorRef
from ._stuck import report_stuck
from ._supervisor import OnExit, Supervisor

# Children that are asked to stop before others get a turn.
STOP_BATCH: Final = 100


@final
class DynamicSupervisor(Supervisor):
    """A supervisor of many children of few kinds, which come and go: connections, jobs.

    They are independent of each other: a restart touches no sibling, and all stop at once.
    A child's id is its spec's with its number.

    Args:
        max_children: how many may be alive at once, 1 or more; `None` for no limit.
        intensity: see `Supervisor`.
        period: see `Supervisor`.
        per_child: see `Supervisor`.
        give_up: see `Supervisor`.
        on_exit: see `Supervisor`.
        seed: see `Supervisor`.

    Raises:
        ValueError: `max_children` is below 1; or see `RestartWindow`.
    """

    _ids_are_unique: ClassVar[bool] = False

    def __init__(
        self,
        *,
        max_children: int | None = None,
        intensity: float = 1,
        period: float = 5,
        per_child: bool = True,
        give_up: bool = True,
        on_exit: OnExit | None = None,
        seed: int | None = None,
    ) -> None:
        if max_children is not None and max_children < 1:
            raise ValueError(f"max_children must be 1 or more, or None; it is {max_children!r}")
        super().__init__(
            intensity=intensity,
            period=period,
            per_child=per_child,
            give_up=give_up,
            on_exit=on_exit,
            seed=seed,
        )
        if max_children is not None:
            self._max_children = max_children

    async def stop_all(self, deadline: float) -> list[ActorRef[Any]]:
        """Stop the children of this moment, all at once; new ones may start meanwhile.

        Args:
            deadline: on trio's clock; who does not end by itself is cancelled before it.

        Returns:
            Those still alive at the deadline: stuck, and logged with the place.
        """
        cells = list(self._children.cells.values())
        patience = 0.0
        for number, cell in enumerate(cells, start=1):
            patience = max(patience, cell.patience)
            cell.stop(Shutdown(self.path), deadline)
            if not number % STOP_BATCH:
                await trio.lowlevel.checkpoint()
        with trio.move_on_at(min(deadline, trio.current_time() + patience)):
            for cell in cells:
                await cell.wait_settled(Phase.ENDED)
        stuck = [cell for cell in cells if cell.alive]
        for cell in stuck:
            report_stuck(cell)
        return [cell.ref for cell in stuck]

    async def _stop_children(self, deadline: float) -> None:
        await self.stop_all(deadline)

    def _group_of(self, cell: Cell) -> list[Cell]:
        return [cell]
