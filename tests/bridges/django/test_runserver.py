"""`manage.py runserver` in processes of its own: how it ends, and starts anew."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TypeAlias

import pytest
import trio
from django.core.management.base import CommandError
from django.test import override_settings
from tests.commands import PATIENCE, Command, get_tcp
from tests.runtime.serving import open_websocket
from trio_websocket import ConnectionClosed, WebSocketConnection

from greenroom.bridges.django.management.commands.runserver import websocket_limits

pytestmark = pytest.mark.timeout(120)  # each test starts processes

# A project whose consumers write a row when their client goes.
PROJECT = {
    "manage.py": """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "notes.settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
""",
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

Start: TypeAlias = Callable[..., Awaitable[tuple[Command, int]]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project's folder."""
    for name, content in PROJECT.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    with closing(sqlite3.connect(tmp_path / "db")) as database, database:
        database.execute("create table notes_note (id integer primary key, text varchar)")
    return tmp_path


@pytest.fixture
async def start(project: Path) -> AsyncIterator[Start]:
    """Start the project's `runserver`, and give it with its port."""
    started: list[Command] = []

    async def start(*options: str) -> tuple[Command, int]:
        process = await trio.lowlevel.open_process(
            [sys.executable, "manage.py", "runserver", "127.0.0.1:0", *options],
            cwd=project,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "error"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout is not None
        command = Command(process, process.stdout)
        started.append(command)
        port = await announced_port(command)
        if "--noreload" not in options and "first seen" not in command.output:
            await command.line("first seen")
        return command, port

    yield start
    for command in started:
        if command.process.poll() is None:
            os.killpg(command.process.pid, signal.SIGKILL)
        await command.end()


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
    with trio.fail_after(PATIENCE), pytest.raises(ConnectionClosed) as closed:
        await tab.get_message()
    assert closed.value.reason is not None
    code: int = closed.value.reason.code
    return code


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


OURS, DAPHNES = "GREENROOM_WEBSOCKET_MAX_MESSAGE_SIZE", "DAPHNE_WEBSOCKET_MAX_MESSAGE_SIZE"


@pytest.mark.parametrize(
    ("given", "settings", "size"),
    [
        (None, {}, 1024 * 1024),
        (None, {DAPHNES: 7}, 7),
        (None, {DAPHNES: 7, OURS: 8}, 8),
        (9, {DAPHNES: 7, OURS: 8}, 9),
    ],
)
def test_the_option_goes_before_our_setting_and_that_before_daphnes(
    given: int | None, settings: dict[str, int], size: int
) -> None:
    with override_settings(**settings):
        assert websocket_limits(given).max_message_size == size


@pytest.mark.parametrize("size", [0, -1, "1 MiB"])
def test_a_limit_that_is_no_size_is_refused_by_the_name_of_its_source(size: object) -> None:
    with override_settings(**{DAPHNES: size}), pytest.raises(CommandError, match=DAPHNES):
        websocket_limits(None)
