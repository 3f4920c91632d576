"""`greenroom run` in a process of its own, over real sockets."""

import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trustme
from tests.commands import Start, get, get_tcp

pytestmark = pytest.mark.usefixtures("app_file")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_on_the_printed_address_until_a_signal_and_ends_with_0(
    start_command: Start, number: signal.Signals
) -> None:
    command = await start_command("run", "website:app", "--port", "0")
    head, body = await get_tcp(await command.port(), "/rooms?page=2")
    assert head.startswith("HTTP/1.1 200 OK")
    assert "\r\nserver: greenroom" in head
    assert body == "version 1 "
    await command.line(r'127.0.0.1:\d+ "GET /rooms\?page=2 HTTP/1.1" 200 in [\d.]+ ms')
    assert await command.stop(number) == 0


async def test_an_application_for_asyncio_is_hosted(start_command: Start, app_file: Path) -> None:
    app_file.write_text("""
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise ValueError("no lifespan")
    await asyncio.sleep(0)
    body = type(asyncio.current_task()).__name__.encode()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})
""")
    command = await start_command("run", "website:app", "--port", "0")
    _, body = await get_tcp(await command.port())
    assert body == "Task"
    assert await command.stop() == 0


async def test_a_unix_socket_is_served_and_removed(start_command: Start, tmp_path: Path) -> None:
    command = await start_command("run", "website:app", "--uds", "app.sock")
    await command.line(r" on unix:app\.sock")
    _, body = await get(await trio.open_unix_socket(tmp_path / "app.sock"))
    assert body == "version 1 "
    assert await command.stop() == 0
    assert not (tmp_path / "app.sock").exists()


async def test_an_inherited_socket_is_served(start_command: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        command = await start_command("run", "website:app", "--fd", fd, pass_fds=[fd])
        assert await command.port() == listener.getsockname()[1]
        _, body = await get_tcp(listener.getsockname()[1])
        assert body == "version 1 "
        assert await command.stop() == 0


async def test_options_reach_the_server_and_the_application(start_command: Start) -> None:
    command = await start_command(
        *("run", "website:app", "--port", "0", "--root-path", "/mounted"),
        *("--no-server-header", "--no-date-header", "--no-access-log"),
    )
    head, body = await get_tcp(await command.port())
    assert "\r\nserver:" not in head
    assert "\r\ndate:" not in head
    assert body == "version 1 /mounted"
    assert await command.stop() == 0
    assert "GET" not in command.output


async def test_a_factory_from_another_folder_is_called(
    start_command: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "src"
    folder.mkdir()
    source = (tmp_path / "website.py").read_text()
    (folder / "made.py").write_text(source + "\ndef make():\n    return app\n")
    command = await start_command(
        "run", "made:make", "--factory", "--app-dir", "src", "--port", "0"
    )
    _, body = await get_tcp(await command.port())
    assert body == "version 1 "
    assert await command.stop() == 0


async def test_tls_is_served_with_the_given_certificate(
    start_command: Start, tmp_path: Path
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    command = await start_command(
        *("run", "website:app", "--port", "0"),
        *("--ssl-certfile", "cert.pem", "--ssl-keyfile", "key.pem"),
    )
    port = int((await command.line(r" on https://127\.0\.0\.1:(\d+)"))[1])
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    plain = await trio.open_tcp_stream("127.0.0.1", port)
    stream = trio.SSLStream(plain, trusting, server_hostname="localhost", https_compatible=True)
    _, body = await get(stream)
    assert body == "version 1 "
    assert await command.stop() == 0


@pytest.mark.parametrize(
    ("source", "target", "shown"),
    [
        ("", "no_such_site:app", "there is no module 'no_such_site'"),
        ("", "website:app", "website has no attribute 'app'"),
        ("import no_such_module", "website:app", 'website.py", line 1'),
        ("import no_such_module", "website:app", "website imports 'no_such_module'"),
        ("app = 7", "website:app", "of type int, which can't be called"),
    ],
)
async def test_an_application_that_can_t_be_loaded_is_explained_and_ends_with_1(
    start_command: Start, app_file: Path, source: str, target: str, shown: str
) -> None:
    app_file.write_text(source)
    command = await start_command("run", target, "--port", "0")
    assert await command.end() == 1
    assert shown in command.output
    assert "importlib" not in command.output


async def test_a_failed_start_up_shows_its_traceback_and_ends_with_1(
    start_command: Start, app_file: Path
) -> None:
    app_file.write_text("""
async def app(scope, receive, send):
    await receive()
    raise LookupError("no database")
""")
    command = await start_command("run", "website:app", "--port", "0", "--lifespan", "on")
    assert await command.end() == 1
    assert 'website.py", line 4, in app' in command.output
    assert command.output.endswith(
        "Error: the application's startup failed: it raised LookupError: no database\n"
    )


async def test_a_taken_port_ends_with_1_and_says_what_to_do(start_command: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        command = await start_command("run", "website:app", "--port", port)
        assert await command.end() == 1
    assert command.output == (
        f"Error: cannot listen on 127.0.0.1:{port}: "
        "the port is in use; stop the other program or choose another port\n"
    )


async def test_a_missing_settings_module_is_told_apart_from_an_import(
    start_command: Start, app_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "no_such_site.settings")
    app_file.write_text("from django.conf import settings\nsettings.DEBUG\n")
    command = await start_command("run", "website:app", "--port", "0")
    assert await command.end() == 1
    assert command.output.endswith(
        "website imports 'no_such_site', which is missing; "
        "the environment variable DJANGO_SETTINGS_MODULE is 'no_such_site.settings'\n"
    )


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["run"], "Missing argument 'APP'"),
        (["run", "website:app", "--port", "65536"], "--port"),
        (["run", "website:app", "--lifespan", "maybe"], "--lifespan"),
        (["run", "website:app", "--root-path", "a/"], "must begin with a slash"),
        (["run", "website:app", "--reload-dir", "."], "--reload-dir needs --reload"),
        (["run", "website:app", "--ssl-keyfile", "website.py"], "needs --ssl-certfile"),
        (["run", "website:app", "--ssl-certfile", "website.py"], "--ssl-certfile: "),
        (["run", "website:app", "--handover", "x"], "not of the form LIFELINE:FD,FD"),
        (["walk"], "No such command 'walk'"),
    ],
)
async def test_a_wrong_command_line_ends_with_2_and_names_the_option(
    start_command: Start, arguments: list[str], shown: str
) -> None:
    command = await start_command(*arguments)
    assert await command.end() == 2
    assert shown in command.output
    assert "Traceback" not in command.output


async def test_a_thread_that_nothing_can_end_does_not_keep_the_process_alive(
    start_command: Start, app_file: Path
) -> None:
    app_file.write_text("""
import sys, threading
import trio
from greenroom.runtime import speaks

def wait_for_ever():
    threading.Event().wait()

@speaks("trio")
async def app(scope, receive, send):
    if scope["type"] == "http":
        print("stuck", file=sys.stderr, flush=True)
        await trio.to_thread.run_sync(wait_for_ever)
""")
    command = await start_command(
        "run", "website:app", "--port", "0", "--timeout-graceful-shutdown", "0"
    )
    async with await trio.open_tcp_stream("127.0.0.1", await command.port()) as client:
        await client.send_all(b"GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await command.line("stuck")
        assert await command.stop() == 1
    assert "http GET /stuck of 127.0.0.1" in command.output
    assert "in wait_for_ever" in command.output


def test_the_command_is_installed_and_tells_its_version() -> None:
    greenroom = Path(sys.executable).parent / "greenroom"
    shown = subprocess.run([greenroom, "--version"], check=True, capture_output=True, text=True)
    assert shown.stdout.startswith("greenroom, version ")
