"""What `runserver` logs of each request and of each step of a WebSocket.

The words, and the details that `log_action` of the command is called with, are those that
users of daphne's `runserver` know.
"""

import logging
from typing import Any, Final

from ...runtime import Access, Scope

CHANNELS_LOGGER: Final = "django.channels.server"

WEBSOCKET_ACTIONS: Final = {
    "handshake": "connecting",
    "accept": "connected",
    "reject": "rejected",
    "close": "disconnected",
}
WORDS: Final = {
    "connecting": "HANDSHAKING",
    "connected": "CONNECT",
    "rejected": "REJECT",
    "disconnected": "DISCONNECT",
}


def access_logger() -> logging.Logger:
    """Give `django.channels.server` if the project's LOGGING says anything of it.

    Otherwise it is `django.server`, which Django's own LOGGING formats and colours. So a
    project that has silenced the one, or sent it to a file, has done so here.
    """
    logger = logging.getLogger(CHANNELS_LOGGER)
    for each in (logger, logging.getLogger("django.channels")):
        if each.level or each.handlers or each.filters or not each.propagate:
            return logger
    return logging.getLogger("django.server")


def action_of(access: Access) -> tuple[str, str, dict[str, Any]]:
    """Give protocol, action and details of what has happened.

    >>> scope = {"type": "http", "method": "GET", "path": "/", "client": ("127.0.0.1", 5)}
    >>> protocol, action, details = action_of(Access(scope, 200, "response", 0.1))
    >>> protocol, action
    ('http', 'complete')
    >>> details["path"], details["client"], details["status"], details["time_taken"]
    ('/', '127.0.0.1:5', 200, 0.1)
    """
    scope = access.scope
    client = scope.get("client")
    details = {
        "path": _target(scope),
        "client": f"{client[0]}:{client[1]}" if client else "-",
        "status": access.status,
        "time_taken": access.seconds,
    }
    if scope["type"] == "websocket":
        return "websocket", WEBSOCKET_ACTIONS[access.step], details
    return "http", "complete", {**details, "method": scope["method"]}


def _target(scope: Scope) -> str:
    """Give the path as the client wrote it, where no line break can hide.

    A WebSocket's query is left out, since browsers have no better place for a token.
    """
    raw_path: bytes | None = scope.get("raw_path")
    path = scope["path"] if raw_path is None else raw_path.decode("latin-1")
    query = scope.get("query_string", b"").decode("latin-1") if scope["type"] == "http" else ""
    return f"{path}?{query}" if query else path


def log_action(protocol: str, action: str, details: dict[str, Any]) -> None:
    """Log one line."""
    status = details["status"]
    level = logging.INFO
    if action == "rejected" or (action == "complete" and status >= 400):
        level = logging.ERROR if action == "complete" and status >= 500 else logging.WARNING
    line = describe(protocol, action, details)
    # By it Django colours the line; a close code is no status.
    extra = {"status_code": 0 if action == "disconnected" else status}
    access_logger().log(level, "%s", line, extra=extra)


def describe(protocol: str, action: str, details: dict[str, Any]) -> str:
    """Say in one line what has happened.

    >>> details = {"path": "/", "client": "127.0.0.1:5", "status": 200, "time_taken": 0.1}
    >>> describe("http", "complete", {**details, "method": "GET"})
    'HTTP GET / 200 [0.10, 127.0.0.1:5]'
    >>> describe("websocket", "connecting", details)
    'WebSocket HANDSHAKING / [127.0.0.1:5]'
    """
    if protocol == "websocket":
        return "WebSocket {} {path} [{client}]".format(WORDS[action], **details)
    return "HTTP {method} {path} {status} [{time_taken:.2f}, {client}]".format(**details)
