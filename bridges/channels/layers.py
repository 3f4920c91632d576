"""The channel layers of `settings.CHANNEL_LAYERS`, by alias, and a message upon a commit."""

import os
from threading import RLock
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.db import transaction
from django.utils.module_loading import import_string

from ...runtime.layers import BaseChannelLayer as BaseChannelLayer
from ...runtime.layers import InMemoryChannelLayer as InMemoryChannelLayer
from ...runtime.layers import SyncLayer as SyncLayer
from ...runtime.layers import copy_message
from . import DEFAULT_CHANNEL_LAYER
from ._layers_of_others import layer_for_here, takes_subscriptions
from ._memberships import memberships_of
from .exceptions import ChannelFull as ChannelFull
from .exceptions import InvalidChannelLayerError as InvalidChannelLayerError

__all__ = [
    "DEFAULT_CHANNEL_LAYER",
    "BaseChannelLayer",
    "ChannelFull",
    "ChannelLayerManager",
    "InMemoryChannelLayer",
    "InvalidChannelLayerError",
    "SyncLayer",
    "channel_layers",
    "get_channel_layer",
    "group_send_on_commit",
]


class ChannelLayerManager:
    """The layers of this process, each made from its settings when it is first asked for.

    Threads that ask at the same time get the same layer.
    """

    def __init__(self) -> None:
        self.backends: dict[str, Any] = {}
        self._lock = RLock()  # a backend may ask for another one while it is made
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
        try:
            return self.backends[key]
        except KeyError:
            pass
        with self._lock:
            if key not in self.backends:
                self.set(key, self.make_backend(key))
            return self.backends[key]

    def __contains__(self, key: str) -> bool:
        return key in self.configs

    def set(self, key: str, layer: Any) -> Any:
        """Use `layer` under the alias `key`, and return the one that was used so far, or None."""
        old = self.backends.get(key)
        if not takes_subscriptions(layer):
            memberships_of(layer)  # before anybody gets hold of a method
        self.backends[key] = layer
        return old

    def _forget_other_process(self) -> None:
        self._lock = RLock()  # a thread of the parent may have held it


channel_layers = ChannelLayerManager()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=channel_layers._forget_other_process)


def get_channel_layer(alias: str = DEFAULT_CHANNEL_LAYER) -> BaseChannelLayer | Any:
    """Give the layer with this alias, or None if the settings have none.

    In a trio task one that was written for asyncio is given such that it can be awaited there.
    Typed as what every layer can do, or as Any: a wrong call is found, and a project whose
    settings have a layer need not ask whether it is None.
    """
    if alias in channel_layers.backends or alias in channel_layers:
        return layer_for_here(channel_layers[alias])
    return None


def group_send_on_commit(
    group: str, message: dict[str, Any], *, using: str | None = None, layer: Any = None
) -> None:
    """Send `message` to `group` once the transaction is committed; never if it is rolled back.

    Who gets the message and looks into the database then sees what the transaction did.
    Without a transaction the message is sent at once. It is called where the transaction
    is, in sync code: a view, a handler of a sync consumer, a function behind
    `database_sync_to_async`, a command. The message is copied now; a failure to send it
    is logged by Django, as what was committed stays so.

    Args:
        group: the name of a group.
        message: a dict with a `type`.
        using: the alias of the database, the default one if None.
        layer: a channel layer or the alias of one, the default layer if None.

    Raises:
        InvalidChannelLayerError: there is no such layer.
        TypeError: `group` is no group name, for layers that check names.
        AssertionError: `message` is no dict, for layers that check messages.
    """
    if layer is None or isinstance(layer, str):
        alias = layer or DEFAULT_CHANNEL_LAYER
        layer = get_channel_layer(alias)
        if layer is None:
            raise InvalidChannelLayerError(f"CHANNEL_LAYERS has no {alias!r}")
    # What is wrong shall be said to the one who wrote it, not to a log after the commit.
    if isinstance(layer, BaseChannelLayer):
        layer.require_valid_group_name(group)
        layer.require_valid_message(message)
    copied = copy_message(message)

    def send() -> None:
        SyncLayer(layer).group_send(group, copied)

    transaction.on_commit(send, using=using, robust=True)
