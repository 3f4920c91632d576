"""The life of one child under its supervisor: one task per incarnation, one mailbox for all.

The cell runs the actor in a cancel scope, turns whatever leaves it into an `ExitReason`,
and hands that to its keeper, the supervisor, which decides what follows. It never lets an
actor's exception out: only trio's cancellation from outside and the end of the program
pass. Between an actor's end and the keeper's decision there is no checkpoint, unless the
actor has something to clean up.

    NEW -> STARTING -> RUNNING -> ENDED        stop: the grace begins, the mailbox says so
              ^           |                    kill, or grace over: the scope is cancelled
              +- FAILED <-+                    FAILED: the keeper has not restarted it yet
"""

import logging
from collections.abc import Awaitable, Callable
from enum import Enum
from itertools import count
from math import inf
from typing import Any, Final, Protocol, final

import trio

from ._actor import Actor
from ._context import Context
from ._dead_letters import DeadLetter, DeadLetters
from ._errors import StartTimeout
from ._mailbox import Delivery, Lane, Loss, Mailbox
from ._reasons import (
    NORMAL,
    Crash,
    ExitReason,
    InitFailed,
    Killed,
    Overload,
    Shutdown,
    sort_out,
)
from ._ref import ActorRef
from ._restarts import RestartWindow
from ._spec import ChildSpec, Directive, InFlight
from ._tasks import ActorNursery

CONTROL: Final = 0  # the lane of requests to stop; unlimited, and never behind a message
MESSAGES: Final = 1

_CONTROL_LANE: Final = Lane()
_NOTHING: Final = object()  # a message may be None
_next_uid: Final = count(1).__next__

logger = logging.getLogger(__name__)


class Phase(Enum):
    """Where a cell is in its life."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    FAILED = "failed"
    ENDED = "ended"


class Household(Protocol):
    """The children of one incarnation of an actor that is no supervisor itself."""

    def start_child(self, spec: ChildSpec, *args: object) -> ActorRef[Any]:
        """Start one more child."""

    async def aclose(self, *, at_once: bool, deadline: float) -> None:
        """Stop or kill the children, and wait for their end, shielded."""


class Keeper(Protocol):
    """What a cell needs of the supervisor above it."""

    @property
    def ref(self) -> ActorRef[Any] | None:
        """The supervisor's own reference; `None` at the root."""

    @property
    def path(self) -> str:
        """The supervisor's path; "" at the root."""

    @property
    def dead_letters(self) -> DeadLetters:
        """Where lost messages go."""

    def child_ended(self, cell: "Cell", reason: ExitReason, *, may_restart: bool) -> None:
        """Decide what follows the end of an incarnation: `finish` the cell, or renew it."""

    def forget(self, cell: "Cell", reason: ExitReason) -> None:
        """`finish` a cell that has no incarnation at the moment, for good."""

    def start_helper(self, async_fn: Callable[[], Awaitable[None]], name: str) -> None:
        """Start a task beside the child's own, which raises nothing but cancellation."""

    def open_household(self, cell: "Cell") -> Household:
        """Make room for the children of an incarnation, among its tasks."""


class _Stop:
    """The control message that ends a message loop."""


class _Envelope:
    """A message with its sender."""

    __slots__ = ("message", "sender")

    def __init__(self, message: Any, sender: ActorRef[Any]) -> None:
        self.message = message
        self.sender = sender


_STOP: Final = _Stop()


@final
class Cell:
    """One child: what stays the same over its restarts, and the incarnation that lives now."""

    __slots__ = (
        "_cancel_at",
        "_grace_given",
        "_household",
        "_in_flight",
        "_joiners",
        "_mailbox",
        "_redeliver",
        "_starters",
        "_tasks",
        "actor",
        "args",
        "cause",
        "deadline",
        "ends_for_good",
        "failures",
        "incarnation",
        "keeper",
        "pause",
        "phase",
        "reason",
        "scope",
        "sender",
        "spec",
        "started_at",
        "stop_reason",
        "task",
        "uid",
        "unique",
        "window",
    )

    def __init__(
        self, keeper: Keeper, spec: ChildSpec, args: tuple[object, ...], *, unique: bool
    ) -> None:
        self.keeper = keeper
        self.spec = spec
        self.args = args
        self.unique = unique  # False: the spec is shared, so the uid is part of the name
        self.uid = _next_uid()
        self.phase = Phase.NEW
        self.incarnation = 0
        self.failures = 0  # in a row, for the backoff
        self.actor: Actor[Any] | None = None
        self.scope = trio.CancelScope()
        self.task: trio.lowlevel.Task | None = None
        self.cause: ExitReason | None = None
        self.reason: ExitReason | None = None
        self.stop_reason: ExitReason | None = None
        self.ends_for_good = False  # no restart will follow
        self.pause = 0.0  # seconds before the next incarnation starts
        self.deadline = inf  # the whole end, cleanup included, is over by then
        self.sender: ActorRef[Any] | None = None
        self.window: RestartWindow | None = None
        self.started_at = 0.0
        self._cancel_at = inf
        self._grace_given = False
        self._mailbox: Mailbox | None = None
        self._household: Household | None = None
        self._in_flight: Any = _NOTHING
        self._redeliver: Any = _NOTHING
        self._tasks: ActorNursery | None = None
        self._joiners: trio.Event | None = None
        self._starters: trio.Event | None = None

    # Who and where.

    @property
    def ref(self) -> ActorRef[Any]:
        """A reference to the child. Not kept: a cell must go at once when its last user does."""
        return ActorRef(self)

    @property
    def id(self) -> str:
        """The name among the siblings."""
        return self.spec.id if self.unique else f"{self.spec.id}-{self.uid}"

    @property
    def path(self) -> str:
        """The names from the root down to here."""
        return f"{self.keeper.path}/{self.id}"

    @property
    def alive(self) -> bool:
        """Whether the cell has not ended for good."""
        return self.phase is not Phase.ENDED

    @property
    def lives(self) -> bool:
        """Whether an incarnation lives now."""
        return self.phase is Phase.RUNNING or self.phase is Phase.STARTING

    # Messages.

    @property
    def mailbox(self) -> Mailbox:
        """The mailbox, made when it is first asked for: a scope that nobody writes to has none."""
        mailbox = self._mailbox
        if mailbox is None:
            mailbox = self._mailbox = Mailbox(_CONTROL_LANE, self.spec.mailbox)
            mailbox.on_loss = self._lost
            mailbox.on_overload = self._overloaded
            if self.phase is Phase.ENDED:
                mailbox.close()
        return mailbox

    def tell(self, message: Any, sender: ActorRef[Any] | None) -> Delivery:
        """Put a message into the mailbox, never waiting."""
        if sender is not None:
            message = _Envelope(message, sender)
        return (self._mailbox or self.mailbox).put(message, MESSAGES)

    async def send(self, message: Any, sender: ActorRef[Any] | None) -> Delivery:
        """Put a message into the mailbox as soon as it has room."""
        if sender is not None:
            message = _Envelope(message, sender)
        return await self.mailbox.feed(message, MESSAGES)

    async def handle_messages(self) -> None:
        """Run the message loop of the incarnation that lives now."""
        actor, mailbox = self.actor, self.mailbox
        assert actor is not None
        decider = self.spec.on_failure
        while True:
            redelivered = self._redeliver is not _NOTHING and self.stop_reason is None
            message = self._redeliver if redelivered else await mailbox.get()
            if message is _STOP:
                return
            self._in_flight = message
            if type(message) is _Envelope:
                self.sender = message.sender
                message = message.message
            try:
                await actor.receive(message)
            except Exception as error:
                if decider is None or self.directive_for(Crash(error)) is not Directive.RESUME:
                    raise
                logger.exception("%s goes on after a message that failed", self.path)
                self.lose(self._in_flight, Loss.CRASHED)
            if redelivered:
                self._redeliver = _NOTHING
            self._in_flight = _NOTHING
            self.sender = None

    def lose(self, message: Any, loss: Loss) -> None:
        """Make a dead letter of a message to this actor."""
        sender = None
        if type(message) is _Envelope:
            message, sender = message.message, message.sender
        self.keeper.dead_letters.publish(DeadLetter(message, self.ref, sender, loss))

    def _lost(self, message: Any, lane: int, loss: Loss) -> None:
        if lane == MESSAGES:
            self.lose(message, loss)

    def _overloaded(self) -> None:
        # Not for good: what happens next is the restart policy's to say.
        self.stop(Overload(), for_good=False)

    # What an incarnation may have beside its own task.

    @property
    def tasks(self) -> ActorNursery:
        """The nursery of this incarnation, opened when it is first asked for."""
        if self._tasks is None:
            self._tasks = ActorNursery(self._task_failed)
            self.keeper.start_helper(self._tasks.run, f"{self.spec.id} nursery")
        return self._tasks

    def spawn(self, spec: ChildSpec, args: tuple[object, ...]) -> ActorRef[Any]:
        """Start a child of this incarnation."""
        if self._household is None:
            self._household = self.keeper.open_household(self)
        return self._household.start_child(spec, *args)

    def _task_failed(self) -> None:
        self.scope.cancel(reason="a task of the actor's nursery failed")

    async def _end_tasks(self, crash: BaseException | None) -> BaseException | None:
        """End what lives beside the actor's own task, and add its failure to the actor's."""
        assert self._tasks is not None
        if self._household is not None:
            household, self._household = self._household, None
            await household.aclose(at_once=self.scope.cancel_called, deadline=self.deadline)
        tasks, self._tasks = self._tasks, None
        failure = await tasks.aclose()
        if failure is None or crash is None:
            return crash or failure
        return BaseExceptionGroup("the actor and a task of its nursery failed", [crash, failure])

    # The life of one incarnation.

    def start_in(self, nursery: trio.Nursery) -> None:
        """Start the task of the next incarnation."""
        self.phase = Phase.STARTING
        nursery.start_soon(self.live, name=self.spec.id)

    async def live(self) -> None:
        """Run one incarnation from its start, after its pause, to the keeper's decision."""
        self.task = trio.lowlevel.current_task()
        spec = self.spec
        scope = self.scope
        actor = self.actor
        begun = False
        crash: BaseException | None = None
        passing: BaseException | None = None
        try:
            with scope:
                if self.stop_reason is not None and not self._grace_given:
                    await trio.lowlevel.checkpoint()  # cancelled before its first step
                if self.pause:
                    await trio.sleep(self.pause)
                if actor is None:
                    actor = self.actor = spec.factory(*self.args)
                kind = type(actor)
                ctx = Context(self)
                if kind.started is not Actor.started:
                    self._limit(trio.current_time() + spec.start_timeout)
                    await actor.started(ctx, self.cause)
                    self._limit(inf)
                begun = True
                if not kind.announces_start:
                    self.mark_started()
                if kind.run is Actor.run:  # spares a parked actor two frames
                    await self.handle_messages()
                else:
                    await actor.run(ctx)
        except BaseException as error:  # noqa: BLE001 - an actor's crash is its supervisor's matter
            # No group that holds a Cancelled is an Exception.
            may_pass = not isinstance(error, Exception)
            outside = may_pass and trio.current_effective_deadline() == -inf
            crash, passing = sort_out(error, cancelled=outside)
            del error
        if self._tasks is not None:
            crash = await self._end_tasks(crash)
        reason = self._reason_for(crash, passing)
        if begun and actor is not None and type(actor).stopped is not Actor.stopped:
            reason, passing = await self._clean_up(reason, passing)
        self.task = None
        self.keeper.child_ended(self, reason, may_restart=passing is None)
        if passing is not None:
            try:
                raise passing
            finally:
                del passing, crash

    def mark_started(self) -> None:
        """Note that the incarnation is ready, and let go who waits for it."""
        self.phase = Phase.RUNNING
        if self.spec.backoff is not None:
            self.started_at = trio.current_time()
        if self._starters is not None:
            self._tell_starters()

    async def wait_started(self) -> bool:
        """Wait until the cell runs, or has ended; tell whether it runs."""
        await self.wait_settled(Phase.RUNNING, Phase.ENDED)
        return self.phase is Phase.RUNNING

    async def wait_settled(self, *phases: Phase) -> None:
        """Wait until the cell is in one of `phases`."""
        while self.phase not in phases:
            if self._starters is None:
                self._starters = trio.Event()
            await self._starters.wait()

    async def join(self) -> ExitReason:
        """Wait until the cell has ended for good."""
        if self.reason is None:
            if self._joiners is None:
                self._joiners = trio.Event()
            await self._joiners.wait()
        else:
            await trio.lowlevel.checkpoint()
        assert self.reason is not None
        return self.reason

    # Decided by the keeper.

    def renew(self, cause: ExitReason) -> None:
        """Get ready for the next incarnation; `live` runs it."""
        self.actor = None
        self.cause = cause
        self.incarnation += 1
        self.scope = trio.CancelScope()
        self.sender = None
        if self.stop_reason is not None:
            if self._mailbox is not None:
                self._mailbox.clear(CONTROL)
                if type(self.stop_reason) is Overload:
                    self._mailbox.clear(MESSAGES)
            self.stop_reason = None
            self._grace_given = False
            self._cancel_at = self.deadline = inf
        if self._in_flight is not _NOTHING:
            message, self._in_flight = self._in_flight, _NOTHING
            if self.spec.in_flight is InFlight.REDELIVER and self._redeliver is _NOTHING:
                self._redeliver = message
            else:
                self._redeliver = _NOTHING
                self.lose(message, Loss.CRASHED)
        self.phase = Phase.STARTING

    def hand_over(self) -> None:
        """Leave the start of the next incarnation to the keeper, at its own time."""
        self.phase = Phase.FAILED
        if self._starters is not None:
            self._tell_starters()

    def finish(self, reason: ExitReason) -> None:
        """End for good: lose what waits, tell who waits."""
        self.phase = Phase.ENDED
        self.reason = reason
        self.actor = None
        if self._in_flight is not _NOTHING:
            message, self._in_flight, self._redeliver = self._in_flight, _NOTHING, _NOTHING
            self.lose(message, Loss.CRASHED if isinstance(reason, Crash) else Loss.CANCELLED)
        elif self._redeliver is not _NOTHING:
            message, self._redeliver = self._redeliver, _NOTHING
            self.lose(message, Loss.LEFT_OVER)
        if self._mailbox is not None:
            self._mailbox.close()
        if self._starters is not None:
            self._tell_starters()
        if self._joiners is not None:
            self._joiners.set()

    def directive_for(self, reason: ExitReason) -> Directive:
        """Ask the spec's decider about a crash; of several answers the strictest wins."""
        decider = self.spec.on_failure
        if decider is None or not isinstance(reason, Crash):
            return Directive.RESTART
        try:
            return max(decider(leaf) for leaf in reason.leaves)
        except Exception:
            logger.exception("on_failure of %s failed; it counts as RESTART", self.path)
            return Directive.RESTART

    # Asked from outside.

    @property
    def patience(self) -> float:
        """Seconds after which a child that was asked to stop, and has not, is stuck.

        Cleaning up is counted twice: for the actor's own `finally`, and for `stopped`.
        """
        return self._shutdown() + 2 * self.spec.cleanup_timeout

    def stop(self, reason: ExitReason, deadline: float = inf, *, for_good: bool = True) -> None:
        """Ask for the end, which is over at `deadline` if the actor cooperates.

        Asked again, it can only become more urgent, or final.
        """
        if self.phase is Phase.ENDED:
            return
        if not self.lives:
            if for_good:
                self.keeper.forget(self, reason)
            return
        now = trio.current_time()
        first = self.stop_reason is None
        if first or (for_good and not self.ends_for_good):
            self.stop_reason = reason
        self.ends_for_good = self.ends_for_good or for_good
        if first and not self._agrees_to_stop(reason):
            self.scope.cancel(reason=f"stopped: {reason}")
            return
        self._grace_given = self._grace_given or first
        self.deadline = min(self.deadline, deadline)
        if self.deadline < inf:
            # Time to clean up is a part of the whole, but never most of it.
            reserve = min(self.spec.cleanup_timeout, max(self.deadline - now, 0) / 4)
            self._cancel_at = min(self._cancel_at, self.deadline - reserve)
        if first:
            self._cancel_at = min(self._cancel_at, now + self._shutdown())
        self.scope.deadline = min(self.scope.deadline, self._cancel_at)

    def kill(self, reason: ExitReason) -> None:
        """Cancel the incarnation that lives now, for good."""
        if self.phase is Phase.ENDED:
            return
        if not self.lives:
            self.keeper.forget(self, reason)
            return
        self.stop_reason = reason
        self.ends_for_good = True
        self._grace_given = False
        self.scope.cancel(reason=f"killed: {reason}")

    def where(self) -> list[str]:
        """Tell where the cell's task waits, the innermost call last, for a report."""
        if self.task is None:
            return []
        return [
            f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_qualname}"
            for frame, line in self.task.iter_await_frames()
        ]

    def _agrees_to_stop(self, reason: ExitReason) -> bool:
        """Tell the actor that it should end; False if it has to be cancelled."""
        actor = self.actor
        if actor is None:  # in the pause before a restart
            return False
        if type(actor).run is Actor.run:
            self.mailbox.put(_STOP, CONTROL)
            return True
        try:
            return actor.stopping(Context(self), reason)
        except Exception:
            logger.exception("stopping of %s failed; it is cancelled", self.path)
            return False

    def _shutdown(self) -> float:
        if self.spec.shutdown is not None:
            return self.spec.shutdown
        return Actor.default_shutdown if self.actor is None else self.actor.default_shutdown

    def _tell_starters(self) -> None:
        assert self._starters is not None
        self._starters.set()
        self._starters = None

    def _limit(self, deadline: float) -> None:
        self.scope.deadline = min(deadline, self._cancel_at)

    def _reason_for(self, crash: BaseException | None, passing: BaseException | None) -> ExitReason:
        if crash is not None:
            return Crash(crash) if self.phase is Phase.RUNNING else InitFailed(crash)
        if self.stop_reason is not None:
            if self._grace_given and self.scope.cancelled_caught and self.ends_for_good:
                return Killed("the deadline of its stop")
            return self.stop_reason
        if self.scope.cancelled_caught:
            return InitFailed(StartTimeout(self.path, self.spec.start_timeout))
        if passing is not None:
            return Shutdown("a cancellation from outside")
        return NORMAL

    async def _clean_up(
        self, reason: ExitReason, passing: BaseException | None
    ) -> tuple[ExitReason, BaseException | None]:
        """Run `Actor.stopped`, shielded; a failure in it is a crash, unless it crashed before."""
        assert self.actor is not None
        if isinstance(passing, GeneratorExit):  # the coroutine is thrown away, and cannot await
            return reason, passing
        deadline = min(trio.current_time() + self.spec.cleanup_timeout, self.deadline)
        try:
            with trio.CancelScope(shield=True, deadline=deadline) as scope:
                await self.actor.stopped(reason)
        except BaseException as error:
            crash, passing_now = sort_out(error, cancelled=False)
            if crash is not None and not isinstance(reason, Crash):
                reason = Crash(crash)
            elif crash is not None:
                logger.exception("%s failed while it cleaned up after a crash", self.path)
            return reason, passing_now or passing
        if scope.cancelled_caught:
            logger.warning("%s did not clean up in time", self.path)
        return reason, passing
