"""A hosted loop in a trio program of somebody else, such as another server on trio.

Whoever starts the program can open the loop around all of it, as `serve` does. Where nobody
did, the first application written for asyncio has it opened, in a system task, and it stays
until the program ends.

A system task may raise nothing, and the loop has no block to end. So `KeyboardInterrupt` and
`SystemExit` that an application raises are raised where trio code awaits it, and nowhere else.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, final

import trio

from ._errors import NoHostedLoop
from ._loop import HostedLoop, current_hosted_loop, open_hosted_loop
from ._outer import OuterLoop

TICKS: Final = 3  # of trio: more than an error takes from a task of the loop to who awaits it


@asynccontextmanager
async def open_unending_loop(
    tell: Callable[[BaseException], object],
) -> AsyncIterator[HostedLoop | OuterLoop]:
    """Host a loop that goes on when a callback raises `KeyboardInterrupt` or `SystemExit`.

    Then `tell(error)` is called, between two ticks of trio. The rest as `open_hosted_loop`;
    of a loop that is hosted already nothing is changed.
    """
    hosted = current_hosted_loop()
    async with open_hosted_loop() as loop:
        if isinstance(loop, HostedLoop) and loop is not hosted:
            loop._on_escape = tell
        yield loop


@final
class _Opening:
    """How far the loop of one trio run is."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.failure: Exception | None = None
        self._escaped = trio.Event()

    async def keep_open(self) -> None:
        try:
            async with open_unending_loop(lambda _error: self._escaped.set()) as loop:
                self.done.set()
                while True:
                    await self._escaped.wait()
                    self._escaped = trio.Event()
                    for _ in range(TICKS):
                        await trio.lowlevel.checkpoint()
                    if loop._untold is not None:
                        # Such as that of a task that nobody awaits. At least it ends the program.
                        raise loop._untold
        except (OSError, RuntimeError) as error:
            self.failure = error
        finally:
            self.done.set()


_opening: Final[trio.lowlevel.RunVar[_Opening | None]] = trio.lowlevel.RunVar(
    "greenroom_opening_of_the_hosted_loop", None
)


async def lasting_hosted_loop() -> HostedLoop | OuterLoop:
    """Give the loop that is hosted in this trio program, and open one if there is none.

    Raises:
        NoHostedLoop: there can't be one; its cause tells why.
    """
    opening = _opening.get()
    if opening is None and current_hosted_loop() is None:
        opening = _Opening()
        _opening.set(opening)
        trio.lowlevel.spawn_system_task(opening.keep_open, name="lasting hosted asyncio loop")
    if opening is not None:
        await opening.done.wait()
    loop = current_hosted_loop()
    if loop is None:
        raise NoHostedLoop("code written for asyncio can't run in this trio program") from (
            opening and opening.failure
        )
    return loop
