"""What ends a process that cannot end by itself.

A stop has a deadline, but nothing can cancel a function that blocks its thread, or a task
that shields itself, and Python waits for such a thread even after the program's end. An
operator who asked for a stop still gets one, and learns who was in the way.
"""

import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Final

MARGIN: Final = 2.0  # seconds beyond the graceful timeout, for what only takes a moment
EXIT_STATUS: Final = 1

logger = logging.getLogger("greenroom.command")


def arm(seconds: float, still_running: Callable[[], Iterable[str]]) -> Callable[[], None]:
    """End the process after `seconds`, unless it has ended before.

    The log names what was still running, and stderr shows where every thread is.

    Returns:
        What calls it off.
    """

    def end() -> None:
        names = ", ".join(sorted(still_running())) or "nothing that was asked to end"
        logger.critical(
            "the process has not ended %g s after it was told to, and is ended now; "
            "still running: %s; its threads are here:",
            seconds,
            names,
        )
        faulthandler.dump_traceback(file=sys.stderr)
        sys.stderr.flush()
        os._exit(EXIT_STATUS)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    return timer.cancel
