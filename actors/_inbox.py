"""The message side of a cell: its mailbox, and the loop that empties it.

A cell has an inbox from the moment that it is first needed: an actor whose life is one
coroutine, and that nobody writes to, has none. Restarts leave it and what waits in it alone.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from math import inf
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, final

import trio

from ._actor import Actor
from ._alarms import Alarm
from ._asks import Ask, Reply
from ._envelopes import (
    START_TO_DRAIN,
    STOP,
    VOID,
    Envelope,
    Notice,
    Special,
    content_of,
    key_of_content,
)
from ._errors import AskTimeout, ForeignSystem, RemoteError, SelfAsk, StashFull
from ._idle import IdleWatch
from ._lanes import CONTROL, MESSAGES, Delivery, Lane, Loss, Overflow
from ._losses import end_reason, lose, lost, overloaded, publish
from ._mailbox import Mailbox
from ._reasons import Crash, ExitReason, Overload
from ._ref import ActorRef
from ._signals import DRAIN
from ._spec import Directive, InFlight
from ._timers import Timers

if TYPE_CHECKING:
    from ._cell import Cell

Behaviour = Callable[[Any], Awaitable[Any]]

_CONTROL_LANE: Final = Lane()
_NOTHING: Final = object()  # a message may be None

# The inbox whose message loop runs in this task, or in the one that started it.
_handling: Final[ContextVar["Inbox | None"]] = ContextVar("_handling", default=None)

logger = logging.getLogger(__name__)


def handles_no_more() -> None:
    """Note that this task works for no message any more: what it asks has the time it says."""
    _handling.set(None)


@final
class Inbox:
    """The messages of one actor, over all its incarnations, and the one in its hands."""

    __slots__ = (
        "_cell",
        "_front",
        "_home",
        "_idle",
        "_in_flight",
        "_stash",
        "_timers",
        "_unanswered",
        "behaviour",
        "deadline",
        "loops",
        "mailbox",
        "sender",
    )

    def __init__(self, cell: "Cell") -> None:
        self._cell = cell
        self._home = cell.keeper.commons.thread
        lane = cell.spec.mailbox
        if lane.overflow is Overflow.COALESCE and lane.key is not None:
            lane = replace(lane, key=key_of_content(lane.key))
        self.mailbox: Final = Mailbox(_CONTROL_LANE, lane)
        # Of the cell alone, so that who holds only the mailbox makes no cycle.
        self.mailbox.on_loss = partial(lost, cell)
        if lane.overflow is Overflow.CLOSE:
            self.mailbox.on_overload = partial(overloaded, cell)
        # What comes before the mailbox's own messages: one to be handled again, and the stash.
        self._front: deque[Any] | None = None
        self._stash: deque[Any] | None = None
        # Of the message in the actor's hands.
        self._in_flight: Any = _NOTHING
        self.sender: ActorRef[Any] | None = None
        self.deadline = inf
        # Of the incarnation that lives now.
        self.loops = False  # is in `handle_messages`
        self.behaviour: Behaviour | None = None
        self._unanswered: dict[Ask, None] | None = None
        self._timers: Timers | None = None
        self._idle: IdleWatch | None = None

    # From the senders.

    def tell(self, message: Any, sender: ActorRef[Any] | None, deadline: float) -> Delivery:
        """Put a message into the mailbox, never waiting."""
        if get_ident() != self._home:
            raise ForeignSystem(self._cell.path)
        if sender is not None or deadline != inf:
            message = Envelope(message, sender, deadline)
        return self.mailbox.put(message, MESSAGES)

    async def send(self, message: Any, sender: ActorRef[Any] | None, deadline: float) -> Delivery:
        """Put a message into the mailbox as soon as it has room."""
        if get_ident() != self._home:
            raise ForeignSystem(self._cell.path)
        if sender is not None or deadline != inf:
            message = Envelope(message, sender, deadline)
        return await self.mailbox.feed(message, MESSAGES)

    async def ask(self, message: Any, sender: ActorRef[Any] | None, timeout: float) -> Any:
        """Put a message into the mailbox, and wait for what its handler returns."""
        cell = self._cell
        if get_ident() != self._home:
            raise ForeignSystem(cell.path)
        task = trio.lowlevel.current_task()
        if task is cell.task:
            raise SelfAsk(cell.path)
        deadline = inf
        outer = None
        asker = _handling.get()
        if asker is not None and asker._cell.task is task:
            deadline = asker.deadline
            outer = asker.asked
        if timeout != inf or deadline != inf:
            now = trio.current_time()
            deadline = min(deadline, now + timeout)
            timeout = max(deadline - now, 0)
        ask = Ask(cell, timeout, outer)
        self.mailbox.put(Envelope(message, sender, deadline, ask), MESSAGES)
        alarm = None if deadline == inf else self.call_at(deadline, ask.time_out)
        try:
            if ask.open:
                ask.task = task
                return await trio.lowlevel.wait_task_rescheduled(ask.give_up)
            await trio.lowlevel.cancel_shielded_checkpoint()
            return ask.result()
        finally:
            if alarm is not None:
                alarm.cancel()
            if outer is not None:
                outer.inner = None

    # From the actor.

    async def handle_messages(self, actor: Actor[Any]) -> None:
        """Hand one message after the other to `actor`, until it is asked to stop."""
        _handling.set(self)
        if self.behaviour is None:  # else it became another in `started`
            self.behaviour = actor.receive
        self.loops = True
        mailbox = self.mailbox
        reply = None
        while True:
            item = await (self._next() if self._front else mailbox.get())
            self._in_flight = item
            try:
                if not isinstance(item, Special):
                    await self.behaviour(item)
                elif isinstance(item, Envelope):
                    if self._take_up(item):
                        reply = await self.behaviour(item.message)
                        if item.ask is not None and self._in_flight is item:
                            self.answer(item.ask, reply)
                elif isinstance(item, Notice):
                    await self._handle_notice(actor, item)
                elif item is STOP:
                    self._in_flight = _NOTHING
                    self.loops = False
                    return
                else:
                    await actor.on_signal(DRAIN)
            except Exception as error:
                if not self._goes_on_after(item, error):
                    raise
            item = reply = None  # one that waits long shall not keep them alive
            self._in_flight = _NOTHING
            self.sender = None
            self.deadline = inf
            if self._idle is not None:
                self._idle.touch()

    async def receive(self) -> Any:
        """Take the next message or signal, for an actor that has a `run` of its own."""
        _handling.set(self)
        while True:
            self._done(self._in_flight)
            item = self._in_flight = await (self._next() if self._front else self.mailbox.get())
            if isinstance(item, Notice):
                message = item.open()
                if message is not VOID:
                    return message
            elif not isinstance(item, Envelope):
                return item
            elif self._take_up(item):
                return item.message

    def put_down(self) -> None:
        """Count the message in the actor's hands as handled."""
        self._done(self._in_flight)

    def reply_later(self) -> Reply:
        """Take the duty to answer from the handler of the message in the actor's hands."""
        ask = None
        if isinstance(self._in_flight, Envelope):
            ask, self._in_flight.ask = self._in_flight.ask, None
        if ask is not None and ask.open:
            if self._unanswered is None:
                self._unanswered = {}
            self._unanswered[ask] = None
            ask.owed = self._unanswered
        return Reply(self, ask)

    def answer(self, ask: Ask, reply: Any) -> None:
        """Answer a question; what comes too late becomes a dead letter."""
        if not ask.answer(reply):
            publish(self._cell, reply, None, Loss.LATE)

    def refuse(self, ask: Ask, error: Exception) -> None:
        """Answer a question with an error; what comes too late becomes a dead letter."""
        if not ask.fail(RemoteError(ask.path, error)):
            publish(self._cell, error, None, Loss.LATE)

    def stash(self) -> None:
        """Keep the message in the actor's hands for later."""
        cell, message = self._cell, self._message_in_hand()
        if message is _NOTHING:
            raise RuntimeError(
                "there is no message to stash: call stash() once, in the handler of a message"
            )
        if self._stash is None:
            self._stash = deque()
        if len(self._stash) >= cell.spec.stash_capacity:
            raise StashFull(cell.path, cell.spec.stash_capacity)
        self._stash.append(message)
        self._in_flight = _NOTHING

    def unstash_all(self) -> int:
        """Have what is stashed handled next, in its order; tell how many."""
        if not self._stash:
            return 0
        stash, self._stash = self._stash, None
        count = len(stash)
        stash.extend(self._front or ())
        self._front = stash
        return count

    @property
    def timers(self) -> Timers:
        """The timers of this incarnation."""
        if self._timers is None:
            self._timers = Timers(self, MESSAGES)
        return self._timers

    def watch_idle(self, seconds: float | None) -> None:
        """Tell the actor when no message has come for `seconds`; None ends that."""
        if seconds is not None and not seconds > 0:
            raise ValueError(f"seconds must be more than 0, or None; it is {seconds!r}")
        if self._idle is not None:
            self._idle.close()
        self._idle = None if seconds is None else IdleWatch(self, seconds)

    def check_thread(self) -> None:
        """See that this is the actor's own thread.

        Raises:
            ForeignSystem: it is another.
        """
        if get_ident() != self._home:
            raise ForeignSystem(self._cell.path)

    # From timers and others who tell the actor something.

    @property
    def idle(self) -> bool:
        """Whether no message waits, and none is being handled."""
        return self._in_flight is _NOTHING and not self._front and not self.mailbox.depth(MESSAGES)

    @property
    def asked(self) -> Ask | None:
        """The question in the actor's hands, if it is one and still has to be answered."""
        return self._in_flight.ask if isinstance(self._in_flight, Envelope) else None

    @property
    def in_flight(self) -> object | None:
        """The message or signal in the actor's hands, for reports; None if there is none."""
        return None if self._in_flight is _NOTHING else content_of(self._in_flight)

    def call_at(self, deadline: float, call: Callable[[], object]) -> Alarm:
        """Have `call` made at `deadline`."""
        return self._cell.keeper.commons.alarms.call_at(deadline, call)

    def signal(self, notice: Notice) -> None:
        """Put a signal into the mailbox."""
        self.mailbox.put(notice, CONTROL)

    # From the cell.

    def ask_to_stop(self, *, drain: bool) -> None:
        """End the message loop after the message that it handles now, or after the last."""
        self.mailbox.put(START_TO_DRAIN if drain else STOP, CONTROL)
        if drain:  # at once, so that senders learn of it even if the actor is busy
            self.mailbox.seal(MESSAGES, STOP)

    def lose(self, item: Any, loss: Loss) -> None:
        """Make a dead letter of a message to this actor, and tell who waits for its answer."""
        lose(self._cell, item, loss)

    def renew(self, reason: ExitReason | None) -> None:
        """Get ready for the next incarnation, after one that was asked to end for `reason`."""
        self._end_incarnation()
        if reason is not None:
            self._forget_requests()
            if type(reason) is Overload:
                self.mailbox.clear(MESSAGES)
        item, message = self._in_flight, self._message_in_hand()
        self._in_flight = _NOTHING
        if message is not _NOTHING:
            if self._comes_again(item):
                again = Envelope(message, None)
                if isinstance(item, Envelope):  # which may lie in other mailboxes, too
                    again = Envelope(item.message, item.sender, item.deadline, item.ask)
                again.redelivered = True
                self._front = deque([again, *(self._front or ())])
            else:
                crashed = isinstance(self._cell.cause, Crash)
                self.lose(message, Loss.CRASHED if crashed else Loss.CANCELLED)
        self.unstash_all()

    def close(self, reason: ExitReason) -> None:
        """Lose what waits, and refuse what comes, after the actor's end for `reason`."""
        self._end_incarnation()
        message, self._in_flight = self._message_in_hand(), _NOTHING
        if message is not _NOTHING:
            self.lose(message, Loss.CRASHED if isinstance(reason, Crash) else Loss.CANCELLED)
        self.unstash_all()
        front, self._front = self._front, None
        for item in front or ():
            self.lose(item, Loss.LEFT_OVER)
        self.mailbox.close()

    async def _next(self) -> Any:
        """Take what comes before the mailbox's own messages, but after its signals."""
        await self.mailbox.take_turn()
        if self.mailbox.depth(CONTROL):
            return self.mailbox.get_nowait_from(CONTROL)
        assert self._front
        return self._front.popleft()

    async def _handle_notice(self, actor: Actor[Any], notice: Notice) -> None:
        """Handle what becomes a message or a signal only now."""
        message = notice.open()
        if message is not VOID:
            if notice.is_signal:
                await actor.on_signal(message)
            else:
                assert self.behaviour is not None
                await self.behaviour(message)
        notice.handled()

    def _take_up(self, envelope: Envelope) -> bool:
        """Make what travels with a message the actor's; False if it has come too late."""
        deadline, ask = envelope.deadline, envelope.ask
        if (ask is not None and not ask.open) or (
            deadline != inf and deadline <= trio.current_time()
        ):
            self._in_flight = _NOTHING
            self.lose(envelope, Loss.EXPIRED)
            return False
        self.sender = envelope.sender
        self.deadline = deadline
        return True

    def _goes_on_after(self, item: Any, error: Exception) -> bool:
        """Answer whoever waits for what the handler of `item` was to give; tell what follows."""
        resumes = self._cell.directive_for(Crash(error)) is Directive.RESUME
        held = self._in_flight is item  # not stashed
        abandoned = isinstance(error, AskTimeout) and _is_abandoned(item)
        resumes = resumes or abandoned
        final = resumes or not self._comes_again(item)
        if held and final and isinstance(item, Envelope) and item.ask is not None:
            ask, item.ask = item.ask, None
            ask.fail(RemoteError(ask.path, error))
        if not resumes:
            return False
        if isinstance(item, Notice):
            item.handled()
        if not abandoned:
            logger.exception("%s goes on after a message that failed", self._cell.path)
        message = self._message_in_hand()
        if message is not _NOTHING:
            self.lose(message, Loss.EXPIRED if abandoned else Loss.CRASHED)
        return True

    def _message_in_hand(self) -> Any:
        """Give the message that is being handled, as it was put; not a signal."""
        item = self._in_flight
        if isinstance(item, Notice) and not item.is_signal:
            return content_of(item)
        return item if isinstance(item, Envelope) or not isinstance(item, Special) else _NOTHING

    def _done(self, item: Any) -> None:
        """Forget the message that was in the actor's hands; who asked and got nothing gets None."""
        if isinstance(item, Notice):
            item.handled()
        elif isinstance(item, Envelope) and item.ask is not None and item.ask.open:
            self.answer(item.ask, None)
        self._in_flight = _NOTHING
        self.sender = None
        self.deadline = inf
        if self._idle is not None:
            self._idle.touch()

    def _comes_again(self, item: Any) -> bool:
        """Tell whether the next incarnation gets a message that this one failed to handle."""
        if self._cell.spec.in_flight is not InFlight.REDELIVER or isinstance(item, Notice):
            return False
        return not (isinstance(item, Envelope) and item.redelivered)

    def _end_incarnation(self) -> None:
        """Let go what belongs to the incarnation that has ended."""
        self.loops = False
        self.behaviour = None
        self.sender = None
        self.deadline = inf
        if self._timers is not None:
            self._timers.close()
            self._timers = None
        if self._idle is not None:
            self._idle.close()
            self._idle = None
        unanswered, self._unanswered = self._unanswered, None
        for ask in tuple(unanswered or ()):  # each leaves when it is lost
            ask.lose(Loss.CANCELLED, end_reason(self._cell))

    def _forget_requests(self) -> None:
        """Take requests to stop out of the mailbox, and leave the signals."""
        for _ in range(self.mailbox.depth(CONTROL)):
            item = self.mailbox.get_nowait_from(CONTROL)
            if isinstance(item, Notice):
                self.mailbox.put(item, CONTROL)


def _is_abandoned(item: Any) -> bool:
    """Tell whether nobody waits any more for what comes of a message."""
    if not isinstance(item, Envelope):
        return False
    return item.deadline <= trio.current_time() or (item.ask is not None and not item.ask.open)
