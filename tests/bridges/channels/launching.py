"""What tests start in processes of their own: servers, and programs that end by themselves."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

ROOT: Final = Path(__file__).resolve().parents[3]


class Launched:
    """A server's process, and where it writes; a base of what tests do with one."""

    def __init__(
        self, name: str, process: "subprocess.Popen[bytes]", port: int, folder: Path
    ) -> None:
        self.name = name
        self.process = process
        self.port = port
        self.folder = folder

    @property
    def output(self) -> str:
        """What the server has written."""
        return (self.folder / "output").read_text()


L = TypeVar("L", bound=Launched)


@contextmanager
def launch(
    kind: type[L],
    name: str,
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
) -> Iterator[L]:
    """Start `python -m` with these arguments, {} in them being the descriptor of a socket.

    That listens already: the server may be connected to at once, and answers once it has
    started. It is killed at the end.
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
        yield kind(name, process, port, folder)
    finally:
        process.kill()
        process.wait()


def run_alone(program: Path, *arguments: str) -> list[str]:
    """Run a program that brings its own settings, and give the lines that it prints.

    It has to end by itself, and without complaints.
    """
    environment = {
        name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"
    }
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(program), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr
    return ended.stdout.splitlines()
