"""Development's reload: a parent that keeps a child process running the newest code.

    parent: owns the listening sockets, watches files, never imports the application
      └─ child: serves; inherits the sockets, is replaced when a file changes

The sockets stay open in the parent, so a client that connects during a restart waits in
the backlog and is not refused. A child that fails to start is not started again before
the next change: the traceback stays on the screen, and mending the file is all it takes.
"""

import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

import trio
from watchfiles import DefaultFilter, watch

logger = logging.getLogger("greenroom.reload")


@final
@dataclass(frozen=True, slots=True)
class Watch:
    """Which changes of files restart the child.

    Version control's, editors' and tools' own folders never do (`watchfiles` lists them).

    Args:
        folders: watched with everything below them.
        include: a changed file must match one of these patterns, as `PurePath.match` does.
        exclude: a file that matches one of these, or is below a folder that does, is left out.
    """

    folders: tuple[Path, ...]
    include: tuple[str, ...] = ("*.py",)
    exclude: tuple[str, ...] = ()

    def concerns(self, path: Path) -> bool:
        """Tell whether a change of `path` restarts the child.

        >>> sources = Watch((Path("/site"),), exclude=("generated",))
        >>> [sources.concerns(Path("/site") / name) for name in ("a.py", "a.css", ".git/a.py")]
        [True, False, False]
        >>> sources.concerns(Path("/site/generated/a.py"))
        False
        """
        if not any(path.match(pattern) for pattern in self.include):
            return False
        for folder in self.folders:
            if path.is_relative_to(folder):
                inside = path.relative_to(folder)
                below = [inside, *inside.parents]
                excluded = any(part.match(pattern) for part in below for pattern in self.exclude)
                return not excluded and not any(
                    part in DefaultFilter.ignore_dirs for part in inside.parts
                )
        return False


@final
@dataclass(frozen=True, slots=True)
class Handover:
    """What a parent hands to its child: descriptors, written as `LIFELINE:FD,FD`.

    Args:
        lifeline: a pipe's reading end, which reaches its end when the parent is gone.
        listeners: the listening sockets.
    """

    lifeline: int
    listeners: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.lifeline}:{','.join(map(str, self.listeners))}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote.

        >>> Handover.parse("7:4,5")
        Handover(lifeline=7, listeners=(4, 5))

        Raises:
            ValueError: `text` is not of that form.
        """
        lifeline, _, listeners = text.partition(":")
        return cls(int(lifeline), tuple(int(fd) for fd in listeners.split(",")))


async def stop_with_parent(handover: Handover) -> None:
    """In the child: ask this process to stop, as SIGTERM does, once the parent is gone.

    Without it a killed parent would leave a server behind that holds the port.
    """
    async with trio.lowlevel.FdStream(handover.lifeline) as lifeline:
        while await lifeline.receive_some():
            pass
    signal.raise_signal(signal.SIGTERM)


async def run_reloading(
    command: Callable[[Handover], Sequence[str]],
    listeners: Sequence[socket.socket],
    watched: Watch,
    *,
    kill_after: float,
) -> None:
    """In the parent: keep a child running until SIGINT or SIGTERM.

    Args:
        command: makes the child's command line; the child adopts what it is handed.
        listeners: stay open here; the caller closes them afterwards.
        watched: the files whose change restarts the child.
        kill_after: the seconds that a child has to stop once it was asked to. A second
            signal ends its time at once.
    """
    reading, writing = os.pipe()
    handover = Handover(reading, tuple(listener.fileno() for listener in listeners))
    descriptors = (reading, *handover.listeners)
    changes = _Changes(watched)
    patience = _Patience(kill_after)
    try:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as listening:
                running = trio.CancelScope()
                listening.start_soon(_obey, signals, running, patience)
                with running:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(changes.run)
                        nursery.start_soon(
                            _restart_on_change, command(handover), descriptors, changes, patience
                        )
                listening.cancel_scope.cancel()
    finally:
        os.close(reading)
        os.close(writing)


@final
class _Patience:
    """How long a child that was asked to stop is waited for."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.waiting = trio.CancelScope()

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Wait inside for as long as patience lasts."""
        self.waiting = trio.CancelScope(deadline=trio.current_time() + self.seconds)
        with self.waiting:
            yield

    def lose(self) -> None:
        """Wait no longer, now or later."""
        self.seconds = 0
        self.waiting.cancel()


async def _obey(
    signals: AsyncIterator[int], running: trio.CancelScope, patience: _Patience
) -> None:
    async for _ in signals:
        if running.cancel_called:  # asked a second time
            patience.lose()
        running.cancel()


@final
class _Changes:
    """The files that changed since they were last taken, collected by a thread."""

    def __init__(self, watched: Watch) -> None:
        self.watched = watched
        self.paths: set[Path] = set()
        self.some = trio.Event()

    async def take(self) -> set[Path]:
        """Wait until some file has changed, and give all that have."""
        await self.some.wait()
        self.some = trio.Event()
        taken, self.paths = self.paths, set()
        return taken

    async def run(self) -> None:
        # The thread looks at `stop` 20 times a second: that is how long a cancellation takes.
        stop = threading.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, self._watch, stop)
            try:
                await trio.sleep_forever()
            finally:
                stop.set()

    def _watch(self, stop: threading.Event) -> None:
        for changes in watch(
            *self.watched.folders,
            watch_filter=lambda _, path: self.watched.concerns(Path(path)),
            stop_event=stop,
            ignore_permission_denied=True,
        ):
            trio.from_thread.run_sync(self._add, {Path(path) for _, path in changes})

    def _add(self, paths: set[Path]) -> None:
        self.paths |= paths
        self.some.set()


async def _restart_on_change(
    command: Sequence[str], descriptors: Sequence[int], changes: _Changes, patience: _Patience
) -> None:
    while True:
        async with (
            _child(command, descriptors, patience) as process,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(_report_end, process)
            changed = await changes.take()
            logger.info("%s changed; restarting", ", ".join(sorted(map(_shown, changed))))
            nursery.cancel_scope.cancel()


async def _report_end(process: trio.Process) -> None:
    status = await process.wait()
    logger.warning("the server ended with status %s; waiting for a change of a file", status)


@asynccontextmanager
async def _child(
    command: Sequence[str], descriptors: Sequence[int], patience: _Patience
) -> AsyncIterator[trio.Process]:
    process = await trio.lowlevel.open_process(list(command), pass_fds=descriptors)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        with trio.CancelScope(shield=True):
            with patience.wait():
                await process.wait()
            if process.poll() is None:
                logger.warning("the server did not stop in time and is killed")
                process.kill()
                await process.wait()


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
