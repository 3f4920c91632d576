"""Which changes restart a child, and how a child that won't stop is replaced.

The real command is tested with its reload in tests/bridges/command/test_reload.py.
"""

import os
import signal
import socket
import sys
from functools import partial
from math import inf
from pathlib import Path, PurePosixPath

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from watchfiles import DefaultFilter

from greenroom.runtime.listeners import open_tcp
from greenroom.runtime.reloading import Handover, Watch, run_reloading

# Serves its process number to one client after the other, and does not mind SIGTERM.
STUBBORN = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
listener = socket.socket(fileno=int(sys.argv[1].split(":")[1]))
listener.setblocking(True)
while True:
    listener.accept()[0].sendall(str(os.getpid()).encode())
"""

names = st.sampled_from(["chat", "a.py", "b.html", "__pycache__", ".git", "made"])
paths = st.lists(names, min_size=1, max_size=4).map(lambda parts: "/".join(parts))


@given(paths)
def test_python_files_outside_of_tool_and_excluded_folders_restart_the_child(path: str) -> None:
    # Below a folder that is ignored elsewhere: only what is inside the watched one counts.
    folder = Path("/srv/.git/site")
    watched = Watch((folder,), exclude=("made",))
    parts = PurePosixPath(path).parts
    expected = parts[-1] == "a.py" and not {"made", *DefaultFilter.ignore_dirs} & set(parts)
    assert watched.concerns(folder / path) == expected
    assert not watched.concerns(Path("/srv/other") / path)


@given(st.integers(0, 9), st.lists(st.integers(0, 9), min_size=1, max_size=3))
def test_a_handover_is_read_as_it_was_written(lifeline: int, listeners: list[int]) -> None:
    handover = Handover(lifeline, tuple(listeners))
    assert Handover.parse(str(handover)) == handover


@pytest.mark.parametrize("text", ["", "7", "7:", "a:b", "7:4,"])
def test_a_malformed_handover_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        Handover.parse(text)


def stubborn(handover: Handover) -> list[str]:
    """Give the command of a child that does not stop."""
    return [sys.executable, "-c", STUBBORN, str(handover)]


async def read_pid(listener: socket.socket) -> int:
    while True:
        async with await trio.open_tcp_stream(*listener.getsockname()) as stream:
            answer = b"".join([bytes(part) async for part in stream])
        if answer:  # else the child was killed before it could answer
            return int(answer)


async def test_a_child_that_does_not_stop_is_killed_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    [listener] = open_tcp("127.0.0.1", 0)

    with listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(run_reloading, stubborn, [listener], Watch((tmp_path,)), kill_after=0.05)
            )
            first = await read_pid(listener)
            (tmp_path / "changed.py").write_text("")
            with trio.fail_after(20):
                while (second := await read_pid(listener)) == first:
                    pass
            with pytest.raises(ProcessLookupError):
                os.kill(first, 0)
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(ProcessLookupError):
            os.kill(second, 0)
    assert sum("is killed" in record.message for record in caplog.records) == 2


async def test_a_second_signal_ends_the_patience_with_a_child_at_once(
    tmp_path: Path,
) -> None:
    [listener] = open_tcp("127.0.0.1", 0)

    with listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(run_reloading, stubborn, [listener], Watch((tmp_path,)), kill_after=inf)
            )
            child = await read_pid(listener)
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
