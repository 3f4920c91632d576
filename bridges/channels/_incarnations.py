"""The instances of one consumer over its restarts: each takes the place of one that crashed.

The connection stays as it is: its channel and its groups, the messages that wait, what was
told to the client. `greenroom.runtime.restarting` decides; the loop that a consumer runs
by itself asks here, so it is the same in every flavour and on every server.
"""

import asyncio
import inspect
import logging
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, final

import trio
from asgiref.sync import iscoroutinefunction

from ...actors import Crash, Restart
from ...runtime import Message, describe
from ...runtime.restarting import RestartedInPlace, ScopeRestarts
from ..asyncio._tasks import run_owner
from ..threads import run_sync
from ._ends import disconnect, end_children, handle_all
from ._intake import Intake, let_others_run
from ._threads import HandlerThreads, guarding
from ._words import handling, note
from .exceptions import StopConsumer

if TYPE_CHECKING:
    from .consumer import AsyncConsumer

# Attributes of an instance that belong to its connection; `groups` names those that it is in.
OF_THE_CONNECTION: Final = (
    "_initkwargs",
    "_thread",
    "_unheard",
    "base_send",
    "channel_layer",
    "channel_name",
    "channel_receive",
    "groups",
    "scope",
)

# What an instance was about when its constructor or its `restarted` failed.
RESTARTING: Final[Message] = {"type": "restarted"}

logger = logging.getLogger("greenroom.channels")


def opts_in(consumer_class: "type[AsyncConsumer]") -> bool:
    """Tell whether the consumers of a class are restarted, by its attribute `restart`.

    A method of that name is a handler, for messages of the type `restart`.

    Raises:
        TypeError: `restart` is something else, or `restarted` of a sync consumer is a
            coroutine function.
        ValueError: `restart` says what no consumer can do, or a limit is out of its range.
    """
    name = consumer_class.__qualname__
    restart: Any = consumer_class.restart
    if callable(restart) or restart is Restart.TEMPORARY:
        return False
    if not isinstance(restart, Restart):
        raise TypeError(
            f"restart of {name} is {restart!r}; it must be a Restart of greenroom.actors"
        )
    if restart is Restart.PERMANENT:
        raise ValueError(
            f"restart of {name} is {restart}, but a consumer ends with its connection; one that "
            "survives its crashes has Restart.TRANSIENT"
        )
    if not consumer_class._can_restart:
        raise ValueError(
            f"restart of {name} is {restart}, but a consumer of HTTP is never restarted: what "
            "its client has got of an answer can't be taken back. Leave it at Restart.TEMPORARY"
        )
    if consumer_class._sync and iscoroutinefunction(consumer_class.restarted):
        raise TypeError(
            f"restarted of {name}, a sync consumer, is a coroutine function; as its handlers, "
            "it must be a plain one"
        )
    try:
        ScopeRestarts(consumer_class.restart_intensity, consumer_class.restart_period)
    except ValueError as error:
        raise ValueError(f"restart_{error}, in {name}") from None
    return True


@final
class Incarnations:
    """One consumer that is restarted in place; at any time one of its instances lives.

    An instance owns the asyncio tasks that were created in its code: they end with it.
    One whose constructor or `restarted` failed never took its place: the one before it
    is `previous` again, and if there is no restart more, the one that disconnects.
    """

    __slots__ = ("_consumer", "_intake", "_restart", "_restarts")

    def __init__(self, first: "AsyncConsumer", intake: Intake) -> None:
        self._consumer = first
        self._intake = intake
        self._restarts = ScopeRestarts(first.restart_intensity, first.restart_period)
        self._restart: RestartedInPlace | None = None  # the one that is due

    async def run(self) -> None:
        """Handle the messages of one connection, by as many instances as it takes."""
        if trio.lowlevel.in_trio_task():
            live = self._live
        else:
            live = partial(run_owner, self._live)
        await live()
        while self._restart is not None:
            await let_others_run()
            await live()

    def go_on(self, error: Exception) -> bool:
        """Tell whether a restart follows a crash; it is logged, and due."""
        # Nothing of it is handed out: the frames behind `error` would keep it, and it `error`.
        now, cancelled = _time_and_cancellation()
        possible = self._intake.restartable and not cancelled
        restart = self._restart = self._restarts.after(error, now, possible=possible)
        if restart is None:
            return False
        logger.warning(
            "%s failed in %s and is restarted in place (restart %d)",
            type(self._consumer).__name__,
            describe(self._consumer.scope),
            restart.count,
            exc_info=error,
        )
        return True

    async def _live(self) -> None:
        if self._restart is None or await self._replace():
            await handle_all(self._consumer, self._intake, self)

    async def _replace(self) -> bool:
        """Put a new instance in the place of the last; tell whether it is there."""
        restart, self._restart = self._restart, None
        assert restart is not None
        previous = self._consumer
        try:
            consumer = type(previous)(**previous._initkwargs)
            mine, kept = vars(consumer), vars(previous)
            mine.update({name: kept[name] for name in OF_THE_CONNECTION if name in kept})
            consumer._intake = self._intake
            try:
                await _begin(consumer, restart.cause, previous)
            except BaseException:
                await end_children(consumer)
                raise
        except StopConsumer:
            return False
        except Exception as error:
            note(error, previous, handling(RESTARTING))
            if not self.go_on(error):
                await disconnect(previous, RESTARTING, self._intake.mailbox)
                raise
            return False
        self._consumer = consumer
        return True


async def _begin(consumer: "AsyncConsumer", cause: Crash, previous: "AsyncConsumer") -> None:
    """Call `restarted`, where and with what the handlers of its class are called."""
    if consumer._sync:
        guard = guarding(consumer, RESTARTING)
        await run_sync(consumer.restarted, cause, previous, pool=consumer._thread, around=guard)
        return
    threads = HandlerThreads(consumer)
    await threads.open()
    try:
        result = consumer.restarted(cause, previous)
        if inspect.isawaitable(result):
            await result
    finally:
        await threads.aclose(RESTARTING)


def _time_and_cancellation() -> tuple[float, bool]:
    """Tell the time, and whether the current task is being cancelled."""
    if trio.lowlevel.in_trio_task():
        return trio.current_time(), trio.current_effective_deadline() == -inf
    task = asyncio.current_task()
    return asyncio.get_running_loop().time(), task is not None and task.cancelling() > 0
