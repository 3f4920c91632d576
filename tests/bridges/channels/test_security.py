"""Tests of which pages may open a WebSocket."""

from typing import Any
from urllib.parse import urlparse

import pytest
from django.test import override_settings
from tests.bridges.channels.serving import exchange, exchange_in_trio

from greenroom.bridges.channels.security.websocket import (
    AllowedHostsOriginValidator,
    OriginValidator,
)

# Pattern, origin, and whether Channels 4.3.2 lets it in; observed.
OBSERVED = [
    ("*", "http://a.com", True),
    ("*", None, True),
    ("*", "null", True),
    ("a.com", "http://a.com", True),
    ("a.com", "https://a.com:8000", True),
    ("a.com", "http://A.COM", True),
    ("A.com", "http://a.com", True),
    ("a.com", "http://sub.a.com", False),
    ("a.com", "http://b.com", False),
    ("a.com", None, False),
    ("a.com", "null", False),
    ("a.com", "", False),
    ("a.com", "file:///x", False),
    (".a.com", "http://a.com", True),
    (".a.com", "https://sub.a.com:8000", True),
    (".a.com", "http://nota.com", False),
    ("a.com:8000", "http://a.com:8000", False),
    ("*.a.com", "http://sub.a.com", False),
    ("http://*", "http://a.com", False),
    ("http://a.com", "http://a.com", True),
    ("http://a.com", "http://a.com:80", True),
    ("http://a.com", "https://a.com", False),
    ("http://a.com", "http://a.com:8000", False),
    ("http://a.com:8000", "http://a.com:8000", True),
    ("https://.a.com", "https://sub.a.com", True),
    ("https://.a.com", "https://sub.a.com:443", True),
    ("http://a.com/path", "http://a.com", True),
    ("ws://a.com:80", "ws://a.com", True),
    ("[::1]", "http://[::1]:8000", True),
    ("http://[::1]:8000", "http://[::1]:8000", True),
    ("127.0.0.1", "http://127.0.0.1:8000", True),
    ("null", "null", False),
]


@pytest.mark.parametrize(("pattern", "origin", "allowed"), OBSERVED)
def test_pattern_lets_in_whom_channels_lets_in(
    pattern: str, origin: str | None, allowed: bool
) -> None:
    parsed = None if origin is None else urlparse(origin)
    assert OriginValidator(inner, [pattern]).valid_origin(parsed) is allowed


async def inner(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "let in"})


def connect(validator: Any, *origins: bytes) -> list[dict[str, Any]]:
    headers = [(b"host", b"a.com"), *((b"origin", origin) for origin in origins)]
    return exchange(
        validator,
        {"type": "websocket", "path": "/", "headers": headers},
        {"type": "websocket.connect"},
        {"type": "websocket.disconnect", "code": 1006},
    )


def test_good_origin_passes_and_a_bad_one_is_closed_before_it_is_accepted() -> None:
    validator = OriginValidator(inner, ["a.com"])
    assert connect(validator, b"http://a.com") == [{"type": "let in"}]
    assert connect(validator, b"http://b.com") == [{"type": "websocket.close"}]
    assert connect(validator) == [{"type": "websocket.close"}]


def test_last_origin_counts() -> None:
    validator = OriginValidator(inner, ["a.com"])
    assert connect(validator, b"http://a.com", b"http://b.com") == [{"type": "websocket.close"}]


@pytest.mark.parametrize(
    "origin", [b"http://[", b"http://a.com:99999", b"http://a.com:x", b"\xff\xfe", b"http://[a"]
)
@pytest.mark.parametrize("pattern", ["http://a.com", "http://a.com:x", "[", "http://["])
def test_broken_origin_is_refused_without_an_error(pattern: str, origin: bytes) -> None:
    assert connect(OriginValidator(inner, [pattern]), origin) == [{"type": "websocket.close"}]


def test_only_websockets_are_checked() -> None:
    with pytest.raises(ValueError, match="on a non-WebSocket connection"):
        exchange(OriginValidator(inner, ["*"]), {"type": "http", "headers": []})


async def test_refusal_needs_no_asyncio_and_no_layer() -> None:
    scope = {"type": "websocket", "path": "/", "headers": []}
    gone = {"type": "websocket.disconnect", "code": 1006}
    validator = OriginValidator(inner, ["a.com"])
    answers = await exchange_in_trio(validator, scope, {"type": "websocket.connect"}, gone)
    assert answers == [{"type": "websocket.close"}]


def test_allowed_hosts_are_the_settings() -> None:
    with override_settings(ALLOWED_HOSTS=["a.com"], DEBUG=True):
        assert AllowedHostsOriginValidator(inner).allowed_origins == ["a.com"]
    with override_settings(ALLOWED_HOSTS=[], DEBUG=True):
        validator = AllowedHostsOriginValidator(inner)
    assert validator.allowed_origins == ["localhost", "127.0.0.1", "[::1]"]
    with override_settings(ALLOWED_HOSTS=[], DEBUG=False):
        assert connect(AllowedHostsOriginValidator(inner), b"http://localhost") == [
            {"type": "websocket.close"}
        ]
