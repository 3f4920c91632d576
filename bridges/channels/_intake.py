"""Where a consumer's messages come from: one mailbox with two lanes, whatever serves it.

    Greenroom's server, and `receive` as it came    the scope's own mailbox, read directly
    another server, or a `receive` in a wrapper     a mailbox of our own, filled by a task

and likewise for the layer: one of ours puts messages into the mailbox itself, of another
a task awaits `receive`. Such a task reads a few messages ahead, then waits until they are
taken. Everything here runs in the consumer's own flavour, trio or asyncio.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, final

import trio

from ...actors import Mailbox
from ...runtime import Message, Receive, Scope, Send
from ...runtime._errors import instead_of_exit
from ...runtime.layers import Waiter
from ...runtime.scopes import BUDGET, EVENTS, MESSAGES, Conversation, ScopeActor, open_mailbox
from ..asyncio import HostedScope, MailboxWaiter, TaskCancelled, wait_mailbox
from ._threads import HandlerThreads
from ._unheard import Unheard
from .exceptions import StopConsumer

if TYPE_CHECKING:
    from .consumer import AsyncConsumer

AHEAD: Final = 16  # messages that a task reads before the consumer has taken them
LAST: Final = frozenset({"websocket.disconnect", "http.disconnect"})
SOURCES: Final = {EVENTS: "client", MESSAGES: "channel layer"}
TASK: Final = "greenroom.task"  # the type of what a consumer is about when its task has failed

logger = logging.getLogger("greenroom.channels")


class Intake(ABC):
    """Messages for one consumer."""

    __slots__ = ("crash", "mailbox")

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.crash: tuple[Exception, str] | None = None  # of a task, and its function's name

    read_ready: Callable[[], object]
    """Learn that a lane has been emptied, so that whoever fills it goes on."""

    wait: Callable[[], Awaitable[None]]
    """Wait for a message, after both lanes were found empty."""

    waits_for: str
    """What it waits for, in words."""

    @property
    @abstractmethod
    def restartable(self) -> bool:
        """Whether a consumer that fails now could go on in place."""

    def crash_with(self, error: Exception, name: str) -> None:
        """Let the consumer fail, before its next message, since its task `name` did."""
        if self.crash is None:
            self.crash = (error, name)
            self._wake_reader()
        else:
            logger.error("another task of the consumer failed: %s", name, exc_info=error)

    def _wake_reader(self) -> None:
        wake, self.mailbox.wake = self.mailbox.wake, None
        if wake is not None:
            wake()


def source_of(method: Receive | Send) -> ScopeActor | Conversation | None:
    """Give the scope whose own `receive` or `send` this is; None if somebody has wrapped it."""
    owner = getattr(method, "__self__", None)
    if method not in (getattr(owner, "receive", None), getattr(owner, "send", None)):
        return None
    if isinstance(owner, HostedScope):
        owner = owner.source
    return owner if isinstance(owner, ScopeActor | Conversation) else None


@final
class DirectIntake(Intake):
    """The mailbox of a scope that Greenroom itself serves."""

    __slots__ = ("_source", "read_ready", "wait")

    waits_for = "waiting for a message"

    def __init__(self, source: ScopeActor | Conversation) -> None:
        super().__init__(source.mailbox)
        self._source = source
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
class PumpedIntake(Intake):
    """A mailbox that tasks fill, each from one callable; what they learn is told `unheard`.

    Args:
        unheard: what the consumer sends in vain.
        scope: the consumer's.
        source: whose mailbox is filled, besides whoever fills it already; None for a new one.
    """

    __slots__ = ("_blocked", "_failure", "_is_job", "_source", "_unheard", "waits_for")

    def __init__(self, unheard: Unheard, scope: Scope, source: ScopeActor | None = None) -> None:
        super().__init__(open_mailbox() if source is None else source.mailbox)
        self._source = source
        # A worker's message is not asked for before there is time for it: it would be lost
        # with the handler before, if that fails.
        self._is_job = scope.get("type") == "channel"
        self.waits_for = "waiting for a message"
        self._unheard = unheard
        self._blocked: list[Waiter] = []
        self._failure: Exception | None = None

    @property
    def restartable(self) -> bool:
        """Whether a consumer that fails now could go on in place, as far as it can know."""
        return self._unheard.restartable if self._source is None else self._source.restartable

    def read_ready(self) -> None:
        """Let the tasks read on."""
        if self._source is not None:
            self._source.read_ready()
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
                if lane == EVENTS and self._is_job:
                    await self._wait_until_read()
                while mailbox.depth(lane) >= AHEAD:
                    await self._wait_until_read()
        except Exception as error:  # noqa: BLE001 -- raised in the consumer, after what came before
            self._failure = error
            self.waits_for = f"waiting for a message of its {SOURCES[lane]}"
            self._wake_reader()

    async def _wait_until_read(self) -> None:
        waiter = Waiter()
        self._blocked.append(waiter)
        await waiter.wait()


@asynccontextmanager
async def open_pumps(
    intake: PumpedIntake, pumps: list[tuple[Callable[[], Awaitable[Message]], int]]
) -> AsyncIterator[None]:
    """Run a task for each (callable, lane) while the block runs."""
    if trio.lowlevel.in_trio_task():
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            for receive, lane in pumps:
                nursery.start_soon(intake.pump, receive, lane)
            try:
                yield
            except Exception as error:  # noqa: BLE001 -- raised outside, not in a group
                failure = error
            finally:
                nursery.cancel_scope.cancel()
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # its traceback holds this frame: no reference cycle
        return
    tasks = [asyncio.create_task(intake.pump(receive, lane)) for receive, lane in pumps]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read(
    intake: Intake, consumer: "AsyncConsumer", threads: HandlerThreads | None = None
) -> tuple[BaseException, Message | None]:
    """Hand messages to `consumer.dispatch`, one at a time, until it raises or the client has left.

    The client's come first; where both lanes have some, they take turns, so that
    neither can hold the other back.

    Returns:
        What was raised, `StopConsumer` after the client's last message, and the message
        whose handler raised it, None if it was no handler. No `Exception` is raised only
        because the consumer is being cancelled, or the whole program interrupted.
    """
    mailbox = intake.mailbox
    depth, take = mailbox.depth, mailbox.get_nowait_from
    read_ready, wait = intake.read_ready, intake.wait
    dispatch = consumer.dispatch
    from_layer = consumer._layer_handlers
    # What a worker hands to its consumer came from the channel layer, too.
    worker = consumer.scope.get("type") == "channel"
    from_client = from_layer if worker else consumer._client_handlers
    budget = BUDGET
    message: Message | None = None
    try:
        while True:
            if depth(EVENTS):
                budget -= 1
                message = take(EVENTS)
                consumer._handler_names = from_client
                await dispatch(message)
                if threads is not None and threads.lease.used:
                    await threads.renew(message)
                if message["type"] in LAST:
                    return StopConsumer(), message
            idle = not depth(EVENTS)
            if idle:
                read_ready()
            if intake.crash is not None:
                (error, name), intake.crash = intake.crash, None
                return error, {"type": TASK, "name": name}
            if depth(MESSAGES):
                budget -= 1
                message = take(MESSAGES)
                consumer._handler_names = from_layer
                await dispatch(message)
                if threads is not None and threads.lease.used:
                    await threads.renew(message)
            elif idle and not depth(EVENTS):
                budget = BUDGET
                message = None
                await wait()
            if budget <= 0:
                budget = BUDGET
                await let_others_run()
    except BaseException as error:  # noqa: BLE001 -- it is raised once all is cleaned up
        return _end_by(error), message


def _end_by(error: BaseException) -> BaseException:
    """Give what ends a consumer in whose code `error` was raised."""
    if not isinstance(error, asyncio.CancelledError):
        # An exit is hardly ever meant for everybody else: argument parsers call it.
        # (A coroutine that is closed returns to nobody.)
        return instead_of_exit(error) or error
    if not trio.lowlevel.in_trio_task():
        task = asyncio.current_task()
        if task is None or task.cancelling():
            return error
    # Nobody has asked this task to end: something that it awaited was cancelled.
    cancelled = TaskCancelled()
    cancelled.__cause__ = error
    return cancelled


async def let_others_run() -> None:
    """Let other tasks have a turn; a checkpoint."""
    if trio.lowlevel.in_trio_task():
        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)


async def call_while(
    intake: Intake, wanted: Callable[[], bool], fn: Callable[..., Awaitable[object]], *args: Any
) -> None:
    """Await `fn(*args)`; cancel it when a message of the client comes and it is not `wanted`.

    It is cancelled, too, when a task of the consumer fails. In any case the message or the
    failure is still to be read. `fn` runs in the current task.
    """
    if not intake.mailbox.depth(EVENTS):
        intake.read_ready()
    if trio.lowlevel.in_trio_task():
        scope = trio.CancelScope()
        with _Watch(intake, wanted, scope.cancel), scope:
            await fn(*args)
    else:
        canceller = _TaskCanceller()
        with _Watch(intake, wanted, canceller.cancel):
            await canceller.call(fn, *args)


@final
class _Watch:
    """Looks at a mailbox that nobody reads meanwhile, and cancels whoever does not read it."""

    __slots__ = ("_cancel", "_intake", "_wanted")

    def __init__(
        self, intake: Intake, wanted: Callable[[], bool], cancel: Callable[[], object]
    ) -> None:
        self._intake = intake
        self._wanted = wanted
        self._cancel = cancel

    def __enter__(self) -> None:
        self._look()

    def __exit__(self, *_: object) -> None:
        if self._intake.mailbox.wake == self._look:
            self._intake.mailbox.wake = None

    def _look(self) -> None:
        mailbox = self._intake.mailbox
        if self._intake.crash is None and (not mailbox.depth(EVENTS) or self._wanted()):
            mailbox.wait_with(self._look)
        else:
            self._cancel()


@final
class _TaskCanceller:
    """Cancels what the current asyncio task awaits, and not the task, as `asyncio.timeout` does."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._before = task.cancelling()
        self._asked = False

    def cancel(self) -> None:
        self._asked = True
        self._task.cancel()

    async def call(self, fn: Callable[..., Awaitable[object]], *args: Any) -> None:
        try:
            await fn(*args)
            if self._asked:
                await asyncio.sleep(0)  # where the cancellation comes in, if it has not yet
        except asyncio.CancelledError:
            if not self._asked or self._task.uncancel() > self._before:
                raise
        except BaseException:
            if self._asked:
                self._task.uncancel()
            raise
        else:
            if self._asked:
                self._task.uncancel()
