"""Starts children in one nursery, and starts them again when they end.

The thin trio side: `_decisions.py` says what follows an end, `_cell.py` lives one child.
A child is one task in the supervisor's nursery, in a cancel scope of its own, so that no
task outlives the supervisor above it. A single child is restarted in the very step in which
it ended; what takes several steps is put into the supervisor's own mailbox and done there.
"""

import contextvars
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from math import inf
from random import Random
from typing import Any, ClassVar, Final, final

import trio

from ._actor import Actor
from ._cell import CONTROL, Cell, Phase
from ._context import Context
from ._dead_letters import DeadLetters
from ._decisions import AutoShutdown, Child, Decision, Strategy, Verdict, decide
from ._errors import ChildEscalated, RestartsExhausted, SupervisorClosed, SupervisorFull
from ._mailbox import Loss
from ._reasons import Crash, ExitReason, Killed, Shutdown
from ._ref import ActorRef
from ._restarts import RestartWindow
from ._spec import ChildSpec, Directive, Restart

# Children of a dynamic supervisor that are asked to stop before others get a turn.
STOP_BATCH: Final = 100

OnExit = Callable[[ActorRef[Any], Actor[Any], ExitReason], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Regroup:
    """Control: stop some children, then start some, because of one that failed."""

    failed: Cell
    stop: tuple[Cell, ...]
    start: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class _End:
    """Control: stop all children and end, with `error` as the crash if there is one."""

    error: Exception | None = None


class Supervisor(Actor[Any]):
    """An actor that keeps children alive, in a fixed order.

    They are started one after the other, each when the one before is ready, and stopped in
    reverse. Made to be used as a child spec's factory, not subclassed.

    Args:
        children: what to start, in this order.
        strategy: which children start again when one has to.
        intensity: restarts allowed within `period`; above that the supervisor gives up: it
            stops its children and crashes with `RestartsExhausted`.
        period: seconds; see `RestartWindow`.
        per_child: whether each child has its own window, so that one that keeps crashing
            does not use up what its siblings may need. False counts all together, as OTP does.
        auto_shutdown: whether the end of significant children ends the supervisor.
        on_exit: called in the step in which a child's incarnation ended, before anything
            else learns of it, and instead of the log record of a crash. It must not raise.
        seed: seeds the jitter of restarts, for tests; by default it differs every time.

    Raises:
        ValueError: two children have the same id; or see `RestartWindow`.
    """

    announces_start = True
    default_shutdown: ClassVar[float] = inf
    _ids_are_unique: ClassVar[bool] = True

    def __init__(
        self,
        children: Iterable[ChildSpec] = (),
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: int = 1,
        period: float = 5,
        per_child: bool = True,
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
        on_exit: OnExit | None = None,
        seed: int | None = None,
    ) -> None:
        self.strategy: Final = strategy
        self.auto_shutdown: Final = auto_shutdown
        self.on_exit = on_exit
        self._window = RestartWindow(intensity, period)
        self._per_child = per_child
        self._max_children = inf
        self._cells: dict[int, Cell] = {}
        self._cell: Cell | None = None
        self._context: contextvars.Context | None = None
        self._nursery: trio.Nursery | None = None
        self._closing = False
        self._starting: Cell | None = None
        self._regrouping: set[Cell] = set()
        self._random = Random(seed)
        for spec in children:
            self._add(spec, ())

    # What its owner calls.

    def start_child(self, spec: ChildSpec, *args: object) -> ActorRef[Any]:
        """Start one more child, as the last in order, and return at once.

        `spec.factory(*args)` is called here; what it raises comes to the caller, and no
        child is left behind. Everything after that is the supervisor's matter. The child
        runs with a copy of the supervisor's context variables, not the caller's. See
        `ActorRef.wait_started`.

        Raises:
            SupervisorClosed: the supervisor is stopping or has ended.
            ValueError: a child has this id already (not under a `DynamicSupervisor`).
        """
        nursery = self._nursery
        if self._closing:
            raise SupervisorClosed(self.path)
        actor = spec.factory(*args)
        cell = self._add(spec, args)
        cell.actor = actor
        if nursery is not None:
            self._launch(cell)
        return cell.ref

    async def stop_child(self, child: str | ActorRef[Any]) -> ExitReason:
        """Stop one child for good, given by id or reference, and tell why it ended.

        Raises:
            KeyError: there is no such child.
        """
        for cell in self._cells.values():
            if child in (cell.ref, cell.id):
                await self._stop_cell(cell)
                return await cell.join()
        raise KeyError(child)

    @property
    def children(self) -> Iterator[ActorRef[Any]]:
        """The children that have not ended for good, in the order of their start."""
        return iter([cell.ref for cell in self._cells.values()])

    def __len__(self) -> int:
        return len(self._cells)

    # What its cell and its children's cells call.

    @property
    def ref(self) -> ActorRef[Any] | None:
        """The supervisor's own reference; `None` before it runs."""
        return None if self._cell is None else self._cell.ref

    @property
    def path(self) -> str:
        """Where in the tree the supervisor is; "" before it runs."""
        return "" if self._cell is None else self._cell.path

    @property
    def dead_letters(self) -> DeadLetters:
        """Where messages go that its children will not handle."""
        if self._cell is None:  # not running yet: at least they are logged
            return DeadLetters()
        return self._cell.keeper.dead_letters

    async def run(self, ctx: Context) -> None:
        """Start the children, keep them, and stop them when asked to."""
        failure: Exception | None = None
        self._cell = cell = ctx._cell
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._context = contextvars.copy_context()
                await self._start_in_order(list(self._cells.values()))
                failure = await self._attend(cell)
                await self._stop_children(cell.deadline)
        finally:
            self._closing = True
            self._nursery = None
        if failure is not None:
            raise failure

    def stopping(self, ctx: Context, reason: ExitReason) -> bool:  # noqa: ARG002 - all stop alike
        """Stop the children in order, then end."""
        self._cell = ctx._cell  # it may not have run yet
        self._end(None)
        return True

    def child_ended(self, cell: Cell, reason: ExitReason, *, may_restart: bool) -> None:
        """Decide what follows the end of an incarnation, in the step in which it ended."""
        self._report(cell, reason)
        if not may_restart or cell.ends_for_good or self._closing:
            self.forget(cell, reason)
            return
        if cell in self._regrouping:
            cell.renew(reason)
            cell.hand_over()
            return
        spec = cell.spec
        if spec.on_failure is None:
            if spec.restart is Restart.TEMPORARY and not spec.significant:
                self.forget(cell, reason)  # what `decide` would say, for the thousands
                return
            directive = Directive.RESTART
        else:
            directive = cell.directive_for(reason)
        self._carry_out(cell, reason, self._decide(cell, reason, directive))

    def forget(self, cell: Cell, reason: ExitReason) -> None:
        """Let a child go for good."""
        self._cells.pop(cell.uid, None)
        cell.finish(reason)

    def start_helper(self, async_fn: Callable[[], Awaitable[None]], name: str) -> None:
        """Start a task that a child needs beside its own."""
        assert self._nursery is not None
        assert self._context is not None
        self._context.run(partial(self._nursery.start_soon, async_fn, name=name))

    def open_household(self, cell: Cell) -> "Household":
        """Make room for the children of a child."""
        return Household(cell)

    # Decisions, and what they lead to.

    def _decide(self, cell: Cell, reason: ExitReason, directive: Directive) -> Decision:
        if self._per_child:
            if cell.window is None:
                cell.window = RestartWindow(self._window.intensity, self._window.period)
            window = cell.window
        else:
            window = self._window
        cells = self._group_of(cell)
        return decide(
            self.strategy,
            self.auto_shutdown,
            [Child(each.spec.restart, each.spec.significant) for each in cells],
            cells.index(cell),
            reason,
            directive,
            window,
            trio.current_time(),
        )

    def _group_of(self, cell: Cell) -> list[Cell]:  # noqa: ARG002 - a dynamic one needs only that
        return list(self._cells.values())

    def _carry_out(self, cell: Cell, reason: ExitReason, decision: Decision) -> None:
        cause = reason.error if isinstance(reason, Crash) else None
        match decision.verdict:
            case Verdict.FORGET:
                self.forget(cell, reason)
            case Verdict.RESTART:
                cells = self._group_of(cell)
                cell.pause = self._pause_before(cell)
                cell.renew(reason)
                logger.warning(
                    "%s is restarted, time %d, after %s", cell.path, cell.incarnation, reason
                )
                if not decision.stop:
                    self._launch(cell)
                    return
                cell.hand_over()
                stop = tuple(cells[at] for at in decision.stop)
                start = tuple(cells[at] for at in decision.start)
                self._ask_itself(_Regroup(cell, stop, start))
            case Verdict.GIVE_UP:
                exhausted = RestartsExhausted(self._window.intensity, self._window.period)
                exhausted.__cause__ = cause
                self.forget(cell, reason)
                self._end(exhausted)
            case Verdict.ESCALATE:
                escalated = ChildEscalated(cell.path)
                escalated.__cause__ = cause
                self.forget(cell, reason)
                self._end(escalated)
            case Verdict.SHUT_DOWN:
                self.forget(cell, reason)
                self._end(None)

    def _pause_before(self, cell: Cell) -> float:
        backoff = cell.spec.backoff
        if backoff is None:
            return 0
        ran = trio.current_time() - cell.started_at if cell.phase is Phase.RUNNING else 0
        cell.failures = 1 if ran >= backoff.reset_after else cell.failures + 1
        return backoff.pause(cell.failures, self._random.random())

    def _report(self, cell: Cell, reason: ExitReason) -> None:
        if self.on_exit is not None and cell.actor is not None:
            try:
                self.on_exit(cell.ref, cell.actor, reason)
            except Exception:
                logger.exception("on_exit of %s failed", self.path)
        elif isinstance(reason, Crash):
            logger.error("%s crashed", cell.path, exc_info=reason.error)
        elif reason.abnormal:
            logger.warning("%s ended: %s", cell.path, reason)

    def _end(self, error: Exception | None) -> None:
        self._closing = True
        if self._starting is not None:
            self._starting.stop(Shutdown(self.path))
        self._ask_itself(_End(error))

    def _ask_itself(self, request: _Regroup | _End) -> None:
        assert self._cell is not None
        self._cell.mailbox.put(request, CONTROL)

    async def _attend(self, cell: Cell) -> Exception | None:
        """Carry out, one after the other, what takes several steps; until the end."""
        while True:
            match await cell.mailbox.get():
                case _End(error):
                    return error
                case _Regroup(failed, stop, start):
                    # Its siblings' regrouping may have started it in the meantime.
                    if failed.phase in (Phase.FAILED, Phase.ENDED):
                        await self._regroup(stop, start)
                case message:
                    cell.lose(message, Loss.UNHANDLED)

    async def _regroup(self, stop: tuple[Cell, ...], start: tuple[Cell, ...]) -> None:
        self._regrouping.update(start)
        for cell in stop:
            if not await self._stop_cell(cell, for_good=cell not in self._regrouping):
                await cell.wait_settled(Phase.FAILED, Phase.ENDED)  # never two incarnations
        self._regrouping.clear()
        await self._start_in_order(start)

    # Children.

    def _add(self, spec: ChildSpec, args: tuple[object, ...]) -> Cell:
        if len(self._cells) >= self._max_children:
            raise SupervisorFull(self.path, len(self._cells))
        if self._ids_are_unique and any(cell.id == spec.id for cell in self._cells.values()):
            raise ValueError(f"{self.path or 'the supervisor'} has a child {spec.id!r} already")
        cell = Cell(self, spec, args, unique=self._ids_are_unique)
        self._cells[cell.uid] = cell
        return cell

    def _launch(self, cell: Cell) -> None:
        assert self._nursery is not None
        assert self._context is not None
        # The nursery copies the context that it finds: the supervisor's, not the caller's.
        self._context.run(cell.start_in, self._nursery)

    async def _start_in_order(self, cells: Iterable[Cell]) -> None:
        """Start each as soon as the one before is ready; leave off where one fails to start.

        The decision about that one waits in the mailbox, and starts the others too.
        """
        for cell in cells:
            if self._closing:
                return
            if cell.phase in (Phase.NEW, Phase.FAILED):
                self._launch(cell)
            self._starting = cell
            await cell.wait_settled(Phase.RUNNING, Phase.FAILED, Phase.ENDED)
            self._starting = None
            if cell.phase is Phase.FAILED:
                return
        if self._cell is not None and self._cell.phase is Phase.STARTING:
            self._cell.mark_started()

    async def _stop_children(self, deadline: float) -> None:
        for cell in reversed(list(self._cells.values())):
            await self._stop_cell(cell, deadline)

    async def _stop_cell(self, cell: Cell, deadline: float = inf, *, for_good: bool = True) -> bool:
        """Stop one child, and wait until its incarnation is over; False if it is stuck."""
        cell.stop(Shutdown(self.path), deadline, for_good=for_good)
        with trio.move_on_at(min(deadline, trio.current_time() + cell.patience)):
            if cell.lives:
                await cell.wait_settled(Phase.FAILED, Phase.ENDED)
        if cell.lives:
            report_stuck(cell)
        return not cell.lives


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
        on_exit: see `Supervisor`.
        seed: see `Supervisor`.

    Raises:
        ValueError: `max_children` is below 1; or see `RestartWindow`.
    """

    _ids_are_unique = False

    def __init__(
        self,
        *,
        max_children: int | None = None,
        intensity: int = 1,
        period: float = 5,
        per_child: bool = True,
        on_exit: OnExit | None = None,
        seed: int | None = None,
    ) -> None:
        if max_children is not None and max_children < 1:
            raise ValueError(f"max_children must be 1 or more, or None; it is {max_children!r}")
        super().__init__(
            intensity=intensity, period=period, per_child=per_child, on_exit=on_exit, seed=seed
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
        cells = list(self._cells.values())
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


@final
class Household:
    """The children of one incarnation of an actor: a dynamic supervisor among its tasks.

    The keeper of that supervisor; if it gives up, a task of the actor fails.
    """

    def __init__(self, owner: Cell) -> None:
        self._owner = owner
        self._failure: BaseException | None = None
        self._supervisor = DynamicSupervisor()
        self._cell = Cell(self, ChildSpec("children", lambda: self._supervisor), (), unique=True)
        self._cell.phase = Phase.STARTING
        self._supervisor._cell = self._cell  # children have a path before it runs
        owner.tasks.start_soon(self._live)

    @property
    def ref(self) -> ActorRef[Any]:
        """The actor's reference."""
        return self._owner.ref

    @property
    def path(self) -> str:
        """The actor's path."""
        return self._owner.path

    @property
    def dead_letters(self) -> DeadLetters:
        """Where the children's lost messages go."""
        return self._owner.keeper.dead_letters

    def start_child(self, spec: ChildSpec, *args: object) -> ActorRef[Any]:
        """Start one more child."""
        return self._supervisor.start_child(spec, *args)

    async def aclose(self, *, at_once: bool, deadline: float) -> None:
        """Stop or kill the children, and wait for their end, shielded."""
        if at_once:
            self._cell.kill(Killed(self.path))
        else:
            self._cell.stop(Shutdown(self.path), deadline)
        with trio.CancelScope(shield=True):
            await self._cell.join()

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
        self._owner.tasks.start_soon(async_fn)

    def open_household(self, cell: Cell) -> "Household":
        """Make room for children of the supervisor beside those that it supervises."""
        return Household(cell)

    async def _live(self) -> None:
        await self._cell.live()
        if self._failure is not None:
            raise self._failure


def report_stuck(cell: Cell) -> None:
    """Log a child that does not end, with the place where it hangs."""
    logger.error(
        "%s is stuck: it was asked to stop and cancelled, but has not ended; it waits at\n%s",
        cell.path,
        "\n".join(f"  {place}" for place in cell.where()),
    )
