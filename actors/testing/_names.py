"""What tasks are called in traces and reports: nothing that differs from run to run."""

import re
from typing import Final

import trio

_ADDRESS: Final = re.compile(r"\b0x[0-9a-f]{6,}")


def without_addresses(text: str) -> str:
    """Leave out addresses, as they stand in the `repr` of most objects.

    >>> without_addresses("<object object at 0x7f0a95c00c20>")
    '<object object at 0x...>'
    """
    return _ADDRESS.sub("0x...", text)


def tasks_of_trio() -> list[trio.lowlevel.Task]:
    """Give the tasks directly below trio's own root, and that one."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return [root, *(task for nursery in root.child_nurseries for task in nursery.child_tasks)]


def readable_name(task: trio.lowlevel.Task) -> str:
    """Shorten what trio took for a name: the module, and where a function was defined."""
    name = without_addresses(task.name).rpartition("<locals>.")[2]
    frame = task.coro.cr_frame
    module = "" if frame is None else frame.f_globals.get("__name__", "")
    return name.removeprefix(f"{module}.")


def where(task: trio.lowlevel.Task) -> str:
    """Tell the innermost place that is not trio's own where a task waits."""
    places = [
        (frame.f_code.co_qualname, frame.f_globals.get("__name__", ""), line)
        for frame, line in task.iter_await_frames()
    ]
    ours = [place for place in places if not place[1].startswith("trio.")] or places
    return ", ".join(f"{name} ({module}, line {line})" for name, module, line in ours[-2:])
