"""Trio's floor: the least that does what an actor does, with nothing of its comforts.

A task, a deque in front of it, and a note of who sleeps. No supervisor, no dead letters,
no limits, no names; a crash is not even told to anybody, unless the name says so.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import outcome
import trio
from trio.lowlevel import Abort, Task, checkpoint, current_task, reschedule, wait_task_rescheduled
from trio.testing import wait_all_tasks_blocked

from .logs import logging_to
from .meters import CPUTime, Memory

BATCH = 100  # tasks started before others get a turn

run = trio.run

logger = logging.getLogger(__name__)


class Mailbox:
    """A deque, and the task that waits for it."""

    __slots__ = ("items", "sleeper")

    def __init__(self) -> None:
        self.items: deque[Any] = deque()
        self.sleeper: Task | None = None

    def put(self, item: Any) -> None:
        self.items.append(item)
        sleeper = self.sleeper
        if sleeper is not None:
            self.sleeper = None
            reschedule(sleeper)

    async def get(self) -> Any:
        while not self.items:
            self.sleeper = current_task()
            await wait_task_rescheduled(self._give_up)
        return self.items.popleft()

    def _give_up(self, _: object) -> Abort:
        self.sleeper = None
        return Abort.SUCCEEDED


async def handle(mailbox: Mailbox, receive: Callable[[Any], object]) -> None:
    while True:
        receive(await mailbox.get())


def crash() -> None:
    raise OSError("gone")


async def hop(size: int) -> float:
    """Let two tasks tell each other in turn: one message from a task to one that sleeps."""
    one, other = Mailbox(), Mailbox()
    over = trio.Event()

    def receive_with(peer: Mailbox) -> Callable[[int], None]:
        def receive(left: int) -> None:
            if left:
                peer.put(left - 1)
            else:
                over.set()

        return receive

    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle, one, receive_with(other))
        nursery.start_soon(handle, other, receive_with(one))
        await wait_all_tasks_blocked()
        with CPUTime(size) as cost:
            one.put(size)
            await over.wait()
        nursery.cancel_scope.cancel()
    return cost.each


async def tell_each(size: int, receivers: int, burst: int) -> float:
    """Tell each of `receivers` tasks `burst` messages, let others run, and so on."""
    handled = 0

    def receive(_: object) -> None:
        nonlocal handled
        handled += 1

    mailboxes = [Mailbox() for _ in range(receivers)]
    async with trio.open_nursery() as nursery:
        for mailbox in mailboxes:
            nursery.start_soon(handle, mailbox, receive)
        await wait_all_tasks_blocked()
        turns = -(-size // (receivers * burst))
        messages = turns * receivers * burst
        with CPUTime(messages) as cost:
            for _ in range(turns):
                for mailbox in mailboxes:
                    for _ in range(burst):
                        mailbox.put("news")
                await checkpoint()
            while handled < messages:
                await checkpoint()
        nursery.cancel_scope.cancel()
    return cost.each


async def ask(size: int) -> float:
    """Put a message with the asker's task, and sleep until the answer wakes it."""
    return await _ask(size, _ask_one)


async def ask_with_timeout(size: int) -> float:
    """Ask, for 5 seconds at most."""

    async def ask_in_time(mailbox: Mailbox) -> Any:
        with trio.fail_after(5):
            return await _ask_one(mailbox)

    return await _ask(size, ask_in_time)


async def _ask(size: int, ask_one: Callable[[Mailbox], Any]) -> float:
    def answer(question: tuple[Task, Any]) -> None:
        asker, message = question
        reschedule(asker, outcome.Value(message))

    mailbox = Mailbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle, mailbox, answer)
        await wait_all_tasks_blocked()
        with CPUTime(size) as cost:
            for _ in range(size):
                await ask_one(mailbox)
        nursery.cancel_scope.cancel()
    return cost.each


async def _ask_one(mailbox: Mailbox) -> Any:
    mailbox.put((current_task(), "question"))
    return await wait_task_rescheduled(lambda _: Abort.SUCCEEDED)


async def spawn(size: int) -> float:
    """Start tasks that end at once, in an open nursery."""

    async def live() -> None:
        pass

    with CPUTime(size) as cost:
        async with trio.open_nursery() as nursery:
            for number in range(1, size + 1):
                nursery.start_soon(live)
                if not number % BATCH:
                    await checkpoint()
    return cost.each


async def restart(size: int) -> float:
    """Catch a crash in the task, and start the next task in the same nursery."""
    return await _restart(size, lambda: None)


async def restart_logged(size: int) -> float:
    """Catch a crash in the task, log it, and start the next one."""
    with logging_to(logging.NullHandler()):
        return await _restart(size, lambda: logger.exception("crashed"))


async def _restart(size: int, report: Callable[[], None]) -> float:
    left = size

    async def live() -> None:
        nonlocal left
        try:
            crash()
        except OSError:
            report()
            left -= 1
            if left:
                nursery.start_soon(live)

    with CPUTime(size) as cost:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(live)
    return cost.each


async def idle(size: int) -> float:
    """Park tasks, each in a cancel scope and before a mailbox of its own."""

    async def live() -> None:
        with trio.CancelScope():
            await handle(Mailbox(), print)

    async with trio.open_nursery() as nursery:
        for _ in range(BATCH):
            nursery.start_soon(live)
        await wait_all_tasks_blocked()
        with Memory(size) as memory:
            for _ in range(size):
                nursery.start_soon(live)
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return memory.each
