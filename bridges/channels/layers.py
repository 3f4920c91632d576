"""The channel layers of `settings.CHANNEL_LAYERS`, by alias."""

from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from ...runtime.layers import BaseChannelLayer as BaseChannelLayer
from ...runtime.layers import InMemoryChannelLayer as InMemoryChannelLayer
from . import DEFAULT_CHANNEL_LAYER
from .exceptions import ChannelFull as ChannelFull
from .exceptions import InvalidChannelLayerError as InvalidChannelLayerError

__all__ = [
    "DEFAULT_CHANNEL_LAYER",
    "BaseChannelLayer",
    "ChannelFull",
    "ChannelLayerManager",
    "InMemoryChannelLayer",
    "InvalidChannelLayerError",
    "channel_layers",
    "get_channel_layer",
]


class ChannelLayerManager:
    """The layers of this process, each made from its settings when it is first asked for."""

    def __init__(self) -> None:
        self.backends: dict[str, Any] = {}
        setting_changed.connect(self._reset_backends)

    def _reset_backends(self, setting: str, **_kwargs: Any) -> None:
        if setting == "CHANNEL_LAYERS":
            self.backends = {}

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """What the setting `CHANNEL_LAYERS` says; empty where there is no such setting."""
        return getattr(settings, "CHANNEL_LAYERS", None) or {}

    def make_backend(self, name: str) -> Any:
        """Make the layer `name` from its `CONFIG`.

        Raises:
            InvalidChannelLayerError: the settings are wrong, or the backend is not found.
            KeyError: there is no such alias.
        """
        return self._make_backend(name, self.configs[name].get("CONFIG", {}))

    def make_test_backend(self, name: str) -> Any:
        """Make the layer `name` from its `TEST_CONFIG`.

        Raises:
            InvalidChannelLayerError: there is no `TEST_CONFIG`, or as `make_backend`.
            KeyError: there is no such alias.
        """
        try:
            config = self.configs[name]["TEST_CONFIG"]
        except KeyError:
            raise InvalidChannelLayerError(f"No TEST_CONFIG specified for {name}") from None
        return self._make_backend(name, config)

    def _make_backend(self, name: str, config: dict[str, Any]) -> Any:
        if "ROUTING" in self.configs[name]:
            raise InvalidChannelLayerError(
                f"ROUTING key found for {name} - this is no longer needed in Channels 2."
            )
        try:
            path = self.configs[name]["BACKEND"]
        except KeyError:
            raise InvalidChannelLayerError(f"No BACKEND specified for {name}") from None
        try:
            backend = import_string(path)
        except ImportError as error:
            raise InvalidChannelLayerError(
                f"Cannot import BACKEND {path!r} specified for {name}"
            ) from error
        return backend(**config)

    def __getitem__(self, key: str) -> Any:
        if key not in self.backends:
            self.backends[key] = self.make_backend(key)
        return self.backends[key]

    def __contains__(self, key: str) -> bool:
        return key in self.configs

    def set(self, key: str, layer: Any) -> Any:
        """Use `layer` under the alias `key`, and return the one that was used so far, or None."""
        old = self.backends.get(key)
        self.backends[key] = layer
        return old


channel_layers = ChannelLayerManager()


def get_channel_layer(alias: str = DEFAULT_CHANNEL_LAYER) -> BaseChannelLayer | Any:
    """Give the layer with this alias, or None if the settings have none.

    Typed as what every layer can do, or as Any: a wrong call is found, and a project whose
    settings have a layer need not ask whether it is None.
    """
    if alias in channel_layers.backends or alias in channel_layers:
        return channel_layers[alias]
    return None
