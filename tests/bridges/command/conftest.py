"""The real command, started and ended for one test."""

import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import trio
from tests.bridges.command.running import APPLICATION, Command, Start


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start `greenroom` with the given arguments, in the test's own folder."""
    started: list[Command] = []

    async def start(*arguments: object, pass_fds: Sequence[int] = ()) -> Command:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "greenroom", *map(str, arguments)],
            cwd=tmp_path,
            pass_fds=pass_fds,
            stderr=-1,
        )
        assert process.stderr is not None
        command = Command(process, process.stderr)
        started.append(command)
        return command

    yield start
    for command in started:
        if command.process.poll() is None:
            command.process.kill()
        await command.end()


@pytest.fixture
def app_file(tmp_path: Path) -> Path:
    """The file of an application, `site:app`, in the test's own folder."""
    path = tmp_path / "website.py"
    path.write_text(APPLICATION)
    return path
