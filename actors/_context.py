"""What one incarnation can do to the world around it."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from math import inf
from threading import get_ident
from typing import TYPE_CHECKING, Any, final

from ._actor import Actor, check_coroutine
from ._asks import Reply
from ._errors import ForeignSystem
from ._events import EventStream
from ._groups import Groups
from ._reach import cell_of, expect_signals
from ._receptionist import Receptionist
from ._ref import ActorRef
from ._registry import Registry
from ._spec import ChildSpec
from ._tasks import ActorNursery
from ._timers import Timers

if TYPE_CHECKING:
    from ._cell import Cell
    from ._inbox import Inbox

Behaviour = Callable[[Any], Awaitable[Any]]


class PathLogger(logging.LoggerAdapter[logging.Logger]):
    """Puts the actor's path in front of its records, and into each as `path`."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Put the path in front."""
        msg, kwargs = super().process(msg, kwargs)
        path = (self.extra or {})["path"]
        return f"{path}: {msg}", kwargs


@final
class Context:
    """Given to an actor for the length of one incarnation."""

    __slots__ = ("_cell", "incarnation")

    def __init__(self, cell: "Cell") -> None:
        self._cell = cell
        self.incarnation = cell.incarnation
        """How often the actor was started before."""

    @property
    def self(self) -> ActorRef[Any]:
        """The actor's own reference."""
        return self._cell.ref

    @property
    def parent(self) -> ActorRef[Any] | None:
        """The supervisor's reference; `None` at the root."""
        return self._cell.keeper.ref

    @property
    def sender(self) -> ActorRef[Any] | None:
        """Who sent the message that is being handled, if that was said."""
        return None if self._cell.inbox is None else self._cell.inbox.sender

    @property
    def deadline(self) -> float:
        """Until when the message that is being handled is of use, on trio's clock.

        As `tell` or the `timeout` of `ask` says; infinity if neither does. What the handler
        asks others has to be answered by then, too.
        """
        return inf if self._cell.inbox is None else self._cell.inbox.deadline

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records begin with the actor's path."""
        return PathLogger(logging.getLogger("greenroom.actors"), {"path": self._cell.path})

    @property
    def stop_requested(self) -> bool:
        """Whether the actor was asked to stop; a long handler may look and end early."""
        return self._cell.ending is not None

    def stop(self, by: str = "") -> None:
        """Ask this actor itself to end for good, after the handler; see `ActorRef.stop`."""
        self.self.stop(by)

    @property
    def nursery(self) -> ActorNursery:
        """Tasks beside the actor's own, which end with this incarnation at the latest.

        A task that fails crashes the actor.
        """
        return self._here().open_companions().tasks

    def spawn(self, spec: ChildSpec, *args: object) -> ActorRef[Any]:
        """Start a child of this actor, and return at once; see `Supervisor.start_child`.

        Children are supervised like those of a `DynamicSupervisor`, and end with this
        incarnation at the latest, before `Actor.stopped`, and within the time that it has
        to stop. If they need more restarts than it allows, the actor crashes.
        """
        return self._here().open_companions().spawn(spec, args)

    def watch(self, ref: ActorRef[Any]) -> None:
        """Have `Actor.on_signal` get `Terminated` when another actor ends for good.

        Exactly one for each death, also if the actor had ended before; none for a restart.
        A watch survives the restarts of both sides. As a signal it comes before messages
        that wait, also before the last ones of the actor that has ended.

        Raises:
            TypeError: this actor overrides neither `on_signal` nor `run`.
            ValueError: it is this actor itself.
            ForeignSystem: the other lives in another thread.
        """
        self._here().open_bonds().watch(cell_of(ref))

    def unwatch(self, ref: ActorRef[Any]) -> None:
        """Take `watch` back, also if its signal waits in the mailbox already."""
        self._here().open_bonds().unwatch(cell_of(ref))

    def link(self, ref: ActorRef[Any]) -> None:
        """Let this actor and another end together, unless one comes to its `Normal` end.

        When one has ended for good, the other is stopped because of `LinkBroken`, which is
        abnormal, so that its restart policy says what follows; one between two incarnations
        starts anew in any case. A link survives restarts, and breaks at once if the other
        has ended already.

        Raises:
            ValueError: it is this actor itself.
            ForeignSystem: the other lives in another thread.
        """
        self._here().open_bonds().link(cell_of(ref).open_bonds())

    def unlink(self, ref: ActorRef[Any]) -> None:
        """Take `link` back, whichever of the two made it."""
        self._here().open_bonds().unlink(cell_of(ref).open_bonds())

    @property
    def registry(self) -> Registry:
        """Unique names of the system's actors."""
        return self._cell.keeper.commons.registry

    @property
    def receptionist(self) -> Receptionist:
        """Which of the system's actors offer which service."""
        return self._cell.keeper.commons.receptionist

    @property
    def groups(self) -> Groups:
        """Groups of the system's actors that get the same messages."""
        return self._cell.keeper.commons.groups

    @property
    def events(self) -> EventStream:
        """What happens in the system. End subscriptions in `Actor.stopped`."""
        return self._cell.keeper.commons.events

    @property
    def timers(self) -> Timers:
        """Messages that the actor sends to itself later; they end with this incarnation."""
        return self._inbox().timers

    def set_receive_timeout(self, seconds: float | None) -> None:
        """Have `Actor.on_signal` get a `ReceiveTimeout` whenever no message came for a while.

        Args:
            seconds: how long, more than 0; None for no such signal any more. Counts from
                now, and from the end of each handler. Ends with this incarnation.

        Raises:
            TypeError: the actor overrides neither `on_signal` nor `run`.
            ValueError: `seconds` is not positive.
        """
        inbox = self._inbox()
        if seconds is not None:
            expect_signals(self._cell, "ReceiveTimeout")
        inbox.watch_idle(seconds)

    def become(self, handler: Behaviour) -> None:
        """Have `handler` called in place of `Actor.receive`, from the next message on.

        Until `unbecome`, the next `become`, or a restart.

        Raises:
            TypeError: `handler` is no coroutine function.
        """
        name = f"the handler given to become() by {self._cell.path}"
        if not callable(handler):
            raise TypeError(f"{name} must be a coroutine function; it is {handler!r}")
        check_coroutine(handler, name)
        self._inbox().behaviour = handler

    def unbecome(self) -> None:
        """Go back to `Actor.receive`."""
        inbox = self._inbox()
        assert self._cell.actor is not None
        inbox.behaviour = self._cell.actor.receive

    def stash(self) -> None:
        """Keep the message that is being handled for later; see `unstash_all`.

        It counts as not handled: who asked goes on waiting. A restart puts it back in
        front of the mailbox; what is stashed at the end becomes a dead letter.

        Raises:
            StashFull: the stash holds `ChildSpec.stash_capacity` messages.
            RuntimeError: no message is being handled.
        """
        self._inbox().stash()

    def unstash_all(self) -> int:
        """Have all that is stashed handled next, in the order in which it came; tell how many."""
        return self._inbox().unstash_all()

    def reply_later(self) -> Reply:
        """Answer the message that is being handled not by returning, but by the `Reply` given.

        For answers that take long: keep it, or hand it to a task of `nursery`, and go on
        with the next message. Should this incarnation end first, also in this very handler,
        then the asker gets `ActorDied`.
        """
        return self._inbox().reply_later()

    async def receive(self) -> Any:
        """Wait for the next message or signal, for an actor that overrides `Actor.run`.

        What was asked is answered by `reply_later`, or with None when the next one is taken.

        Raises:
            RuntimeError: the actor does not override `run`.
        """
        inbox, actor = self._inbox(), self._cell.actor
        if actor is not None and type(actor).run is Actor.run:
            raise RuntimeError(
                f"{self._cell.path} gets its messages in `receive`: ctx.receive() is for actors "
                "that override `run`"
            )
        return await inbox.receive()

    async def handle_messages(self) -> None:
        """Hand one message after the other to `Actor.receive`, until asked to stop."""
        inbox = self._inbox()
        if inbox.loops:
            raise RuntimeError(
                f"{self._cell.path} handles its messages already: ctx.handle_messages() is for "
                "actors that override `run`, and once"
            )
        assert self._cell.actor is not None
        await inbox.handle_messages(self._cell.actor)

    def _inbox(self) -> "Inbox":
        return self._here().open_inbox()

    def _here(self) -> "Cell":
        """Give the cell, if this incarnation lives and this is its thread."""
        cell = self._cell
        if cell.incarnation != self.incarnation or cell.reason is not None:
            raise RuntimeError(
                f"this context belongs to an incarnation of {cell.path} that is over: "
                "use the one that the next `started` is given"
            )
        if cell.keeper.commons.thread != get_ident():
            raise ForeignSystem(cell.path)
        return cell
