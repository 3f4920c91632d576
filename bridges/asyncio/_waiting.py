"""Waiting for a mailbox, in trio or on any asyncio loop of the same thread."""

import asyncio

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
