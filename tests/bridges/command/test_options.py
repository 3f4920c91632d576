"""What the options of `greenroom run` mean for the server."""

import re
from pathlib import Path
from typing import Any

import click
import pytest
import trustme

from greenroom.bridges.command._options import (
    graceful_timeout,
    server_config,
    ssl_context,
    watched_files,
)
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


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate, its key, another key, both in one file, and an empty file."""
    folder = tmp_path_factory.mktemp("keys")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    authority.issue_cert("localhost").private_key_pem.write_to_path(folder / "other.pem")
    (folder / "empty.pem").touch()
    garbled = (folder / "key.pem").read_bytes().replace(b"\n", b"", 3)
    (folder / "garbled.pem").write_bytes(garbled)
    return folder


@pytest.mark.parametrize(
    ("certificate", "key", "why"),
    [
        ("both.pem", None, None),
        ("cert.pem", "key.pem", None),
        ("empty.pem", None, "--ssl-certfile: {}/empty.pem has no certificate in it"),
        ("key.pem", "key.pem", "--ssl-certfile: {}/key.pem has no certificate in it"),
        ("cert.pem", None, "{}/cert.pem has no key in it; name its file with --ssl-keyfile"),
        ("cert.pem", "cert.pem", "--ssl-keyfile: {}/cert.pem has no key in it"),
        ("cert.pem", "other.pem", "the key in {0}/other.pem is not that of the certificate in {0}"),
        ("cert.pem", "garbled.pem", "--ssl-certfile: "),
    ],
)
def test_what_is_wrong_with_a_certificate_is_said_in_words(
    keys: Path, certificate: str, key: str | None, why: str | None
) -> None:
    arguments = [f"--ssl-certfile={keys / certificate}"]
    arguments += [f"--ssl-keyfile={keys / key}"] if key else []
    if why is None:
        assert ssl_context(given(*arguments)) is not None
    else:
        with pytest.raises(click.UsageError, match=re.escape(why.format(keys))):
            ssl_context(given(*arguments))


def test_a_reloaded_server_gives_open_requests_less_time() -> None:
    assert graceful_timeout(given()) == ServerConfig().graceful_timeout
    assert graceful_timeout(given("--reload")) == 3
    assert graceful_timeout(given("--reload", "--timeout-graceful-shutdown", "40")) == 40


def test_the_application_s_folder_is_watched_unless_others_are_named(tmp_path: Path) -> None:
    assert watched_files(given("--reload")).folders == (Path.cwd(),)
    assert watched_files(given("--app-dir", str(tmp_path))).folders == (tmp_path,)
    assert watched_files(given("--reload-dir", str(tmp_path))).folders == (tmp_path,)
    assert watched_files(given("--reload-include", "*.html")).include == ("*.py", "*.html")
