"""Groups are joined again after the server of a layer has failed, for it may have forgotten them.

One task of an event loop does so for everybody who waits there for messages of the layer: with
channels_redis one connection serves them all, and only who used it has seen that it was lost.
It asks for a few memberships at once, at no more than `RATE` in a second, and begins anew when
anybody's wait fails again. While it has not come to its end, the outage has not either.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from math import inf
from random import random
from typing import Any, Final, Protocol, final

import trio

from ...runtime.layers import Waiter
from ..asyncio import TaskCancelled
from ._both_worlds import current_time, is_cancelled, open_tasks, sleep, wait_until
from ._layer_failures import PAUSES, RATE, is_mistake
from ._layers_of_others import method_for_here
from ._memberships import Member, Memberships, memberships_of

AT_ONCE: Final = 4  # calls: each may need a connection, of which a server allows so many


class Report(Protocol):
    """Who learns how it goes."""

    def saw_rejoin_fail(self, channel: str, error: Exception, again_at: float) -> None:
        """Learn that a group of `channel` can't be joined, and when it is tried again."""

    def saw_rejoined(self) -> None:
        """Learn that the server knows all memberships again."""


@final
class Following:
    """One who waits for the messages of a channel."""

    __slots__ = ("_member", "_rejoins")

    def __init__(self, rejoins: "Rejoins", member: Member | None) -> None:
        self._rejoins = rejoins
        self._member = member

    def close(self) -> None:
        """Learn that it waits no longer: its groups are nobody's matter any more."""
        if self._member is not None:
            self._rejoins.forget(self, self._member)


@final
class Rejoins:
    """What those have joined who wait for messages of one layer in one event loop."""

    def __init__(self, layer: Any) -> None:
        self._memberships: Memberships | None = memberships_of(layer)
        self._here = partial(method_for_here, layer)
        self._members: dict[Following, Member] = {}
        self._todo: deque[Member] = deque()
        self._doubtful = False
        self._task: object = None  # kept, for an asyncio loop does not
        self._nap: Waiter | None = None
        self._turn = -inf  # when the last one had its
        self._told = 0
        self._failed: tuple[str, Exception] | None = None

    @property
    def due(self) -> bool:
        """Whether there are groups that the server may not know any more."""
        return self._task is not None

    def follow(self, channel: str) -> Following:
        """Learn that somebody waits for messages of `channel`, before it is in any group."""
        if self._memberships is None:  # it keeps its groups by itself
            return Following(self, None)
        member = self._memberships.open(channel)
        following = Following(self, member)
        self._members[following] = member
        if self.due:  # what it joins now may be forgotten before it has seen anything
            self._todo.append(member)
        return following

    def forget(self, following: Following, member: Member) -> None:
        """Learn that somebody waits no longer."""
        assert self._memberships is not None
        self._memberships.close(member)
        del self._members[following]
        if not self._members and self._nap is not None:
            self._nap.wake()

    def doubt(self, report: Report) -> None:
        """Learn that the server has failed, for somebody who waits."""
        self._doubtful = True
        if self._members and self._task is None:
            self._task = _start(partial(self._run, report))

    async def _run(self, report: Report) -> None:
        failures = known = 0
        pause = PAUSES.pause(1, random())
        try:
            while (self._doubtful or self._todo) and self._members:
                self._nap = Waiter()
                await wait_until(self._nap, current_time() + pause)
                if self._doubtful:
                    self._doubtful, known = False, 0
                    # First whoever has waited for longest.
                    self._todo = deque(dict.fromkeys([*self._todo, *self._members.values()]))
                self._told, self._failed = 0, None
                async with open_tasks() as start:
                    for _ in range(min(AT_ONCE, len(self._todo))):
                        start(self._tell)
                known += self._told
                failures = 0 if self._failed is None else 1 if self._told else failures + 1
                pause = PAUSES.pause(max(1, failures), random())
                # A connection that was kept may fail once, as somebody's who waits.
                if self._failed is not None and failures > 1:
                    report.saw_rejoin_fail(*self._failed, current_time() + pause)
        finally:
            self._todo.clear()
            self._task = self._nap = None
        if known and self._members:
            report.saw_rejoined()

    async def _tell(self) -> None:
        """Tell the server what is to do, until all is done or something has failed."""
        assert self._memberships is not None
        while self._todo and self._failed is None:
            member = self._todo.popleft()
            for group in member.groups():
                await self._wait_for_turn()
                error = await _failure_of(self._memberships.settle(member, group, self._here))
                if error is not None:
                    # A mistake may be about this one only, and holds nobody else up.
                    self._todo.append(member)
                    self._doubtful = self._doubtful or not is_mistake(error)
                    self._failed = (member.channel, error)
                    break
                self._told += 1

    async def _wait_for_turn(self) -> None:
        now = current_time()
        self._turn = max(self._turn + 1 / RATE, now)
        await sleep(self._turn - now)


def _start(fn: Callable[[], Awaitable[None]]) -> object:
    """Run `fn` beside everything else, as a task of no scope."""
    loop = asyncio._get_running_loop()
    if loop is None:
        return trio.lowlevel.spawn_system_task(fn)
    # In trio, too, where that is a guest of the loop: it may end before.
    return contextvars.Context().run(asyncio.ensure_future, fn())


async def _failure_of(telling: Awaitable[None]) -> Exception | None:
    """Await a method of a layer, and give what it raises."""
    try:
        await telling
    except asyncio.CancelledError as error:
        if is_cancelled():
            raise
        failure = TaskCancelled()
        failure.__cause__ = error
        return failure
    except Exception as error:  # noqa: BLE001 -- it is told of by who tries again
        return error
    return None
