"""Tests of the system checks of channel layers and of what is listed beside the bridge."""

from typing import Any

import pytest
from django.apps import apps
from django.core import mail
from django.core.checks import CheckMessage
from django.test import override_settings
from hypothesis import example, given, settings
from hypothesis import strategies as st

from greenroom.bridges.channels import _checks
from greenroom.bridges.channels.layers import InMemoryChannelLayer

OWN = "greenroom.bridges.channels"
MEMORY = f"{OWN}.layers.InMemoryChannelLayer"
DEFAULT = "CHANNEL_LAYERS['default']"  # as messages name it
REDIS = "channels_redis.core.RedisChannelLayer"
PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"


class Mine(InMemoryChannelLayer):
    """A user's layer; in memory as well."""


class Anything:
    """A backend that takes what comes."""

    made = 0

    def __init__(self, **config: object) -> None:
        Anything.made += 1


not_a_class = 5


@pytest.fixture(autouse=True)
def _no_outbox(monkeypatch: pytest.MonkeyPatch) -> None:
    # What Django's test runner has set up would look like a test run.
    monkeypatch.delattr(mail, "outbox", raising=False)


def found(layers: Any, *, debug: bool = True, **changes: Any) -> list[CheckMessage]:
    with override_settings(CHANNEL_LAYERS=layers, DEBUG=debug, **changes):
        return [message for check in _checks.ALL for message in check(app_configs=None)]


def ids(layers: Any, **changes: Any) -> list[str | None]:
    return [message.id for message in found(layers, **changes)]


@pytest.mark.parametrize(
    "layers",
    [
        None,
        {},
        {"default": {"BACKEND": MEMORY}},
        {"default": {"BACKEND": MEMORY, "CONFIG": {"capacity": 5}}, "b": {"BACKEND": MEMORY}},
        {"default": {"BACKEND": f"{__name__}.Anything", "CONFIG": {"hosts": [1]}}},
        {"default": {"BACKEND": MEMORY, "CONFIG": {}, "TEST_CONFIG": {"capacity": 1}}},
    ],
)
def test_good_settings_find_nothing(layers: Any) -> None:
    assert found(layers) == []


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([], "CHANNEL_LAYERS is a list, not a dict of alias to layer."),
        ("redis://", "CHANNEL_LAYERS is a str, not a dict of alias to layer."),
        ({"default": MEMORY}, f"{DEFAULT} is a str, not a dict."),
        (
            {"BACKEND": MEMORY},  # the alias was forgotten
            "CHANNEL_LAYERS['BACKEND'] is a str, not a dict.",
        ),
        (
            {"default": {}},
            "CHANNEL_LAYERS['default'] has no 'BACKEND', the dotted path of a class.",
        ),
        (
            {"default": {"BACKEND": Mine}},
            "CHANNEL_LAYERS['default'] has no 'BACKEND', the dotted path of a class.",
        ),
        (
            {"default": {"BACKEND": MEMORY, "ROUTING": "x.y"}},
            f"{DEFAULT} has a 'ROUTING', which layers no longer have.",
        ),
        (
            {"default": {"BACKEND": MEMORY, "CONFIG": ["hosts"]}},
            f"{DEFAULT} has a 'CONFIG' that is not a dict of keyword arguments.",
        ),
        (
            {"default": {"BACKEND": MEMORY, "TEST_CONFIG": {5: 5}}},
            f"{DEFAULT} has a 'TEST_CONFIG' that is not a dict of keyword arguments.",
        ),
    ],
)
def test_setting_of_another_form_is_an_error_with_an_example(layers: Any, words: str) -> None:
    (message,) = found(layers)
    assert (message.id, message.msg, message.level) == ("greenroom.E010", words, 40)
    assert MEMORY in (message.hint or "")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no.such.Layer", "cannot be imported: ModuleNotFoundError: No module named 'no'"),
        ("layer", "cannot be imported: ImportError: layer doesn't look like a module path"),
        (f"{OWN}.layers.Redis", "cannot be imported: ImportError: Module "),
        (f"{__name__}.not_a_class", "is a int, not a class"),
    ],
)
def test_backend_that_is_not_there_is_an_error_with_its_cause(path: str, words: str) -> None:
    (message,) = found({"default": {"BACKEND": path}})
    assert (message.id, message.level) == ("greenroom.E011", 40)
    assert f"The BACKEND of the channel layer 'default', {path!r}, {words}" in message.msg


def test_backend_whose_module_fails_is_an_error_and_not_a_crash(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "layer_that_fails.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    (message,) = found({"default": {"BACKEND": "layer_that_fails.Layer"}})
    assert "cannot be imported: ZeroDivisionError: division by zero" in message.msg


def test_config_that_the_backend_does_not_take_is_an_error_without_making_it() -> None:
    (message,) = found({"default": {"BACKEND": MEMORY, "CONFIG": {"hosts": ["redis"]}}})
    assert (message.id, message.level) == ("greenroom.E012", 40)
    assert "does not take its CONFIG: got an unexpected keyword argument 'hosts'." in message.msg
    (message,) = found({"default": {"BACKEND": MEMORY, "TEST_CONFIG": {"speed": 1}}})
    assert "does not take its TEST_CONFIG: got an unexpected" in message.msg
    message = found({"default": {"BACKEND": REDIS, "CONFIG": {"capacitty": 1}}})[0]
    assert "unexpected keyword argument 'capacitty'" in message.msg
    found({"default": {"BACKEND": f"{__name__}.Anything"}})
    assert Anything.made == 0


def test_memory_is_warned_of_where_debug_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = {"default": {"BACKEND": MEMORY}, "mine": {"BACKEND": f"{__name__}.Mine"}}
    first, second = found(layers, debug=False)
    assert (first.id, second.id, first.level) == ("greenroom.W010", "greenroom.W010", 30)
    assert "'default'" in first.msg
    assert "'mine'" in second.msg
    assert "SILENCED_SYSTEM_CHECKS" in (first.hint or "")
    assert ids({"default": {"BACKEND": f"{__name__}.Anything"}}, debug=False) == []
    monkeypatch.setattr(mail, "outbox", [], raising=False)
    assert ids(layers, debug=False) == [], "a test run turns DEBUG off as well"


def test_layer_of_the_real_channels_is_warned_of() -> None:
    (message,) = found({"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}})
    assert (message.id, message.level) == ("greenroom.W011", 30)
    assert MEMORY in (message.hint or "")
    production = ids({"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}, debug=False)
    assert production == ["greenroom.W010", "greenroom.W011"]


@pytest.fixture
def with_daphne(monkeypatch: pytest.MonkeyPatch) -> None:
    # The real application would install Twisted's reactor in this process.
    monkeypatch.setattr(apps, "is_installed", {"channels", "daphne"}.__contains__)


def test_real_channels_and_daphne_beside_the_bridge_are_warned_of(with_daphne: None) -> None:
    first, second = found(None)
    assert (first.id, second.id) == ("greenroom.W013", "greenroom.W012")
    assert "Remove 'channels', or call install_as_channels()" in (first.hint or "")
    assert "'greenroom.bridges.django'" in (second.hint or "")


def test_channels_redis_that_would_lose_idle_connections_is_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = "redis://127.0.0.1:6379"
    patient = {"address": address, "socket_timeout": None}
    layer: dict[str, Any] = {"BACKEND": REDIS}
    monkeypatch.setattr(_checks, "version", lambda name: "8.1.0")
    for hosts in ([address], [("localhost", 6379)], [{"address": address}], [patient, address], []):
        assert ids({"a": {**layer, "CONFIG": {"hosts": hosts}}}) == ["greenroom.W014"], hosts
    assert ids({"a": layer}) == ["greenroom.W014"]
    assert ids({"a": {"BACKEND": PUBSUB}}) == []  # its reader asks again and again
    assert ids({"a": {**layer, "CONFIG": {"hosts": [patient, patient]}}}) == []
    monkeypatch.setattr(_checks, "version", lambda name: "7.4.1")
    assert ids({"a": {**layer, "CONFIG": {"hosts": [address]}}}) == []


# Few kinds, so that those which nearly have the form come up often.
odd = st.sampled_from([None, 5, "", "x", b"x", [], ["a"], {}, {1: 2}, {"hosts": "redis"}, Mine])
paths = st.sampled_from([MEMORY, REDIS, PUBSUB, "channels.layers.X", "x", "x.y", "..", "os.path"])
configs = st.dictionaries(
    st.sampled_from(["BACKEND", "CONFIG", "TEST_CONFIG", "ROUTING", "OTHER", 7]), odd | paths
)
aliases = odd.filter(lambda key: not isinstance(key, (list, dict)))
weird = odd | st.dictionaries(aliases, odd | configs)


@given(weird, st.booleans())
@settings(deadline=None)  # the first one imports channels_redis
@example({"default": {"BACKEND": "greenroom..x"}}, False)
def test_checks_never_fail_whatever_the_settings_hold(layers: Any, debug: bool) -> None:
    for message in found(layers, debug=debug):
        assert isinstance(message, CheckMessage)
        assert str(message)
