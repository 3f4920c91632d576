"""What a task waits for, in words, read from the frames in which it is parked.

Looks at what is there and changes nothing. Neither trio nor Python tells what a task waits
for; the frames do, where the code in them is known.
"""

from collections.abc import Callable
from types import CodeType, FrameType
from typing import Final

import trio

from ._cell import Cell, Phase
from ._inbox import Inbox
from ._mailbox import Mailbox
from ._places import Call, in_words, is_users, telling


def _cell_in(frame: FrameType) -> Cell:
    """Give the cell whose method, or whose inbox's, runs in a frame."""
    owner: Cell | Inbox = frame.f_locals["self"]
    return owner._cell if isinstance(owner, Inbox) else owner


# What the code in a frame waits for.
_KNOWN: Final[dict[CodeType, Callable[[FrameType], str]]] = {
    Mailbox.get.__code__: lambda _: "the next message",
    Mailbox.wait.__code__: lambda _: "the next message",
    Inbox.ask.__code__: lambda frame: f"the reply of {_cell_in(frame).path}",
    Inbox.send.__code__: lambda frame: f"room in the mailbox of {_cell_in(frame).path}",
    Cell.join.__code__: lambda frame: f"the end of {_cell_in(frame).path}",
    Cell.wait_settled.__code__: lambda frame: f"the start or the end of {_cell_in(frame).path}",
}

_THREAD: Final = trio.to_thread.run_sync.__code__


def frames_of(task: trio.lowlevel.Task | None) -> list[Call]:
    """Give the code and line of each call that a task waits in, the innermost last."""
    if task is None:
        return []
    return [(frame.f_code, line) for frame, line in task.iter_await_frames()]


def waits_in_a_thread(task: trio.lowlevel.Task | None) -> bool:
    """Tell whether a task waits for a worker thread, which nothing can end but itself."""
    return any(code is _THREAD for code, _ in frames_of(task))


def what_it_waits_for(cell: Cell, now: float | None) -> str | None:
    """Say what an actor waits for; None if it has no task that could.

    Args:
        cell: the actor.
        now: the time on trio's clock, if it runs.
    """
    if cell.phase is Phase.FAILED:
        return "its turn in a restart of several"
    task = cell.task
    if task is None:
        return None
    if trio.lowlevel.in_trio_task() and task is trio.lowlevel.current_task():
        return "nothing: it is running"
    if cell.actor is None and now is not None and cell.resumes_at > now:
        return f"a restart in {cell.resumes_at - now:.1f} s"
    return _in_words([*task.iter_await_frames()])


def _in_words(frames: list[tuple[FrameType, int]]) -> str | None:
    """Go from the innermost frame outwards, as far as somebody's own code."""
    way = ""
    for frame, _ in reversed(frames):
        code = frame.f_code
        if code in _KNOWN:
            return _KNOWN[code](frame)
        if code is _THREAD:
            way = "a worker thread, from "
        elif is_users(code):
            break
    call = telling((frame.f_code, line) for frame, line in frames)
    return None if call is None else way + in_words(call)
