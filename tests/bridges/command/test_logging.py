"""What `greenroom run` logs beside the application's own handlers, and by which clock."""

import logging
import re
import socket
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.commands import APPLICATION, Start, get_tcp

from greenroom.bridges.command._logging import LineFormatter

FORM = "%Y-%m-%d %H:%M:%S"
WINTER, SUMMER = 1_800_000_000, 1_815_000_000  # 15 January and 8 July of 2027, in UTC

# An application that logs as `shop`, once when it is imported and with each request.
SHOP = """
import logging
{}
logging.getLogger("shop").warning("open")
from greenroom.runtime import speaks

@speaks("trio")
async def app(scope, receive, send):
    if scope["type"] == "http":
        logging.getLogger("shop").warning("a customer")
        await send({{"type": "http.response.start", "status": 200}})
        await send({{"type": "http.response.body", "body": b""}})
"""
DICT_CONFIG = """
from logging.config import dictConfig
dictConfig({{
    "version": 1,
    "formatters": {{"its": {{"format": "<%(name)s> %(message)s"}}}},
    "handlers": {{"its": {{"class": "logging.StreamHandler", "formatter": "its"}}}},
    "root": {{"handlers": ["its"]}},
    {}
}})
"""
# A Django project that has nothing at /x/.
PROJECT = """
from django.conf import settings
settings.configure(
    DEBUG=True, SECRET_KEY="x", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, LOGGING={}
)
from django.urls import path
urlpatterns = [path("", lambda request: None)]
from greenroom.bridges.django.asgi import get_asgi_application
app = get_asgi_application()
"""


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """What sets TZ, until the test's end."""
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


def formatted(formatter: LineFormatter, seconds: int) -> str:
    record = logging.LogRecord("shop", logging.INFO, "", 0, "", (), None)
    record.created = seconds
    return formatter.formatTime(record, FORM)


@pytest.mark.parametrize(
    ("name", "winter", "summer"),
    [
        ("Europe/Berlin", 1, 2),
        (":America/New_York", -5, -4),
        ("", 0, 0),
        ("HERE-5", 5, 5),  # POSIX counts to the west
    ],
)
def test_times_stay_those_of_the_machine_when_django_sets_another_zone(
    zone: pytest.MonkeyPatch, name: str, winter: int, summer: int
) -> None:
    zone.setenv("TZ", name)
    time.tzset()
    formatter = LineFormatter("")
    zone.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    for seconds, hours in ((WINTER, winter), (SUMMER, summer)):
        there = time.strftime(FORM, time.gmtime(seconds + hours * 3600))
        assert formatted(formatter, seconds) == there


def test_without_tz_the_machine_s_own_setting_counts(zone: pytest.MonkeyPatch) -> None:
    zone.delenv("TZ", raising=False)
    time.tzset()
    before = [time.strftime(FORM, time.localtime(seconds)) for seconds in (WINTER, SUMMER)]
    formatter = LineFormatter("")
    zone.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    assert [formatted(formatter, seconds) for seconds in (WINTER, SUMMER)] == before


async def test_a_reloading_parent_and_its_child_have_one_clock(
    start_command: Start, app_file: Path
) -> None:
    far = "import os, time\nos.environ['TZ'] = 'FAR+12'\ntime.tzset()\n"
    app_file.write_text(far + APPLICATION)
    command = await start_command("run", "website:app", "--port", "0", "--reload")
    first = await command.line(r"^(\S+ \S+),\d+ INFO     watching ")
    second = await command.line(r"^(\S+ \S+),\d+ INFO     greenroom \S+ serves ")
    assert await command.stop() == 0
    watches, serves = (datetime.strptime(found[1], FORM) for found in (first, second))
    assert abs((serves - watches).total_seconds()) < 3600


OURS = r"\S+ \S+,\d\d\d WARNING  shop: {}"
ITS = "<shop> {}"


@pytest.mark.parametrize(
    ("configures", "line"),
    [
        pytest.param("", OURS, id="nothing"),
        pytest.param("logging.basicConfig(format='<%(name)s> %(message)s')", ITS, id="basicConfig"),
        pytest.param(DICT_CONFIG.format(""), ITS, id="dictConfig"),
        pytest.param(
            DICT_CONFIG.format('"disable_existing_loggers": False'), ITS, id="dictConfig, keeping"
        ),
    ],
)
async def test_a_record_is_written_once_by_its_own_handler_or_else_in_our_form(
    start_command: Start, app_file: Path, configures: str, line: str
) -> None:
    app_file.write_text(SHOP.format(configures))
    command = await start_command("run", "website:app", "--port", "0")
    await get_tcp(await command.port(), "/rooms")
    await command.line("GET /rooms")  # not silenced by a dictConfig that does not name it
    assert await command.stop() == 0
    for text in ("open", "a customer"):
        (found,) = (each for each in command.output.splitlines() if each.endswith(text))
        assert re.fullmatch(line.format(text), found)
    assert command.output.count("GET /rooms") == 1


async def test_the_least_level_is_that_of_the_option(start_command: Start, app_file: Path) -> None:
    app_file.write_text(SHOP.format(""))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        command = await start_command(
            "run", "website:app", "--fd", fd, "--log-level", "error", pass_fds=[fd]
        )
        await get_tcp(listener.getsockname()[1])
        assert await command.stop() == 0
    assert command.output == ""


@pytest.mark.parametrize(
    ("configured", "line"),
    [
        ("{}", r"\S+ \S+,\d\d\d WARNING  django.request: Not Found: /x/"),
        (
            "{'version': 1, 'handlers': {'console': {'class': 'logging.StreamHandler'}},"
            " 'loggers': {'django': {'handlers': ['console']}}}",
            "Not Found: /x/",
        ),
    ],
)
async def test_django_writes_in_our_form_unless_the_project_configures_it(
    start_command: Start, app_file: Path, configured: str, line: str
) -> None:
    app_file.write_text(PROJECT.format(configured))
    command = await start_command("run", "website:app", "--port", "0")
    head, _ = await get_tcp(await command.port(), "/x/")
    assert " 404 " in head
    await command.line("GET /x/")
    assert await command.stop() == 0
    (found,) = (each for each in command.output.splitlines() if "Not Found" in each)
    assert re.fullmatch(line, found)
    if found[0].isdigit():
        (access,) = (each for each in command.output.splitlines() if "GET /x/" in each)
        theirs, ours = (datetime.fromisoformat(each[:19]) for each in (found, access))
        assert abs(ours - theirs) < timedelta(minutes=30)  # by one clock, not Django's
