"""Tests of the layers that the settings name, and of messages upon a commit."""

import asyncio
import os
import threading
import time
from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings

from greenroom.bridges.channels.layers import (
    ChannelLayerManager,
    InMemoryChannelLayer,
    InvalidChannelLayerError,
    channel_layers,
    get_channel_layer,
    group_send_on_commit,
)

MEMORY = "greenroom.bridges.channels.layers.InMemoryChannelLayer"


class Refuses:
    def __init__(self, **config: Any) -> None:
        raise KeyError("a mistake of the backend")


def test_layer_is_made_once_from_its_config() -> None:
    with override_settings(
        CHANNEL_LAYERS={"default": {"BACKEND": MEMORY, "CONFIG": {"capacity": 7}}}
    ):
        layer = get_channel_layer()
        assert isinstance(layer, InMemoryChannelLayer)
        assert layer.capacity == 7
        assert get_channel_layer() is layer
        assert "default" in channel_layers
    assert get_channel_layer() is not layer


def test_missing_alias_is_no_layer_but_a_mistake_of_a_backend_is_an_error() -> None:
    assert get_channel_layer("missing") is None
    backend = {"BACKEND": f"{__name__}.Refuses"}
    with (
        override_settings(CHANNEL_LAYERS={"default": backend}),
        pytest.raises(KeyError, match="a mistake of the backend"),
    ):
        get_channel_layer()
    with override_settings(CHANNEL_LAYERS={}):
        assert get_channel_layer() is None


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({}, "No BACKEND specified for default"),
        ({"BACKEND": "no.such"}, "Cannot import BACKEND 'no.such' specified for default"),
        ({"BACKEND": MEMORY, "ROUTING": "x"}, "ROUTING key found for default"),
    ],
)
def test_wrong_settings_are_explained(config: Any, error: str) -> None:
    with (
        override_settings(CHANNEL_LAYERS={"default": config}),
        pytest.raises(InvalidChannelLayerError, match=error),
    ):
        get_channel_layer()


def test_unknown_option_of_a_backend_is_a_type_error() -> None:
    config = {"BACKEND": MEMORY, "CONFIG": {"speed": 9}}
    with (
        override_settings(CHANNEL_LAYERS={"default": config}),
        pytest.raises(TypeError, match="unexpected keyword argument 'speed'"),
    ):
        get_channel_layer()


def test_test_backend_has_a_config_of_its_own_and_is_not_kept() -> None:
    config = {"BACKEND": MEMORY, "TEST_CONFIG": {"expiry": 5}}
    with override_settings(CHANNEL_LAYERS={"default": config}):
        layer = channel_layers.make_test_backend("default")
        assert layer.expiry == 5
        assert get_channel_layer() is not layer
    with pytest.raises(InvalidChannelLayerError, match="No TEST_CONFIG specified for default"):
        channel_layers.make_test_backend("default")


def test_layer_can_be_put_in_the_place_of_another() -> None:
    manager, mine = ChannelLayerManager(), InMemoryChannelLayer()
    assert manager.set("default", mine) is None
    assert manager["default"] is mine
    assert manager.set("default", None) is mine


class Slow:
    """A backend that takes its time, and needs another one."""

    made = 0

    def __init__(self) -> None:
        Slow.made += 1
        self.other = get_channel_layer("other")
        time.sleep(0.01)


def test_threads_that_ask_at_the_same_time_get_one_layer() -> None:
    layers = {"slow": {"BACKEND": f"{__name__}.Slow"}, "other": {"BACKEND": MEMORY}}
    ready = threading.Barrier(8)
    got: list[Any] = []

    def ask() -> None:
        ready.wait()
        got.append(get_channel_layer("slow"))

    with override_settings(CHANNEL_LAYERS=layers):
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(map(id, got))) == 1
        assert Slow.made == 1
        assert got[0].other is get_channel_layer("other")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_forked_child_can_make_layers_whoever_held_the_lock() -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with channel_layers._lock:
            held.set()
            done.wait()

    with override_settings(CHANNEL_LAYERS={"fresh": {"BACKEND": MEMORY}}):
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        child = os.fork()
        if child == 0:
            os._exit(0 if get_channel_layer("fresh") is not None else 1)
        status = os.waitpid(child, 0)[1]
        done.set()
        thread.join()
    assert os.waitstatus_to_exitcode(status) == 0


def waiting(layer: InMemoryChannelLayer, channel: str = "a") -> list[Any]:
    messages = []
    while channel in layer.channels:
        messages.append(asyncio.run(layer.receive(channel)))
    return messages


def test_message_upon_a_commit_is_sent_then_as_it_was(
    database: None, layer: InMemoryChannelLayer
) -> None:
    layer.group_add("g", "a")
    message = {"type": "x", "tags": ["before"]}
    with transaction.atomic():
        group_send_on_commit("g", message)
        message["tags"].append("after")  # type: ignore[attr-defined]
        assert waiting(layer) == []
    assert waiting(layer) == [{"type": "x", "tags": ["before"]}]


def test_message_of_what_was_rolled_back_is_never_sent(
    database: None, layer: InMemoryChannelLayer
) -> None:
    layer.group_add("g", "a")
    with transaction.atomic():
        group_send_on_commit("g", {"type": "outer"}, using="default")
        with transaction.atomic():
            group_send_on_commit("g", {"type": "inner"})
            transaction.set_rollback(True)
    assert waiting(layer) == [{"type": "outer"}]


def test_message_without_a_transaction_is_sent_at_once_by_the_layer_that_is_named(
    database: None, layer: InMemoryChannelLayer
) -> None:
    mine, other = InMemoryChannelLayer(), InMemoryChannelLayer()
    for each in (mine, other):
        each.group_add("g", "a")
    channel_layers.set("other", other)
    try:
        group_send_on_commit("g", {"type": "x"}, layer="other")
        group_send_on_commit("g", {"type": "y"}, layer=mine)
    finally:
        del channel_layers.backends["other"]
    assert (waiting(other), waiting(mine)) == ([{"type": "x"}], [{"type": "y"}])


def test_mistake_in_a_message_upon_a_commit_is_raised_before_the_commit(
    database: None,
) -> None:
    with transaction.atomic():
        with pytest.raises(InvalidChannelLayerError, match="CHANNEL_LAYERS has no 'missing'"):
            group_send_on_commit("g", {"type": "x"}, layer="missing")
        with pytest.raises(TypeError, match="Group name must be"):
            group_send_on_commit("a b", {"type": "x"})
        with pytest.raises(AssertionError):
            group_send_on_commit("g", "x")  # type: ignore[arg-type]


class Broken:
    """A layer of somebody else whose server is gone."""

    async def group_send(self, group: str, message: Any) -> None:
        raise ConnectionError("the layer is gone")


def test_layer_that_fails_after_the_commit_is_logged_and_does_not_fail_the_caller(
    database: None, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    layer.group_add("g", "a")
    with transaction.atomic():
        group_send_on_commit("g", {"type": "x"}, layer=Broken())
        group_send_on_commit("g", {"type": "x"})
    assert waiting(layer) == [{"type": "x"}]
    assert "the layer is gone" in caplog.text
