"""What can go wrong between trio and a hosted asyncio loop, on one page."""


class TaskCancelled(Exception):
    """Raised in trio code when the asyncio code that it awaited was cancelled by its own side.

    `asyncio.CancelledError` is no `Exception`: let through, it would pass every
    `except Exception` and take sibling tasks down. Nobody in trio asked for this
    cancellation, so here it is an ordinary failure. `__cause__` is the original.
    """

    def __str__(self) -> str:
        return "asyncio code was cancelled from the asyncio side (task.cancel() or a lost timeout)"


class NoHostedLoop(RuntimeError):
    """Raised where nothing leads from asyncio to trio, or back.

    A trio program can't host a loop where descriptors can't be waited for as on Linux, macOS
    and BSD; its cause tells. And a thread has one trio run: while that is the guest of one
    asyncio loop, code that speaks only trio cannot run on another loop of the same thread.
    """
