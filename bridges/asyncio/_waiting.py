"""Waiting for a mailbox, in trio or on any asyncio loop of the same thread."""

import asyncio
from collections.abc import Awaitable
from typing import final

import trio

from ...actors import Mailbox


async def wait_mailbox(mailbox: Mailbox) -> None:
    """Park until the next `put`, even if something is in `mailbox` already.

    Awaited under trio or under asyncio, in the thread the mailbox belongs to.

    Raises:
        trio.BusyResourceError: somebody else waits for this mailbox already.
    """
    if trio.lowlevel.in_trio_task():
        await mailbox.wait()
        return
    future = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not future.done():  # it may have been cancelled a moment ago
            future.set_result(None)

    mailbox.wait_with(wake)
    try:
        await future
    finally:
        if mailbox.wake is wake:
            mailbox.wake = None


@final
class MailboxWaiter:
    """Waits for one mailbox again and again, in asyncio code; each wait costs one future.

    Made on the loop and in the thread that it is to be used on.
    """

    __slots__ = ("_future", "_loop", "_mailbox")

    def __init__(self, mailbox: Mailbox) -> None:
        self._loop = asyncio.get_running_loop()
        self._mailbox = mailbox
        self._future: asyncio.Future[None] | None = None

    def wait(self) -> Awaitable[None]:
        """As `wait_mailbox`, but waiting begins with the call."""
        mailbox = self._mailbox
        if mailbox.wake is not None and mailbox.wake == self._wake:
            mailbox.wake = None  # left behind by a wait that was cancelled
        self._future = self._loop.create_future()
        mailbox.wait_with(self._wake)
        return self._future

    def _wake(self) -> None:
        future, self._future = self._future, None
        if future is not None and not future.done():  # it may have been cancelled
            future.set_result(None)
