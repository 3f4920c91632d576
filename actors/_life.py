"""Runs one incarnation of a cell, from its start to the keeper's decision about its end.

Turns whatever leaves the actor into an `ExitReason`, and never lets an actor's exception
out: only trio's cancellation from outside and the end of the program pass. Between an
actor's end and the keeper's decision there is no checkpoint, unless the actor has something
to clean up.
"""

import logging
from math import inf
from typing import Any

import trio

from ._actor import Actor
from ._cell import RUNNING, STARTING, Cell
from ._context import Context
from ._ending import Ending
from ._errors import StartTimeout
from ._inbox import handles_no_more
from ._reasons import NORMAL, Crash, DeadlineExceeded, ExitReason, InitFailed, Shutdown, sort_out

logger = logging.getLogger(__name__)


def start(cell: Cell, nursery: trio.Nursery) -> None:
    """Start the task of the next incarnation."""
    cell.phase = STARTING
    nursery.start_soon(live, cell, name=cell.spec.id)


async def live(cell: Cell) -> None:
    """Run one incarnation from its start, after its pause, to the keeper's decision."""
    cell.task = trio.lowlevel.current_task()
    actor = cell.actor
    begun = False
    crash: BaseException | None = None
    passing: BaseException | None = None
    try:
        with cell.scope:
            try:
                if cell.ending is not None and _never_begins(cell.ending, actor):
                    await trio.lowlevel.checkpoint()
                if cell.pause:
                    cell.resumes_at = trio.current_time() + cell.pause
                    await trio.sleep_until(cell.resumes_at)
                if actor is None:
                    actor = cell.actor = cell.spec.make_actor(cell.args)
                kind = type(actor)
                ctx = actor.ctx = Context(cell)
                if kind.started is not Actor.started:
                    await _get_ready(cell, actor, ctx)
                begun = True
                if not kind.announces_start:
                    cell.mark_started()
                if kind.run is Actor.run:  # spares a parked actor two frames
                    await cell.open_inbox().handle_messages(actor)
                else:
                    await actor.run(ctx)
                    if cell.inbox is not None:
                        cell.inbox.put_down()  # it has come to its end with what it took last
            except Exception as error:  # noqa: BLE001 - an actor's crash is its supervisor's matter
                # No group that holds a Cancelled is an Exception: the scope misses nothing.
                crash, passing = sort_out(error, cancelled=False)
    except BaseException as error:  # noqa: BLE001 - what is left after its own cancellation
        outside = trio.current_effective_deadline() == -inf
        crash, passing = sort_out(error, cancelled=outside)
    if cell.companions is not None:
        crash = await cell.companions.aclose(crash)
        cell.companions = None
    reason = _reason_for(cell, crash, passing)
    if begun and actor is not None and type(actor).stopped is not Actor.stopped:
        reason, passing = await _clean_up(cell, actor, reason, passing)
        if cell.companions is not None:  # those that only `stopped` has asked for
            await cell.companions.aclose(None)
            cell.companions = None
    cell.task = None
    try:
        cell.keeper.child_ended(cell, reason, may_restart=passing is None)
        if passing is not None:
            raise passing
    finally:
        del crash, passing, reason  # whose tracebacks hold this frame


def _never_begins(ending: Ending, actor: Actor[Any] | None) -> bool:
    """Tell whether an actor that was cancelled before its first step has nothing to do at all."""
    # A supervisor may have children already: its `run` lets them go.
    return not ending.grace_given and (actor is None or not type(actor).announces_start)


async def _get_ready(cell: Cell, actor: Actor[Any], ctx: Context) -> None:
    """Run `Actor.started` in the time that the spec gives."""
    cell.scope.deadline = min(cell.scope.deadline, trio.current_time() + cell.spec.start_timeout)
    await actor.started(ctx, cell.cause)
    cell.scope.deadline = inf if cell.ending is None else cell.ending.cancel_at


def _reason_for(
    cell: Cell, crash: BaseException | None, passing: BaseException | None
) -> ExitReason:
    if crash is not None:
        return Crash(crash) if cell.phase is RUNNING else InitFailed(crash)
    ending = cell.ending
    if ending is not None:
        if ending.grace_given and cell.scope.cancelled_caught and ending.for_good:
            return DeadlineExceeded()
        return ending.reason
    if cell.scope.cancelled_caught:
        return InitFailed(StartTimeout(cell.path, cell.spec.start_timeout))
    if passing is not None:
        return Shutdown("a cancellation from outside")
    return NORMAL


async def _clean_up(
    cell: Cell, actor: Actor[Any], reason: ExitReason, passing: BaseException | None
) -> tuple[ExitReason, BaseException | None]:
    """Run `Actor.stopped`, shielded; a failure in it is a crash, unless it crashed before."""
    if isinstance(passing, GeneratorExit):  # the coroutine is thrown away, and cannot await
        return reason, passing
    commons = cell.keeper.commons
    timeout = trio.current_time() + cell.spec.cleanup_timeout
    scope = trio.CancelScope(shield=True, deadline=min(timeout, cell.last_deadline))
    commons.cleanups[cell] = scope
    handles_no_more()
    try:
        with scope:
            await actor.stopped(reason)
    except BaseException as error:
        crash, passing_now = sort_out(error, cancelled=False)
        if crash is not None and not isinstance(reason, Crash):
            reason = Crash(crash)
        elif crash is not None:
            logger.exception("%s failed while it cleaned up after a crash", cell.path)
        return reason, passing_now or passing
    finally:
        del commons.cleanups[cell]
    if scope.cancelled_caught:
        logger.warning("%s did not clean up in time", cell.path)
    return reason, passing
