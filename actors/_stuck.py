"""Tells of an actor that does not end: trio can end no task that reaches no checkpoint."""

import logging

from ._cell import Cell

logger = logging.getLogger(__name__)


def report_stuck(cell: Cell) -> None:
    """Log a child that does not end, with the place where it hangs, the innermost call last."""
    places = []
    if cell.task is not None:
        places = [
            f"  {frame.f_code.co_filename}:{line} in {frame.f_code.co_qualname}"
            for frame, line in cell.task.iter_await_frames()
        ]
    logger.error(
        "%s is stuck: it was asked to stop and cancelled, but has not ended; it waits at\n%s",
        cell.path,
        "\n".join(places),
    )
