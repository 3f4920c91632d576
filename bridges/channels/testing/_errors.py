"""What goes wrong in tests, and in nobody's application."""

import asyncio


class ApplicationStopped(Exception, asyncio.CancelledError):
    """Raised by a communicator whose application was cancelled before, and is gone.

    Channels raises an empty `asyncio.CancelledError` here. This is one, too, so that what
    catches that catches this, but it says why.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the application was cancelled: {self.reason}"
