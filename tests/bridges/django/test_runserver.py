"""`manage.py runserver` in processes of its own: how it ends, and starts anew."""

import asyncio
import io
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import override_settings
from tests.commands import PATIENCE, Command, get_tcp
from tests.projects import write_project
from tests.runtime import serving
from tests.runtime.serving import open_websocket
from trio_websocket import WebSocketConnection

from greenroom.bridges.django._development import DevelopmentServer
from greenroom.bridges.django.management.commands.runserver import Command as RunserverCommand
from greenroom.runtime import ServerConfig

pytestmark = pytest.mark.timeout(120)  # each test starts processes

# A project whose consumers write a row when their client goes.
PROJECT = {
    "notes/__init__.py": "",
    "notes/settings.py": """
from pathlib import Path
BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "only for tests"
DEBUG = True
INSTALLED_APPS = ["greenroom.bridges.django", "notes"]
ROOT_URLCONF = "notes.urls"
ASGI_APPLICATION = "notes.asgi.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db"}}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
    }
]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
DAPHNE_WEBSOCKET_MAX_MESSAGE_SIZE = 100
# Autoreload notes the templates last. What changed before that is no change to it.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "noted": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: "page.html first seen" in record.getMessage(),
        }
    },
    "handlers": {"noted": {"class": "logging.StreamHandler", "filters": ["noted"]}},
    "loggers": {"django.utils.autoreload": {"level": "DEBUG", "handlers": ["noted"]}},
}
""",
    "notes/models.py": """
from django.db import models
class Note(models.Model):
    text = models.CharField(max_length=100)
""",
    "notes/urls.py": """
from django.shortcuts import render
from django.urls import path
urlpatterns = [path("", lambda request: render(request, "page.html"))]
""",
    "notes/asgi.py": """
from greenroom.bridges.django.asgi import get_asgi_application
pages = get_asgi_application()
import asyncio, time
from greenroom.bridges.channels.generic.websocket import (
    AsyncWebsocketConsumer, WebsocketConsumer,
)
from greenroom.bridges.channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path
from notes.models import Note

class Writing(AsyncWebsocketConsumer):
    async def receive(self, text_data):
        await self.send(text_data)

    async def disconnect(self, code):
        await Note.objects.acreate(text=f"left {code}")

class Endless(WebsocketConsumer):
    def disconnect(self, code):
        time.sleep(3600)

sockets = [path("writing", Writing.as_asgi()), path("endless", Endless.as_asgi())]
application = ProtocolTypeRouter({"http": pages, "websocket": URLRouter(sockets)})
""",
    "templates/page.html": "first page",
}

# Settings with which autoreload tells of the application's module as well.
SEES_ASGI = """
LOGGING["filters"]["noted"]["callback"] = lambda record: (
    record.getMessage().endswith("reloading.")
    or any(f"{name} first seen" in record.getMessage() for name in ("page.html", "notes/asgi.py"))
)
"""

Start: TypeAlias = Callable[..., Awaitable[tuple[Command, int]]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project's folder."""
    write_project(tmp_path, "notes", PROJECT)
    with closing(sqlite3.connect(tmp_path / "db")) as database, database:
        database.execute("create table notes_note (id integer primary key, text varchar)")
    return tmp_path


@pytest.fixture
async def start(project: Path) -> AsyncIterator[Start]:
    """Start the project's `runserver`, and give it with its port."""
    started: list[Command] = []

    async def start(
        *options: str, command: Sequence[str] = ("runserver", "127.0.0.1:0")
    ) -> tuple[Command, int]:
        process = await trio.lowlevel.open_process(
            [sys.executable, "manage.py", *command, *options],
            cwd=project,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "error"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout is not None
        running = Command(process, process.stdout)
        started.append(running)
        port = await announced_port(running)
        reloads = command[0] == "runserver" and "--noreload" not in options
        if reloads and "first seen" not in running.output:
            await running.line("first seen")
        return running, port

    yield start
    for running in started:
        if running.process.poll() is None:
            os.killpg(running.process.pid, signal.SIGKILL)
        await running.end()


async def announced_port(command: Command) -> int:
    return int((await command.line(r"server at http://127\.0\.0\.1:(\d+)"))[1])


@asynccontextmanager
async def open_tabs(port: int, path: str = "/writing") -> AsyncIterator[list[WebSocketConnection]]:
    """Open three WebSockets that wait for their end."""
    async with (
        open_websocket(port, path) as first,
        open_websocket(port, path) as second,
        open_websocket(port, path) as third,
    ):
        yield [first, second, third]


async def close_code(tab: WebSocketConnection) -> int:
    with trio.fail_after(PATIENCE):
        return await serving.close_code(tab)


def add_runserver(project: Path, source: str) -> None:
    """Give the project a command of its own, which counts where `notes` is listed first."""
    commands = project / "notes" / "management" / "commands"
    commands.mkdir(parents=True)
    (commands / "runserver.py").write_text(source)
    with (project / "notes" / "settings.py").open("a") as settings:
        settings.write('INSTALLED_APPS.sort(key="notes".__ne__)\n')


def notes(project: Path) -> list[str]:
    with closing(sqlite3.connect(project / "db")) as database:
        return [text for (text,) in database.execute("select text from notes_note")]


@pytest.mark.parametrize("options", [(), ("--noreload",)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("told", [os.kill, os.killpg])
async def test_a_signal_lets_every_consumer_write_to_the_database(
    start: Start,
    project: Path,
    options: tuple[str, ...],
    number: signal.Signals,
    told: Callable[[int, int], None],
) -> None:
    command, port = await start(*options)
    async with open_tabs(port) as tabs:
        told(command.process.pid, number)
        assert [await close_code(tab) for tab in tabs] == [1012] * 3
    assert await command.end() == 0
    assert notes(project) == ["left 1012"] * 3
    assert "Error" not in command.output
    assert "Traceback" not in command.output


# A stream that does not end by itself, from a server that would wait for it for an hour.
STREAM = """
from greenroom.bridges.channels.generic.http import AsyncHttpConsumer

class Stream(AsyncHttpConsumer):
    async def handle(self, body):
        await self.send_headers()
        await self.send_body(b"first", more_body=True)
        await asyncio.Event().wait()

    async def disconnect(self):
        print("the stream was left", flush=True)

application.application_mapping["http"] = Stream.as_asgi()
"""
PATIENT = """
from dataclasses import replace
from greenroom.bridges.django.management.commands import runserver

class Command(runserver.Command):
    def get_server_config(self, options):
        return replace(super().get_server_config(options), graceful_timeout=3600)
"""


@pytest.mark.parametrize("options", [(), ("--noreload",)])
@pytest.mark.parametrize(
    ("told", "number"),
    [(os.kill, signal.SIGINT), (os.kill, signal.SIGTERM), (os.killpg, signal.SIGINT)],
)
async def test_a_second_signal_ends_at_once_what_the_first_has_waited_for(
    start: Start,
    project: Path,
    options: tuple[str, ...],
    told: Callable[[int, int], None],
    number: signal.Signals,
) -> None:
    with (project / "notes" / "asgi.py").open("a") as asgi:
        asgi.write(STREAM)
    add_runserver(project, PATIENT)
    command, port = await start(*options)
    async with (
        open_websocket(port, "/writing") as tab,
        await trio.open_tcp_stream("127.0.0.1", port) as client,
    ):
        await client.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while b"first" not in received:
            received += await client.receive_some()
        told(command.process.pid, number)
        assert await close_code(tab) == 1012  # the server stops
        assert "the stream was left" not in command.output
        told(command.process.pid, number)
        # Without it, the parent kills its child, or there is no end.
        await command.line("the stream was left")
        assert await command.end() == 0
    assert "Traceback" not in command.output


async def test_a_thread_that_nothing_can_end_is_named_and_ends_with_the_process(
    start: Start, project: Path
) -> None:
    command, port = await start("--noreload")
    async with open_websocket(port, "/endless") as tab:
        os.kill(command.process.pid, signal.SIGINT)
        assert await close_code(tab) == 1012
        os.kill(command.process.pid, signal.SIGINT)
        assert await command.end() == 1
    assert "still running: websocket /endless" in command.output
    assert 'notes/asgi.py", line ' in command.output


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (
            'await send({"type": "lifespan.startup.failed", "message": "no broker"})',
            1,
            "CommandError: the application's startup failed: no broker",
        ),
        ("print('it starts', flush=True); await asyncio.Event().wait()", 0, "it starts"),
    ],
)
async def test_a_start_up_that_fails_or_is_stopped_ends_without_a_traceback(
    start: Start, project: Path, answer: str, status: int, said: str
) -> None:
    (project / "notes" / "asgi.py").write_text(
        "import asyncio\n"
        "async def application(scope, receive, send):\n"
        '    if scope["type"] == "lifespan":\n'
        "        await receive()\n"
        f"        {answer}\n"
    )
    command, _ = await start("--noreload")
    await command.line(said)
    if status == 0:
        command.process.send_signal(signal.SIGINT)
    assert await command.end() == status
    assert "Traceback" not in command.output


async def test_a_changed_file_lets_every_consumer_write_before_the_server_starts_anew(
    start: Start, project: Path
) -> None:
    command, port = await start()
    async with open_tabs(port) as tabs:
        with (project / "notes" / "urls.py").open("a") as urls:
            urls.write('urlpatterns.append(path("new", urlpatterns[0].callback))\n')
        assert [await close_code(tab) for tab in tabs] == [1012] * 3
    port = await announced_port(command)
    assert (await get_tcp(port, "/new"))[1] == "first page"
    assert notes(project) == ["left 1012"] * 3
    assert "Error" not in command.output


async def test_a_changed_template_disturbs_nobody(start: Start, project: Path) -> None:
    command, port = await start()
    async with open_tabs(port) as tabs:
        assert (await get_tcp(port))[1] == "first page"
        (project / "templates" / "page.html").write_text("second page")
        with trio.fail_after(PATIENCE):
            while (await get_tcp(port))[1] != "second page":
                pass  # Django looks at its files once in a second
        await tabs[0].send_message("still here")
        assert await tabs[0].get_message() == "still here"
        assert notes(project) == []
    assert "reloading" not in command.output


@pytest.mark.parametrize("reason", ["signal", "change"])
async def test_a_consumer_that_never_ends_delays_the_end_by_a_few_seconds(
    start: Start, project: Path, reason: str
) -> None:
    command, port = await start()
    async with open_tabs(port, "/endless") as tabs:
        with trio.fail_after(PATIENCE):
            if reason == "signal":
                os.kill(command.process.pid, signal.SIGTERM)
                assert await command.end() == 0
            else:
                (project / "notes" / "models.py").touch()
                assert await announced_port(command)
        assert [await close_code(tab) for tab in tabs] == [1012] * 3


async def test_a_change_after_which_the_project_fails_ends_as_djangos_command_does(
    start: Start, project: Path
) -> None:
    command, _ = await start()
    (project / "notes" / "settings.py").write_text("ASGI_APPLICATION = None")
    assert await command.end() == 1


@pytest.mark.parametrize(
    ("options", "limit"), [((), 100), (("--websocket-max-message-size=9",), 9)]
)
async def test_a_message_above_the_limit_ends_its_websocket(
    start: Start, options: tuple[str, ...], limit: int
) -> None:
    _, port = await start("--noreload", *options)
    async with open_websocket(port, "/writing") as tab:
        await tab.send_message("x" * limit)
        assert await tab.get_message() == "x" * limit
        await tab.send_message("x" * (limit + 1))
        assert await close_code(tab) == 1009


def config(**options: Any) -> ServerConfig:
    """Give what the server gets for these options, and the defaults of the others."""
    command = RunserverCommand()
    parsed = command.create_parser("manage.py", "runserver").parse_args([])
    return command.get_server_config({**vars(parsed), **options})


OURS, DAPHNES = "GREENROOM_WEBSOCKET_MAX_{}_SIZE", "DAPHNE_WEBSOCKET_MAX_{}_SIZE"


@pytest.mark.parametrize(("what", "default"), [("message", 1024 * 1024), ("frame", None)])
def test_a_size_is_the_options_or_our_settings_or_daphnes(what: str, default: int | None) -> None:
    def size(**options: Any) -> int | None:
        found: int | None = getattr(config(**options).websocket_limits, f"max_{what}_size")
        return found

    ours, daphnes = OURS.format(what.upper()), DAPHNES.format(what.upper())
    assert size() == default
    with override_settings(**{daphnes: 7}):
        assert size() == 7
        with override_settings(**{ours: 8}):
            assert size() == 8
            assert size(**{f"websocket_max_{what}_size": 9}) == 9
            assert (size(**{f"websocket_max_{what}_size": 0}) or 1 << 60) >= 1 << 60


@pytest.mark.parametrize("size", [-1, "1 MiB", True])
def test_a_size_that_is_none_is_refused_by_the_name_of_its_source(size: object) -> None:
    setting = DAPHNES.format("MESSAGE")
    with override_settings(**{setting: size}), pytest.raises(CommandError, match=setting):
        config()


@pytest.mark.parametrize(
    ("options", "request_timeout", "connect_timeout"),
    [
        ([], None, 5),
        (["--http_timeout=3", "--websocket_handshake_timeout=9"], 3, 9),
        (["--http-timeout=0.5", "--websocket-handshake-timeout=0.5"], 0.5, 0.5),
        (["--http_timeout=0", "--websocket_handshake_timeout=0"], None, math.inf),
    ],
)
def test_timeouts_are_the_options_and_0_is_no_limit(
    options: list[str], request_timeout: float | None, connect_timeout: float
) -> None:
    parsed = RunserverCommand().create_parser("manage.py", "runserver").parse_args(options)
    made = config(**vars(parsed))
    assert (made.request_timeout, made.websocket_connect_timeout) == (
        request_timeout,
        connect_timeout,
    )


@pytest.mark.parametrize("option", ["--http_timeout", "--websocket_handshake_timeout"])
def test_a_negative_timeout_is_refused_by_name(option: str) -> None:
    with pytest.raises(CommandError, match=option):
        config(**{option.removeprefix("--"): -1.0})


def test_a_server_class_for_another_server_is_refused_by_name() -> None:
    class Daphnes(RunserverCommand):
        server_cls = dict

    with (
        override_settings(ASGI_APPLICATION="notes.asgi.application"),
        pytest.raises(CommandError, match="server_cls of this runserver must be a subclass"),
    ):
        call_command(Daphnes(), "127.0.0.1:0")


def test_a_project_without_asgi_application_is_told_so() -> None:
    with pytest.raises(CommandError, match="You have not set ASGI_APPLICATION"):
        call_command(RunserverCommand(), "127.0.0.1:0")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("app = None", "it is of type NoneType, which can't be called"),
        ("class app:\n    def as_asgi(self): ...", "name what its as_asgi() returns"),
        ("def app(environ, start_response): ...", "it looks like a WSGI application"),
        ("def app(): ...", "it can't be called with (scope, receive, send)"),
        ("import no_such_module", "imports 'no_such_module', which is missing"),
        ("1 / 0", "raised ZeroDivisionError: division by zero"),
    ],
)
def test_what_can_t_be_served_is_explained_in_a_sentence_after_its_own_traceback(
    source: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"unserved_{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source)
    command = RunserverCommand(stderr=io.StringIO())
    try:
        with (
            override_settings(ASGI_APPLICATION=f"{name}.app"),
            pytest.raises(CommandError) as raised,
        ):
            command.get_application({})
    finally:
        sys.modules.pop(name, None)
    assert str(raised.value).startswith(f"ASGI_APPLICATION is '{name}.app', and can't be served")
    assert str(raised.value).endswith(why)
    shown = command.stderr.getvalue()
    assert (f'{name}.py", line 1' in shown) == ("raised" in why or "imports" in why)
    assert "importlib" not in shown


def test_a_port_that_is_none_is_refused_as_one_that_is_taken() -> None:
    with pytest.raises(OSError, match="port is 99999; it must be 0 to 65535"):
        DevelopmentServer(("127.0.0.1", 99999), ServerConfig())


async def test_an_application_that_fails_to_import_waits_to_be_mended(
    start: Start, project: Path
) -> None:
    with (project / "notes" / "settings.py").open("a") as settings:
        settings.write(SEES_ASGI)
    command, _ = await start()
    if "notes/asgi.py first seen" not in command.output:
        await command.line(r"notes/asgi\.py first seen")
    asgi = project / "notes" / "asgi.py"
    asgi.write_text(f"import no_such_module\n{PROJECT['notes/asgi.py']}")
    await command.line(r"notes/asgi\.py changed, reloading")
    said: set[str] = set()
    while len(said) < 2:  # in either order
        said.add(
            (
                await command.line(
                    r"(notes/asgi\.py first seen|^CommandError: ASGI_APPLICATION is )"
                )
            )[1]
        )
    assert "Exception in thread" not in command.output
    asgi.write_text(PROJECT["notes/asgi.py"])
    port = await announced_port(command)
    assert (await get_tcp(port))[1] == "first page"


def test_the_application_is_mounted_where_a_proxy_will_mount_it() -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)

    async def call(path: str, kind: str) -> None:
        scope = {"type": kind, "path": path, "root_path": ""}
        await RunserverCommand().get_application({})(scope, None, None)  # type: ignore[arg-type]

    module = types.ModuleType("mounted_website")
    module.app = app  # type: ignore[attr-defined]
    sys.modules["mounted_website"] = module
    try:
        with override_settings(ASGI_APPLICATION="mounted_website.app", FORCE_SCRIPT_NAME="/a/"):
            asyncio.run(call("/a/x", "http"))
            asyncio.run(call("/a/x", "websocket"))
    finally:
        del sys.modules["mounted_website"]
    assert [(scope["path"], scope["root_path"]) for scope in scopes] == [("/a/x", "/a")] * 2


# A project with a runserver of its own, as those that come from daphne have.
ITS_COMMAND = """
from greenroom.bridges.django._development import DevelopmentServer
from greenroom.bridges.django.management.commands import runserver

class Server(runserver.DevelopmentServer):
    def set_app(self, application):
        print("its own server", flush=True)
        super().set_app(application)

class Command(runserver.Command):
    server_cls = Server

    def get_application(self, options):
        app = super().get_application(options)
        async def wrapped(scope, receive, send):
            if scope["type"] == "http" and scope["path"] == "/health":
                await send({"type": "http.response.start", "status": 204})
                await send({"type": "http.response.body"})
            else:
                await app(scope, receive, send)
        return wrapped

    def log_action(self, protocol, action, details):
        if details["path"] != "/health":
            super().log_action(protocol, action, details)
"""
ITS_SETTINGS = """
INSTALLED_APPS = ["notes", "greenroom.bridges.django", "django.contrib.staticfiles"]
STATICFILES_DIRS = [BASE_DIR / "assets"]
STATIC_URL = "static/"
SILENCED_SYSTEM_CHECKS = []
LOGGING["handlers"]["console"] = {"class": "logging.StreamHandler", "formatter": "mine"}
LOGGING["formatters"] = {"mine": {"format": "<%(name)s> %(message)s"}}
LOGGING["loggers"]["django.channels.server"] = {
    "handlers": ["console"], "level": "INFO", "propagate": False,
}
"""


async def test_a_project_extends_the_command_as_it_did_daphnes(start: Start, project: Path) -> None:
    add_runserver(project, ITS_COMMAND)
    with (project / "notes" / "settings.py").open("a") as settings:
        settings.write(ITS_SETTINGS)
    (project / "assets").mkdir()
    (project / "assets" / "style.css").write_text("body {}")
    command, port = await start("--noreload")
    await command.line("its own server")
    assert "serves notes.asgi.application over HTTP and WebSocket" in command.output
    assert (await get_tcp(port, "/health"))[0].startswith("HTTP/1.1 204")
    assert (await get_tcp(port))[1] == "first page"
    assert (await get_tcp(port, "/static/style.css"))[1] == "body {}"
    async with open_websocket(port, "/writing"):
        pass
    assert await command.stop() == 0
    words = re.findall(r"<django.channels.server> (\w+ \w+ \S+( \d+)?)", command.output)
    assert [line for line, _ in words] == [
        "HTTP GET / 200",
        "HTTP GET /static/style.css 200",
        "WebSocket HANDSHAKING /writing",
        "WebSocket CONNECT /writing",
        "WebSocket DISCONNECT /writing",
    ]


async def test_testserver_serves_a_test_database_and_says_that_it_was_left(
    start: Start, project: Path
) -> None:
    given = '[{"model": "notes.note", "pk": 1, "fields": {"text": "given"}}]'
    (project / "first.json").write_text(given)
    command, port = await start(
        command=["testserver", "first.json", "--addrport=127.0.0.1:0", "--noinput"]
    )
    async with open_websocket(port, "/writing"):
        pass
    assert await command.stop(signal.SIGINT) == 0
    assert "Server stopped." in command.output
    assert "Traceback" not in command.output
    assert notes(project) == []


async def test_noasgi_runs_djangos_own_server_with_static_files(
    start: Start, project: Path
) -> None:
    with (project / "notes" / "settings.py").open("a") as settings:
        settings.write(ITS_SETTINGS + "ASGI_APPLICATION = None")
    (project / "assets").mkdir()
    (project / "assets" / "style.css").write_text("body {}")
    _, port = await start("--noreload", "--noasgi")
    head, page = await get_tcp(port)
    assert page == "first page"
    assert "Server: WSGIServer" in head
    assert (await get_tcp(port, "/static/style.css"))[1] == "body {}"
