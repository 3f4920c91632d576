"""Setting and reading cookies, by Channels and by Greenroom."""

import warnings
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from .campaign import campaign
from .programs import OURS, THEIRS, module
from .test_routing import by_hand

DIFFERENCES: Final = {
    "aware times": "Channels fails for any datetime with a timezone, on the Django of today",
    "whole seconds": "Channels writes Max-Age=1.5, which no browser takes (RFC 6265 section 5.2.2)",
}

keys = st.sampled_from(["k", "session-id", "a b", "", "ü", "k=", "k;", "$Version", "path"])
values = st.sampled_from(["", "v", "a b", 'say "hi"', "ü", "a;b", "a,b", "\n", 5, None, b"b", True])
ages = st.sampled_from([None, None, 0, 5, -1, 3600, 1.5, "7"])
zones = st.sampled_from([None, UTC, timezone(timedelta(hours=5))])
deltas = st.integers(-3, 100_000).map(lambda seconds: timedelta(seconds=seconds, microseconds=1))
times = st.builds(lambda delta, zone: (delta, zone), deltas, zones)
expiries = st.one_of(
    st.none(),
    times,
    st.sampled_from(["", "Thu, 01-Jan-1970 00:00:00 GMT", "soon", 0, 5]),
)
arguments = st.fixed_dictionaries(
    {},
    optional={
        "value": values,
        "max_age": ages,
        "expires": expiries,
        "path": st.sampled_from(["/", "", None, "/a;b", "/ü"]),
        "domain": st.sampled_from([None, "", "a.com", ".a.com"]),
        "secure": st.sampled_from([True, False, None, 1]),
        "httponly": st.sampled_from([True, False, None]),
        "samesite": st.sampled_from([None, "lax", "Strict", "NONE", "", "other"]),
    },
)
messages = st.sampled_from([{}, {"headers": []}, {"headers": [(b"a", b"b")]}])


def make_time(side: str, drawn: Any) -> Any:
    """Make the argument `expires`: on Channels' side naive, where that is all that it can do."""
    if not isinstance(drawn, tuple):
        return drawn
    delta, zone = drawn
    aware = datetime.now(UTC) + delta
    if zone is None or side == THEIRS:  # "aware times"
        return aware.replace(tzinfo=None)
    return aware.astimezone(zone)


def set_cookie(side: str, message: Any, key: str, given: Any) -> Any:
    message = {name: list(value) for name, value in message.items()}
    kwargs = dict(given)
    if "expires" in kwargs:
        kwargs["expires"] = make_time(side, kwargs["expires"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # datetime.utcnow()
            module(side, "sessions").CookieMiddleware.set_cookie(message, key, **kwargs)
    except Exception as error:  # noqa: BLE001
        return type(error).__name__, str(error)
    whole = (b"Max-Age=1.5", b"Max-Age=1")  # "whole seconds"
    return [(name, value.replace(*whole)) for name, value in message["headers"]]


def in_one_second(compare: Any) -> None:
    """Compare twice, if need be: between the two sides the clock may step."""
    for patience in (2, 1, 0):
        try:
            compare()
        except AssertionError:
            if not patience:
                raise
        else:
            return


@campaign(200)
@given(messages, keys, arguments)
def test_set_cookie_writes_what_that_of_channels_writes(message: Any, key: str, given: Any) -> None:
    def compare() -> None:
        assert set_cookie(OURS, message, key, given) == set_cookie(THEIRS, message, key, given)

    in_one_second(compare)


@campaign(30)
@given(
    messages,
    keys,
    st.fixed_dictionaries(
        {},
        optional={"path": st.sampled_from(["/", None]), "domain": st.sampled_from([None, "a.com"])},
    ),
)
def test_delete_cookie_writes_what_that_of_channels_writes(
    message: Any, key: str, given: Any
) -> None:
    def delete(side: str) -> Any:
        written = {name: list(value) for name, value in message.items()}
        try:
            module(side, "sessions").CookieMiddleware.delete_cookie(written, key, **given)
        except Exception as error:  # noqa: BLE001
            return type(error).__name__, str(error)
        return written

    assert delete(OURS) == delete(THEIRS)


cookie_headers = st.lists(
    st.tuples(
        st.sampled_from([b"cookie", b"cookie", b"Cookie", b"x"]),
        st.sampled_from(
            [b"", b"a=b", b"a=b; c=d", b"a=b;a=c", b"a", b"=b", b'a="b c"', b"a=\xfc", b" a = b "]
        ),
    ),
    max_size=3,
)


@campaign(40)
@given(st.fixed_dictionaries({"type": st.just("http")}, optional={"headers": cookie_headers}))
def test_cookies_are_read_as_channels_reads_them(scope: dict[str, Any]) -> None:
    def read(side: str) -> Any:
        async def app(inner: Any, receive: Any, send: Any) -> Any:
            return inner

        try:
            return by_hand(module(side, "sessions").CookieMiddleware(app)(scope, None, None))
        except ValueError as error:
            return str(error)

    assert read(OURS) == read(THEIRS)
