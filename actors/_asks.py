"""Questions to actors: each ends in exactly one answer, whatever happens to either side.

    reply          the handler returned it, or a `Reply` was sent
    RemoteError    the handler raised
    ActorDied      the actor ended, or was started anew, before it answered
    AskTimeout     the time was over
    MailboxFull    the mailbox had no room
    Cancelled      the asker was cancelled

Who asks parks; who answers wakes it in the same step. An answer that finds nobody waiting
is left to the caller of `Ask.settle`, which makes a dead letter of it.

When an asker waits no longer, because its time is over or because it was cancelled, then its
message is not handled any more, and what its handler is asking others for its sake times out.
So a limit anywhere holds for all that is done below it, and costs nothing until it is over.
"""

from math import inf
from typing import TYPE_CHECKING, Any, Final, final

import outcome
import trio

from ._errors import ActorDied, AskTimeout, MailboxFull, RemoteError
from ._lanes import Loss
from ._reasons import ExitReason

if TYPE_CHECKING:
    from ._cell import Cell
    from ._inbox import Inbox

# Losses that mean that the mailbox was too full, not that the actor is gone.
_FULL: Final = frozenset({Loss.REJECTED, Loss.DROPPED, Loss.COALESCED, Loss.OVERLOAD})


@final
class Ask:
    """One question, from the moment it is put until it is settled."""

    __slots__ = ("_cell", "_result", "inner", "open", "owed", "task", "timeout")

    def __init__(self, cell: "Cell", timeout: float, outer: "Ask | None") -> None:
        self._cell = cell  # of the one who is asked
        self.timeout: Final = timeout  # seconds that it was given
        self.task: trio.lowlevel.Task | None = None  # who waits, from then on
        self._result: outcome.Outcome[Any] | None = None
        self.open = True  # nothing has been answered, and somebody waits
        self.inner: Ask | None = None  # what is asked at the moment in order to answer this one
        # Those that the actor answers later, this among them; a dict, as it keeps their order.
        self.owed: dict[Ask, None] | None = None
        if outer is not None:
            outer.inner = self
            if not outer.open:
                self.abandon()

    @property
    def path(self) -> str:
        """Where the one who is asked is."""
        return self._cell.path

    def settle(self, result: outcome.Outcome[Any]) -> bool:
        """Give the answer; False if there was one already, or nobody waits any more."""
        if not self.open:
            return False
        self.open = False
        if self.task is None:
            self._result = result
        else:
            trio.lowlevel.reschedule(self.task, result)
            self.task = None
        if self.inner is not None:
            self.inner.abandon()
        if self.owed is not None:
            self.owed.pop(self, None)
        return True

    def answer(self, reply: Any) -> bool:
        """Settle it with a reply."""
        return self.settle(outcome.Value(reply))

    def fail(self, error: Exception) -> bool:
        """Settle it with an error."""
        return self.settle(outcome.Error(error))

    def time_out(self) -> None:
        """Settle it because its time is over."""
        self.fail(AskTimeout(self.path, self.timeout))

    def abandon(self) -> None:
        """Settle it because nobody waits any more for what it is asked for."""
        self.fail(AskTimeout(self.path, inf))

    def lose(self, loss: Loss, reason: ExitReason) -> None:
        """Settle it because its message, or the actor, is lost."""
        if loss is Loss.EXPIRED:
            self.time_out()
        elif loss in _FULL:
            self.fail(MailboxFull(self.path))
        elif loss is Loss.UNHANDLED:
            self.fail(RemoteError(self.path, NotImplementedError("it takes no messages")))
        else:
            self.fail(ActorDied(self.path, reason))

    def result(self) -> Any:
        """Give the answer, if it came before anybody waited for it."""
        assert self._result is not None
        result, self._result = self._result, None
        try:
            return result.unwrap()
        finally:
            del result  # an error's traceback holds this frame

    def give_up(self, _: object) -> trio.lowlevel.Abort:
        """Wait no longer; see `trio.lowlevel.wait_task_rescheduled`."""
        self.open = False
        self.task = None
        if self.inner is not None:
            self.inner.abandon()
        if self.owed is not None:
            self.owed.pop(self, None)
        return trio.lowlevel.Abort.SUCCEEDED


@final
class Reply:
    """The answer to a message, to be given later; see `Context.reply_later`.

    If the actor ends or is started anew before that, the asker gets `ActorDied`.
    """

    __slots__ = ("_ask", "_inbox")

    def __init__(self, inbox: "Inbox", ask: Ask | None) -> None:
        self._inbox = inbox
        self._ask = ask

    @property
    def wanted(self) -> bool:
        """Whether the message was asked, not told, and nothing has been answered."""
        return self._ask is not None and self._ask.open

    def send(self, reply: Any) -> None:
        """Answer. A second answer, or one that comes too late, becomes a dead letter.

        Raises:
            ForeignSystem: this is another thread than the actor's.
        """
        self._inbox.check_thread()
        if self._ask is not None:
            self._inbox.answer(self._ask, reply)

    def fail(self, error: Exception) -> None:
        """Have the asker's `ask` raise `RemoteError` because of `error`; see also `send`.

        Raises:
            ForeignSystem: this is another thread than the actor's.
            TypeError: `error` is no exception, but its class, a text or anything else.
        """
        self._inbox.check_thread()
        if not isinstance(error, BaseException):
            raise TypeError(f"error must be an exception, such as ValueError(3); it is {error!r}")
        if self._ask is not None:
            self._inbox.refuse(self._ask, error)
