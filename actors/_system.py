"""The top of a tree: where a program enters and leaves the world of actors."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from threading import get_ident
from typing import Any, final

import trio

from ._cell import Cell
from ._commons import Commons
from ._dead_letters import DeadLetters
from ._dynamic import DynamicSupervisor
from ._errors import ForeignSystem
from ._events import EventStream
from ._groups import Groups
from ._household import Household
from ._life import start
from ._reasons import Crash, ExitReason, Shutdown, flatten
from ._receptionist import Receptionist
from ._ref import ActorRef
from ._registry import Registry
from ._snapshot import Snapshot, children_of, take_snapshot
from ._spec import ChildSpec
from ._stuck import report_stuck
from ._supervisor import OnExit, Supervisor

logger = logging.getLogger(__name__)


@final
class ActorSystem:
    """A running tree of actors; see `open_actor_system`."""

    def __init__(self, name: str, root: Supervisor, top: "_Top") -> None:
        self.name = name
        self._root = root
        self._top = top

    @property
    def dead_letters(self) -> DeadLetters:
        """The messages that nobody will handle."""
        return self._top.commons.dead_letters

    @property
    def registry(self) -> Registry:
        """Unique names of the actors."""
        return self._top.commons.registry

    @property
    def receptionist(self) -> Receptionist:
        """Which actors offer which service."""
        return self._top.commons.receptionist

    @property
    def groups(self) -> Groups:
        """Groups of actors that get the same messages."""
        return self._top.commons.groups

    @property
    def events(self) -> EventStream:
        """What happens to the actors."""
        return self._top.commons.events

    @property
    def children(self) -> Iterable[ActorRef[Any]]:
        """The actors directly below the root, in the order of their start."""
        return self._root.children

    def snapshot(self) -> Snapshot:
        """Take a picture of all actors of this moment, to look at or to print; see `Snapshot`."""
        assert self._root._cell is not None
        return take_snapshot(self._root._cell, self._top.commons)

    def spawn(self, spec: ChildSpec, *args: object) -> ActorRef[Any]:
        """Start an actor below the root, as the last in order, and return at once.

        See `Supervisor.start_child`.
        """
        return self._root.start_child(spec, *args)

    def stop(self) -> None:
        """Begin to stop; the body of `open_actor_system` is cancelled, and all actors stop.

        Raises:
            ForeignSystem: this is another thread than the system's.
        """
        if self._top.commons.thread != get_ident():
            raise ForeignSystem(self.name)
        self._top.body.cancel(reason=f"system {self.name} stops")


@asynccontextmanager
async def open_actor_system(
    name: str,
    *,
    root: Iterable[ChildSpec] = (),
    shutdown_timeout: float = 30,
    intensity: float = 1,
    period: float = 5,
) -> AsyncIterator[ActorSystem]:
    """Run a tree of actors beside the `async with` body; stop it when the body ends.

    The body begins when the actors of `root` are ready. If it raises or is cancelled, all
    actors are cancelled; otherwise they are asked to stop in reverse order.

    Args:
        name: the first part of every path.
        root: actors to start first, one after the other.
        shutdown_timeout: seconds for the whole stop; after that all are cancelled.
        intensity: see `Supervisor`.
        period: see `Supervisor`.

    Raises:
        RestartsExhausted: the root gave up, or whatever else made it crash; the body
            was cancelled.
    """
    supervisor = Supervisor(root, intensity=intensity, period=period)
    async with _open_top(name, supervisor, shutdown_timeout, DeadLetters()) as top:
        yield ActorSystem(name, supervisor, top)


@asynccontextmanager
async def open_dynamic_supervisor(
    name: str = "supervisor",
    *,
    on_exit: OnExit | None = None,
    max_children: int | None = None,
    shutdown_timeout: float = 30,
    dead_letters: DeadLetters | None = None,
) -> AsyncIterator[DynamicSupervisor]:
    """Run a `DynamicSupervisor` without a system, beside the `async with` body.

    Args:
        name: the first part of every path.
        on_exit: see `Supervisor`.
        max_children: see `DynamicSupervisor`.
        shutdown_timeout: as in `open_actor_system`.
        dead_letters: where lost messages go; a place of its own by default.

    Raises:
        RestartsExhausted: the supervisor gave up; the body was cancelled.
    """
    supervisor = DynamicSupervisor(on_exit=on_exit, max_children=max_children)
    async with _open_top(name, supervisor, shutdown_timeout, dead_letters):
        yield supervisor


class _Top:
    """The keeper of a root supervisor: its crash is raised in the program."""

    ref = None
    path = ""

    def __init__(self, dead_letters: DeadLetters | None) -> None:
        self.commons = Commons(self.start_helper, dead_letters)
        self.body = trio.CancelScope()
        self.failure: BaseException | None = None
        self.nursery: trio.Nursery | None = None

    @property
    def deadline(self) -> float:
        """When the whole tree is over."""
        return self.commons.deadline

    def child_ended(self, cell: Cell, reason: ExitReason, *, may_restart: bool) -> None:  # noqa: ARG002
        """Keep a crash, and end the body."""
        if isinstance(reason, Crash):
            self.failure = reason.error
        self.forget(cell, reason)

    def forget(self, cell: Cell, reason: ExitReason) -> None:
        """End the body: nothing is left to run."""
        cell.finish(reason)
        self.commons.close()
        self.body.cancel(reason=f"{cell.path} ended: {reason}")

    def start_helper(self, async_fn: Callable[[], Awaitable[None]], name: str) -> None:
        """Start a task that the root needs beside its own."""
        assert self.nursery is not None
        self.nursery.start_soon(async_fn, name=name)

    def open_household(self, cell: Cell) -> Household:
        """Make room for the root's children beside those that it supervises."""
        return Household(cell)


@asynccontextmanager
async def _open_top(
    name: str,
    root: Supervisor,
    shutdown_timeout: float,
    dead_letters: DeadLetters | None = None,
) -> AsyncIterator[_Top]:
    if not shutdown_timeout >= 0:
        raise ValueError(f"shutdown_timeout must be 0 seconds or more; it is {shutdown_timeout!r}")
    top = _Top(dead_letters)
    cell = Cell(top, ChildSpec(name, lambda: root), (), unique=True)
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            top.nursery = nursery
            start(cell, nursery)
            try:
                if not await cell.wait_started() and top.failure is None:
                    top.failure = RuntimeError(f"an actor of system {name} has ended it at once")
                if top.failure is None:
                    with top.body:
                        yield top
            finally:
                deadline = trio.current_time() + shutdown_timeout
                top.commons.be_over_by(deadline)
            if cell.alive:
                cell.stop(Shutdown("the end of the program's body"), deadline)
                with trio.move_on_at(deadline):
                    await cell.join()
                if cell.alive:
                    for each in _those_who_hang(cell):
                        report_stuck(each)
    except BaseException as error:  # noqa: BLE001 - raised again below
        # What the body raised, without the group that the nursery put around it.
        failure = flatten(error)
    if failure is None:
        failure = top.failure
    elif top.failure is not None:
        both = [top.failure, failure]
        failure = BaseExceptionGroup(f"system {name} and the program's body failed", both)
    if failure is not None:
        try:
            raise failure
        finally:
            del failure


def _those_who_hang(cell: Cell) -> list[Cell]:
    """Give those below who keep an actor from its end; it itself if there is nobody."""
    hanging = [each for child in children_of(cell) for each in _those_who_hang(child)]
    return hanging or ([cell] if cell.alive else [])
