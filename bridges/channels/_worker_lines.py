"""One channel of a worker: a message is taken from the layer whenever somebody is free for it.

A layer that fails, as every one does while its server restarts, is asked again and again.
What is said of that in the log is said once for all channels, and once more at the end.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from math import inf
from random import random
from typing import Any, Final, final

import trio

from ...actors import Backoff
from ...runtime._types import Message
from ...runtime.layers import Waiter
from ..asyncio import TaskCancelled, current_hosted_loop
from ..asyncio._lasting import lasting_hosted_loop
from ._worker_seats import Crew, Seat
from ._worker_tasks import current_time, is_cancelled, sleep, wait_until
from .layers import takes_subscriptions

# Between two tries. A layer that fails only after `reset_after` was connected before, and
# waits no longer than at first.
PAUSES: Final = Backoff(first=0.1, longest=5.0, reset_after=1.0)
STEADY: Final = 10.0  # seconds that a layer has to wait for a message to count as mended

logger = logging.getLogger("greenroom.channels.worker")

Receive = Callable[[str], Awaitable[Message]]


def receiver_of(layer: Any) -> Receive:
    """Give the layer's `receive` such that it can be awaited here, in trio or in asyncio."""
    if not trio.lowlevel.in_trio_task() or takes_subscriptions(layer):
        receive: Receive = layer.receive
        return receive
    return partial(_receive_in_asyncio, layer)


async def _receive_in_asyncio(layer: Any, channel: str) -> Message:
    loop = current_hosted_loop() or await lasting_hosted_loop()
    message: Message = await loop.run_asyncio(layer.receive, channel)
    return message


@final
class Outage:
    """From the second failure in a row of a layer to its recovery, whichever channel sees it.

    A single failure, such as a lost connection that the next try opens again, is none.
    """

    def __init__(self) -> None:
        self._failing: set[str] = set()
        self._since = 0.0

    def saw_failure(self, channel: str, error: Exception) -> None:
        """Learn that `channel` can't be read."""
        if not self._failing:
            self._since = current_time()
            logger.error(
                "the channel layer fails while messages of the channel %s are waited for; "
                "it is asked again until it works",
                channel,
                exc_info=error,
            )
        self._failing.add(channel)

    def saw_recovery(self, channel: str) -> None:
        """Learn that `channel` can be read."""
        if channel in self._failing:
            self._failing.remove(channel)
            if not self._failing:
                lasted = current_time() - self._since
                logger.warning("the channel layer works again, after %.1f s", lasted)


@final
class Line:
    """The messages of one channel, and the seats that handle them.

    The first seat that is free gets a message, so there are no more instances than have
    been needed at once.
    """

    def __init__(self, crew: Crew, channel: str, size: int, outage: Outage) -> None:
        self._crew = crew
        self._channel = channel
        self._outage = outage
        self._waiter: Waiter | None = None
        scope = {"type": "channel", "channel": channel}
        self._seats = [Seat(crew, channel, scope, self._wake) for _ in range(size)]

    async def run(self, receive: Receive) -> None:
        """Take messages until the crew stops, or until cancelled.

        A layer whose cancelled `receive` gives a message all the same has not lost it.
        """
        while not self._crew.stopping:
            await self._wait_for_seat()
            message = await self._receive(receive)
            kind = message.get("type") if isinstance(message, dict) else None
            if isinstance(kind, str) and kind:
                self._seat().put_nowait(message)
            else:
                logger.error(
                    "a message without a type is skipped in channel %s: %r", self._channel, message
                )

    def _seat(self) -> Seat:
        """Give the first that may handle a message now; else the one that may soonest."""
        now = current_time()
        return min(self._seats, key=lambda seat: (not seat.free, max(seat.resume_at, now)))

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.wake()

    async def _wait_for_seat(self) -> None:
        while True:
            free = [seat.resume_at for seat in self._seats if seat.free]
            resume_at = min(free, default=inf)
            if resume_at <= current_time():
                return
            self._waiter = Waiter()
            await wait_until(self._waiter, resume_at)

    async def _receive(self, receive: Receive) -> Message:
        failures = 0
        quick = 0  # those in a row that took no time
        while True:
            began = current_time()
            trust = self._crew.start(self._trust) if failures > 1 else None
            failure: Exception
            try:
                message = await receive(self._channel)
            except asyncio.CancelledError as error:
                if is_cancelled():
                    raise
                failure = TaskCancelled()
                failure.__cause__ = error
            except Exception as error:  # noqa: BLE001 -- reported, and tried again
                failure = error
            else:
                self._outage.saw_recovery(self._channel)
                return message
            finally:
                if trust is not None:
                    trust()
            failures += 1
            quick = 1 if current_time() - began >= PAUSES.reset_after else quick + 1
            if failures > 1:
                self._outage.saw_failure(self._channel, failure)
            else:
                logger.debug("the channel layer failed once", exc_info=failure)
            del failure  # its traceback holds this frame: no reference cycle
            await sleep(PAUSES.pause(quick, random()))

    async def _trust(self) -> None:
        await sleep(STEADY)
        self._outage.saw_recovery(self._channel)
