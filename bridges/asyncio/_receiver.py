"""The `receive` of asyncio code, for trio code that may give up waiting."""

import asyncio
import contextvars
from collections import deque
from typing import final

import trio

from ...runtime import Message, Receive
from ._context import adopt_context
from ._crossings import Crossings, await_call, wait_future
from ._tasks import end_tasks


@final
class Receiver:
    """Asks in asyncio tasks; the answer to a question that was given up is the next one's.

    So a message that comes in the moment of a cancellation is not lost, whatever the
    server's own `receive` does when it is cancelled: it is not before the end.
    """

    __slots__ = ("_crossings", "_given_up", "_receive")

    def __init__(self, crossings: Crossings, receive: Receive) -> None:
        self._crossings = crossings
        self._receive = receive
        self._given_up: deque[tuple[asyncio.Task[Message], contextvars.Context]] = deque()

    async def receive(self) -> Message:
        """Wait for the next message; several tasks may wait at once."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._given_up:
            question, context = self._given_up.popleft()
        else:
            context = contextvars.copy_context()
            question = self._crossings.create_task(await_call(self._receive, ()), context=context)
        if not question.done():
            await self._wait(question, context)
        message = await wait_future(question)
        adopt_context(context)
        return message

    async def _wait(self, question: "asyncio.Task[Message]", context: contextvars.Context) -> None:
        task = trio.lowlevel.current_task()

        def wake(_question: object) -> None:
            trio.lowlevel.reschedule(task)

        def give_up(_raise_cancel: object) -> trio.lowlevel.Abort:
            if question.done():  # and `wake` is on the way
                return trio.lowlevel.Abort.FAILED
            question.remove_done_callback(wake)
            self._given_up.append((question, context))
            return trio.lowlevel.Abort.SUCCEEDED

        question.add_done_callback(wake)
        await trio.lowlevel.wait_task_rescheduled(give_up)

    async def aclose(self) -> None:
        """From asyncio, when trio code asks no more: end the questions that are left."""
        left = {question for question, _ in self._given_up}
        self._given_up.clear()
        if left:
            await end_tasks(left)
            for question in left:
                if not question.cancelled():
                    question.exception()  # nobody would read it
