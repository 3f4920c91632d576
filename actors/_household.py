"""The children of an actor that is no supervisor itself; see `Context.spawn`."""

from collections.abc import Awaitable, Callable
from typing import Any, final

import trio

from ._cell import Cell, Phase
from ._commons import Commons
from ._dynamic import DynamicSupervisor
from ._life import live
from ._reasons import Crash, ExitReason, Killed, Shutdown
from ._ref import ActorRef
from ._spec import ChildSpec


@final
class Household:
    """The children of one incarnation of an actor: a dynamic supervisor among its tasks.

    The keeper of that supervisor; if it gives up, a task of the actor fails.
    """

    def __init__(self, owner: Cell) -> None:
        self._owner = owner
        self._failure: BaseException | None = None
        self._supervisor = DynamicSupervisor()
        self.cell = Cell(self, ChildSpec("children", lambda: self._supervisor), (), unique=True)
        self.cell.actor = self._supervisor
        self.cell.phase = Phase.STARTING
        self._supervisor._cell = self.cell  # children have a path before it runs
        owner.open_companions().tasks.start_soon(self._live)

    @property
    def ref(self) -> ActorRef[Any]:
        """The actor's reference."""
        return self._owner.ref

    @property
    def path(self) -> str:
        """The actor's path."""
        return self._owner.path

    @property
    def commons(self) -> Commons:
        """What all actors of the tree share."""
        return self._owner.keeper.commons

    def start_child(self, spec: ChildSpec, *args: object) -> ActorRef[Any]:
        """Start one more child."""
        return self._supervisor.start_child(spec, *args)

    @property
    def deadline(self) -> float:
        """When the end of the actor is over."""
        return self._owner.last_deadline

    def close(self, *, at_once: bool, deadline: float) -> None:
        """Stop or kill the children; asked again, it can only become more urgent."""
        if at_once:
            self.cell.kill(Killed(self.path), deadline)
        else:
            self.cell.stop(Shutdown(self.path), deadline)

    async def wait_closed(self) -> None:
        """Wait for the end of the children, shielded."""
        with trio.CancelScope(shield=True):
            await self.cell.join()

    def child_ended(self, cell: Cell, reason: ExitReason, *, may_restart: bool) -> None:  # noqa: ARG002
        """Keep a crash for the actor."""
        if isinstance(reason, Crash):
            self._failure = reason.error
        self.forget(cell, reason)

    def forget(self, cell: Cell, reason: ExitReason) -> None:
        """Let the supervisor go; the household lives as long as the incarnation."""
        cell.finish(reason)

    def start_helper(self, async_fn: Callable[[], Awaitable[None]], name: str) -> None:  # noqa: ARG002
        """Start a task that the supervisor needs beside its own."""
        self._owner.open_companions().tasks.start_soon(async_fn)

    def open_household(self, cell: Cell) -> "Household":
        """Make room for the children of somebody below."""
        return Household(cell)

    async def _live(self) -> None:
        await live(self.cell)
        if self._failure is not None:
            raise self._failure
