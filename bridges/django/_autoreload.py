"""Django's autoreload, made to let the server end before its process does.

    parent: runs the same command line again whenever it ends with status 3
      └─ child, main thread: looks for changed files, and exits with status 3 after a change
           └─ django-main-thread: checks the project, then serves

Once the child's interpreter shuts down no thread can be started and no executor takes work,
so nobody can reach a database any more. Goodbyes are said before that, while the exit
passes through `stopping_first`. Every reason to exit does: a signal, and a change after
Django's receivers of `file_changed` had their say, some of which prevent a restart.

A second signal says that all this takes too long. The parent passes it on as `HURRY`, since a
child that is told to stop by its terminal as well can't tell a second time from the first.

Autoreload has no documented interface; what Greenroom knows of it is on this page.

- `DJANGO_AUTORELOAD_ENV`, `get_child_arguments` and status 3 make Django's parent. It is
  replaced, since it lets its child live for no more than a quarter of a second after
  SIGINT, and kills it at once on SIGTERM.
- `_error_files` are watched beside the modules that were imported: one that raised is not
  among these.
- `autoreload_started` is sent in the child's main thread, after Django has set a handler
  for SIGTERM which would interrupt a stop that has begun.
"""

import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, final

from django.utils import autoreload
from django.utils.autoreload import (
    DJANGO_AUTORELOAD_ENV,
    autoreload_started,
    get_child_arguments,
)

CHANGED: Final = 3  # the status with which the child asks to be started anew
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

# From the parent. A child that is not ending yet is ended by it at once, as by a terminal
# that is closed.
HURRY: Final = getattr(signal, "SIGHUP", signal.SIGTERM)


def is_child() -> bool:
    """Tell whether this process is the one that serves."""
    return os.environ.get(DJANGO_AUTORELOAD_ENV) == "true"


@contextmanager
def stopping_first(stop: Callable[[], object], hurry: Callable[[], object]) -> Iterator[None]:
    """In the child, around autoreload: call `stop` on the way out, uninterrupted.

    The first signal ends the child, unless it is ending already. Those that follow do
    nothing, for a terminal's Ctrl-C comes from the terminal and from the parent; but the
    second SIGINT, which the parent never sends, or the parent's `HURRY` calls `hurry`.
    """
    ending = False
    interrupts = 0

    def end(number: int, _frame: object) -> None:
        nonlocal ending, interrupts
        interrupts += number == signal.SIGINT
        if not ending:
            ending = True
            sys.exit(0)
        elif interrupts > 1:
            hurry()

    def take_signals(**_: object) -> None:
        for number in SIGNALS:
            signal.signal(number, end)

    autoreload_started.connect(take_signals)
    try:
        yield
    finally:
        ending = True
        autoreload_started.disconnect(take_signals)
        signal.signal(HURRY, lambda *_: hurry())
        stop()


def watch_files_of(error: BaseException) -> None:
    """In the child: start anew when a file changes that has a part in `error`, to be mended."""
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename is not None:
        files.append(error.filename)
    autoreload._error_files.extend(files)  # type: ignore[attr-defined]


def run_parent(kill_after: float, kill_hurried_after: float) -> int:
    """Run the child, and a new one after each change; give the status to exit with.

    A child that was told to stop has `kill_after` seconds to end, and `kill_hurried_after`
    from the second time on.
    """
    return _Parent(kill_after, kill_hurried_after).run()


@final
class _Parent:
    """Runs one child after the other, and passes a signal on to the one that runs."""

    def __init__(self, kill_after: float, kill_hurried_after: float) -> None:
        self._kill_after = kill_after
        self._kill_hurried_after = kill_hurried_after
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def run(self) -> int:
        for number in SIGNALS:
            signal.signal(number, self._obey)
        environment = {**os.environ, DJANGO_AUTORELOAD_ENV: "true"}
        while True:
            # With descriptors inherited, as in Django: some tools hand sockets down.
            self._child = subprocess.Popen(get_child_arguments(), env=environment, close_fds=False)
            if self._stopping:
                self._stop(self._child)  # the signal came while there was no child
            status = self._child.wait()
            if self._stopping:
                return 0
            if status != CHANGED:
                return status

    def _obey(self, *_: object) -> None:
        if not self._stopping:
            self._stopping = True
            if self._child is not None:
                self._stop(self._child)
        elif self._child is not None:
            self._child.send_signal(HURRY)
            _kill(self._child, self._kill_hurried_after)

    def _stop(self, child: "subprocess.Popen[bytes]") -> None:
        # Never SIGINT: the child may be too young to have a handler, and shows a traceback.
        child.terminate()
        _kill(child, self._kill_after)


def _kill(child: "subprocess.Popen[bytes]", seconds: float) -> None:
    timer = threading.Timer(seconds, child.kill)
    timer.daemon = True
    timer.start()
