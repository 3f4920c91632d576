"""What `runserver` logs of requests and WebSockets, and by which logger."""

import logging
from collections.abc import Iterator

import pytest

from greenroom.bridges.django._access_log import access_logger, action_of, log_action
from greenroom.bridges.django.management.commands.runserver import Command
from greenroom.runtime import Access

CHANNELS, DJANGO = "django.channels.server", "django.server"


@pytest.fixture(autouse=True)
def loggers_of_nobody() -> Iterator[None]:
    """Each test finds loggers as Django's own LOGGING leaves them."""
    yield
    for name in (CHANNELS, "django.channels"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
        logger.handlers.clear()
        logger.filters.clear()


@pytest.fixture
def lines() -> Iterator[list[logging.LogRecord]]:
    """What the logger `django.server` logs, whose records no root handler sees."""
    records: list[logging.LogRecord] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Keeping()
    logger = logging.getLogger(DJANGO)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield records
    logger.removeHandler(handler)


def access(step: str, status: int) -> Access:
    scope = {
        "type": "http" if step == "response" else "websocket",
        "method": "GET",
        "path": "/a\nb",
        "raw_path": b"/a%0Ab",
        "query_string": b"q",
        "client": ("::1", 5),
    }
    return Access(scope, status, step, 0.25)


@pytest.mark.parametrize(
    ("step", "status", "level", "line"),
    [
        ("response", 200, "INFO", "HTTP GET /a%0Ab?q 200 [0.25, ::1:5]"),
        ("response", 404, "WARNING", "HTTP GET /a%0Ab?q 404 [0.25, ::1:5]"),
        ("response", 500, "ERROR", "HTTP GET /a%0Ab?q 500 [0.25, ::1:5]"),
        ("handshake", 0, "INFO", "WebSocket HANDSHAKING /a%0Ab [::1:5]"),
        ("accept", 101, "INFO", "WebSocket CONNECT /a%0Ab [::1:5]"),
        ("reject", 403, "WARNING", "WebSocket REJECT /a%0Ab [::1:5]"),
        ("close", 1006, "INFO", "WebSocket DISCONNECT /a%0Ab [::1:5]"),
    ],
)
def test_a_line_says_what_happened_and_its_level_how_it_went(
    step: str, status: int, level: str, line: str, lines: list[logging.LogRecord]
) -> None:
    log_action(*action_of(access(step, status)))
    assert [(record.levelname, record.getMessage()) for record in lines] == [(level, line)]


def test_a_close_code_is_no_status_that_django_would_print_in_red(
    lines: list[logging.LogRecord],
) -> None:
    log_action(*action_of(access("close", 1000)))
    log_action(*action_of(access("response", 404)))
    assert [record.status_code for record in lines] == [0, 404]  # type: ignore[attr-defined]


def test_lines_are_djangos_where_a_project_says_nothing_of_channels() -> None:
    logging.getLogger(CHANNELS)  # it exists, since daphne is imported somewhere
    assert access_logger().name == DJANGO


@pytest.mark.parametrize("name", [CHANNELS, "django.channels"])
@pytest.mark.parametrize("said", ["level", "handler", "filter", "propagate"])
def test_lines_are_those_of_channels_where_a_project_says_anything_of_it(
    name: str, said: str
) -> None:
    logger = logging.getLogger(name)
    match said:
        case "level":
            logger.setLevel(logging.ERROR)
        case "handler":
            logger.addHandler(logging.NullHandler())
        case "filter":
            logger.addFilter(lambda _record: True)
        case "propagate":
            logger.propagate = False
    assert access_logger().name == CHANNELS


def test_a_project_may_log_in_its_own_way_and_fail_in_it(
    lines: list[logging.LogRecord],
) -> None:
    class Mine(Command):
        def log_action(self, protocol: str, action: str, details: dict[str, object]) -> None:
            told.append((protocol, action, details["path"]))
            if details["status"] == 404:
                raise KeyError("size")
            super().log_action(protocol, action, details)

    told: list[tuple[str, str, object]] = []
    command = Mine()
    for step, status in (("response", 404), ("response", 200), ("handshake", 0)):
        command._log_access(access(step, status))
    assert told == [
        ("http", "complete", "/a%0Ab?q"),
        ("http", "complete", "/a%0Ab?q"),
        ("websocket", "connecting", "/a%0Ab"),
    ]
    assert [(record.levelname, record.exc_info is not None) for record in lines] == [
        ("ERROR", True),
        ("INFO", False),
        ("INFO", False),
    ]
