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
    """Raised by code that needs a hosted asyncio loop, or is needed on one, where there is none.

    Under another server's asyncio loop, code that speaks only trio cannot run. In a trio
    program enter `open_hosted_loop()` around the server, or use
    `greenroom.bridges.asyncio.serve`; applications open a loop by themselves where one can be.
    """
