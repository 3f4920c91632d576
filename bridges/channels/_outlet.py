"""How a sync consumer's handler, in its leased thread, sends to the client.

A thread that waits for its home to write costs two switches of thread for each message.
So a message is only handed over, and is written when home gets to it: before the handler's
end is noticed there, so that nothing overtakes it. The thread waits when the client is
slow, and where a middleware has wrapped `send`.
"""

from typing import final

from ...runtime._types import Message, Send
from ...runtime.layers import Waiter
from ...runtime.scopes import ScopeActor
from ..asyncio import HostedScope
from ..threads import call_home, tell_home


def sink_of(send: Send) -> ScopeActor | None:
    """Give the scope whose own `send` this is; None if somebody has wrapped it."""
    owner = getattr(send, "__self__", None)
    if send != getattr(owner, "send", None):
        return None
    if isinstance(owner, HostedScope):
        owner = owner.source
    return owner if isinstance(owner, ScopeActor) else None


@final
class Outlet:
    """The `send` of handlers in threads, for a scope that Greenroom itself serves.

    What is wrong with a message is raised by the next call, or at the handler's end.
    """

    __slots__ = ("_congested", "_sink")

    def __init__(self, sink: ScopeActor) -> None:
        self._sink = sink
        self._congested = False  # set at home, read in the thread

    def __call__(self, message: Message) -> None:
        """Send one message, from a handler's thread."""
        if self._congested:
            call_home(self._wait_writable)
        tell_home(self._write, message)

    def _write(self, message: Message) -> None:
        if not self._sink.send_nowait(message):
            self._congested = True

    async def _wait_writable(self) -> None:
        while self._sink.congested:
            waiter = Waiter()
            self._sink.wake_writer_with(waiter.wake)
            await waiter.wait()
        self._congested = False
