"""What the options of `greenroom run` mean for the server."""

from pathlib import Path
from typing import Any

import click
import pytest

from greenroom.bridges.command._options import graceful_timeout, server_config, watched_files
from greenroom.bridges.command._run import run
from greenroom.runtime import RequestLimits, ServerConfig, WebSocketLimits


def given(*arguments: str) -> dict[str, Any]:
    return run.make_context("run", ["site:app", *arguments]).params


def test_without_options_the_server_has_its_own_defaults_and_an_access_log() -> None:
    assert server_config(given("--no-access-log")) == ServerConfig()
    assert server_config(given()).on_access is not None


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (["--root-path", "/site"], {"root_path": "/site"}),
        (["--lifespan", "off"], {"lifespan": "off"}),
        (["--timeout-keep-alive", "75"], {"keep_alive_timeout": 75}),
        (["--timeout-request-head", "3"], {"head_timeout": 3}),
        (["--timeout-request", "4.5"], {"request_timeout": 4.5}),
        (["--timeout-graceful-shutdown", "9"], {"graceful_timeout": 9}),
        (["--ws-ping-interval", "7.5"], {"websocket_ping_interval": 7.5}),
        (["--ws-ping-interval", "0"], {"websocket_ping_interval": None}),
        (["--ws-ping-timeout", "8"], {"websocket_ping_timeout": 8}),
        (["--application-close-timeout", "9"], {"application_close_timeout": 9}),
        (["--application-close-timeout", "0"], {"application_close_timeout": None}),
        (["--limit-head-size", "999"], {"request_limits": RequestLimits(max_head_size=999)}),
        (["--limit-headers", "7"], {"request_limits": RequestLimits(max_headers=7)}),
        (["--ws-max-size", "99"], {"websocket_limits": WebSocketLimits(max_message_size=99)}),
        (["--ws-max-frame-size", "9"], {"websocket_limits": WebSocketLimits(max_frame_size=9)}),
        (
            ["--no-ws-per-message-deflate"],
            {"websocket_limits": WebSocketLimits(per_message_deflate=False)},
        ),
        (["--no-server-header"], {"server_header": None}),
        (["--no-date-header"], {"date_header": False}),
    ],
)
def test_an_option_sets_one_thing(arguments: list[str], settings: dict[str, Any]) -> None:
    assert server_config(given("--no-access-log", *arguments)) == ServerConfig(**settings)


def test_a_value_that_the_server_refuses_is_a_mistake_of_the_command_line() -> None:
    with pytest.raises(click.UsageError, match="root_path is 'site'"):
        server_config(given("--root-path", "site"))


def test_a_reloaded_server_gives_open_requests_less_time() -> None:
    assert graceful_timeout(given()) == ServerConfig().graceful_timeout
    assert graceful_timeout(given("--reload")) == 3
    assert graceful_timeout(given("--reload", "--timeout-graceful-shutdown", "40")) == 40


def test_the_application_s_folder_is_watched_unless_others_are_named(tmp_path: Path) -> None:
    assert watched_files(given("--reload")).folders == (Path.cwd(),)
    assert watched_files(given("--app-dir", str(tmp_path))).folders == (tmp_path,)
    assert watched_files(given("--reload-dir", str(tmp_path))).folders == (tmp_path,)
    assert watched_files(given("--reload-include", "*.html")).include == ("*.py", "*.html")
