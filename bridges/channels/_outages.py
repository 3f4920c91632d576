"""A channel layer that fails is asked again, and what is said of it is said once.

The layers of others fail while their server restarts. Whoever waits for their messages, a
consumer that is connected or a channel of a worker, then waits on:

    its client gave up waiting      asked again at once: that nobody sent anything is no failure
    a message that can't be read    it is lost, and the next one is waited for
    a mistake in somebody's code    raised: to ask again would not mend it
    anything else                   an outage: asked again after ever longer pauses

Everybody in one event loop who waits for messages of one layer shares an `Outage`, so the log
has two lines of it, however many they are.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import Enum
from math import inf
from random import random
from typing import Any, Final, final
from weakref import WeakValueDictionary

import trio

from ...actors import Backoff
from ...runtime._types import Message
from ..asyncio import HostedLoop, TaskCancelled
from ._worker_tasks import Cancel, current_time, is_cancelled, sleep

# Between two tries. The jitter is as long as the pause, since thousands may have failed in the
# same moment. Whose connection had lasted for `reset_after` waits no longer than at first.
PAUSES: Final = Backoff(first=0.1, longest=2.5, jitter=1.0, reset_after=1.0)
RATE: Final = 300  # tries in a second, by all who fail together: each costs a millisecond or more
STEADY: Final = 10.0  # seconds that a layer has to wait for messages to count as mended
SOON: Final = 1.0  # seconds; a receive that gives up sooner has not waited for a message

MISTAKES: Final = (
    AssertionError,
    AttributeError,
    ImportError,
    NameError,
    RuntimeError,  # two loops receive at once; with NotImplementedError, NoHostedLoop
    TypeError,
)

logger = logging.getLogger("greenroom.channels")


class Failure(Enum):
    """What it means that a layer's `receive` has raised."""

    IDLE = "nobody has sent anything for a while"
    LOSS = "one message can't be read"
    MISTAKE = "the code is wrong"
    OUTAGE = "the layer can't be reached"


def judge(error: Exception, lasted: float) -> Failure:
    """Tell what it means that `receive` has raised `error` after so many seconds.

    redis-py gives up waiting after five seconds since its version 8, which is as long as
    channels_redis asks the server to wait.
    """
    name = type(error).__name__  # clients have classes of their own, with these names
    if lasted >= SOON and (isinstance(error, TimeoutError) or name == "TimeoutError"):
        return Failure.IDLE
    # A certificate that is refused is a ValueError, too.
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return Failure.LOSS
    if isinstance(error, RecursionError) or name == "InvalidToken":
        return Failure.LOSS  # nested too deep; encrypted with a key that we don't have
    return Failure.MISTAKE if isinstance(error, MISTAKES) else Failure.OUTAGE


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

    def pause(self, failures: int) -> float:
        """Tell how long to wait after so many failures in a row; longer among thousands."""
        chance = random()
        turn = len(self._failing) / RATE  # seconds in which each of them may ask once
        return max(PAUSES.pause(failures, chance), turn * (0.5 + chance))

    def saw_failure(self, channel: str, error: Exception, again_at: float) -> None:
        """Learn that `channel` can't be read, and when it is tried again."""
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
        self._failing.add(channel)

    def saw_recovery(self, channel: str) -> None:
        """Learn that `channel` can be read."""
        if channel in self._failing:
            self._worked = True
            self.forget(channel)

    def forget(self, channel: str) -> None:
        """Learn that nobody waits for messages of `channel` any more."""
        self._failing.discard(channel)
        if self._worked and not self._failing:
            self._end()

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
        if left > 0:
            self._stop_timer = _call_later(left, self._look)
        elif self._failing:
            self._failing.clear()
            self._end()
        else:
            self._since = None  # all have left, so nobody knows whether it works

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
                        logger.debug("the channel layer failed once", exc_info=failure)
            finally:
                del failure  # its traceback holds this frame: no reference cycle
            await sleep(pause)
            waits_since = current_time()
    except BaseException:
        outage.forget(channel)
        raise
