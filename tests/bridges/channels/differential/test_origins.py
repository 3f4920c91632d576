"""Origins against patterns: who may connect, for Channels and for Greenroom."""

import asyncio
from itertools import product
from typing import Any, Final
from unittest import mock
from urllib.parse import urlparse

import channels.security.websocket
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from .campaign import campaign
from .programs import OURS, THEIRS, module

DIFFERENCES: Final = {
    "no URL is no origin": (
        "what is no URL, such as a port that is no number, is an error in Channels, for each "
        "connection; it matches nothing"
    ),
}


class Amended(channels.security.websocket.OriginValidator):  # type: ignore[misc]
    """Channels' validator, for which what is no URL matches nothing."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        headers = [(name, _parsable(value)) for name, value in scope["headers"]]
        return await super().__call__({**scope, "headers": headers}, receive, send)

    def match_allowed_origin(self, parsed_origin: Any, pattern: str) -> bool:
        try:
            matches: bool = super().match_allowed_origin(parsed_origin, pattern)
        except ValueError:
            return False
        return matches


def _parsable(value: bytes) -> bytes:
    try:
        urlparse(value.decode("latin1"))
    except ValueError:
        return b"null"
    return value


schemes = st.sampled_from(["http://", "https://", "ws://", "wss://", "x-y://", "//", "", "HTTP://"])
hosts = st.sampled_from(
    ["a.com", "b.a.com", ".a.com", "ba.com", "A.com", "localhost", "127.0.0.1", "[::1]", "[::", "",
     "*"]
)  # fmt: skip
ports = st.sampled_from(["", "", "", ":80", ":443", ":8000", ":", ":x", ":99999", ":0"])
ends = st.sampled_from(["", "", "", "/", "/p", "?q", "#f", "@c.com", " "])
origins = st.builds("{}{}{}{}".format, schemes, hosts, ports, ends)
patterns = st.one_of(origins, st.builds("{}{}{}".format, schemes, hosts, ports), st.just("*"))
headers = st.lists(
    st.tuples(
        st.sampled_from([b"origin", b"origin", b"origin", b"Origin", b"host"]),
        st.one_of(
            origins.map(lambda text: text.encode()),
            st.sampled_from([b"null", b"", b"\xff\x00", "http://ü.com".encode(), b"a\nb"]),
        ),
    ),
    max_size=2,
)


def connect(side: str, make: Any, scope: dict[str, Any]) -> Any:
    """Give what becomes of a connection through a validator."""
    events = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006}]
    sent: list[Any] = []

    async def receive() -> Any:
        return events.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> str:
        return "passed"

    async def main() -> Any:
        return await make(module(side, "security.websocket"), app)(dict(scope), receive, send)

    try:
        with mock.patch("channels.security.websocket.OriginValidator", Amended):
            result: Any = asyncio.run(main())
    except Exception as error:  # noqa: BLE001
        return type(error).__name__, str(error), sent
    return result, sent


def test_each_origin_matches_the_patterns_that_it_matches_in_channels() -> None:
    parts = (
        ("http://", "https://", "wss://", "x-y://", "//", ""),
        ("a.com", "b.a.com", ".a.com", "[::1]", ""),
        ("", ":80", ":443", ":8000", ":x"),
    )
    texts = ["".join(part) for part in product(*parts)] + ["*", "null", "http://A.com/p"]
    ours = module(OURS, "security.websocket").OriginValidator
    for pattern in texts:
        mine, theirs = ours(None, [pattern]), Amended(None, [pattern])
        for text in texts:
            origin = urlparse(text)
            assert mine.valid_origin(origin) == theirs.valid_origin(origin), (text, pattern)


kinds = st.sampled_from([*["websocket"] * 9, "http"])


@campaign(150)
@given(kinds, headers, st.lists(patterns, max_size=3))
def test_origin_validator_lets_those_connect_that_that_of_channels_does(
    kind: str, headers: list[tuple[bytes, bytes]], allowed: list[str]
) -> None:
    scope = {"type": kind, "path": "/", "headers": headers}

    def make(security: Any, app: Any) -> Any:
        return security.OriginValidator(app, allowed)

    assert connect(OURS, make, scope) == connect(THEIRS, make, scope)


@campaign(40)
@given(headers, st.lists(hosts, max_size=2), st.booleans())
def test_allowed_hosts_are_those_of_channels(
    headers: list[tuple[bytes, bytes]], allowed: list[str], debug: bool
) -> None:
    scope = {"type": "websocket", "path": "/", "headers": headers}

    def make(security: Any, app: Any) -> Any:
        return security.AllowedHostsOriginValidator(app)

    with override_settings(ALLOWED_HOSTS=allowed, DEBUG=debug):
        assert connect(OURS, make, scope) == connect(THEIRS, make, scope)
