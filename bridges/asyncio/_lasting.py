"""A hosted loop in a trio program of somebody else, such as another server on trio.

Whoever starts the program can open the loop around all of it, as `serve` does. Where nobody
did, the first application written for asyncio has it opened, in a system task, and it stays
until the program ends.
"""

from typing import Final, final

import trio

from ._errors import NoHostedLoop
from ._loop import HostedLoop, current_hosted_loop, open_hosted_loop


@final
class _Opening:
    """How far the loop of one trio run is."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.failure: Exception | None = None

    async def keep_open(self) -> None:
        try:
            async with open_hosted_loop():
                self.done.set()
                await trio.sleep_forever()
        except (OSError, RuntimeError) as error:
            self.failure = error
        finally:
            self.done.set()


_opening: Final[trio.lowlevel.RunVar[_Opening | None]] = trio.lowlevel.RunVar(
    "greenroom_opening_of_the_hosted_loop", None
)


async def lasting_hosted_loop() -> HostedLoop:
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
