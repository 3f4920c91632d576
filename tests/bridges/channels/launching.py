"""Servers that tests start, each in a process of its own, on a socket that listens already."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[3]


class Launched:
    """A server's process, and where it writes."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, folder: Path) -> None:
        self.process = process
        self.port = port
        self.folder = folder

    @property
    def output(self) -> str:
        """What the server has written."""
        return (self.folder / "output").read_text()


@contextmanager
def launch(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[Launched]:
    """Start `python -m` with these arguments, {} in them being the socket's descriptor.

    It may be connected to at once, and answers once it has started. It is killed at the end.
    """
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / ".src"), *sys.path[1:]])}
    with socket.create_server(("127.0.0.1", 0)) as listener, (folder / "output").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *(each.format(listener.fileno()) for each in arguments)],
            cwd=folder,
            env={**os.environ, **path, **environment},
            pass_fds=[listener.fileno()],
            stdout=out,
            stderr=out,
        )
        port = listener.getsockname()[1]
    try:
        yield Launched(process, port, folder)
    finally:
        process.kill()
        process.wait()
