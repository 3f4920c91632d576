"""The options of `greenroom run`, and what the runtime gets for them.

Names and defaults are those that uvicorn's users type, where a meaning is the same; the
defaults themselves stand in `ServerConfig` and nowhere else.
"""

import ssl
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import click

from ...runtime import RequestLimits, ServerConfig, WebSocketLimits
from ...runtime._forwarded import FORWARDED_HEADERS, LOCAL_PROXIES
from ...runtime.listeners import BACKLOG
from ...runtime.reloading import Handover, Watch
from ..threads import default_pool
from ._logging import LEVELS, log_access

DEFAULTS: Final = ServerConfig()
# While reloading, somebody waits for the restart: open requests get less time to end.
RELOAD_GRACEFUL_TIMEOUT: Final = 3.0

Command = TypeVar("Command", bound=Callable[..., object])
Given: TypeAlias = dict[str, Any]

_SECONDS: Final = click.FloatRange(min=0)
_COUNT: Final = click.IntRange(min=1)
_FOLDER: Final = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


def _handover(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> Handover | None:
    try:
        return None if value is None else Handover.parse(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not of the form LIFELINE:FD,FD") from None


_OPTIONS: Final = (
    # Where to listen.
    click.option("--host", help="Name or address to listen on.  [default: 127.0.0.1]"),
    click.option(
        "--port",
        type=click.IntRange(0, 65535),
        help="Port to listen on, 0 for any that is free.  [default: 8000]",
    ),
    click.option("--uds", metavar="PATH", help="Listen on a Unix socket."),
    click.option(
        "--fd",
        multiple=True,
        type=click.IntRange(min=0),
        help="Adopt a listening socket by its file descriptor.",
    ),
    click.option(
        "--backlog",
        type=_COUNT,
        default=BACKLOG,
        show_default=True,
        help="Connections that may wait to be accepted.",
    ),
    click.option("--ssl-certfile", type=_FILE, help="Serve TLS with this certificate chain."),
    click.option("--ssl-keyfile", type=_FILE, help="Its key, if it is in a file of its own."),
    # Which application.
    click.option("--factory", is_flag=True, help="APP is a function that makes the application."),
    click.option(
        "--app-dir",
        type=_FOLDER,
        default=".",
        show_default=True,
        help="Folder to import the application from.",
    ),
    click.option(
        "--root-path", default=DEFAULTS.root_path, help="Path that a proxy mounts APP under."
    ),
    click.option(
        "--proxy-headers/--no-proxy-headers",
        default=None,
        help="Take the client's address and scheme from headers of a trusted proxy."
        "  [default: no, unless proxies are named]",
    ),
    click.option(
        "--forwarded-allow-ips",
        metavar="LIST",
        envvar="FORWARDED_ALLOW_IPS",
        help="Proxies that are trusted: addresses, networks, unix, * for every peer."
        f"  [default: $FORWARDED_ALLOW_IPS or {LOCAL_PROXIES}]",
    ),
    click.option(
        "--forwarded-header",
        type=click.Choice(FORWARDED_HEADERS),
        help=f"The header they write.  [default: {DEFAULTS.forwarded_header}]",
    ),
    click.option(
        "--lifespan",
        type=click.Choice(["auto", "on", "off"]),
        default=DEFAULTS.lifespan,
        show_default=True,
        help="Whether APP is told of start and stop.",
    ),
    # Development.
    click.option("--reload", is_flag=True, help="Restart when a file changes."),
    click.option(
        "--reload-dir", multiple=True, type=_FOLDER, help="Folder to watch, instead of --app-dir."
    ),
    click.option(
        "--reload-include", multiple=True, metavar="PATTERN", help="Watch such files beside *.py."
    ),
    click.option(
        "--reload-exclude", multiple=True, metavar="PATTERN", help="Don't watch such files."
    ),
    # Logs.
    click.option(
        "--log-level",
        type=click.Choice(LEVELS),
        default="info",
        show_default=True,
        help="Least level that is logged.",
    ),
    click.option(
        "--access-log/--no-access-log", default=True, help="Log requests.  [default: yes]"
    ),
    # Limits and timeouts.
    click.option(
        "--timeout-keep-alive",
        type=_SECONDS,
        default=DEFAULTS.keep_alive_timeout,
        show_default=True,
        help="Seconds until an idle connection is closed.",
    ),
    click.option(
        "--timeout-request-head",
        type=_SECONDS,
        default=DEFAULTS.head_timeout,
        show_default=True,
        help="Seconds that a request's head may take to arrive.",
    ),
    click.option(
        "--timeout-write",
        type=_SECONDS,
        default=DEFAULTS.write_timeout,
        show_default=True,
        help="Seconds until a client that reads nothing is dropped.",
    ),
    click.option(
        "--timeout-request",
        type=click.FloatRange(min=0, min_open=True),
        help="Seconds that an answer may take; longer gets 503, or is cut off.",
    ),
    click.option(
        "--timeout-graceful-shutdown",
        type=_SECONDS,
        help=f"Seconds that a stop takes at most.  [default: {DEFAULTS.graceful_timeout:g};"
        f" {RELOAD_GRACEFUL_TIMEOUT:g} with --reload]",
    ),
    click.option(
        "--limit-head-size",
        type=_COUNT,
        default=DEFAULTS.request_limits.max_head_size,
        show_default=True,
        help="Bytes of a request's head; more gets 431, a too long URL 414.",
    ),
    click.option(
        "--limit-headers",
        type=_COUNT,
        default=DEFAULTS.request_limits.max_headers,
        show_default=True,
        help="Headers of a request; more gets 431.",
    ),
    click.option(
        "--ws-max-size",
        type=_COUNT,
        default=DEFAULTS.websocket_limits.max_message_size,
        show_default=True,
        help="Bytes of a WebSocket message; more closes with 1009.",
    ),
    click.option(
        "--ws-max-frame-size",
        type=_COUNT,
        help="Bytes of a WebSocket frame; more closes with 1009.",
    ),
    click.option(
        "--ws-ping-interval",
        type=_SECONDS,
        default=DEFAULTS.websocket_ping_interval,
        show_default=True,
        help="Seconds of silence until a WebSocket is pinged, 0 for never.",
    ),
    click.option(
        "--ws-ping-timeout",
        type=_SECONDS,
        default=DEFAULTS.websocket_ping_timeout,
        show_default=True,
        help="Seconds that the answer may take.",
    ),
    click.option(
        "--ws-connect-timeout",
        type=_SECONDS,
        default=DEFAULTS.websocket_connect_timeout,
        show_default=True,
        help="Seconds that APP may take to accept a WebSocket.",
    ),
    click.option(
        "--application-close-timeout",
        type=_SECONDS,
        default=DEFAULTS.application_close_timeout,
        show_default=True,
        help="Seconds until APP is cancelled that goes on after its WebSocket, 0 for never.",
    ),
    click.option(
        "--ws-per-message-deflate/--no-ws-per-message-deflate",
        default=DEFAULTS.websocket_limits.per_message_deflate,
        help="Compress messages if the client can.  [default: yes]",
    ),
    # Headers that every response has.
    click.option(
        "--server-header/--no-server-header", default=True, help="Send `server`.  [default: yes]"
    ),
    click.option(
        "--date-header/--no-date-header", default=True, help="Send `date`.  [default: yes]"
    ),
    # Set by `--reload` for the process that it starts.
    click.option("--handover", callback=_handover, hidden=True),
)


def with_options(command: Command) -> Command:
    """Give `command` every option of `greenroom run`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_usage(given: Given) -> None:
    """Refuse options that make no sense together.

    Raises:
        click.UsageError: one of them needs another that is missing, or the environment
            asks for an impossible number of threads.
    """
    for name in ("reload_dir", "reload_include", "reload_exclude"):
        if given[name] and not given["reload"]:
            raise click.UsageError(f"--{name.replace('_', '-')} needs --reload")
    if given["forwarded_header"] and not trusted_proxies(given):
        raise click.UsageError("--forwarded-header needs --proxy-headers")
    if given["ssl_keyfile"] and not given["ssl_certfile"]:
        raise click.UsageError("--ssl-keyfile needs --ssl-certfile")
    if len(set(given["fd"])) < len(given["fd"]):
        raise click.UsageError("--fd names the same descriptor twice")
    try:
        default_pool()
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def trusted_proxies(given: Given) -> Collection[str]:
    """Give the proxies to trust: with none named, and no word that there are any, none."""
    named: str | None = given["forwarded_allow_ips"]
    match given["proxy_headers"], named:
        case (False, _) | (None, None):
            return DEFAULTS.forwarded_allow_ips
        case _, None:
            return LOCAL_PROXIES
        case _:
            return named


def graceful_timeout(given: Given) -> float:
    """Give the seconds that a stop may take, which depends on `--reload`."""
    seconds: float | None = given["timeout_graceful_shutdown"]
    if seconds is not None:
        return seconds
    return RELOAD_GRACEFUL_TIMEOUT if given["reload"] else DEFAULTS.graceful_timeout


def server_config(given: Given) -> ServerConfig:
    """Make the server's configuration.

    Raises:
        click.UsageError: a value is out of its bounds.
    """
    try:
        return ServerConfig(
            root_path=given["root_path"],
            forwarded_allow_ips=trusted_proxies(given),
            forwarded_header=given["forwarded_header"] or DEFAULTS.forwarded_header,
            lifespan=given["lifespan"],
            keep_alive_timeout=given["timeout_keep_alive"],
            head_timeout=given["timeout_request_head"],
            write_timeout=given["timeout_write"],
            request_timeout=given["timeout_request"],
            graceful_timeout=graceful_timeout(given),
            websocket_ping_interval=given["ws_ping_interval"] or None,
            websocket_ping_timeout=given["ws_ping_timeout"],
            websocket_connect_timeout=given["ws_connect_timeout"],
            application_close_timeout=given["application_close_timeout"] or None,
            request_limits=RequestLimits(
                max_head_size=given["limit_head_size"],
                max_headers=given["limit_headers"],
                max_request_line=request_line_limit(given["limit_head_size"]),
            ),
            websocket_limits=WebSocketLimits(
                max_message_size=given["ws_max_size"],
                max_frame_size=given["ws_max_frame_size"],
                per_message_deflate=given["ws_per_message_deflate"],
            ),
            server_header=DEFAULTS.server_header if given["server_header"] else None,
            date_header=given["date_header"],
            on_access=log_access if given["access_log"] else None,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def request_line_limit(head_size: int) -> int:
    """Give the bytes that a request's first line may have, which is most of it in a long URL."""
    return max(DEFAULTS.request_limits.max_request_line, head_size // 4)


def ssl_context(given: Given) -> ssl.SSLContext | None:
    """Load the certificate, if one is given.

    Raises:
        click.UsageError: it can't be read, or the key does not belong to it.
    """
    if given["ssl_certfile"] is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    chain: Path = given["ssl_certfile"]
    key: Path | None = given["ssl_keyfile"]
    try:
        context.load_cert_chain(chain, key)
    except OSError as error:  # ssl.SSLError is one
        raise click.UsageError(_why_no_tls(error, chain, key)) from error
    return context


def _why_no_tls(error: OSError, chain: Path, key: Path | None) -> str:
    """Say what OpenSSL did not like, of which it has but a code of its own."""
    certificate, private = b"-----BEGIN CERTIFICATE-----", b"PRIVATE KEY-----"
    if certificate not in chain.read_bytes():
        return f"--ssl-certfile: {chain} has no certificate in it, in PEM's form"
    if key is None and private not in chain.read_bytes():
        return f"--ssl-certfile: {chain} has no key in it; name its file with --ssl-keyfile"
    if key is not None and private not in key.read_bytes():
        return f"--ssl-keyfile: {key} has no key in it, in PEM's form"
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return f"--ssl-keyfile: the key in {key or chain} is not that of the certificate in {chain}"
    return f"--ssl-certfile: {error}"


def watched_files(given: Given) -> Watch:
    """Tell which files `--reload` watches."""
    folders = given["reload_dir"] or (given["app_dir"],)
    return Watch(
        folders=tuple(folder.resolve() for folder in folders),
        include=("*.py", *given["reload_include"]),
        exclude=given["reload_exclude"],
    )
