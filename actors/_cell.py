"""One child of a supervisor: what stays the same over its restarts, and may be asked of it.

`_life.py` runs an incarnation in the cell's cancel scope and hands its end to the keeper,
the supervisor, which decides what follows.

    NEW -> STARTING -> RUNNING -> ENDED        stop: the grace begins, the mailbox says so
              ^           |                    kill, or grace over: the scope is cancelled
              +- FAILED <-+                    FAILED: the keeper has not restarted it yet
"""

import logging
from collections.abc import Callable, Hashable
from enum import Enum
from itertools import count
from math import inf
from typing import Any, Final, final

import trio

from ._actor import Actor
from ._bonds import Bonds
from ._companions import Companions
from ._context import Context
from ._ending import Ending
from ._events import ActorEnded, ActorRestarted, ActorStarted
from ._inbox import Inbox
from ._keeper import Keeper
from ._reasons import Crash, ExitReason
from ._ref import ActorRef
from ._restarts import RestartWindow
from ._spec import ChildSpec, Directive

_next_uid: Final = count(1).__next__

logger = logging.getLogger(__name__)

Farewell = Callable[["Cell"], object]


class Phase(Enum):
    """Where a cell is in its life."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    FAILED = "failed"
    ENDED = "ended"


# Members by names of their own: through its class, Python 3.11 takes 0.1 us to find one.
NEW: Final = Phase.NEW
STARTING: Final = Phase.STARTING
RUNNING: Final = Phase.RUNNING
ENDED: Final = Phase.ENDED


@final
class Cell:
    """One child: what stays the same over its restarts, and the incarnation that lives now."""

    __slots__ = (
        "__weakref__",
        "_farewells",
        "_joiners",
        "_settlers",
        "actor",
        "args",
        "bonds",
        "cause",
        "companions",
        "ending",
        "failures",
        "inbox",
        "incarnation",
        "keeper",
        "pause",
        "phase",
        "reason",
        "resumes_at",
        "scope",
        "spec",
        "started_at",
        "stuck",
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
        self.phase: Phase = NEW
        self.reason: ExitReason | None = None  # of the end for good
        self.inbox: Inbox | None = None
        self.bonds: Bonds | None = None
        self._settlers: trio.Event | None = None
        self._joiners: trio.Event | None = None
        self._farewells: dict[Hashable, Farewell] | None = None
        # The incarnation that lives now.
        self.actor: Actor[Any] | None = None
        self.scope = trio.CancelScope()
        self.task: trio.lowlevel.Task | None = None
        self.companions: Companions | None = None
        self.ending: Ending | None = None
        # Its place among the others.
        self.incarnation = 0
        self.cause: ExitReason | None = None
        self.window: RestartWindow | None = None
        self.failures = 0  # in a row, for the backoff
        self.pause = 0.0  # seconds before the next incarnation starts
        self.resumes_at = 0.0  # when the pause is over
        self.stuck = False  # it was cancelled, and has not ended
        self.started_at = 0.0

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
        return self.phase is not ENDED

    @property
    def lives(self) -> bool:
        """Whether an incarnation lives now."""
        return self.phase is RUNNING or self.phase is STARTING

    @property
    def deadline(self) -> float:
        """When the end that was asked for, cleanup included, is over."""
        return inf if self.ending is None else self.ending.deadline

    @property
    def last_deadline(self) -> float:
        """The same, or when the end of somebody above it is over, if that is earlier."""
        return min(self.deadline, self.keeper.deadline)

    # What it has as soon as somebody needs it.

    def open_inbox(self) -> Inbox:
        """Give the inbox, made when it is first asked for; that of an ended cell is closed."""
        if self.inbox is not None:
            return self.inbox
        inbox = Inbox(self)
        if self.reason is None:
            self.inbox = inbox
        else:
            inbox.close(self.reason)
        return inbox

    def open_bonds(self) -> Bonds:
        """Give the ties to other actors, made when they are first asked for."""
        if self.bonds is not None:
            return self.bonds
        bonds = Bonds(self)
        if self.phase is not ENDED:
            self.bonds = bonds
        return bonds

    def open_companions(self) -> Companions:
        """Give the companions of this incarnation, made when they are first asked for."""
        if self.companions is None:
            self.companions = Companions(self)
        return self.companions

    # Its phases, and who waits for them.

    def mark_started(self) -> None:
        """Note that the incarnation is ready, and let go who waits for it."""
        self.phase = RUNNING
        if self.spec.backoff is not None:
            self.started_at = trio.current_time()
        if self._settlers is not None:
            self._tell_settlers()
        events = self.keeper.commons.events
        if events.subscriptions:
            events.publish(ActorStarted(self.ref, self.incarnation))

    async def wait_started(self) -> bool:
        """Wait until the cell runs, or has ended; tell whether it runs."""
        await self.wait_settled(Phase.RUNNING, Phase.ENDED)
        return self.phase is Phase.RUNNING

    async def wait_settled(self, *phases: Phase) -> None:
        """Wait until the cell is in one of `phases`."""
        while self.phase not in phases:
            if self._settlers is None:
                self._settlers = trio.Event()
            await self._settlers.wait()

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

    def _tell_settlers(self) -> None:
        assert self._settlers is not None
        self._settlers.set()
        self._settlers = None

    # Decided by the keeper.

    def renew(self, cause: ExitReason) -> None:
        """Get ready for the next incarnation; `start` runs it."""
        ending, self.ending = self.ending, None
        self.actor = None
        self.stuck = False
        self.cause = cause
        self.incarnation += 1
        self.scope = trio.CancelScope()
        if self.inbox is not None:
            self.inbox.renew(None if ending is None else ending.reason)
        self.phase = STARTING
        events = self.keeper.commons.events
        if events.subscriptions:
            events.publish(ActorRestarted(self.ref, self.incarnation, cause, self.pause))

    def hand_over(self) -> None:
        """Leave the start of the next incarnation to the keeper, at its own time."""
        self.phase = Phase.FAILED
        if self._settlers is not None:
            self._tell_settlers()

    def finish(self, reason: ExitReason) -> None:
        """End for good: lose what waits, tell who waits."""
        self.phase = ENDED
        self.reason = reason
        self.actor = None
        # First of all: who hears of its dead letters finds it under no name any more.
        farewells, self._farewells = self._farewells, None
        for farewell in (farewells or {}).values():
            farewell(self)
        if self.inbox is not None:
            self.inbox.close(reason)
            self.inbox = None  # as each holds the other
        if self._settlers is not None:
            self._tell_settlers()
        if self._joiners is not None:
            self._joiners.set()
        events = self.keeper.commons.events
        if events.subscriptions:
            events.publish(ActorEnded(self.ref, reason))
        if reason.abnormal:
            self.keeper.commons.note_end(self.path, self.uid, reason)

    def at_end(self, key: Hashable, farewell: Farewell) -> None:
        """Have `farewell` called in the step in which the cell ends for good; it must not raise.

        Takes the place of the one with the same key; if the cell has ended, it is called now.
        """
        if self.phase is ENDED:
            farewell(self)
            return
        if self._farewells is None:
            self._farewells = {}
        self._farewells[key] = farewell

    def not_at_end(self, key: Hashable) -> None:
        """Take `at_end` back, if there is something to take back."""
        if self._farewells is not None:
            self._farewells.pop(key, None)

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

    # The end, asked for from outside.

    @property
    def patience(self) -> float:
        """Seconds after which a child that was asked to stop, and has not, is stuck.

        Cleaning up is counted twice: for the actor's own `finally`, and for `stopped`.
        """
        return self._shutdown() + 2 * self.spec.cleanup_timeout

    def stop(
        self,
        reason: ExitReason,
        deadline: float = inf,
        *,
        for_good: bool = True,
        drain: bool | None = None,
    ) -> None:
        """Ask for the end, which is over at `deadline` if the actor cooperates.

        Or earlier, as its spec says. Asked again, it can only become more urgent, or final.
        What waits in the mailbox is handled first if `drain`, or by default the spec, says
        so, and the end is for good.
        """
        if not self.lives:
            self._forget(reason, for_good=for_good)
            return
        now = trio.current_time()
        if self.ending is None:
            shutdown = self._shutdown()
            deadline = min(deadline, now + shutdown + self.spec.cleanup_timeout)
            ending = self.ending = Ending(reason, now, deadline, for_good=for_good)
            drains = for_good and (self.spec.drain if drain is None else drain)
            if not self._agrees_to_stop(reason, drains=drains):
                self.scope.cancel(reason=f"stopped: {reason}")
                self._hurry()
                return
            ending.give_grace(now + shutdown)
        else:
            ending = self.ending
            ending.ask_again(reason, for_good=for_good)
            if drain is False and self.actor is not None and self._has_a_loop(self.actor):
                self.open_inbox().ask_to_stop(drain=False)  # what waits is not handled after all
        ending.be_over_by(deadline, now, self.spec.cleanup_timeout)
        self.scope.deadline = min(self.scope.deadline, ending.cancel_at)
        self._hurry()

    def kill(self, reason: ExitReason, deadline: float = inf) -> None:
        """Cancel the incarnation that lives now, for good; it has cleaned up at `deadline`."""
        if not self.lives:
            self._forget(reason, for_good=True)
            return
        since = trio.current_time() if self.ending is None else self.ending.since
        self.ending = Ending(reason, since, min(self.deadline, deadline), for_good=True)
        self.scope.cancel(reason=f"killed: {reason}")
        if self.inbox is not None and self.inbox.loops:
            self.inbox.ask_to_stop(drain=False)  # before another message, not at a checkpoint
        self._hurry()

    def _hurry(self) -> None:
        """Pass on what was asked to whoever is beyond the actor's own scope already."""
        if self.companions is not None:
            self.companions.hurry()
        cleanups = self.keeper.commons.cleanups
        if cleanups and self.deadline < inf:
            for cell in [*cleanups] if self._may_have_children else [self]:
                scope = cleanups.get(cell)
                if scope is not None:
                    scope.deadline = min(scope.deadline, cell.last_deadline)

    @property
    def _may_have_children(self) -> bool:
        actor = self.actor
        return self.companions is not None or (actor is not None and actor.announces_start)

    def _forget(self, reason: ExitReason, *, for_good: bool) -> None:
        if for_good and self.phase is not Phase.ENDED:
            self.keeper.forget(self, reason)

    def _agrees_to_stop(self, reason: ExitReason, *, drains: bool) -> bool:
        """Tell the actor that it should end; False if it has to be cancelled."""
        actor = self.actor
        if actor is None:  # in the pause before a restart
            return False
        if self._has_a_loop(actor):
            self.open_inbox().ask_to_stop(drain=drains)
            return True
        try:
            return actor.stopping(Context(self), reason)
        except Exception:
            logger.exception("stopping of %s failed; it is cancelled", self.path)
            return False

    def _has_a_loop(self, actor: Actor[Any]) -> bool:
        """Tell whether there is a message loop, or will be one, to find a request to stop."""
        return type(actor).run is Actor.run or (self.inbox is not None and self.inbox.loops)

    def _shutdown(self) -> float:
        if self.spec.shutdown is not None:
            return self.spec.shutdown
        return Actor.default_shutdown if self.actor is None else self.actor.default_shutdown
