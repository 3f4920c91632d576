"""The children of one supervisor: started in order, stopped in reverse, in one nursery.

What follows the end of one is not decided here, but in `_supervisor.py`.
"""

import contextvars
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from math import inf
from typing import final

import trio

from ._cell import Cell, Phase
from ._life import start
from ._reasons import ExitReason
from ._stuck import report_stuck


@final
class Children:
    """The cells of one supervisor that have not ended for good, in the order of their start."""

    __slots__ = ("_context", "_nursery", "_starting", "cells", "closed", "regrouping")

    def __init__(self) -> None:
        self.cells: dict[int, Cell] = {}  # by uid
        self.closed = False  # nothing is started any more
        self.regrouping: set[Cell] = set()  # stopped to be started again, by `regroup`
        self._starting: Cell | None = None
        self._nursery: trio.Nursery | None = None
        self._context: contextvars.Context | None = None

    def live_in(self, nursery: trio.Nursery | None) -> None:
        """Start tasks there from now on; in the context variables of this call."""
        self._nursery = nursery
        self._context = contextvars.copy_context()

    def launch(self, cell: Cell) -> None:
        """Start the next incarnation of a child; later, if the supervisor does not run yet."""
        if self._nursery is not None:
            assert self._context is not None
            # The nursery copies the context that it finds: the supervisor's, not the caller's.
            self._context.run(start, cell, self._nursery)

    def start_helper(self, async_fn: Callable[[], Awaitable[None]], name: str) -> None:
        """Start a task that a child needs beside its own."""
        assert self._nursery is not None
        assert self._context is not None
        self._context.run(partial(self._nursery.start_soon, async_fn, name=name))

    async def start_in_order(self, cells: Iterable[Cell]) -> bool:
        """Start each as soon as the one before is ready; tell whether all are.

        Leaves off where one fails to start: the decision about it, which waits in the
        supervisor's mailbox, starts the others too.
        """
        for cell in cells:
            if self.closed:
                return False
            if cell.phase in (Phase.NEW, Phase.FAILED):
                self.launch(cell)
            self._starting = cell
            await cell.wait_settled(Phase.RUNNING, Phase.FAILED, Phase.ENDED)
            self._starting = None
            if cell.phase is Phase.FAILED:
                return False
        return not self.closed

    def close(self, reason: ExitReason) -> None:
        """Start nothing any more, and wait no longer for the one that starts now."""
        self.closed = True
        if self._starting is not None:
            self._starting.stop(reason)

    async def regroup(
        self, stop: Iterable[Cell], begin: Iterable[Cell], reason: ExitReason
    ) -> bool:
        """Stop some one after the other, then start some in order; tell whether all are ready."""
        self.regrouping.update(begin)
        for cell in stop:
            if not await self.stop(cell, reason, for_good=cell not in self.regrouping):
                await cell.wait_settled(Phase.FAILED, Phase.ENDED)  # never two incarnations
        self.regrouping.clear()
        return await self.start_in_order(begin)

    async def stop_in_reverse(self, reason: ExitReason, deadline: float) -> None:
        """Stop all, the last first, each when the one after it has ended."""
        for cell in reversed(list(self.cells.values())):
            await self.stop(cell, reason, deadline)

    async def stop(
        self, cell: Cell, reason: ExitReason, deadline: float = inf, *, for_good: bool = True
    ) -> bool:
        """Stop one, and wait until its incarnation is over; False if it is stuck."""
        cell.stop(reason, deadline, for_good=for_good)
        with trio.move_on_at(min(deadline, trio.current_time() + cell.patience)):
            if cell.lives:
                await cell.wait_settled(Phase.FAILED, Phase.ENDED)
        if cell.lives:
            report_stuck(cell)
        return not cell.lives
