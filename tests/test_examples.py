"""Every example runs to its end, and README shows the examples as they stand."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import click
import pytest
import trio
from tests.commands import Start, get_tcp
from tests.runtime.serving import open_websocket
from trio_websocket import ConnectionClosed

from greenroom.bridges.command import main
from greenroom.bridges.command._run import run

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
README = (ROOT / "README.md").read_text()
CHAT = EXAMPLES / "chat"


def blocks(language: str) -> list[str]:
    """Give README's fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.splitlines()[0])
def test_a_python_block_of_readme_is_a_file_of_the_examples(block: str) -> None:
    assert block in [path.read_text() for path in EXAMPLES.rglob("*.py")]


def shell_lines() -> list[str]:
    """Give every command that README shows, without comments."""
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return [line for line in (line.partition("  #")[0].strip() for line in lines) if line]


@pytest.mark.parametrize("line", shell_lines())
def test_a_command_of_readme_exists(line: str) -> None:
    words = re.findall(r"'[^']*'|\S+", line)
    match words:
        case ["greenroom", "run", *arguments]:
            run.make_context("run", [word.strip("'") for word in arguments])
        case ["greenroom", option]:
            assert option in {each for param in main.params for each in param.opts}
        case ["make", *targets]:
            goals = [target for target in targets if "=" not in target]
            assert all(f"\n{goal}:" in (ROOT / "Makefile").read_text() for goal in goals)
        case ["python", "examples/chat/manage.py", "runserver", *_]:
            assert (ROOT / "bridges/django/management/commands/runserver.py").exists()
        case ["python", "examples/chat/manage.py", name]:
            assert name == "migrate" or [*CHAT.glob(f"*/management/commands/{name}.py")]
        case ["(cd", folder, "&&", "python", "-m", "pytest", script]:
            assert (ROOT / folder / script.removesuffix(")")).exists()
        case ["python", script, *_] | ["bash", script]:
            assert (ROOT / script).exists()
        case ["pip", "install", *_]:
            pass
        case _:
            pytest.fail(f"README shows {line!r}, which this test does not know")


def test_the_table_of_options_is_the_command_s() -> None:
    shown = re.findall(r"^\| `(--.*?)` \| (.*?) \| (.*?) \|$", README, re.MULTILINE)
    expected = []
    for option in run.params:
        if isinstance(option, click.Option) and not option.hidden:
            text, _, default = (option.help or "").partition("  [default: ")
            if option.show_default:
                default = str(option.default)
            names = "/".join([*option.opts, *option.secondary_opts])
            expected.append((names, text, default.rstrip("]")))
    assert shown == expected


def test_every_example_is_run_by_a_test() -> None:
    tested = Path(__file__).read_text()
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert {name for name in scripts if f'"{name}"' not in tested} == set()


ACTORS = sorted(EXAMPLES.glob("actors/*.py"))


@pytest.mark.parametrize("path", ACTORS, ids=lambda path: path.stem)
def test_an_example_of_actors_has_tests_of_its_own(path: Path) -> None:
    assert (ROOT / "tests/examples/actors" / f"test_{path.name}").exists()


async def serve_example(
    start_command: Start, name: str, attribute: str
) -> tuple[int, Callable[[], Awaitable[int]]]:
    """Serve an example with the command that README shows; give its port, and what stops it."""
    command = await start_command(
        "run", f"{name.removesuffix('.py')}:{attribute}", "--app-dir", EXAMPLES, "--port", "0"
    )
    return await command.port(), command.stop


async def test_the_countdown_counts_down(start_command: Start) -> None:
    port, stop = await serve_example(start_command, "countdown.py", "app")
    assert (await get_tcp(port))[1] == "Open a WebSocket to /3\n"
    async with open_websocket(port, "/3") as client:
        said = [await client.get_message() for _ in range(3)]
        assert said == ["3...", "2...", "1..."]
        with pytest.raises(ConnectionClosed, match="lift-off"):
            await client.get_message()
    async with open_websocket(port, "/soon") as client:
        with pytest.raises(ConnectionClosed, match="1011"):
            await client.get_message()
    assert await stop() == 0


async def test_everybody_in_a_room_hears_what_is_said_there(start_command: Start) -> None:
    port, stop = await serve_example(start_command, "rooms.py", "application")
    async with (
        open_websocket(port, "/rooms/lobby/") as one,
        open_websocket(port, "/rooms/lobby/") as two,
        open_websocket(port, "/rooms/attic/") as elsewhere,
    ):
        await one.send_message("hello")
        assert await one.get_message() == "hello"
        assert await two.get_message() == "hello"
        await elsewhere.send_message("alone")
        assert await elsewhere.get_message() == "alone"
    assert await stop() == 0


async def test_the_sum_goes_on_after_a_crash(start_command: Start) -> None:
    port, stop = await serve_example(start_command, "resilient.py", "application")
    async with open_websocket(port) as client:
        for text in ("1", "two", "3"):
            await client.send_message(text)
        assert [await client.get_message() for _ in range(3)] == [
            "the sum is 1",
            "that was a ValueError, the sum is still 1",
            "the sum is 4",
        ]
    assert await stop() == 0


def run_python(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run an interpreter among the examples, to its end."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=EXAMPLES, check=True, capture_output=True, text=True)


def test_the_supervised_actor_goes_on_after_its_crash() -> None:
    ended = run_python("supervised.py")
    assert ended.stdout.splitlines() == ["the total is 1", "the total is 3", "the total is 4"]
    assert "ValueError: invalid literal for int() with base 10: 'three'" in ended.stderr


@pytest.mark.parametrize(
    "path", [path for path in ACTORS if path.name != "chat_room.py"], ids=lambda path: path.stem
)
def test_an_example_of_actors_runs_to_its_end(path: Path) -> None:
    ended = run_python("-X", "dev", "-W", "error", path)
    assert ended.stdout
    assert "Warning" not in ended.stderr
    # Only the till's crash is nothing that it expects.
    assert ("Traceback" in ended.stderr) == (path.name == "tour.py")


async def test_the_chat_room_is_open_until_it_is_interrupted() -> None:
    command = [sys.executable, "-X", "dev", str(EXAMPLES / "actors/chat_room.py"), "0"]
    process = await trio.lowlevel.open_process(command, stdout=-1, stderr=-1)
    assert process.stdout is not None
    assert process.stderr is not None
    async with process.stdout, process.stderr:
        said = b""
        while not said.endswith(b"\n"):
            said += await process.stdout.receive_some()
        async with await trio.open_tcp_stream("127.0.0.1", int(said.split()[-1])) as client:
            await client.send_all(b"ada lobby\n")
            assert await client.receive_some() == b"* ada is here\n"
            process.send_signal(signal.SIGINT)
            assert await client.receive_some() == b""
        log = b"".join([data async for data in process.stderr]).decode()
        assert "* ada is here (1 of 1 hear it)" in log
        assert log.rstrip().endswith("KeyboardInterrupt")
        assert "Warning" not in log
    await process.wait()


def run_pytest(name: str, tmp_path: Path) -> str:
    """Run a test among the examples as in a project of its own, without our settings."""
    settings = tmp_path / "pytest.ini"
    settings.write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", str(settings), name]
    environment = {**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    ended = subprocess.run(
        command, cwd=EXAMPLES, env=environment, check=False, stdout=subprocess.PIPE, text=True
    )
    return ended.stdout


@pytest.mark.parametrize("name", ["test_countdown.py", "test_rooms.py"])
def test_the_example_of_a_test_passes(name: str, tmp_path: Path) -> None:
    assert "1 passed" in run_pytest(name, tmp_path)


def test_the_example_of_a_race_is_found_and_shrunk(tmp_path: Path) -> None:
    said = run_pytest("race.py", tmp_path)
    assert "ActorDied: /house/room ended before it replied: Shutdown(by='the last guest')" in said
    assert "test_every_guest_finds_the_room_open(\nE               choices=[0],\n" in said
    assert "1 failed" in said


async def test_the_chat_is_served_by_the_command(
    start_command: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAT_DATABASE", str(tmp_path / "chat.sqlite3"))
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    await trio.run_process([sys.executable, str(CHAT / "manage.py"), "migrate", "-v0"])
    command = await start_command(
        "run", "config.asgi:application", "--app-dir", CHAT, "--port", "0"
    )
    port = await command.port()
    head, _ = await get_tcp(port)
    assert head.startswith("HTTP/1.1 302 Found")
    head, body = await get_tcp(port, "/login/")
    assert head.startswith("HTTP/1.1 200 OK")
    assert "csrfmiddlewaretoken" in body
    assert await command.stop() == 0
