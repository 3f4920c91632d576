"""How a sync consumer sends to the client: from its handlers, and from any other thread.

A thread that waits for its home to write costs two switches of thread for each message.
So a handler's message is only handed over, and is written when home gets to it: before the
handler's end is noticed there, so that nothing overtakes it. The thread waits when the
client is slow, where a middleware has wrapped `send`, and if it is not the handler's own,
such as a timer's: nobody else would tell such a thread what became of its message.
"""

from abc import ABC, abstractmethod
from typing import final

from ...runtime import Message, Send
from ...runtime.layers import Waiter
from ...runtime.scopes import ScopeActor
from ..threads import Home, HomeClosed
from ._unheard import ENDED, TURNING, Unheard


class Outlet(ABC):
    """The `send` of one consumer for every thread but its home's own; made at home.

    What nobody will read is ignored: see `_unheard.py`.
    """

    __slots__ = ("_home", "_unheard")

    def __init__(self, unheard: Unheard) -> None:
        self._home = Home()
        self._unheard = unheard

    def __call__(self, message: Message) -> None:
        """Send one message.

        Raises:
            RuntimeError: this is the thread of the event loop, which must not wait.
        """
        try:
            self._hand_over(message)
        except HomeClosed:
            self._unheard.ignore(message, ENDED)

    @abstractmethod
    def _hand_over(self, message: Message) -> None: ...

    def close(self) -> None:
        """Ignore what is sent from now on, and what still waits; called at home."""
        self._unheard.since = ENDED
        self._home.close()


@final
class DirectOutlet(Outlet):
    """For a scope that Greenroom itself serves.

    What is wrong with a handler's message is raised by its next call, or at its end.
    """

    __slots__ = ("_congested", "_sink")

    def __init__(self, sink: ScopeActor, unheard: Unheard) -> None:
        super().__init__(unheard)
        self._sink = sink
        self._congested = False  # set at home, read in the threads

    def _hand_over(self, message: Message) -> None:
        if self._congested:
            self._home.call(self._wait_writable)
        self._home.tell(self._write, message)

    def _write(self, message: Message) -> None:
        unheard = self._unheard
        if unheard.covers(message):
            return
        try:
            if not self._sink.send_nowait(message):
                self._congested = True
        except Exception as error:
            if not unheard.excuses(error, message):
                raise
        else:
            if message.get("type") in TURNING:
                unheard.sent(message)

    async def _wait_writable(self) -> None:
        while self._sink.congested:
            waiter = Waiter()
            self._sink.wake_writer_with(waiter.wake)
            await waiter.wait()
        self._congested = False


@final
class WrappedOutlet(Outlet):
    """For any other `send`, which is awaited for each message."""

    __slots__ = ("_send",)

    def __init__(self, send: Send, unheard: Unheard) -> None:
        super().__init__(unheard)
        self._send = send

    def _hand_over(self, message: Message) -> None:
        self._home.call(self._send_at_home, message)

    async def _send_at_home(self, message: Message) -> None:
        unheard = self._unheard
        if unheard.covers(message):
            return
        try:
            await self._send(message)
        except Exception as error:
            if not unheard.excuses(error, message):
                raise
        else:
            if message.get("type") in TURNING:
                unheard.sent(message)
