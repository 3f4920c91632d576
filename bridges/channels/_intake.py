"""Where a consumer's messages come from: one mailbox with two lanes, whatever serves it.

    Greenroom's server, and `receive` as it came    the scope's own mailbox, read directly
    another server, or a `receive` in a wrapper     a mailbox of our own, filled by a task

and likewise for the layer: one of ours puts messages into the mailbox itself, of another
a task awaits `receive`. Such a task reads a few messages ahead, then waits until they are
taken. Everything here runs in the consumer's own flavour, trio or asyncio.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol, final

import trio

from ...actors import Mailbox
from ...runtime._types import Message, Receive
from ...runtime.layers import Waiter
from ...runtime.scopes import BUDGET, EVENTS, MESSAGES, Conversation, ScopeActor, open_mailbox
from ..asyncio import HostedScope, MailboxWaiter, wait_mailbox
from ..django.database import database_guard
from ..threads import Lease
from ._unheard import Unheard
from .exceptions import StopConsumer

AHEAD: Final = 16  # messages that a task reads before the consumer has taken them
LAST: Final = frozenset({"websocket.disconnect", "http.disconnect"})


class Intake(Protocol):
    """Messages for one consumer."""

    mailbox: Mailbox

    @property
    def restartable(self) -> bool:
        """Whether a consumer that fails now could go on in place."""

    def read_ready(self) -> None:
        """Learn that a lane has been emptied, so that whoever fills it goes on."""

    def wait(self) -> Awaitable[None]:
        """Wait for a message, after both lanes were found empty."""


Dispatch = Callable[[Message], Awaitable[object]]


def source_of(receive: Receive) -> ScopeActor | Conversation | None:
    """Give the scope whose own `receive` this is; None if somebody has wrapped it."""
    owner = getattr(receive, "__self__", None)
    if receive != getattr(owner, "receive", None):
        return None
    if isinstance(owner, HostedScope):
        owner = owner.source
    return owner if isinstance(owner, ScopeActor | Conversation) else None


@final
class DirectIntake:
    """The mailbox of a scope that Greenroom itself serves."""

    __slots__ = ("_source", "mailbox", "read_ready", "wait")

    def __init__(self, source: ScopeActor | Conversation) -> None:
        self._source = source
        self.mailbox = source.mailbox
        # A conversation's server notices by itself when there is room.
        self.read_ready = source.read_ready if isinstance(source, ScopeActor) else _nothing
        self.wait: Callable[[], Awaitable[None]] = (
            source.mailbox.wait
            if trio.lowlevel.in_trio_task()
            else MailboxWaiter(source.mailbox).wait
        )

    @property
    def restartable(self) -> bool:
        """Whether a consumer that fails now could go on in place."""
        return self._source.restartable


def _nothing() -> None:
    """Learn that a lane is empty, and do nothing about it."""


@final
class PumpedIntake:
    """A mailbox that tasks fill, each from one callable; what they learn is told `unheard`."""

    def __init__(self, unheard: Unheard) -> None:
        self.mailbox = open_mailbox()
        self._unheard = unheard
        self._blocked: list[Waiter] = []
        self._failure: Exception | None = None

    @property
    def restartable(self) -> bool:
        """Whether a consumer that fails now could go on in place, as far as it can know."""
        return self._unheard.restartable

    def read_ready(self) -> None:
        """Let the tasks read on."""
        for waiter in self._blocked:
            waiter.wake()
        self._blocked.clear()

    async def wait(self) -> None:
        """Wait for a message; raise what a task's callable raised."""
        if self._failure is not None:
            raise self._failure
        await wait_mailbox(self.mailbox)

    async def pump(self, receive: Callable[[], Awaitable[Message]], lane: int) -> None:
        """Read messages into a lane until the client's last one."""
        mailbox = self.mailbox
        try:
            while True:
                message = await receive()
                mailbox.put(message, lane)
                if lane == EVENTS and message.get("type") in LAST:
                    self._unheard.client_left = True
                    return
                while mailbox.depth(lane) >= AHEAD:
                    waiter = Waiter()
                    self._blocked.append(waiter)
                    await waiter.wait()
        except Exception as error:  # noqa: BLE001
            # It is raised in the consumer, once that has handled what came before.
            self._failure = error
            wake, mailbox.wake = mailbox.wake, None
            if wake is not None:
                wake()


@asynccontextmanager
async def open_pumps(
    intake: PumpedIntake, pumps: list[tuple[Callable[[], Awaitable[Message]], int]]
) -> AsyncIterator[None]:
    """Run a task for each (callable, lane) while the block runs."""
    if trio.lowlevel.in_trio_task():
        async with trio.open_nursery() as nursery:
            for receive, lane in pumps:
                nursery.start_soon(intake.pump, receive, lane)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()
        return
    tasks = [asyncio.create_task(intake.pump(receive, lane)) for receive, lane in pumps]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@final
class HandlerThreads:
    """A thread for each handler whose code on asyncio makes blocking calls, for its length.

    While no handler has made one, all share the offer of a thread, which costs nothing.
    """

    __slots__ = ("lease",)

    lease: Lease

    async def open(self) -> None:
        """Offer a thread to what is called from now on."""
        self.lease = Lease(around=database_guard)
        await self.lease.__aenter__()

    async def aclose(self) -> None:
        """Give the thread back, if one was taken."""
        await self.lease.__aexit__(None, None, None)

    async def renew(self) -> None:
        """Give the last handler's thread back, and offer one to the next."""
        await self.aclose()
        await self.open()


async def read(
    intake: Intake, dispatch: Dispatch, threads: HandlerThreads | None = None
) -> tuple[Exception, Message | None]:
    """Hand messages to `dispatch`, one at a time, until it raises or the client has left.

    The client's come first; where both lanes have some, they take turns, so that
    neither can hold the other back.

    Returns:
        What was raised, `StopConsumer` after the client's last message, and the message
        whose handler raised it, None if it was no handler.
    """
    mailbox = intake.mailbox
    depth, take = mailbox.depth, mailbox.get_nowait_from
    read_ready, wait = intake.read_ready, intake.wait
    budget = BUDGET
    message: Message | None = None
    try:
        while True:
            if depth(EVENTS):
                budget -= 1
                message = take(EVENTS)
                await dispatch(message)
                if threads is not None and threads.lease.used:
                    await threads.renew()
                if message["type"] in LAST:
                    return StopConsumer(), message
            idle = not depth(EVENTS)
            if idle:
                read_ready()
            if depth(MESSAGES):
                budget -= 1
                message = take(MESSAGES)
                await dispatch(message)
                if threads is not None and threads.lease.used:
                    await threads.renew()
            elif idle and not depth(EVENTS):
                budget = BUDGET
                message = None
                await wait()
            if budget <= 0:
                budget = BUDGET
                await let_others_run()
    except Exception as error:  # noqa: BLE001
        return error, message


async def let_others_run() -> None:
    """Let other tasks have a turn; a checkpoint."""
    if trio.lowlevel.in_trio_task():
        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)
