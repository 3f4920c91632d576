"""`greenroom run --reload`: the parent, its children, and files that change."""

import signal
import socket
from pathlib import Path

import pytest
import trio
from tests.commands import APPLICATION, Start, get_tcp


async def test_a_changed_file_is_served_from_the_same_port_and_nobody_is_refused(
    start_command: Start, app_file: Path
) -> None:
    command = await start_command("run", "website:app", "--port", "0", "--reload")
    port = await command.port()
    assert (await get_tcp(port))[1] == "version 1 "
    app_file.write_text(APPLICATION.replace("version 1", "version 2"))
    await command.line(r"website\.py changed; restarting")
    # The parent holds the socket: connecting succeeds before the new child runs.
    waiting = await trio.open_tcp_stream("127.0.0.1", port)
    await waiting.aclose()
    assert await command.port() == port
    assert (await get_tcp(port))[1] == "version 2 "
    assert await command.stop() == 0


async def test_a_file_that_fails_to_import_waits_to_be_mended(
    start_command: Start, app_file: Path
) -> None:
    app_file.write_text("def app(:\n")
    command = await start_command("run", "website:app", "--port", "0", "--reload")
    await command.line("SyntaxError")
    await command.line("ended with status 1; waiting for a change")
    app_file.write_text(APPLICATION)
    assert (await get_tcp(await command.port()))[1] == "version 1 "
    assert await command.stop(signal.SIGINT) == 0


async def test_other_files_are_watched_when_asked_for(
    start_command: Start, app_file: Path, tmp_path: Path
) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    command = await start_command(
        *("run", "website:app", "--port", "0", "--reload", "--reload-dir", "pages"),
        *("--reload-include", "*.html"),
    )
    await command.port()
    (pages / "room.html").write_text("<p>")
    await command.line(r"pages/room\.html changed; restarting")
    await command.port()
    assert await command.stop() == 0


async def test_a_killed_parent_leaves_no_server_behind(
    start_command: Start, app_file: Path
) -> None:
    command = await start_command("run", "website:app", "--port", "0", "--reload")
    port = await command.port()
    # The end of the output is the end of parent and child.
    assert await command.stop(signal.SIGKILL) == -signal.SIGKILL
    with pytest.raises(OSError, match=f"{port}"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_a_taken_port_ends_the_parent(start_command: Start, app_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        command = await start_command("run", "website:app", "--port", port, "--reload")
        assert await command.end() == 1
    assert "the port is in use" in command.output
