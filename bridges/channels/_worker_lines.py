"""One channel of a worker: a message is taken from the layer whenever somebody is free for it.

A layer that fails, as every one does while its server restarts, is asked again and again.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from math import inf
from typing import Any, final

import trio

from ...runtime import Message
from ...runtime.layers import Waiter
from ..asyncio import current_hosted_loop
from ..asyncio._lasting import lasting_hosted_loop
from ._both_worlds import current_time, wait_until
from ._layers_of_others import takes_subscriptions
from ._outages import Outage, receive_lastingly
from ._redis_queue import queue_of
from ._worker_seats import Crew, Seat

logger = logging.getLogger("greenroom.channels.worker")

Receive = Callable[[str], Awaitable[Message]]


def receiver_of(layer: Any) -> Receive:
    """Give the layer's `receive`, or what had better be in its place, for trio or asyncio."""
    source = queue_of(layer) or layer
    if not trio.lowlevel.in_trio_task() or takes_subscriptions(layer):
        receive: Receive = source.receive
        return receive
    return partial(_receive_in_asyncio, source)


async def _receive_in_asyncio(source: Any, channel: str) -> Message:
    loop = current_hosted_loop() or await lasting_hosted_loop()
    message: Message = await loop.run_asyncio(source.receive, channel)
    return message


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
        self._seats = [Seat(crew, channel, scope, self._wake, self._pass_on) for _ in range(size)]

    async def run(self, receive: Receive) -> None:
        """Take messages until the crew stops, or until cancelled.

        A layer whose cancelled `receive` gives a message all the same has not lost it.
        """
        ask = partial(receive, self._channel)
        with closing(self._outage.follow(self._channel)):
            while not self._crew.stopping:
                await self._wait_for_seat()
                message = await receive_lastingly(ask, self._channel, self._outage)
                kind = message.get("type") if isinstance(message, dict) else None
                if isinstance(kind, str) and kind:
                    self._seat().put_nowait(message)
                else:
                    logger.error(
                        "a message without a type is skipped in channel %s: %r",
                        self._channel,
                        message,
                    )

    def _seat(self) -> Seat:
        """Give the first that may handle a message now; else the one that may soonest."""
        now = current_time()
        return min(self._seats, key=lambda seat: (not seat.free, max(seat.resume_at, now)))

    def _pass_on(self, messages: list[Message]) -> bool:
        """Hand the messages of a seat that can have no thread to those that may have one."""
        others = [seat for seat in self._seats if seat.lives]
        if not others:
            return False
        for message in messages:
            min(others, key=lambda seat: (not seat.free, seat.load)).put_nowait(message)
        return True

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
