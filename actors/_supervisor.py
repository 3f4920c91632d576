"""Keeps children alive: hears of their ends, and does what `_decisions.py` says about each.

A child is one task in the supervisor's nursery, in a cancel scope of its own, so that no
task outlives the supervisor above it. A single child is restarted in the very step in which
it ended; what takes several steps is put into the supervisor's own mailbox and done there.
"""

import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from math import inf
from threading import get_ident
from typing import Any, ClassVar, Final

import trio

from ._actor import Actor
from ._cell import Cell, Phase
from ._checks import expect_callable, expect_member
from ._children import Children
from ._commons import Commons
from ._context import Context
from ._dead_letters import DeadLetters
from ._decisions import AutoShutdown, Decision, Strategy, Verdict, decide
from ._ends import words_for
from ._errors import (
    ChildEscalated,
    ForeignSystem,
    RestartsExhausted,
    SupervisorClosed,
    SupervisorFull,
    SupervisorNotRunning,
)
from ._keeper import Household
from ._lanes import CONTROL, Loss
from ._reasons import Crash, ExitReason, Shutdown
from ._ref import ActorRef
from ._restarts import RestartWindow
from ._spec import ChildSpec, Directive, Restart, expect_spec

# Members by names of their own: through its class, Python 3.11 takes 0.1 us to find one.
_TEMPORARY: Final = Restart.TEMPORARY
_RESTART: Final = Directive.RESTART

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


def _not_running(*_: object) -> None:
    raise SupervisorNotRunning


class Supervisor(Actor[Any]):
    """An actor that keeps children alive, in a fixed order.

    They are started one after the other, each when the one before is ready, and stopped in
    reverse. Made to be used as a child spec's factory, not subclassed.

    Args:
        children: what to start, in this order.
        strategy: which children start again when one has to.
        intensity: restarts allowed within `period`, `INFINITY` for any number; above that
            the supervisor gives up: it stops its children and crashes with
            `RestartsExhausted`.
        period: seconds; see `RestartWindow`.
        per_child: whether each child has its own window, so that one that keeps crashing
            does not use up what its siblings may need. False counts all together, as OTP does.
        auto_shutdown: whether the end of significant children ends the supervisor.
        give_up: False lets a child go for good that has used up its restarts, and keeps the
            others, who do not depend on it.
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
        intensity: float = 1,
        period: float = 5,
        per_child: bool = True,
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
        give_up: bool = True,
        on_exit: OnExit | None = None,
        seed: int | None = None,
    ) -> None:
        expect_member("strategy", strategy, Strategy)
        expect_member("auto_shutdown", auto_shutdown, AutoShutdown)
        expect_callable("on_exit", on_exit)
        if isinstance(children, ChildSpec):
            raise TypeError(f"children must be several: write [{children!r}]")
        self.strategy: Final = strategy
        self.auto_shutdown: Final = auto_shutdown
        self.on_exit = on_exit
        self._window = RestartWindow(intensity, period)
        self._per_child = per_child
        self._gives_up = give_up
        self._max_children = inf
        self._children = Children()
        self._cell: Cell | None = None
        self._commons: Commons | None = None
        # By default from `random`, so that a test that seeds it sees the same pauses again.
        self._random = random.Random(random.getrandbits(64) if seed is None else seed)
        for spec in children:
            expect_spec(spec)
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
            TypeError: `spec` is no `ChildSpec`, or its factory gives no new actor.
            ForeignSystem: this is another thread than the supervisor's.
        """
        if self.commons.thread != get_ident():
            raise ForeignSystem(self.path)
        if self._children.closed:
            raise SupervisorClosed(self.path)
        expect_spec(spec)
        actor = spec.make_actor(args)
        cell = self._add(spec, args)
        cell.actor = actor
        if isinstance(actor, Supervisor):
            actor._cell = cell  # its children have a place in the tree before it runs
        self._children.launch(cell)
        return cell.ref

    async def stop_child(self, child: str | ActorRef[Any]) -> ExitReason:
        """Stop one child for good, given by id or reference, and tell why it ended.

        Raises:
            KeyError: there is no such child.
        """
        for cell in self._children.cells.values():
            if child in (cell.ref, cell.id):
                await self._children.stop(cell, Shutdown(self.path))
                return await cell.join()
        raise KeyError(child)

    @property
    def children(self) -> Iterator[ActorRef[Any]]:
        """The children that have not ended for good, in the order of their start."""
        return iter([cell.ref for cell in self._children.cells.values()])

    def __len__(self) -> int:
        return len(self._children.cells)

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
    def commons(self) -> Commons:
        """What all actors of the tree share."""
        if self._commons is None:
            if self._cell is None:
                return Commons(_not_running)  # its dead letters are logged at least
            self._commons = self._cell.keeper.commons
        return self._commons

    @property
    def deadline(self) -> float:
        """When its end, or that of somebody above it, is over; infinity for never."""
        return inf if self._cell is None else self._cell.last_deadline

    @property
    def dead_letters(self) -> DeadLetters:
        """Where messages go that its children will not handle."""
        return self.commons.dead_letters

    async def run(self, ctx: Context) -> None:
        """Start the children, keep them, and stop them when asked to."""
        failure: Exception | None = None
        self._cell = cell = ctx._cell
        children = self._children
        try:
            async with trio.open_nursery() as nursery:
                children.live_in(nursery)
                try:
                    self._mark_ready(await children.start_in_order([*children.cells.values()]))
                    failure = await self._attend(cell)
                    await self._stop_children(cell.deadline)
                finally:
                    children.closed = True  # cancelled or not, the nursery closes
        finally:
            children.live_in(None)
            self._forget_all()
        if failure is not None:
            raise failure

    def stopping(self, ctx: Context, reason: ExitReason) -> bool:  # noqa: ARG002 - all stop alike
        """Stop the children in order, then end."""
        self._cell = ctx._cell  # it may not have run yet
        self._end(None)
        return True

    def child_ended(self, cell: Cell, reason: ExitReason, *, may_restart: bool) -> None:
        """Decide what follows the end of an incarnation, in the step in which it ended."""
        if self.on_exit is not None and cell.actor is not None:
            try:
                self.on_exit(cell.ref, cell.actor, reason)
            except Exception:
                logger.exception("on_exit of %s failed", self.path)
        ending = cell.ending
        for_good = ending is not None and ending.for_good
        if for_good or not may_restart or self._children.closed:
            self._report(cell, reason)
            self.forget(cell, reason)
            return
        if cell in self._children.regrouping:
            cell.pause = 0  # it is started again for another's crash
            self._report(cell, reason, f" and is restarted, time {cell.incarnation + 1}")
            cell.renew(reason)
            cell.hand_over()
            return
        spec = cell.spec
        if spec.on_failure is None:
            if spec.restart is _TEMPORARY and not spec.significant:
                self._report(cell, reason)
                self.forget(cell, reason)  # what `decide` would say, for the thousands
                return
            directive = _RESTART
        else:
            directive = cell.directive_for(reason)
        self._carry_out(cell, reason, self._decide(cell, reason, directive))

    def forget(self, cell: Cell, reason: ExitReason) -> None:
        """Let a child go for good."""
        self._children.cells.pop(cell.uid, None)
        if isinstance(cell.actor, Supervisor):
            cell.actor._forget_all()
        cell.finish(reason)

    def start_helper(self, async_fn: Callable[[], Awaitable[None]], name: str) -> None:
        """Start a task that a child needs beside its own."""
        self._children.start_helper(async_fn, name)

    def open_household(self, cell: Cell) -> Household:
        """Make room for the children of a child, as it is done at the top."""
        assert self._cell is not None
        return self._cell.keeper.open_household(cell)

    def _forget_all(self) -> None:
        """Let those go who have no incarnation when this one is over, or will never be."""
        for cell in [*self._children.cells.values()]:
            self.forget(cell, Shutdown(self.path))

    # Decisions, and what they lead to.

    def _decide(self, cell: Cell, reason: ExitReason, directive: Directive) -> Decision:
        if self._per_child or cell.spec.intensity is not None or cell.spec.period is not None:
            if cell.window is None:
                cell.window = cell.spec.window(self._window)
            window = cell.window
        else:
            window = self._window
        cells = self._group_of(cell)
        return decide(
            self.strategy,
            self.auto_shutdown,
            [each.spec for each in cells],
            cells.index(cell),
            reason,
            directive,
            window,
            trio.current_time(),
        )

    def _group_of(self, cell: Cell) -> list[Cell]:  # noqa: ARG002 - a dynamic one needs only that
        return list(self._children.cells.values())

    def _carry_out(self, cell: Cell, reason: ExitReason, decision: Decision) -> None:
        cause = reason.error if isinstance(reason, Crash) else None
        if decision.verdict is not Verdict.RESTART:
            self._report(cell, reason)
        match decision.verdict:
            case Verdict.RESTART:
                self._restart(cell, reason, decision)
            case Verdict.FORGET:
                self.forget(cell, reason)
            case Verdict.GIVE_UP:
                window = cell.window or self._window
                exhausted = RestartsExhausted(window.intensity, window.period, cell.path)
                exhausted.__cause__ = cause
                if not self._gives_up:
                    logger.error("it is not started again: %s", exhausted)
                self.forget(cell, reason)
                if self._gives_up:
                    self._end(exhausted)
            case Verdict.ESCALATE:
                escalated = ChildEscalated(cell.path)
                escalated.__cause__ = cause
                self.forget(cell, reason)
                self._end(escalated)
            case Verdict.SHUT_DOWN:
                self.forget(cell, reason)
                self._end(None)

    def _restart(self, cell: Cell, reason: ExitReason, decision: Decision) -> None:
        cell.pause = self._pause_before(cell)
        pause = f", in {cell.pause:.2g} s" if cell.pause else ""
        self._report(cell, reason, f" and is restarted, time {cell.incarnation + 1}{pause}")
        cell.renew(reason)
        if not decision.stop:
            self._children.launch(cell)
            return
        cell.hand_over()
        cells = self._group_of(cell)
        stop = tuple(cells[at] for at in decision.stop)
        start = tuple(cells[at] for at in decision.start)
        self._ask_itself(_Regroup(cell, stop, start))

    def _pause_before(self, cell: Cell) -> float:
        backoff = cell.spec.backoff
        if backoff is None:
            return 0
        ran = trio.current_time() - cell.started_at if cell.phase is Phase.RUNNING else 0
        cell.failures = 1 if ran >= backoff.reset_after else cell.failures + 1
        return backoff.pause(cell.failures, self._random.random())

    def _report(self, cell: Cell, reason: ExitReason, what_follows: str = "") -> None:
        """Write one record about the end of an incarnation, if it is worth one."""
        told = self.on_exit is not None  # whoever it is has words of his own
        if not what_follows and (told or not reason.abnormal):
            return
        expected = cell.spec.expected
        error: BaseException | None = None
        if isinstance(reason, Crash) and not (
            told or all(isinstance(leaf, expected) for leaf in reason.leaves)
        ):
            error = reason.error
        level = logging.WARNING if error is None else logging.ERROR
        if logger.isEnabledFor(level):  # the words cost more than the restart
            words = words_for(reason)
            logger.log(level, "%s ended%s: %s", cell.path, what_follows, words, exc_info=error)

    def _end(self, error: Exception | None) -> None:
        self._children.close(Shutdown(self.path))
        self._ask_itself(_End(error))

    def _ask_itself(self, request: _Regroup | _End) -> None:
        assert self._cell is not None
        self._cell.open_inbox().mailbox.put(request, CONTROL)

    async def _attend(self, cell: Cell) -> Exception | None:
        """Carry out, one after the other, what takes several steps; until the end."""
        inbox = cell.open_inbox()
        while True:
            match await inbox.mailbox.get():
                case _End(error):
                    return error
                case _Regroup(failed, stop, start):
                    # Its siblings' regrouping may have started it in the meantime.
                    if failed.phase in (Phase.FAILED, Phase.ENDED):
                        reason = Shutdown(self.path)
                        self._mark_ready(await self._children.regroup(stop, start, reason))
                case message:
                    inbox.lose(message, Loss.UNHANDLED)

    def _mark_ready(self, ready: bool) -> None:
        """Tell who waits for the start, unless it is told already."""
        if ready and self._cell is not None and self._cell.phase is Phase.STARTING:
            self._cell.mark_started()

    async def _stop_children(self, deadline: float) -> None:
        await self._children.stop_in_reverse(Shutdown(self.path), deadline)

    def _add(self, spec: ChildSpec, args: tuple[object, ...]) -> Cell:
        cells = self._children.cells
        if len(cells) >= self._max_children:
            raise SupervisorFull(self.path, len(cells))
        if self._ids_are_unique and any(each.id == spec.id for each in cells.values()):
            raise ValueError(f"{self.path or 'the supervisor'} has a child {spec.id!r} already")
        cell = Cell(self, spec, args, unique=self._ids_are_unique)
        cells[cell.uid] = cell
        return cell
