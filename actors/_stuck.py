"""Tells of an actor that does not end: trio can end no task that reaches no checkpoint."""

import logging
from functools import partial

import trio

from ._cell import Cell
from ._events import ActorStuck
from ._waits import frames_of, waits_in_a_thread

logger = logging.getLogger(__name__)


def expect_the_end(cell: Cell, seconds: float) -> None:
    """Report a child that was asked to end by somebody who does not wait for it, if it is stuck.

    A supervisor that stops a child waits for its end, and reports by itself.
    """
    if cell.lives:
        deadline = trio.current_time() + seconds
        alarm = cell.keeper.commons.alarms.call_at(deadline, partial(report_stuck, cell))
        cell.at_end(alarm, lambda _: alarm.cancel())


def report_stuck(cell: Cell) -> None:
    """Log and publish a child that does not end, with the place where it hangs; once."""
    if cell.stuck or cell.ending is None:
        return
    cell.stuck = True
    frames = tuple(
        f"{code.co_filename}:{line} in {code.co_qualname}" for code, line in frames_of(cell.task)
    )
    logger.error(
        "%s is stuck: it was asked to stop and cancelled, but has not ended; it waits at\n%s%s",
        cell.path,
        "\n".join(f"  {frame}" for frame in frames),
        "\n  for a worker thread, which nothing can end but its own code"
        if waits_in_a_thread(cell.task)
        else "",
    )
    events = cell.keeper.commons.events
    if events.subscriptions:
        events.publish(ActorStuck(cell.ref, frames))
