"""Places in a worker for instances of the application, one instance at a time in each.

                     put                      put
    EMPTY  ─────────────────────> BUSY <───────────────── IDLE
      ^    <─────────────────────      ─────────────────>
             the instance ended           it asks for more

An instance asks for more by calling `receive`, or if it is a consumer once its handler has
returned. Only then a message is taken from the channel layer, so that nobody but the one
who handles it can lose it. What an instance was given and had not begun when it failed is
handled by the next.

It all runs in trio as well as on any asyncio loop.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import Enum
from math import inf
from random import random
from typing import Any, Final, final

import trio

from ...actors import Backoff, flatten
from ...runtime import App, Message, Scope, Send, describe
from ...runtime._errors import instead_of_exit
from ...runtime.scopes import BUDGET, EVENTS, ScopeActor
from ..asyncio import HostedScope, TaskCancelled, call_app, current_hosted_loop, wait_mailbox
from ..asyncio._tasks import run_owner
from ..threads import NoThreadToPin
from ._both_worlds import Cancel, Start, current_time, is_cancelled, sleep
from ._intake import let_others_run
from .exceptions import StopConsumer

# Between instances of which each failed at its first message. Not longer, since a layer
# drops what has waited there for a minute.
PAUSES: Final = Backoff(first=0.1, longest=5.0, reset_after=5.0)

logger = logging.getLogger("greenroom.channels.worker")


class State(Enum):
    """What a seat does."""

    EMPTY = "there is no instance"
    BUSY = "the instance handles a message"
    IDLE = "the instance waits for a message"


@final
class Crew:
    """All seats of one worker.

    Args:
        application: serves each scope.
        start: starts the task of an instance.
        make_send: gives the `send` of a scope.
        report: told what an instance was ended by, its seat, and the message.
        max_instances: if more live at once, the one that is idle for longest is dismissed.
    """

    def __init__(
        self,
        application: App,
        start: Start,
        make_send: Callable[[Scope], Send],
        report: Callable[[Exception, "Seat", Message | None], Awaitable[None]],
        max_instances: float = inf,
    ) -> None:
        self.application = application
        self.start = start
        self.make_send = make_send
        self.report = report
        self.max_instances = max_instances
        self.seats: list[Seat] = []
        self.stopping = False
        self._told_of_threads = False

    def tell_of_threads(self, seat: "Seat", error: NoThreadToPin) -> None:
        """Log once that there are fewer threads to pin than instances are wanted."""
        if not self._told_of_threads:
            self._told_of_threads = True
            logger.error(
                "%s has no thread for another consumer that is pinned, so its messages are left "
                "to those that have one, or wait: %s",
                describe(seat.scope),
                error,
            )

    def running(self) -> list["Seat"]:
        """Give the seats in which an instance lives."""
        return [seat for seat in self.seats if seat.state is not State.EMPTY]

    def left(self) -> list[str]:
        """Tell in words what is handled now, and by whom it is not known; from any thread."""
        return sorted(
            str(seat)
            for seat in self.seats
            if seat.state is State.BUSY or (self.stopping and seat.state is State.IDLE)
        )

    def make_room(self) -> None:
        """Dismiss instances until there are no more than allowed, if there are idle ones."""
        running = self.running()
        idle = [seat for seat in running if seat.state is State.IDLE]
        idle.sort(key=lambda seat: seat.last_used, reverse=True)
        for _ in range(len(running)):
            if len(running) <= self.max_instances or not idle:
                return
            seat = idle.pop()
            running.remove(seat)
            seat.dismiss()

    def stop(self) -> None:
        """End each instance as soon as it has handled what it was given."""
        self.stopping = True
        for seat in self.seats:
            seat.dismiss()

    def cancel(self) -> None:
        """End each instance now."""
        for seat in self.running():
            seat.cancel()


@final
class Seat:
    """A place for one instance at a time; `put_nowait` may also be used as a queue.

    Args:
        crew: whose seat it is.
        key: what it is known by, such as its channel's name.
        scope: what each instance is called with, in a copy.
        on_free: called when a message could be put that is handled at once.
        pass_on: hands messages on that it has no thread for, and tells whether it could.
    """

    def __init__(
        self,
        crew: Crew,
        key: Any,
        scope: Scope,
        on_free: Callable[[], object] = lambda: None,
        pass_on: Callable[[list[Message]], bool] = lambda _: False,
    ) -> None:
        self.key = key
        self.scope = scope
        self.state = State.EMPTY
        self.resume_at = -inf  # before, no instance should be started, as the last ones failed
        self.last_used = -inf
        self.cancel: Cancel = lambda: None
        self._crew = crew
        self._on_free = on_free
        self._pass_on = pass_on
        self._instance: Instance | None = None
        self._waiting: list[Message] = []  # for the next instance
        self._given: list[Message] = []  # to this one, since it last asked for more
        self._failures = 0  # instances in a row that have handled nothing
        crew.seats.append(self)

    def __str__(self) -> str:
        kind = self._given[0].get("type") if self._given else None
        return describe(self.scope) + (f" ({kind})" if kind else "")

    @property
    def free(self) -> bool:
        """Whether a message could be put that is handled at once."""
        return self.state is not State.BUSY

    @property
    def lives(self) -> bool:
        """Whether there is an instance."""
        return self._instance is not None

    @property
    def load(self) -> int:
        """How many messages it was given that it has not handled yet."""
        return len(self._given)

    def put_nowait(self, message: Message) -> None:
        """Hand over one message, which waits here if the instance is busy."""
        self.last_used = current_time()
        self._given.append(message)
        if self._instance is not None:
            self.state = State.BUSY
            self._instance.mailbox.put(message, EVENTS)
            return
        self._waiting.append(message)
        if self.state is State.EMPTY:
            self.state = State.BUSY
            self._crew.make_room()
            self.cancel = self._crew.start(self._live)

    async def put(self, message: Message) -> None:
        """Hand over one message; as a queue's `put`, it never waits for room."""
        self.put_nowait(message)

    def dismiss(self) -> None:
        """End the instance once it has handled what it was given."""
        if self._instance is not None:
            self._instance.dismiss()

    def asked(self) -> None:
        """Learn that the instance has handled all that it was given."""
        if self._given:
            self._given.clear()
            self._failures = 0
        self.state = State.IDLE
        self._on_free()

    async def _live(self) -> None:
        """Run instances until one has ended and left nothing to handle."""
        try:
            while self._waiting:
                await self._run_instance()
        finally:
            self.state = State.EMPTY
            self._on_free()

    async def _run_instance(self) -> None:
        began = current_time()
        instance = self._instance = Instance(self._crew, self)
        for message in self._waiting:
            instance.mailbox.put(message, EVENTS)
        self._waiting.clear()
        error: Exception | None = None
        try:
            error = await instance.serve()
        finally:
            self._instance = None
            while instance.mailbox.depth(EVENTS):
                self._waiting.append(instance.mailbox.get_nowait_from(EVENTS))
        if isinstance(error, NoThreadToPin) and self._waiting == self._given:
            await self._wait_for_thread(error)
            return
        if not instance.has_asked and self._waiting == self._given:
            del self._waiting[0]  # it has not even looked at its message, nor would the next
        begun = self._given[: len(self._given) - len(self._waiting)]
        self._given[:] = self._waiting
        self.state = State.BUSY
        if error is not None:
            if current_time() - began >= PAUSES.reset_after:
                self._failures = 0
            self._failures += 1
            if self._failures > 1:
                self.resume_at = current_time() + PAUSES.pause(self._failures - 1, random())
            await self._crew.report(error, self, begun[-1] if begun else None)

    async def _wait_for_thread(self, error: NoThreadToPin) -> None:
        """Lose nothing of what it was given while no thread can be pinned for an instance."""
        self._crew.tell_of_threads(self, error)
        self.resume_at = current_time() + PAUSES.longest
        if self._pass_on(self._waiting):
            self._waiting.clear()
            self._given.clear()
        else:
            await sleep(PAUSES.longest)


@final
class Instance(ScopeActor):
    """One call of the application, for the messages of one channel.

    The `receive` of it is awaited in trio or on any asyncio loop.
    """

    __slots__ = ("_crew", "_dismissed", "_seat", "has_asked")

    def __init__(self, crew: Crew, seat: Seat) -> None:
        super().__init__(crew.application, dict(seat.scope))
        self._crew = crew
        self._seat = seat
        self._dismissed = False
        self.has_asked = False  # for more than what it was started with

    async def serve(self) -> Exception | None:
        """Call the application, and give the failure that has ended it."""
        send = self._crew.make_send(self.scope)
        try:
            if trio.lowlevel.in_trio_task():
                await call_app(self.app, self.scope, self.receive, send)
            else:
                loop = current_hosted_loop()
                receive = self.receive if loop is None else HostedScope(self, loop.loop).receive
                await run_owner(call_app, self.app, self.scope, receive, send)
        except StopConsumer:
            return None
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            cancelled = TaskCancelled()
            cancelled.__cause__ = error
            return cancelled
        except Exception as error:  # noqa: BLE001 -- the seat reports it
            failure = flatten(error)
            return failure if isinstance(failure, Exception) else error
        except BaseException as error:
            exited = instead_of_exit(error)
            if exited is None:
                raise
            return exited
        return None

    def dismiss(self) -> None:
        """Raise `StopConsumer` in the application the next time that it asks for more."""
        self._dismissed = True
        wake, self.mailbox.wake = self.mailbox.wake, None
        if wake is not None:
            wake()

    def read_ready(self) -> None:
        """Learn that the application waits for a message and none is there.

        Raises:
            StopConsumer: there will be none.
        """
        if self._dismissed or self._crew.stopping:
            raise StopConsumer
        self.has_asked = True
        self._seat.asked()

    async def receive(self) -> Message:  # type: ignore[override]
        """Wait for the next message of the channel, as ASGI's `receive`.

        Raises:
            StopConsumer: there will be none, as the worker is stopping.
        """
        mailbox = self.mailbox
        while not mailbox.depth(EVENTS):
            self.budget = BUDGET
            self.read_ready()
            await wait_mailbox(mailbox)
        self.budget -= 1
        if self.budget <= 0:
            self.budget = BUDGET
            await let_others_run()
        message: Message = mailbox.get_nowait_from(EVENTS)
        return message

    @property
    def restartable(self) -> bool:
        """Whether an application that fails now could go on in place: it has no client to lose."""
        return True

    @property
    def congested(self) -> bool:
        """Whether a sender should wait: there is nobody to read."""
        return False

    def send_nowait(self, message: Message) -> bool:
        """Refuse one message, since nobody would read it.

        Raises:
            RuntimeError: always.
        """
        raise nobody_reads(message)

    def wake_writer_with(self, wake: Callable[[], object]) -> None:
        """Call `wake`, as nobody has to be waited for."""
        wake()

    def ended(self, _reason: Any) -> None:
        """Do nothing: there is nobody to tell."""


def nobody_reads(message: Message) -> RuntimeError:
    """Make the error of a consumer that sends to a client which it does not have."""
    return RuntimeError(
        f"a consumer of a named channel has no client to send {message.get('type')!r} to; "
        "use self.channel_layer.send()"
    )
