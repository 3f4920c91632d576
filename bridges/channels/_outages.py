"""A channel layer that fails is asked again, and what is said of it is said once.

The layers of others fail while their server restarts. Whoever waits for their messages, a
consumer that is connected or a channel of a worker, then waits on:

    its client gave up waiting      asked again at once: that nobody sent anything is no failure
    a message that can't be read    it is lost, and the next one is waited for
    a mistake in somebody's code    raised: to ask again would not mend it
    anything else                   an outage: asked again after ever longer pauses

Everybody in one event loop who waits for messages of one layer shares an `Outage`, so the log
has two lines of it, however many they are. It is not over before their groups are joined again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from math import inf
from random import random
from typing import Any, Final, final
from weakref import WeakValueDictionary

import trio

from ...runtime import Message
from ..asyncio import HostedLoop, TaskCancelled
from ._both_worlds import Cancel, current_time, is_cancelled, sleep
from ._layer_failures import PAUSES, RATE, Failure, judge
from ._rejoins import Following, Rejoins

STEADY: Final = 10.0  # seconds that a layer has to wait for messages to count as mended

logger = logging.getLogger("greenroom.channels")


@final
class Outage:
    """From the second failure in a row of a layer to its recovery, whoever sees it.

    A single failure, such as a lost connection that the next try opens again, is none.

    Args:
        layer: whose outage it is.
        world: the event loop in which it is waited for.
    """

    def __init__(self, layer: Any, world: Any) -> None:
        self._owners = (layer, world)  # kept, since `outage_of` goes by their ids
        self._failing: set[str] = set()
        self._since: float | None = None
        self._steady_from = -inf
        self._worked = False  # for one of those that had failed
        self._told_of_loss = -inf
        self._stop_timer: Cancel = _nothing
        self._rejoins = Rejoins(layer)

    def follow(self, channel: str) -> Following:
        """Learn that somebody will wait for messages of `channel`, until it closes what it gets.

        To be called before the channel is in any group.
        """
        return self._rejoins.follow(channel)

    def pause(self, failures: int) -> float:
        """Tell how long to wait after so many failures in a row; longer among thousands."""
        chance = random()
        turn = len(self._failing) / RATE  # seconds in which each of them may ask once
        return max(PAUSES.pause(failures, chance), turn * (0.5 + chance))

    def saw_single_failure(self) -> None:
        """Learn that a channel can't be read, for the first time: groups may be forgotten."""
        self._rejoins.doubt(self)

    def saw_failure(self, channel: str, error: Exception, again_at: float) -> None:
        """Learn that `channel` can't be read again, and when it is tried again."""
        self._begin(channel, error, again_at)
        self._failing.add(channel)
        self._rejoins.doubt(self)

    def saw_rejoin_fail(self, channel: str, error: Exception, again_at: float) -> None:
        """Learn that a group of `channel` can't be joined, and when it is tried again."""
        self._begin(channel, error, again_at)

    def _begin(self, channel: str, error: Exception, again_at: float) -> None:
        self._steady_from = max(self._steady_from, again_at)
        self._worked = False
        if self._since is None:
            self._since = now = current_time()
            self._stop_timer = _call_later(again_at + STEADY - now, self._look)
            logger.error(
                "the channel layer fails while messages of the channel %s are waited for; "
                "it is asked again until it works",
                channel,
                exc_info=error,
            )

    def saw_recovery(self, channel: str) -> None:
        """Learn that `channel` can be read."""
        if channel in self._failing:
            self._worked = True
            self.forget(channel)

    def forget(self, channel: str) -> None:
        """Learn that nobody waits for messages of `channel` any more."""
        self._failing.discard(channel)
        self._end_if_over()

    def saw_rejoined(self) -> None:
        """Learn that the server knows all memberships again."""
        self._worked = True
        self._end_if_over()

    def saw_loss(self, channel: str, error: Exception) -> None:
        """Learn that a message can't be read; a group's message may be lost to thousands."""
        now = current_time()
        if now - self._told_of_loss >= STEADY:
            self._told_of_loss = now
            logger.error(
                "a message of the channel %s can't be read and is lost", channel, exc_info=error
            )
        else:
            logger.debug("another message can't be read, of the channel %s", channel)

    def _look(self) -> None:
        """See whether nobody has failed for long enough."""
        left = self._steady_from + STEADY - current_time()
        if left > 0 or self._rejoins.due:
            self._stop_timer = _call_later(max(left, 1.0), self._look)
        elif self._failing:
            self._failing.clear()
            self._end()
        else:
            self._since = None  # all have left, so nobody knows whether it works

    def _end_if_over(self) -> None:
        if self._worked and not self._failing and not self._rejoins.due:
            self._end()

    def _end(self) -> None:
        self._stop_timer()
        if self._since is not None:
            lasted = current_time() - self._since
            self._since = None
            logger.warning("the channel layer works again, after %.1f s", lasted)


_outages: Final[WeakValueDictionary[tuple[int, int], Outage]] = WeakValueDictionary()


def outage_of(layer: Any) -> Outage:
    """Give what all share who wait here for messages of `layer`.

    A trio run and the loop that it hosts are one world, as are a loop and the trio run that is
    its guest.
    """
    loop = asyncio._get_running_loop()
    hosted = loop is None or isinstance(loop, HostedLoop)
    world = trio.lowlevel.current_trio_token() if hosted else loop
    key = (id(layer), id(world))
    outage = _outages.get(key)
    if outage is None:
        outage = _outages[key] = Outage(layer, world)
    return outage


def _nothing() -> None:
    """Stop a timer that is not there."""


def _call_later(seconds: float, fn: Callable[[], None]) -> Cancel:
    """Call `fn` in so many seconds, whoever has ended by then."""
    loop = asyncio._get_running_loop()
    if loop is not None:
        return loop.call_later(seconds, fn).cancel
    scope = trio.CancelScope()

    async def wait() -> None:
        with scope:
            await trio.sleep(seconds)
            fn()

    trio.lowlevel.spawn_system_task(wait, name=fn)
    return scope.cancel


async def receive_lastingly(
    receive: Callable[[], Awaitable[Message]], channel: str, outage: Outage
) -> Message:
    """Await `receive` until it gives a message, whatever happens to the layer meanwhile.

    Args:
        receive: the layer's, for `channel`.
        channel: in whose name the layer is found to fail and to work again.
        outage: of that layer.

    Raises:
        Exception: one that is a mistake, and no failure of the layer.
    """
    failures = 0
    quick = 0  # those in a row that took no time
    waits_since = current_time()
    try:
        while True:
            asked_at = current_time()
            failure: Exception
            try:
                message = await receive()
            except asyncio.CancelledError as error:
                if is_cancelled():
                    raise
                failure = TaskCancelled()
                failure.__cause__ = error
            except Exception as error:  # noqa: BLE001 -- it is judged, and most are lived through
                failure = error
            else:
                outage.saw_recovery(channel)
                return message
            now = current_time()
            try:
                kind = judge(failure, now - asked_at)
                if kind is Failure.IDLE:
                    continue
                if kind is Failure.MISTAKE:
                    raise failure
                quick = 1 if now - asked_at >= PAUSES.reset_after else quick + 1
                pause = outage.pause(quick)
                if kind is Failure.LOSS:
                    outage.saw_loss(channel, failure)
                else:
                    failures = 1 if now - waits_since >= STEADY else failures + 1
                    if failures > 1:
                        outage.saw_failure(channel, failure, now + pause)
                    else:
                        outage.saw_single_failure()
                        logger.debug("the channel layer failed once", exc_info=failure)
            finally:
                del failure  # its traceback holds this frame: no reference cycle
            await sleep(pause)
            waits_since = current_time()
    except BaseException:
        outage.forget(channel)
        raise
