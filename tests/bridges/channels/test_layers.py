"""Tests of the layers that the settings name."""

from typing import Any

import pytest
from django.test import override_settings

from greenroom.bridges.channels.layers import (
    ChannelLayerManager,
    InMemoryChannelLayer,
    InvalidChannelLayerError,
    channel_layers,
    get_channel_layer,
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
        ChannelLayerManager().make_backend("default")
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
