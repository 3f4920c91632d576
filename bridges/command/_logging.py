"""Where the command's log lines go, and how a line of the access log reads.

The loggers are `greenroom` and those below it; `greenroom.access` has a line for each
answered request and for each step of a WebSocket. An application that configures
`greenroom` by itself, as Django's LOGGING can, overrides what is set here, since it is
imported later.

Records of other loggers that no handler takes are written in the same form, and with the
logger's name, where Python would write a bare line. No handler is put in anybody's way for
that: the root logger stays as it is, so that `logging.basicConfig` works.

Times are those of the clock on the wall. Django makes its TIME_ZONE that of the process,
when the application is imported; but these lines stand beside those of `--reload`, whose
process never imports it, and beside those of other programs on the machine.
"""

import logging
import os
import sys
import time
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Final, TypeAlias, final
from urllib.parse import quote
from zoneinfo import ZoneInfo

from ...runtime import Access

LEVELS: Final = ("critical", "error", "warning", "info", "debug")
Level: TypeAlias = str

# What a WebSocket did, in words for its line.
_STEPS: Final = {"accept": "accepted", "reject": "rejected", "close": "closed"}

OURS: Final = "%(asctime)s %(levelname)-8s %(message)s"
OTHERS: Final = "%(asctime)s %(levelname)-8s %(name)s: %(message)s"

LOCAL_TIME: Final = Path("/etc/localtime")

access_logger = logging.getLogger("greenroom.access")


@final
class LineFormatter(logging.Formatter):
    """Makes lines whose times are those of the time zone in which it was made."""

    def __init__(self, form: str) -> None:
        super().__init__(form)
        self._zone = machine_zone()
        self.converter = self._time_of

    def _time_of(self, seconds: float | None) -> time.struct_time:
        return datetime.fromtimestamp(seconds or 0, self._zone).timetuple()


def machine_zone() -> tzinfo | None:
    """Give the time zone of this process, which `time.localtime` forgets when TZ is set anew."""
    name = os.environ.get("TZ")
    try:
        if name is not None:
            return ZoneInfo(name.removeprefix(":"))
        with LOCAL_TIME.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError, LookupError):
        # A zone by its rule, as `EST5EDT,M3.2.0,M11.1.0`, or none at all: the hours that
        # it is ahead by now.
        return datetime.now().astimezone().tzinfo


def configure_logging(level: Level) -> None:
    """Write what `greenroom` logs at `level` or above to standard error."""
    logger = logging.getLogger("greenroom")
    logger.handlers[:] = [_handler(OURS)]
    logger.setLevel(level.upper())
    # An application's root handler would print each line a second time.
    logger.propagate = False
    others = _handler(OTHERS)
    others.setLevel(max(logging.WARNING, logger.level))
    logging.lastResort = others


def _handler(form: str) -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(form))
    return handler


def settle_logging() -> None:
    """Mend, once the application is imported, what it has not meant by its own configuration."""
    if logging.getLogger("greenroom.command").disabled:
        # By `disable_existing_loggers`, which is the default of `dictConfig` and hits every
        # logger that is not named there. The server's errors would be lost with them.
        for name, logger in logging.root.manager.loggerDict.items():
            if name.partition(".")[0] == "greenroom" and isinstance(logger, logging.Logger):
                logger.disabled = False
    others = logging.lastResort
    if others is not None:
        for handler in djangos_own_handlers():
            handler.setFormatter(others.formatter)  # made before, so its zone is the machine's


def djangos_own_handlers() -> list[logging.Handler]:
    """Give Django's console for DEBUG, unless the project's LOGGING configures that logger.

    It has no format of its own.
    """
    conf = sys.modules.get("django.conf")
    if conf is None or not conf.settings.configured:
        return []
    configured = conf.settings.LOGGING
    if not isinstance(configured, dict) or "django" in configured.get("loggers", ()):
        return []
    return [
        handler
        for handler in logging.getLogger("django").handlers
        if handler.name == "console" and handler.formatter is None
    ]


def log_access(access: Access) -> None:
    """Log one line, at `info`; whatever the client chose in it is percent-encoded.

    A WebSocket that is only asked for has none: what became of it follows.
    """
    if access.step != "handshake" and access_logger.isEnabledFor(logging.INFO):
        access_logger.info("%s", access_line(access))


def access_line(access: Access) -> str:
    r"""Give the line of one request, or of one step of a WebSocket.

    A WebSocket's query is left out, since browsers have no better place for a token.

    >>> scope = {"type": "http", "method": "GET", "path": "/\nrooms", "query_string": b"page=2"}
    >>> scope |= {"http_version": "1.1", "client": ("127.0.0.1", 5000)}
    >>> access_line(Access(scope, 200, "response", 0.0123))
    '127.0.0.1:5000 "GET /%0Arooms?page=2 HTTP/1.1" 200 in 12.3 ms'
    >>> scope = {"type": "websocket", "path": "/chat/", "query_string": b"token=secret"}
    >>> access_line(Access(scope, 1001, "close", 61.0))
    'unix "WebSocket /chat/" closed 1001 after 61.0 s'
    """
    scope = access.scope
    client = scope.get("client")
    who = f"{client[0]}:{client[1]}" if client else "unix"
    what = quote(scope["path"])
    if scope["type"] == "http":
        if query := scope.get("query_string"):
            what = f"{what}?{quote(query, safe='=&?/:;+,%@!$*()')}"
        request = f"{scope['method']} {what} HTTP/{scope['http_version']}"
        return f'{who} "{request}" {access.status} in {access.seconds * 1000:.1f} ms'
    step = f"{_STEPS[access.step]} {access.status}"
    after = f" after {access.seconds:.1f} s" if access.step == "close" else ""
    return f'{who} "WebSocket {what}" {step}{after}'
