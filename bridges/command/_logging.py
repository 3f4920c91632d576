"""Where the command's log lines go, and how a line of the access log reads.

The loggers are `greenroom` and those below it; `greenroom.access` has a line for each
answered request and for each step of a WebSocket. An application that configures
`greenroom` by itself, as Django's LOGGING can, overrides what is set here, since it is
imported later.
"""

import logging
from typing import Final, TypeAlias
from urllib.parse import quote

from ...runtime import Access

LEVELS: Final = ("critical", "error", "warning", "info", "debug")
Level: TypeAlias = str

# What a WebSocket did, in words for its line.
_STEPS: Final = {"accept": "accepted", "reject": "rejected", "close": "closed"}

access_logger = logging.getLogger("greenroom.access")


def configure_logging(level: Level) -> None:
    """Write what `greenroom` logs at `level` or above to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-8s %(message)s"))
    logger = logging.getLogger("greenroom")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    # An application's root handler would print each line a second time.
    logger.propagate = False


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
